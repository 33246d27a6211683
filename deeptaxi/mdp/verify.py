"""Read the transition table of an environment and check it against the environment.

An environment may have a table `P` that does not describe what `step` does: Taxi with ``fickle_passenger`` changes the
destination by a flag that no state number shows. A verdict computed from such a table would be exact and wrong. So a
table is used only after stepping the real environment at random and comparing. Two things refute it:

- an outcome that the table calls impossible;
- outcome frequencies far from its probabilities. Of n samples from p, frequencies f with n · KL(f ‖ p) ≥ x have a
  probability of at most (n+1)^K · e^−x (the method of types: Cover & Thomas, Elements of Information Theory, theorem
  11.4.1). A table is rejected if that bound, over all pairs and all n, is below one in a billion: a correct table
  practically never is.

Finding neither is evidence, not proof.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from deeptaxi.mdp.numbering import NumberingCodec
from deeptaxi.mdp.spaces import StateCodec
from deeptaxi.mdp.table import Bools, Floats, Ints, TableError, TransitionTable, from_rows

CHECK_STEPS = 20_000  # 5,000 missed a fickle passenger in one seed of twenty
LONGEST_EPISODE = 1_000  # while checking: an endless episode must not hide the other starts
START_RESETS = 10_000
CHECK_SEED = 20_240_229
FALSE_ALARM = 1e-9
_found: dict[Any, str | None] = {}


@dataclass(frozen=True)
class TableFinding:
    """A usable table, or the reason why it is missing."""

    table: TransitionTable | None
    reason: str | None = None
    resets: int | None = None  # resets that the start distribution was estimated from; None if it is given


def find_table(env: gymnasium.Env[Any, Any], codec: StateCodec) -> TableFinding:
    """Read the table of `env` and check it against the environment itself.

    Args:
        env: an open environment with discrete actions.
        codec: maps its observations.
    """
    raw: Any = env.unwrapped
    actions: Any = env.action_space
    try:
        fickle, p, start = (getattr(raw, name, None) for name in ("fickle_passenger", "P", "initial_state_distrib"))
    except Exception as error:  # what looks like an attribute may be the environment's own code
        return TableFinding(None, f"its transition table cannot be read: {type(error).__name__}: {error}")
    if fickle:
        return TableFinding(
            None, "fickle_passenger changes the destination by a hidden flag, which P does not describe"
        )
    if p is None:
        return TableFinding(None, "the environment has no transition table (env.unwrapped.P)")
    if isinstance(codec, NumberingCodec):
        return TableFinding(None, "its P is not used where observations are numbered as they are first seen")
    resets = None if start is not None else START_RESETS
    try:
        table = from_rows(
            renumber(p, codec, int(actions.start)), estimate_start(env, codec) if start is None else start
        )
        reason = contradiction_once(env, codec, table, starts_known=start is not None)
    except TableError as error:
        return TableFinding(None, f"its transition table P is not valid: {error}")
    return TableFinding(None, reason) if reason else TableFinding(table, None, resets)


def contradiction_once(
    env: gymnasium.Env[Any, Any], codec: StateCodec, table: TransitionTable, starts_known: bool
) -> str | None:
    """Return the result of `contradiction`, without stepping again an environment already checked in this process."""
    if env.spec is None:  # nothing says how it was made
        return contradiction(env, codec, table, starts_known)
    arrays = (table.probability, table.next_state, table.reward, table.terminated, table.start)
    digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).digest()
    key = (type(env.unwrapped), repr(env.spec), digest, starts_known)
    if key not in _found:
        _found[key] = contradiction(env, codec, table, starts_known)
    return _found[key]


def renumber(p: Any, codec: StateCodec, first_action: int) -> Any:
    """Return P keyed from 0 if its keys are observations and actions of spaces that start elsewhere."""
    first = codec.layout[0][1] if len(codec.layout) == 1 else 0
    try:
        if first and set(p) == set(range(first, first + len(p))):
            p = {
                state - first: {a: [(q, s - first, *rest) for q, s, *rest in rows] for a, rows in actions.items()}
                for state, actions in p.items()
            }
        if first_action and all(set(row) == set(range(first_action, first_action + len(row))) for row in p.values()):
            p = {state: {a - first_action: rows for a, rows in actions.items()} for state, actions in p.items()}
    except (AttributeError, TypeError, ValueError):
        pass  # P has another form, as `from_rows` will report
    return p


def estimate_start(env: gymnasium.Env[Any, Any], codec: StateCodec) -> Floats:
    """Estimate the start distribution, `[S]`, from the first observations of many resets. See `exact.uncertainty`."""
    states = [codec.encode(env.reset(seed=CHECK_SEED)[0])]
    states += [codec.encode(env.reset()[0]) for _ in range(START_RESETS - 1)]
    return np.bincount(states, minlength=codec.states) / START_RESETS


def contradiction(
    env: gymnasium.Env[Any, Any], codec: StateCodec, table: TransitionTable, starts_known: bool = True
) -> str | None:
    """Step the environment at random; return evidence against `table`, or None.

    An estimated start distribution may miss starts, so it is not checked.
    """
    actions: Any = env.action_space
    if (table.states, table.actions) != (codec.states, int(actions.n)):
        return (
            f"its P has {table.states} states and {table.actions} actions, "
            f"its spaces {codec.states} and {int(actions.n)}"
        )
    starts, seen = experience(env, codec, table.action_mask)
    impossible_starts = np.flatnonzero(table.start[starts] == 0)
    if starts_known and impossible_starts.size:
        return f"an episode started in state {starts[impossible_starts[0]]}, which its start distribution excludes"
    outcome = matching_outcome(table, seen)
    state, action, reward, reached, terminated = seen
    impossible = np.flatnonzero(outcome < 0)
    if impossible.size:
        i = impossible[0]
        return (
            f"its P calls impossible what it did: state {state[i]}, action {action[i]} "
            f"gave state {reached[i]}, reward {reward[i]:g}, terminated {bool(terminated[i])}"
        )
    return improbable(table, state, action, outcome)


def improbable(table: TransitionTable, state: Ints, action: Ints, outcome: Ints) -> str | None:
    """Return where the observed outcomes, each `[CHECK_STEPS]`, are far from the table's probabilities, or None."""
    seen = np.zeros(table.probability.shape)
    np.add.at(seen, (state, action, outcome), 1)
    visits = seen.sum(axis=-1)  # [S, A]
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = np.where(seen > 0, seen * np.log(seen / (visits[:, :, None] * table.probability)), 0.0).sum(axis=-1)
    ways = (table.probability > 0).sum(axis=-1) * np.log(visits + 1)
    excess = surprise - ways - np.log(visits.size * CHECK_STEPS / FALSE_ALARM)
    if (excess <= 0).all():
        return None
    s, a = (int(i) for i in np.unravel_index(np.argmax(excess), excess.shape))
    k = int(np.argmax(np.abs(seen[s, a] / visits[s, a] - table.probability[s, a])))
    return (
        f"its P gives state {table.next_state[s, a, k]} after state {s}, action {a} the probability "
        f"{table.probability[s, a, k]:.3g}, but it came {int(seen[s, a, k])} times in {int(visits[s, a])}"
    )


Experience = tuple[Ints, Ints, Floats, Ints, Bools]  # state, action, reward, next state, terminated: each [CHECK_STEPS]


def experience(
    env: gymnasium.Env[Any, Any], codec: StateCodec, allowed: Bools | None = None
) -> tuple[Ints, Experience]:
    """Return the first states of the E episodes, `[E]`, and all transitions of `CHECK_STEPS` random steps.

    An action that is not `allowed` `[S, A]` is replaced by the next one that is.
    """
    space: Any = env.action_space
    actions = np.random.default_rng(CHECK_SEED).integers(0, space.n, CHECK_STEPS)
    states, reached = np.empty(CHECK_STEPS, np.int64), np.empty(CHECK_STEPS, np.int64)
    rewards, terminations = np.empty(CHECK_STEPS), np.empty(CHECK_STEPS, np.bool_)
    state = int(codec.encode(env.reset(seed=CHECK_SEED)[0]))
    starts = [state]
    for i, action in enumerate(actions.tolist()):
        if allowed is not None and not allowed[state, action]:
            choices = np.flatnonzero(allowed[state])
            action = actions[i] = int(choices[np.searchsorted(choices, action) % len(choices)])
        observation, reward, terminated, truncated, _ = env.step(action + int(space.start))
        states[i], reached[i] = state, codec.encode(observation)
        rewards[i], terminations[i] = reward, terminated
        state = reached[i]
        if terminated or truncated or (i + 1) % LONGEST_EPISODE == 0:
            state = int(codec.encode(env.reset()[0]))
            starts.append(state)
    return np.array(starts), (states, actions, rewards, reached, terminations)


def matching_outcome(table: TransitionTable, seen: Experience) -> Ints:
    """Return the index k of the table's outcome for each transition, `[n]`; −1 if the table calls it impossible."""
    state, action, reward, reached, terminated = seen
    row = (state, action)
    same = (table.next_state[row] == reached[:, None]) & (table.terminated[row] == terminated[:, None])
    near = np.isclose(table.reward[row], reward[:, None], rtol=1e-6, atol=1e-9)
    matches = same & near & (table.probability[row] > 0)
    distance = np.where(matches, np.abs(table.reward[row] - reward[:, None]), np.inf)
    return np.where(matches.any(axis=1), np.argmin(distance, axis=1), -1)
