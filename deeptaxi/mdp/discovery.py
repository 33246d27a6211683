"""Discover the transition table of an environment that has none: visit every state, with all the chance of every step.

    walk      from every snapshot of the environment take every action, along every sequence of draws (`mdp.walk`)
    beliefs   merge what has the same future, and average over what observations hide (`mdp.beliefs`)
    check     step the real environment 20,000 times against the table (`mdp.verify`)

The probability of an outcome is the product of the probabilities of its draws, summed over the sequences that lead to
it. The table has the state numbers of the environment's observations; states that no episode comes to end at once, with
a reward of 0. Where one observation stands for states with different futures, as Taxi's does with a fickle passenger,
the table needs more states than there are observations: a last part of the state says which of the histories it is
that have different futures.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from deeptaxi.arguments import words
from deeptaxi.errors import DeepTaxiError
from deeptaxi.mdp import planning
from deeptaxi.mdp.beliefs import Belief, BeliefGraph, Graph, Outcome, blocks_of, follow_beliefs, merge_blocks
from deeptaxi.mdp.chance import NotDiscoverableError
from deeptaxi.mdp.contract import ContractError, blaming, closing
from deeptaxi.mdp.describe import Names, factors, names_of
from deeptaxi.mdp.environment import Env, Environment, objective_discount
from deeptaxi.mdp.numbering import NumberingCodec
from deeptaxi.mdp.spaces import StateCodec, state_codec
from deeptaxi.mdp.table import TransitionTable, check_memory
from deeptaxi.mdp.verify import CHECK_STEPS, contradiction
from deeptaxi.mdp.walk import Limits, RestartError, Walk

QUICK = Limits(states=50_000, branches=40_000, seconds=5.0)  # for a table that is discovered by itself
NAMED = 100_000  # states of a table that get names
NAMED_LETTERS = 20_000_000  # of all these names together, each as long as the longest
BELIEFS = 100_000
# Words in the reason why there is no table, by which `diagnose` finds what it quotes.
HIDES, TRUNCATES = "hides something: ", "it truncates episodes by itself, "
AT_A_PLACE = ": what ends an episode in some state"


@dataclass(frozen=True, eq=False)
class Discovery:
    """A table that was discovered.

    Attributes:
        table: the exact table. It has more states than the environment has observations if these hide a state.
        states: the states in which an action is chosen.
        snapshots: the snapshots that the walk distinguished.
        branches: the steps and resets that were run.
        seconds: how long it took.
        hidden: which two histories end in one observation and have different futures; None if there are none.
        split: how many more states there are than observations in which an action is chosen.
        policy_needs_hidden: whether no policy of observations alone is optimal in the table.
        time_limit: the steps after which its episodes are truncated, or None.
        ignored: the attributes that change but change nothing.
        process: the states and outcomes that the table lays out.
        codec: maps observations to its states; of a space numbered as they are first seen, only those that were seen.
    """

    table: TransitionTable
    states: int
    snapshots: int
    branches: int
    seconds: float
    hidden: str | None
    split: int
    policy_needs_hidden: bool
    time_limit: int | None
    ignored: tuple[str, ...]
    process: Graph
    codec: StateCodec


def ignore(_text: str) -> None:
    """Report progress to no one."""


def discover_table(
    environment: Environment, limits: Limits = QUICK, progress: Callable[[str], object] = ignore
) -> TransitionTable:
    """Discover the table of an environment whose observations tell all there is to know.

    Raises:
        NotDiscoverableError: it has no such table, or a limit is met; the message is the reason.
    """
    found = discover(environment, limits, progress)
    if found.hidden is not None:
        raise NotDiscoverableError(found.hidden)
    return found.table


def discover(environment: Environment, limits: Limits, progress: Callable[[str], object] = ignore) -> Discovery:
    """Discover the table of an environment, and whether its observations hide a state.

    Args:
        environment: the environment; a table that it has is not looked at.
        limits: where to end the walk.
        progress: called with how far it has come.

    Raises:
        NotDiscoverableError: its chance cannot be enumerated, it cannot be copied, a limit is met, or the real
            environment contradicts the table.
        EnvironmentFailedError: its own code failed.
    """
    name = environment.config.id
    if environment.numbering is not None:
        environment = environment.with_codec(environment.numbering.explore())
    with blaming(name):
        walk = Walk(environment, limits, progress)
        with closing(walk.box.layers[0]):
            found = discover_by(walk, environment)
            evidence = contradicted(environment, found)
            if evidence and walk.merged:  # perhaps a part was left out that matters
                with suppress(NotDiscoverableError):
                    walk.exact()
                    found = discover_by(walk, environment)
                    evidence = contradicted(environment, found)
    if evidence:
        raise NotDiscoverableError(f"the environment contradicts the table that was discovered: {evidence}")
    return found


def contradicted(environment: Environment, found: Discovery) -> str | None:
    """Step the real environment against the table; return evidence against it, or None."""
    if environment.numbering is not None:
        environment = environment.with_codec(found.codec)
        try:
            return contradicted_by(environment, found)
        except ContractError as error:  # an observation that it did not meet
            return str(error)
    return contradicted_by(environment, found)


def contradicted_by(environment: Environment, found: Discovery) -> str | None:
    """See `contradicted`; observations that the table does not have are errors."""
    with closing(environment.make()) as env:
        if found.hidden is None:
            evidence = contradiction(env, environment.codec, found.table)
        else:
            split = TellingHistory(env, environment, found.process)
            evidence = contradiction(split, state_codec(split.observation_space, environment.config.id), found.table)
    if evidence is None:
        return None
    if found.hidden is not None or environment.numbering is not None:  # states that only the table has
        evidence = with_observations(evidence, environment, found)
    return f"{evidence} (in {CHECK_STEPS:,} steps)".replace("its P", "the table")


def with_observations(evidence: str, environment: Environment, found: Discovery) -> str:
    """Name the states of a table, in a text about it, by the observations that they stand for."""
    names, most = names_of(environment), found.table.states // environment.states

    def name(match: re.Match[str]) -> str:
        state, variant = divmod(int(match[1]), most)
        return f"{names.state(state)}{f', history {variant + 1}' if most > 1 else ''}"

    return re.sub(r"\bstate (\d+)", name, evidence)


def discover_by(walk: Walk, environment: Environment) -> Discovery:
    """Make the table from a walk."""
    graph = walk.run()
    if walk.observed:
        try:
            walk.confirm(graph)
        except RestartError:
            raise NotDiscoverableError("parts of its state that seemed not to matter do") from None
    merged, firsts = merge_blocks(graph, blocks_of(graph))
    names = names_of(environment)
    if len(set(merged.states)) == len(merged.states):
        final, hidden = merged, None
    else:
        beliefs = follow_beliefs(merged, BELIEFS)
        blocks = blocks_of(beliefs.graph)
        final, nodes = merge_blocks(beliefs.graph, blocks)
        hidden = describe_hidden(beliefs, final, nodes, names, walk, firsts, environment.numbering is not None)
    time_limit = shorter(environment.time_limit, own_limit(walk))
    if environment.numbering is not None:
        codec, final = restrict(environment.numbering, final)
        environment = environment.with_codec(codec)
        names = names_of(environment)
    table = table_of(final, environment, names, time_limit)
    split = len(final.states) - len(set(final.states))
    return Discovery(
        table=table,
        states=len(final.states),
        snapshots=len(graph.states),
        branches=walk.branches,
        seconds=walk.seconds,
        hidden=hidden,
        split=split,
        policy_needs_hidden=bool(split) and not is_policy_of_observations(final, table),
        time_limit=time_limit,
        process=final,
        codec=environment.codec,
        ignored=tuple(walk.box.parts[part].name for part in sorted(walk.free)),
    )


def restrict(codec: NumberingCodec, graph: Graph) -> tuple[NumberingCodec, Graph]:
    """Return the codec of exactly the observations in a graph, and the graph with their numbers in it."""
    ends = {target for rows in graph.moves for row in rows for target, _, terminated in row if terminated}
    found = codec.restrict(codec.numbering[state] for state in {*graph.states, *ends})
    numbers = {state: found.number_of(codec.numbering[state]) for state in {*graph.states, *ends}}

    def renumber(row: Mapping[Outcome, float]) -> dict[Outcome, float]:
        return {
            (numbers[target] if terminated else target, reward, terminated): chance
            for (target, reward, terminated), chance in row.items()
        }

    states = [numbers[state] for state in graph.states]
    return found, Graph(states, [[renumber(row) for row in rows] for rows in graph.moves], graph.start)


class TellingHistory(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Observes the states of a table that has more than the environment's observations tell apart.

    Which of them it is follows from the one before, the action, the reward and the observation. What the table calls
    impossible is observed as the state where it stood, and contradicts the table by its reward or state.
    """

    def __init__(self, env: Env, environment: Environment, process: Graph) -> None:
        super().__init__(env)
        variants, most = variants_of(process)
        self._process = process
        self._numbers = [state * most + variant for state, variant in zip(process.states, variants, strict=True)]
        self._most = most
        self._encode = environment.codec.encode
        self._first_action = environment.first_action
        self._node = 0
        self._starts = {process.states[node]: node for node in process.start}
        self.observation_space = Discrete(environment.states * most)

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        observation, info = super().reset(**arguments)
        self._node = self._starts.get(self._encode(observation), 0)
        return np.int64(self._numbers[self._node]), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment."""
        observation, reward, terminated, truncated, info = super().step(action)
        state = self._encode(observation)
        if terminated:
            return np.int64(state * self._most), reward, terminated, truncated, info
        for target, gain, ends in self._process.moves[self._node][int(action) - self._first_action]:
            if not ends and self._process.states[target] == state and math.isclose(gain, reward, abs_tol=1e-9):
                self._node = target
                break
        return np.int64(self._numbers[self._node]), reward, terminated, truncated, info


def shorter(one: int | None, other: int | None) -> int | None:
    """Return the lower of two limits, of which None is no limit."""
    return min((limit for limit in (one, other) if limit is not None), default=None)


def own_limit(walk: Walk) -> int | None:
    """Return the steps after which the environment truncates its episodes, by a wrapper or by itself.

    Raises:
        NotDiscoverableError: it truncates them after different numbers of steps.
    """
    walk.seek_truncation()
    found, longest = walk.truncated_after, walk.outlasted
    if found and max(*found, longest + 1) > min(found):
        other = f"once after {max(found)}" if len(found) > 1 else f"and another continued after {longest}"
        raise NotDiscoverableError(
            f"{TRUNCATES}once after {min(found)} steps, {other}{AT_A_PLACE} is a termination, return terminated=True "
            "there; a limit of steps is a fixed one"
        )
    return min(found, default=walk.box.time_limit)


def describe_hidden(
    beliefs: BeliefGraph,
    final: Graph,
    nodes: list[int],
    names: Names,
    walk: Walk,
    firsts: list[int],
    numbered: bool = False,
) -> str | None:
    """Name two histories that end in one observation and have different futures; None if there are none.

    `numbered`: whether observations are numbered as the walk meets them, so that their numbers mean nothing elsewhere.
    """
    first: dict[int, int] = {}
    for number, state in enumerate(final.states):
        if state in first:
            one, other = nodes[first[state]], nodes[number]
            texts = [describe_history(beliefs, node, names) for node in (one, other)]
            kept = [walk.snapshots[firsts[node]] for node in far_apart(beliefs.beliefs[one], beliefs.beliefs[other])]
            which = "" if numbered else f" (state {state})"
            return (
                f"its observation {names.state(state)}{which} {HIDES}{texts[0]} and {texts[1]} have "
                f"different futures there{differing(walk, *kept)}"
            )
        first[state] = number
    return None


def far_apart(one: Belief, other: Belief) -> tuple[int, int]:
    """Return two nodes, the first more probable under `one` than under `other`, the second less."""
    excess = {node: one.get(node, 0.0) - other.get(node, 0.0) for node in (*one, *other)}
    return max(excess, key=excess.__getitem__), min(excess, key=excess.__getitem__)


def describe_history(beliefs: BeliefGraph, node: int, names: Names) -> str:
    """Format a history as ``a start in state 3, then hit``; long ones from their end."""
    steps = beliefs.history(node)
    if len(steps) == 1:
        return "a start there"
    actions = [names.actions[action] for action, _ in steps[1:] if action is not None]
    shown = ", ".join(actions[:5]) + (f", … ({len(actions)} actions)" if len(actions) > 5 else "")
    return f"a start in {names.state(steps[0][1])}, then {shown}"


def differing(walk: Walk, one: tuple[Any, ...], other: tuple[Any, ...]) -> str:
    """Format the parts in which two snapshots differ."""
    parts = [i for i in range(len(one)) if one[i] != other[i] and i not in walk.free][:2]
    if not parts:
        return ""
    texts = [", ".join(walk.box.show(i, snapshot[i]) for i in parts) for snapshot in (one, other)]
    return f" ({texts[0]} and {texts[1]})"


def variants_of(final: Graph) -> tuple[list[int], int]:
    """Number the nodes of each observation from 0; return the numbers, `[N]`, and the most that one observation has."""
    counts: dict[int, int] = {}
    numbers = []
    for state in final.states:
        numbers.append(counts.get(state, 0))
        counts[state] = numbers[-1] + 1
    return numbers, max(counts.values())


def table_of(final: Graph, environment: Environment, names: Names, time_limit: int | None) -> TransitionTable:
    """Lay out the process as a table; unreached states end at once.

    The state number is that of the observation. If some observation stands for up to V > 1 states, it is V times that,
    plus the number of the variant: the last part of the state.
    """
    variants, most = variants_of(final)
    numbers = [state * most + variant for state, variant in zip(final.states, variants, strict=True)]
    states, width = environment.states * most, max(len(row) for rows in final.moves for row in rows)
    shape = (states, environment.actions, width)
    check_memory(shape)
    probability, reward = np.zeros(shape), np.zeros(shape)
    terminated = np.ones(shape, np.bool_)
    next_state = np.broadcast_to(np.arange(states)[:, None, None], shape).copy()
    probability[:, :, 0] = 1.0
    for number, rows in zip(numbers, final.moves, strict=True):
        for action, row in enumerate(rows):
            probability[number, action] = 0.0
            for k, ((target, gain, ends), chance) in enumerate(row.items()):
                probability[number, action, k], reward[number, action, k] = chance, gain
                next_state[number, action, k] = target * most if ends else numbers[target]
                terminated[number, action, k] = ends
    start = np.zeros(states)
    for node, chance in final.start.items():
        start[numbers[node]] += chance
    names_and_parts = described(environment, names, most)
    return TransitionTable(probability, next_state, reward, terminated, start, time_limit, **names_and_parts)


def described(environment: Environment, names: Names, most: int) -> Mapping[str, Any]:
    """Return the names and factors of a table, as far as the environment has them."""
    found: dict[str, Any] = {}
    if not re.fullmatch(r"action \d+", names.actions[0]):
        found["action_names"] = names.actions
    parts = factors(environment)
    if most > 1:
        parts = (*(parts or (environment.states,)), most)
    found["factors"] = parts
    if environment.states * most <= NAMED and (most > 1 or names.state(0) != "state 0"):
        texts = [names.state(state) for state in range(environment.states)]
        if environment.states * most * max(map(len, texts)) > NAMED_LETTERS:
            return found
        found["state_names"] = texts if most == 1 else [f"{t}, history {v + 1}" for t in texts for v in range(most)]
    return found


def is_policy_of_observations(final: Graph, table: TransitionTable) -> bool:
    """Whether an optimal policy can take the same action in all states that an observation stands for."""
    best = planning.optimal_actions(planning.value_iteration(table, objective_discount(table), None).q)
    common: dict[int, Any] = {}
    variants, most = variants_of(final)
    for state, variant in zip(final.states, variants, strict=True):
        common[state] = common.get(state, True) & best[state * most + variant]
    return all(actions.any() for actions in common.values())


def with_discovered(environment: Environment, limits: Limits = QUICK) -> Environment:
    """Return an environment with its discovered table; without one, with the reason added to `table_missing`."""
    try:
        found = discover(environment, limits)
        reason = found.hidden
    except DeepTaxiError as error:  # where the environment itself fails, a training may never come
        if isinstance(error.__cause__, SystemExit):  # of a signal
            raise
        reason = str(error)
        if "its limit of" in reason:
            given = " ".join(
                f"--env-arg {shlex.quote(words({key: value}))}" for key, value in environment.config.kwargs.items()
            )
            command = " ".join(filter(None, ["deeptaxi discover", shlex.quote(environment.config.id), given]))
            command = f"{command} -o table.npz"
            if environment.config.in_memory:
                command = 'deeptaxi.discover(env, out="table.npz")'
            reason = f"{reason}; `{command}` takes the time it needs"
    if reason is not None:
        return replace(environment, table_missing=f"{environment.table_missing}, and none was discovered: {reason}")
    if environment.numbering is not None:
        environment = environment.with_codec(found.codec)
    return replace(
        environment,
        table=found.table,
        table_missing=None,
        discovered=found.states,
        time_limit=found.time_limit,
    )
