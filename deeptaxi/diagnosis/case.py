"""The facts about a model, and the interface of its checks.

A `Case` holds everything known about a model, and quantities shared by several checks. A `Check` has a name, the facts
it needs, and a pure function of the case. Its result is a `Finding`: a name, evidence, a cause and a cure.

Without a table, transitions are sampled step by step: half of the episodes follow the greedy policy, if there is one;
the other half are random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from deeptaxi.config import EnvironmentConfig, TrainConfig
from deeptaxi.evaluation import exact
from deeptaxi.evaluation.decidability import OPTIMAL_TOLERANCE
from deeptaxi.evaluation.rollout import VectorStep, rollout
from deeptaxi.mdp import planning, sparse_rows
from deeptaxi.mdp.contract import blaming, closing
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.table import Bools, Floats, Ints, TransitionTable
from deeptaxi.metrics import History
from deeptaxi.network.facts import NetworkFacts, TrainingMode

Severity = Literal["severe", "warning", "note"]
Source = Literal["exact", "log", "episodes", "network"]
SEVERITIES: tuple[Severity, ...] = ("severe", "warning", "note")  # most severe first


@dataclass(frozen=True)
class Finding:
    """A named problem.

    Attributes:
        name: e.g. ``"one-action-collapse"``; `docs/diagnosis.md` lists them all.
        severity: ``"severe"``, ``"warning"`` or ``"note"``.
        summary: one sentence with the numbers that matter.
        evidence: numbers and short texts by name.
        source: what the evidence was computed from: the transition table, the log, sampled episodes, the network.
        cause: the likely cause, one sentence.
        cure: the option to use, or what to change.
    """

    name: str
    severity: Severity
    summary: str
    evidence: Mapping[str, Any]
    source: Source
    cause: str
    cure: str

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "severity": self.severity,
            "summary": self.summary,
            "evidence": dict(self.evidence),
            "source": self.source,
            "cause": self.cause,
            "cure": self.cure,
        }


@dataclass(frozen=True)
class NotChecked:
    """A check that could not be run, and why."""

    name: str
    why: str

    def to_dict(self) -> dict[str, str]:
        """Return the JSON form."""
        return {"name": self.name, "why": self.why}


@dataclass(frozen=True)
class Diagnosis:
    """All findings, most severe first, and what could not be checked."""

    findings: tuple[Finding, ...] = ()
    not_checked: tuple[NotChecked, ...] = field(default=())

    @property
    def severe(self) -> bool:
        """Whether any finding is severe."""
        return any(finding.severity == "severe" for finding in self.findings)

    def named(self, name: str) -> Finding | None:
        """Return the finding with that name, or None."""
        return next((finding for finding in self.findings if finding.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the findings for the JSON."""
        return {
            "severe": self.severe,
            "findings": [finding.to_dict() for finding in self.findings],
            "not_checked": [item.to_dict() for item in self.not_checked],
        }


def only(policy: Ints, actions: int) -> Bools:
    """Convert a policy `[S]` to choices `[S, A]` with one True per row."""
    return np.asarray(policy[:, None] == np.arange(actions))


def can_end(table: TransitionTable, choices: Bools) -> Bools:
    """Mark the states from which some of the `choices` eventually end an episode, `[S]`."""
    if sparse_rows.uses_sparse_rows(table):
        return sparse_rows.leads_to(table, None, choices)
    taken = choices[:, :, None] & (table.probability > 0)
    ends: Bools = np.asarray((taken & table.terminated).any(axis=(1, 2)))
    going_on = taken & ~table.terminated
    while True:
        further = ends | (going_on & ends[table.next_state]).any(axis=(1, 2))
        if np.array_equal(further, ends):
            return ends
        ends = np.asarray(further)


T = TypeVar("T")

GOOD = 0.99  # normalized score
WHY = {
    "table": "there is no true transition table",
    "q": "there is no network, only a log",
    "config": "it is not known how the model was trained: a bare model file has no configuration",
    "history": "the training left no log",
    "visits": "there is no record of what the training tried (visits.npz)",
    "replay": "there is no record of what the replay buffer held at the end (visits.npz)",
    "network": "the network was not inspected",
    "verdict": "there is no exact verdict",
    "sample": "no episodes were played",
    "random_play": "no episodes were played",
    "discount": "it is not known at which discount below 1 the model was trained",
}


@dataclass(frozen=True, eq=False)
class Case:
    """Everything known about a model and the environment it is examined on.

    Attributes:
        environment: the environment that the model is examined on.
        states, actions: its S and A.
        horizon: the number of steps that a return is summed over.
        discount: the objective's discount.
        table: the transition table, or None.
        q: its Q values `[S, A]`, −inf for masked actions; None if unknown.
        given: the policy `[S]` of a model without Q values, or None.
        misfit: the sizes of a model that are not the environment's, or None.
        mixing: of a network whose answer to a state depends on the others: how that was found, and the largest
            difference that it makes; else None.
        training_mode: of a network that computes as in training when it acts: how its answers vary; else None.
        reference, verdict: the exact evaluation, if there is a table and the Q values are finite.
        config: the configuration it was trained with.
        usual: the configuration that `deeptaxi train` takes for this problem and kind of network if nothing is set.
        training_discount: the discount of its td_target, if known.
        history: the training log.
        visits, replay: how often each pair was tried, and its final count in the replay buffer, `[S, A]`.
        network: facts about the network.
        sample: transitions of sampled episodes.
        random_play: more transitions of random actions, of an environment without a table.
        binned: whether observations are real numbers in bins.
        action_names: the names of the actions, or empty.
        siblings: tables of related problems of the same size, by name.
        running: the process that is training it now, or None.
        why: why an attribute is None, by attribute name.
    """

    environment: EnvironmentConfig
    states: int
    actions: int
    horizon: int
    discount: float
    table: TransitionTable | None = None
    q: NDArray[np.floating] | None = None
    given: Ints | None = None
    misfit: str | None = None
    mixing: tuple[str, float] | None = None
    training_mode: TrainingMode | None = None
    reference: exact.Reference | None = None
    verdict: exact.Verdict | None = None
    config: TrainConfig | None = None
    usual: TrainConfig | None = None
    training_discount: float | None = None
    history: History | None = None
    visits: Ints | None = None
    replay: Ints | None = None
    network: NetworkFacts | None = None
    sample: Sample | None = None
    random_play: Sample | None = None
    binned: bool = False
    siblings: Mapping[str, TransitionTable] = field(default_factory=dict)
    running: str | None = None
    action_names: tuple[str, ...] = ()
    why: Mapping[str, str] = field(default_factory=dict)

    def missing(self, name: str) -> str:
        """Return why an attribute is unknown."""
        if name == "discount" and self.reference is None:
            name = "table"
        return self.why.get(name, WHY[name])

    @cached_property
    def harmful(self) -> bool | None:
        """Whether the policy is measurably bad; None if unknown."""
        if self.verdict is None:
            return None
        if self.verdict.optimal or self.verdict.optimal is None:
            return False if self.verdict.optimal else None
        score, verdict = self.verdict.normalized_score, self.verdict
        if score is None:  # the random policy loses forever, or earns as much
            return not verdict.value_gap <= (1 - GOOD) * (1 + abs(verdict.optimal_value))
        return score < GOOD or bool(self.stuck_starts.any())

    def action(self, number: int) -> str:
        """Return an action's number, with its name if it has one."""
        name = self.action_names[number] if self.action_names else ""
        return f"action {number} ({name})" if name and name != f"action {number}" else f"action {number}"

    @property
    def broken(self) -> int:
        """The number of states with non-finite Q values."""
        return 0 if self.q is None else int((np.isnan(self.q) | np.isposinf(self.q)).any(axis=1).sum())

    @property
    def worst(self) -> Severity:
        """The highest severity for the cause of a failure, given what is known about the policy."""
        return "severe" if self.harmful else "warning"

    @cached_property
    def allowed(self) -> Bools:
        """The allowed actions, `[S, A]`; all of them if broken Q values leave none."""
        allowed = np.ones((self.states, self.actions), np.bool_)
        if self.table is not None and self.table.action_mask is not None:
            allowed &= self.table.action_mask
        own = allowed if self.q is None else allowed & ~np.isneginf(self.q)
        return np.where(own.any(axis=1, keepdims=True), own, allowed)

    @cached_property
    def reached(self) -> Bools:
        """The non-terminal states that an agent can reach, `[S]`; needs the table."""
        return planning.reachable(the(self.table), self.allowed)

    @cached_property
    def pairs(self) -> Bools:
        """The pairs that an agent can try, `[S, A]`; needs the table."""
        return self.allowed & self.reached[:, None]

    @cached_property
    def learned_pairs(self) -> Bools:
        """The pairs whose Q values can be held to account: those tried, or all if unknown, `[S, A]`."""
        tried = self.pairs if self.visits is None else self.pairs & (self.visits > 0)
        return tried if tried.any() else self.pairs  # else the counts belong to another problem

    @cached_property
    def policy(self) -> Ints:
        """The greedy policy, `[S]`; needs Q, or a given policy."""
        if self.given is not None:
            mask = None if self.table is None else self.table.action_mask
            return exact.policy_of(self.given, mask, self.table)
        return planning.greedy_policy(the(self.q), self.allowed)

    @cached_property
    def passed(self) -> Bools:
        """The states that the greedy policy visits, `[S]`; needs the table and Q."""
        return planning.reachable(the(self.table), only(self.policy, self.actions))

    @cached_property
    def optimal(self) -> Bools:
        """The optimal actions at the objective's discount, `[S, A]`; needs the table."""
        return planning.optimal_actions(the(self.reference).optimum.q)

    @cached_property
    def losing(self) -> Bools:
        """The reachable states where the greedy action is not optimal, `[S]`."""
        return self.reached & ~self.optimal[np.arange(self.states), self.policy]

    @cached_property
    def stuck(self) -> Bools:
        """The states from which the greedy policy never ends an episode but an optimal one can, `[S]`."""
        table = the(self.table)
        return ~can_end(table, only(self.policy, self.actions)) & can_end(table, self.optimal)

    @cached_property
    def stuck_starts(self) -> Bools:
        """The start states among `stuck` that lose value by it, `[S]`."""
        table, best = the(self.table), the(self.reference).optimum.value
        value = planning.evaluate_policy(table, self.policy, self.discount).value
        loses = best - value > OPTIMAL_TOLERANCE * (1 + np.abs(best))
        return self.stuck & (table.start > 0) & loses

    @cached_property
    def q_star(self) -> Floats:
        """Q* at the training discount, `[S, A]`; needs the table and that discount."""
        return the(the(self.reference).q_star)

    @cached_property
    def span(self) -> float:
        """The range of Q* over the pairs that an agent can try; 0 if all are equal."""
        values = self.q_star[self.pairs]
        return float(values.max() - values.min())


def the(value: T | None) -> T:
    """Return a value that the check declared as needed."""
    if value is None:
        raise LookupError("a check looked at something that it did not declare to need")
    return value


@dataclass(frozen=True)
class Unchecked:
    """The result of a check that could not be run: the reason."""

    why: str


@dataclass(frozen=True)
class Check:
    """A single check.

    Attributes:
        name: the name of its finding.
        needs: names of the facts it needs: attributes of `Case`, or ``"discount"`` for a Q* to compare with.
        look: returns the finding, or None, or why the check could not be run.
    """

    name: str
    needs: tuple[str, ...]
    look: Callable[[Case], Finding | Unchecked | None]

    def __call__(self, case: Case) -> Finding | Unchecked | None:
        """Run the check if everything it needs is known."""
        for need in self.needs:
            if not known(case, need):
                return Unchecked(case.missing(need))
        return self.look(case)


def known(case: Case, need: str) -> bool:
    """Whether the case has what a check needs; broken Q values do not count."""
    if need == "q":
        return case.q is not None and not case.broken
    if need == "discount":
        return case.reference is not None and case.reference.q_star is not None
    return getattr(case, need) is not None


COPIES = 16
STEPS = 20_000  # at most, for all environments together, for each of the two policies
SECONDS = 3.0  # of the steps of a random sample of that many


@dataclass(frozen=True, eq=False)
class Sample:
    """Transitions, `[n]` each.

    Attributes:
        state, action, reward, next_state, terminated, truncated: of each transition.
        time: the step within its episode, from 1.
        greedy: whether the greedy policy chose the action.
        episodes: the number of episodes ended, by the greedy policy and at random.
        shared_state: the state that all observations without a number of their own share, or None.
        previous: the index of the transition before in the same episode; −1 for the first of an episode.
    """

    state: Ints
    action: Ints
    reward: Floats
    next_state: Ints
    terminated: Bools
    truncated: Bools
    time: Ints
    greedy: Bools
    episodes: tuple[int, int]
    shared_state: int | None = None
    previous: Ints = field(default_factory=lambda: np.zeros(0, np.int64))


def play_sample(environment: Environment, policy: Ints | None, allowed: Bools | None, count: int, seed: int) -> Sample:
    """Run `count` episodes with `policy` `[S]`, if given, and `count` with random `allowed` actions `[S, A]`."""
    greedy, random = np.random.SeedSequence(seed).spawn(2)
    shape = (environment.states, environment.actions)
    everything = np.ones(shape, np.bool_) if allowed is None else allowed
    rows, ended = play_rows(environment, everything, count, random)
    by_random, by_greedy, length = ended, 0, len(rows)
    if policy is not None:
        chosen = np.asarray(policy[:, None] == np.arange(environment.actions))
        more, by_greedy = play_rows(environment, chosen, count, greedy)
        rows += more
    mark = np.arange(len(rows)) >= length
    return sample_of(rows, mark, (by_greedy, by_random), environment)


def play_random_sample(environment: Environment, allowed: Bools | None, seed: int) -> Sample:
    """Take `STEPS` random `allowed` actions `[S, A]`, or as many as `SECONDS` are enough for."""
    shape = (environment.states, environment.actions)
    choices = np.ones(shape, np.bool_) if allowed is None else allowed
    rows, ended = play_rows(environment, choices, STEPS, np.random.SeedSequence(seed), SECONDS)
    return sample_of(rows, np.zeros(len(rows), np.bool_), (0, ended), environment)


def sample_of(rows: list[VectorStep], greedy: Bools, episodes: tuple[int, int], environment: Environment) -> Sample:
    """Join the steps of copies of an environment; `greedy` marks those that the policy chose."""
    state, action, reward, reached, terminated, truncated, time = (
        np.concatenate(column) for column in list(zip(*rows, strict=True))[:-1]
    )
    copies = len(rows[0][0])
    shared = None if environment.numbering is None else environment.numbering.shared_state
    previous = np.where(time > 1, np.arange(len(time)) - copies, -1)
    mark = np.repeat(greedy, copies)
    return Sample(state, action, reward, reached, terminated, truncated, time, mark, episodes, shared, previous)


def play_rows(
    environment: Environment,
    choices: Bools,
    count: int,
    seeds: np.random.SeedSequence,
    seconds: float = math.inf,
) -> tuple[list[VectorStep], int]:
    """Run until `count` episodes have ended, `STEPS` steps are made or the time is over.

    Actions are sampled from `choices` `[S, A]`.
    """
    rng = np.random.default_rng(seeds)
    copies = min(count, COPIES)
    rows: list[VectorStep] = []
    ended = 0
    with blaming(environment.config.id), closing(environment.make_vector(copies, masks=False)) as vector:
        states = vector.reset(seed=rng.integers(0, 2**31, copies).tolist())[0]
        until = monotonic() + seconds  # making the copies may take as long

        def choose(state: Ints) -> Ints:
            draws = rng.random((copies, environment.actions)) * choices[state]
            return np.asarray(draws.argmax(axis=1))

        for step in rollout(environment, vector, states, choose, environment.horizon):
            rows.append(step)
            ended += int(step.over.sum())
            if ended >= count or len(rows) * copies >= STEPS or monotonic() > until:
                break
    return rows, ended
