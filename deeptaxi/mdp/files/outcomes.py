"""Outcomes as columns, and the table that they make: what every reader of another form ends with.

A reader turns its file into `Outcomes`, one entry per outcome of a (state, action), each with the line that it stood
on. `assemble_table` checks them, names the line of what is wrong, and packs them into a `TransitionTable`:

- outcomes of a pair must sum to 1; a pair without outcomes may not be taken (it is masked), and neither may one whose
  reward is −∞ (QuantEcon's convention);
- a state without outcomes is an end, which needs that it is entered by terminated outcomes only;
- without a start distribution, episodes start uniformly in all states that are not ends.

What was decided, and not read, is a *note*, which every command shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeptaxi.errors import UsageError, nearest, printable
from deeptaxi.mdp.table import MAX_REWARD, SUM_TOLERANCE, Bools, Floats, Ints, TableError, TransitionTable, check_memory

Start = int | str | Sequence[float] | NDArray[Any] | None
UNIFORM = "uniform"


@dataclass(frozen=True)
class ReadOptions:
    """What a file of another form may not say.

    Attributes:
        start: a state's number or name, several with commas, "uniform", or a distribution `[S]`; None for the file's
            own, else uniform over the states that are not ends.
        discount: the discount that the problem is meant with; None for the file's own, if it has one.
        time_limit: steps before an episode is cut, or None.
        prior: α of the Dirichlet prior of logged data, added to the count of every next state.
        goal: label of the states whose entry ends the episode (PRISM); it earns 1 if the file has no rewards.
        end_absorbing: whether to end episodes where no action leaves a state or earns anything.
    """

    start: Start = None
    discount: float | None = None
    time_limit: int | None = None
    prior: float = 0.0
    goal: str | None = None
    end_absorbing: bool = False

    def __post_init__(self) -> None:
        if not (is_number(self.prior) and 0 <= self.prior < float("inf")):
            raise UsageError(f"prior: expected a number from 0, received {self.prior!r}")
        if self.discount is not None and not (is_number(self.discount) and 0 <= self.discount <= 1):
            raise UsageError(f"discount: expected a number between 0 and 1, received {self.discount!r}")
        if not isinstance(self.end_absorbing, bool):
            raise UsageError(f"end_absorbing: expected true or false, received {self.end_absorbing!r}")
        if self.goal is not None and not isinstance(self.goal, str):
            raise UsageError(f"goal: expected the name of a label, received {self.goal!r}")
        if self.time_limit is not None and (type(self.time_limit) is not int or self.time_limit < 1):
            raise UsageError(f"time_limit: expected 1 or more, received {self.time_limit!r}")


def is_number(value: Any) -> bool:
    """Whether a value is a number, and no truth value."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


@dataclass(frozen=True)
class Reading:
    """A table that was read, with what to tell about it.

    Attributes:
        table: the table.
        form: the form of the file, in a few words.
        notes: what was decided and not read, one sentence each, without the period.
    """

    table: TransitionTable
    form: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Outcomes as columns of one length L.

    Attributes:
        state, action, next_state: int64 `[L]`.
        probability, reward: float64 `[L]`; a reward of −∞ says that the action may not be taken.
        terminated: bool `[L]`.
        line: where each stood, from 1, `[L]`; None if there are no lines.
    """

    state: Ints
    action: Ints
    next_state: Ints
    probability: Floats
    reward: Floats
    terminated: Bools
    line: Ints | None = None

    def __getitem__(self, chosen: Any) -> Outcomes:
        """Return the outcomes marked or numbered by `chosen`."""
        return Outcomes(
            self.state[chosen],
            self.action[chosen],
            self.next_state[chosen],
            self.probability[chosen],
            self.reward[chosen],
            self.terminated[chosen],
            None if self.line is None else self.line[chosen],
        )


@dataclass(frozen=True)
class Source:
    """The name of a file or value, and what its entries are called in errors: `line` or `row`."""

    name: str
    unit: str = "line"

    def fault(self, what: str, line: Any = None) -> TableError:
        """Create the error for a line: ``m.tra, line 4: …``."""
        where = "" if line is None else f", {self.unit} {int(line):,}"
        return TableError(f"{self.name}{where}: {what}")


@dataclass(frozen=True)
class Facts:
    """What is known of a problem beside its outcomes.

    Attributes:
        states, actions: S and A.
        start: distribution of the first state, `[S]`, or None.
        discount, time_limit: of the file, or None.
        state_names, action_names: texts, or None.
        gaps: whether a state may occur nowhere.
        cure: what to do about a state without outcomes.
    """

    states: int
    actions: int
    start: Floats | None = None
    discount: float | None = None
    time_limit: int | None = None
    state_names: tuple[str, ...] | None = None
    action_names: tuple[str, ...] | None = None
    gaps: bool = False
    cure: str = "if the episode ends there, mark these outcomes as terminated"
    notes: tuple[str, ...] = ()


def assemble_table(source: Source, outcomes: Outcomes, facts: Facts, options: ReadOptions) -> Reading:
    """Check outcomes and pack them into a table; `Reading.form` is left empty.

    Raises:
        TableError: the outcomes are not those of a decision process; the message names the line.
        UsageError: the start in `options` does not exist.
    """
    notes = list(facts.notes)
    check_memory((facts.states, facts.actions, 1))
    check_columns(source, outcomes)
    outcomes = outcomes[outcomes.probability > 0]
    outcomes, forbidden = without_forbidden(source, outcomes, facts)
    check_sums(source, outcomes, facts)
    allowed = np.zeros((facts.states, facts.actions), np.bool_)
    allowed[outcomes.state, outcomes.action] = True
    ends: Bools = np.asarray(~allowed.any(axis=1))
    check_ends(source, outcomes, facts, ends)
    missing = int((~allowed[~ends]).sum())
    if forbidden:
        notes.append(f"{counted(forbidden, 'pair')} of state and action may not be taken, by a reward of −∞")
    if missing > forbidden:
        notes.append(f"{counted(missing - forbidden, 'pair')} of state and action may not be taken, without outcomes")
    if ends.any():
        count = int(ends.sum())
        notes.append(f"{counted(count, 'state')} ({listed(ends)}) {'is an end' if count == 1 else 'are ends'}")
    outcomes, absorbing = end_absorbing(outcomes, facts, options.end_absorbing)
    if absorbing.any():
        notes.append(absorbing_note(absorbing, options.end_absorbing))
    arrays = pack(merge_outcomes(outcomes, facts), facts)
    finished = ends | absorbing if options.end_absorbing else ends
    start, said = start_of(source, options.start, facts, finished)
    notes += said
    allowed[ends] = True  # no action is chosen there
    try:
        table = TransitionTable(
            *arrays,
            start,
            time_limit=options.time_limit or facts.time_limit,
            discount=facts.discount if options.discount is None else options.discount,
            action_mask=None if allowed.all() else allowed,
            state_names=facts.state_names,
            action_names=facts.action_names,
        )
    except TableError as error:  # of the start, the discount or the time limit
        raise source.fault(str(error)) from None
    return Reading(table, "", tuple(notes))


def counted(count: int, noun: str) -> str:
    """Format a count with its noun: ``1 state``, ``3 states``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(marked: Bools) -> str:
    """List the first few of the marked numbers."""
    numbers = np.flatnonzero(marked)
    return ", ".join(map(str, numbers[:4])) + (", …" if len(numbers) > 4 else "")


def line_of(outcomes: Outcomes, index: int) -> Any:
    """Return the line of an outcome, or None."""
    return None if outcomes.line is None else outcomes.line[index]


def check_columns(source: Source, outcomes: Outcomes) -> None:
    """Reject numbers that are not finite, except a reward of −∞, and negative probabilities."""
    chance, reward = outcomes.probability, outcomes.reward
    faults = (
        (~np.isfinite(chance), "a probability of {0}: all probabilities must be finite", chance),
        (chance < 0, "a probability of {0}: probabilities are at least 0", chance),
        (np.isnan(reward) | np.isposinf(reward), "a reward of {0}: rewards must be finite", reward),
        (
            np.isfinite(reward) & (np.abs(reward) > MAX_REWARD),
            f"a reward of {{0}}: expected at most {MAX_REWARD:g} in magnitude",
            reward,
        ),
    )
    for wrong, text, values in faults:
        if wrong.any():
            index = int(np.argmax(wrong))
            where = f"state {outcomes.state[index]}, action {outcomes.action[index]} has "
            raise source.fault(where + text.format(values[index]), line_of(outcomes, index))


def pairs_of(outcomes: Outcomes, facts: Facts) -> Ints:
    """Return the number s·A + a of each outcome's pair, `[L]`."""
    return outcomes.state * facts.actions + outcomes.action


def without_forbidden(source: Source, outcomes: Outcomes, facts: Facts) -> tuple[Outcomes, int]:
    """Remove the pairs whose reward is −∞; return the others, and the number of the removed pairs."""
    infinite = np.isneginf(outcomes.reward)
    if not infinite.any():
        return outcomes, 0
    pairs = pairs_of(outcomes, facts)
    marked = np.zeros(facts.states * facts.actions, np.bool_)
    marked[pairs[infinite]] = True
    partly = marked[pairs] & ~infinite
    if partly.any():
        index = int(np.argmax(partly))
        raise source.fault(
            f"state {outcomes.state[index]}, action {outcomes.action[index]} has a reward of −∞ in some outcomes only: "
            "−∞ says that the action may not be taken, so it must be in all",
            line_of(outcomes, index),
        )
    return outcomes[~infinite], int(marked.sum())


def check_sums(source: Source, outcomes: Outcomes, facts: Facts) -> None:
    """Reject pairs whose probabilities do not sum to 1."""
    pairs = pairs_of(outcomes, facts)
    sums = np.bincount(pairs, outcomes.probability, minlength=facts.states * facts.actions)
    off = (np.abs(sums[pairs] - 1) > SUM_TOLERANCE) if len(pairs) else np.zeros(0, np.bool_)
    if not off.any():
        return
    index = int(np.argmax(off))
    same = np.flatnonzero(pairs == pairs[index])
    lines = ""
    if outcomes.line is not None and len(same) > 1:
        distinct = np.unique(outcomes.line[same])
        numbers = ", ".join(f"{number:,}" for number in distinct[:4])
        lines = f" ({source.unit}s {numbers}{', …' if len(distinct) > 4 else ''})" if len(distinct) > 1 else ""
    raise source.fault(
        f"the probabilities of state {outcomes.state[index]}, action {outcomes.action[index]}{lines} sum to "
        f"{sums[pairs[index]]:.6g}, not to 1",
        line_of(outcomes, index),
    )


def check_ends(source: Source, outcomes: Outcomes, facts: Facts, ends: Bools) -> None:
    """Reject states without outcomes in which an episode continues, and gaps in the numbering."""
    going_on = ends[outcomes.next_state] & ~outcomes.terminated
    if going_on.any():
        index = int(np.argmax(going_on))
        raise source.fault(
            f"state {outcomes.next_state[index]}, which state {outcomes.state[index]} leads to, has no outcomes of its "
            f"own: {facts.cure}",
            line_of(outcomes, index),
        )
    met = ~ends
    met[outcomes.next_state] = True
    if not facts.gaps and not met.all():
        state = int(np.argmin(met))
        raise source.fault(
            f"state {state} has no outcomes, and none leads to it: states are numbered from 0 to {facts.states - 1} "
            "without gaps"
        )


def end_absorbing(outcomes: Outcomes, facts: Facts, asked: bool) -> tuple[Outcomes, Bools]:
    """Find the states that no action leaves or earns anything in, `[S]`; if `asked`, end the episode on entry."""
    leaves = (outcomes.next_state != outcomes.state) | (outcomes.reward != 0) | outcomes.terminated
    absorbing = np.zeros(facts.states, np.bool_)
    absorbing[outcomes.state] = True
    absorbing[outcomes.state[leaves]] = False
    if not asked or not absorbing.any():
        return outcomes, absorbing
    return replace(outcomes, terminated=outcomes.terminated | absorbing[outcomes.next_state]), absorbing


def absorbing_note(absorbing: Bools, ended: bool) -> str:
    """Tell of the absorbing states, and what was made of them."""
    count = int(absorbing.sum())
    which = f"{counted(count, 'state')} ({listed(absorbing)})"
    what = f"{which} is never left and earns nothing" if count == 1 else f"{which} are never left and earn nothing"
    return (
        f"{what}: episodes end there"
        if ended
        else f"{what}: episodes go on there (--end-absorbing or --env-arg end_absorbing=true ends them)"
    )


def merge_outcomes(outcomes: Outcomes, facts: Facts) -> Outcomes:
    """Sort outcomes by pair, and sum the probabilities of those that agree in next state, reward and terminated."""
    pairs = pairs_of(outcomes, facts)
    order = np.lexsort((outcomes.terminated, outcomes.reward, outcomes.next_state, pairs))
    outcomes, pairs = outcomes[order], pairs[order]
    keys = (pairs, outcomes.next_state, outcomes.reward, outcomes.terminated)
    new = np.ones(len(pairs), np.bool_)
    new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    first = np.flatnonzero(new)
    if len(first) == len(new):
        return outcomes
    return replace(outcomes[first], probability=np.add.reduceat(outcomes.probability, first))


def pack(outcomes: Outcomes, facts: Facts) -> tuple[Floats, Ints, Floats, Bools]:
    """Pack outcomes sorted by pair into arrays `[S, A, K]`; a pair without any ends where it is.

    Raises:
        TableError: they would take more than the memory.
    """
    pairs = pairs_of(outcomes, facts)
    counts = np.bincount(pairs, minlength=facts.states * facts.actions)
    width = max(int(counts.max(initial=0)), 1)
    shape = (facts.states, facts.actions, width)
    check_memory(shape)
    probability, reward = np.zeros(shape), np.zeros(shape)
    next_state, terminated = np.zeros(shape, np.int64), np.ones(shape, np.bool_)
    next_state[:] = np.arange(facts.states)[:, None, None]
    probability[..., 0] = (counts == 0).reshape(shape[:2])
    place = (outcomes.state, outcomes.action, np.arange(len(pairs)) - (np.cumsum(counts) - counts)[pairs])
    probability[place], next_state[place] = outcomes.probability, outcomes.next_state
    reward[place], terminated[place] = outcomes.reward, outcomes.terminated
    return probability, next_state, reward, terminated


def start_of(source: Source, asked: Start, facts: Facts, finished: Bools) -> tuple[Floats, list[str]]:
    """Return the start distribution `[S]`, and a note if it is a default.

    Raises:
        UsageError: a state in `asked` does not exist.
    """
    if asked is None and facts.start is not None:
        return facts.start, []
    if asked is None or (isinstance(asked, str) and asked == UNIFORM):
        open_states = ~finished if not finished.all() else np.ones(facts.states, np.bool_)
        said = f"episodes start uniformly in {'all' if open_states.all() else 'the other'} {open_states.sum():,} states"
        if facts.states == 1:
            return np.ones(1), []
        if asked is None:
            said += ", as nothing says where (--start or --env-arg start=STATE does)"
        return open_states / open_states.sum(), [said]
    if isinstance(asked, str) or is_number(asked):
        chosen = [state_named(source, part, facts) for part in str(asked).split(",")]
        start = np.zeros(facts.states)
        start[chosen] = 1 / len(set(chosen))
        return start, []
    return np.asarray(asked, np.float64), []  # checked by the table


def state_named(source: Source, text: str, facts: Facts) -> int:
    """Return the number of a state given by its number or name.

    Raises:
        UsageError: there is no such state.
    """
    text, names = text.strip(), facts.state_names or ()
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < facts.states:
        return int(text)
    known = nearest(text, names) or f"; states are numbered 0 to {facts.states - 1}"
    raise UsageError(f"{source.name} has no state {printable(text)!r} to start in{known}")
