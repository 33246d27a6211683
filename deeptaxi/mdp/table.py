"""The transition table: a finite Markov decision process in explicit form.

For every state s and action a there are up to K outcomes k, each with

    probability[s, a, k]   p_k, summing to 1 over k,
    next_state[s, a, k]    s'_k,
    reward[s, a, k]        r_k,
    terminated[s, a, k]    whether the episode ends there for good: nothing follows, whatever the row of s' says,

and `start[s]` is the distribution of the first state. Unused outcomes have probability 0.
Planning needs only two quantities derived from it:

    expected_reward[s, a]     = Σ_k p_k · r_k
    continuation[s, a, k]     = p_k · (1 − terminated_k)

A table is built from its arrays (`from_arrays`), from the rows of a ``P`` as in Gymnasium's toy-text environments
(`from_rows`) or a function that returns them (`mdp.successors`), or read from a `.npz` file without pickle
(`load_table`); `save_table` writes one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import MAGIC_PREFIX
from numpy.typing import ArrayLike, NDArray

from deeptaxi.errors import DeepTaxiError, UsageError, nearest
from deeptaxi.io.atomic import ASIDE, Scratch, put_new
from deeptaxi.io.mapped import in_blocks, mapping_of, write_npz
from deeptaxi.io.safe_archive import ArchiveError, read_npz, read_shapes
from deeptaxi.machine import memory_exceeded
from deeptaxi.mdp.logged import LoggedData, arrange
from deeptaxi.mdp.successors import Limits, OutcomeError, Progress, Successors, collect_outcomes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ARRAYS: dict[str, tuple[type, int]] = {  # types and dimensions
    "probability": (np.float64, 3), "next_state": (np.int64, 3), "reward": (np.float64, 3), "terminated": (np.bool_, 3),
    "start": (np.float64, 1),
}  # fmt: skip
SUM_TOLERANCE = 1e-6
NORMAL = 4 * float(np.finfo(np.float64).eps)  # rounding of a sum of probabilities that were divided by their sum
MAX_REWARD = 1e30  # networks learn in float32, which overflows at 3e38
LARGE = 2**20  # outcomes S·A·K from which next states take 32 bits, nothing is copied, and files are not compressed


class TableError(DeepTaxiError):
    """The arrays do not describe a Markov decision process."""


@dataclass(frozen=True, eq=False)
class TransitionTable:
    """All outcomes of every (state, action), and where episodes start.

    Nested lists and arrays of other types are accepted if the conversion is lossless.

    Attributes:
        probability, reward: float64 `[S, A, K]`.
        next_state: int64 `[S, A, K]`, int32 of more than a million outcomes.
        terminated: bool `[S, A, K]`.
        start: float64 `[S]`.
        time_limit: steps after which an episode is truncated, or None.
        discount: the discount intended for the problem, or None.
        action_mask: bool `[S, A]`, True where the action may be taken, or None. An expected reward of −∞ excludes a
            pair as well, as in QuantEcon; an excluded pair needs no distribution.
        factors: sizes of the parts of a state number, row-major, or None.
        state_names, action_names: `[S]` and `[A]` texts, or None.
        logged: the logged transitions that the table is estimated from; None if it is exact.

    Raises:
        TableError: shapes, probabilities, indices or rewards do not form a decision process.
    """

    probability: Floats
    next_state: Ints
    reward: Floats
    terminated: Bools
    start: Floats
    time_limit: int | None = None
    discount: float | None = None
    action_mask: Bools | None = None
    factors: tuple[int, ...] | None = None
    state_names: tuple[str, ...] | None = None
    action_names: tuple[str, ...] | None = None
    logged: LoggedData | None = None

    def __post_init__(self) -> None:
        exclude_pairs(self)
        for name, (dtype, dimensions) in ARRAYS.items():
            object.__setattr__(self, name, array(getattr(self, name), dtype, name, dimensions))
        if self.action_mask is not None:
            object.__setattr__(self, "action_mask", array(self.action_mask, np.bool_, "action_mask", 2))
        for name in ("factors", "state_names", "action_names"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))
        check_shapes(self)
        check_numbers(self)
        check_optional(self)
        if is_large(self) and mapping_of(self.next_state) is None:
            object.__setattr__(self, "next_state", self.next_state.astype(np.int32, copy=False))
        # Sums that are off only by rounding would accumulate over thousands of planning steps.
        object.__setattr__(self, "probability", normalize(self.probability))
        object.__setattr__(self, "start", normalize(self.start))

    def __repr__(self) -> str:
        counts = {
            "state": self.states,
            "action": self.actions,
            "outcome": self.probability.shape[2],
            "start state": int((self.start > 0).sum()),
        }
        sizes = ", ".join(f"{count:,} {name}{'s' * (count != 1)}" for name, count in counts.items())
        return f"TransitionTable({sizes})"

    @classmethod
    def load(cls, path: str | Path) -> TransitionTable:
        """Read a table from `.npz`, without pickle; raises the errors of `load_table`."""
        return load_table(Path(path))

    @classmethod
    def from_rows(cls, p: Mapping[int, Any] | Sequence[Any], start: ArrayLike, **optional: Any) -> TransitionTable:
        """Build a table from ``p[state][action] = [(probability, next_state, reward, terminated), …]``.

        This is the `P` of Gymnasium's toy-text environments. `start` `[S]` is the distribution of the first state,
        `optional` any other fields. Raises `TableError` if rows are missing or do not form a decision process.
        """
        return from_rows(p, start, **optional)

    @classmethod
    def from_successors(
        cls,
        states: int,
        actions: int,
        successors: Successors,
        start: ArrayLike,
        progress: Progress | None = None,
        **optional: Any,
    ) -> TransitionTable:
        """Build a table from ``successors(state, action) = [(probability, next_state, reward, terminated), …]``.

        The function is called once for every state 0 … `states` − 1 and action 0 … `actions` − 1, and what it returns
        is checked at once. `start` `[S]` is the distribution of the first state; `progress` is called with the number
        of states that are done and S, four times a second; `optional` are any other fields. Raises `TableError`,
        naming the state and action, if outcomes do not form a decision process.
        """
        return from_successors(states, actions, successors, start, progress, **optional)

    def save(self, path: str | Path, force: bool = False) -> None:
        """Write the table as `.npz`, for use as the environment of any command.

        Raises:
            UsageError: the file exists, and `force` is not set.
            OSError: the disk or its permissions prevent it; an existing file is left intact.
        """
        if os.path.lexists(path) and not force:
            raise UsageError(f"{path} exists; choose another name, or overwrite it with force=True")
        with Scratch(Path(path).parent, ASIDE) as scratch:
            save_table(self, scratch.path / "table.npz")
            if force:
                (scratch.path / "table.npz").replace(path)
                return
            try:
                put_new(scratch.path / "table.npz", Path(path))
            except FileExistsError:
                raise UsageError(f"{path} was written by another process meanwhile") from None

    @property
    def states(self) -> int:
        """S, the number of states."""
        return int(self.probability.shape[0])

    @property
    def actions(self) -> int:
        """A, the number of actions."""
        return int(self.probability.shape[1])

    @cached_property
    def expected_reward(self) -> Floats:
        """Σ_k p_k · r_k, `[S, A]`."""
        found = np.empty((self.states, self.actions))
        for part in in_blocks(self.probability, self.reward):
            np.einsum("sak,sak->sa", self.probability[part], self.reward[part], out=found[part])
        return found

    @cached_property
    def continuation(self) -> Floats:
        """p_k · (1 − terminated_k), `[S, A, K]`."""
        return self.probability * ~self.terminated


def array(values: ArrayLike, dtype: type, name: str, dimensions: int) -> NDArray[Any]:
    """Convert `values` losslessly to an array of `dtype` with that many dimensions."""
    try:
        raw = np.asarray(values)
    except ValueError:
        raise TableError(
            f"{name}: expected numbers in {dimensions} dimensions, received rows of different lengths"
        ) from None
    if raw.ndim != dimensions or raw.dtype.kind not in "biuf":
        raise TableError(f"{name}: expected numbers in {dimensions} dimensions, received {raw.dtype} {list(raw.shape)}")
    if raw.dtype.kind == "f" and (found := describe_first(is_infinite, raw)):
        raise TableError(f"{name} holds {found}: all numbers must be finite")
    if dtype is np.int64 and raw.dtype == np.int32 and raw.size >= LARGE:
        return raw
    with np.errstate(invalid="ignore"):  # values that do not fit are rejected below
        cast: NDArray[Any] = raw.astype(dtype, copy=False)
    if cast is not raw and dtype is not np.float64 and (found := describe_first(np.not_equal, raw, cast)):
        raise TableError(f"{name} holds {found}: expected {np.dtype(dtype).name} values")
    return cast


def is_infinite(values: NDArray[Any]) -> Bools:
    """Return which values are infinite or not a number."""
    return np.asarray(~np.isfinite(values))


def find_first(test: Callable[..., Bools], *arrays: NDArray[Any]) -> tuple[int, ...] | None:
    """Return the first index at which `test`, called with blocks of the `arrays`, is True, or None."""
    if not arrays[0].ndim:
        return () if test(*arrays) else None
    for part in in_blocks(*arrays):
        where = test(*(values[part] for values in arrays))
        if where.any():
            first, *rest = (int(i) for i in np.argwhere(where)[0])
            return (part.start + first, *rest)
    return None


def describe_first(test: Callable[..., Bools], *arrays: NDArray[Any]) -> str | None:
    """Describe the first entry of the first array that fails a `test`, as ``nan at [3, 0, 1]``; None if none does."""
    index = find_first(test, *arrays)
    return None if index is None else f"{arrays[0][index]} at {list(index)}"


def is_large(table: TransitionTable) -> bool:
    """Whether a table is large enough to save memory on."""
    return table.probability.size >= LARGE


def normalize(probability: Floats) -> Floats:
    """Divide probabilities `[…, K]` by their sums, except where these are 1 within what such a division leaves.

    So what was normalized once stays as it is: a table that is saved and read again is the same to the last bit. A
    large array `[S, A, K]` without other sums is returned itself, as it may lie in a file.
    """

    def unlike_one(sums: Floats) -> Bools:
        return np.asarray(np.abs(sums - 1) > NORMAL)

    large = probability.ndim > 1 and probability.size >= LARGE
    if large and find_first(lambda part: unlike_one(part.sum(-1)), probability) is None:
        return probability
    sums = probability.sum(-1, keepdims=True)
    return np.asarray(probability / np.where(unlike_one(sums), sums, 1.0))


def exclude_pairs(table: TransitionTable) -> None:
    """Move rewards of −∞ into the mask, and give the excluded pairs that have no distribution one: the end, for 0.

    What is no array of numbers of the right shape is left for the checks to report.

    Raises:
        TableError: a reward is −∞ in some outcomes of a pair only.
    """
    try:
        fields = [np.asarray(getattr(table, name)) for name in ("probability", "reward", "next_state", "terminated")]
    except ValueError:  # ragged lists
        return
    probability, reward = fields[:2]
    if len({field.shape for field in fields}) > 1 or any(field.dtype.kind not in "biuf" for field in fields):
        return
    if probability.ndim != 3 or 0 in probability.shape:
        return
    mask = table.action_mask
    if mask is None and find_first(np.isneginf, reward) is None:
        return
    minus, forbidden = np.isneginf(reward), forbidden_pairs(probability, reward)
    if minus.any():
        given = np.ones(forbidden.shape, np.bool_) if mask is None else array(mask, np.bool_, "action_mask", 2)
        if given.shape != forbidden.shape:
            return
        fields[1] = np.where(minus, 0.0, reward)  # also that of outcomes that cannot happen
        object.__setattr__(table, "reward", fields[1])
        if forbidden.any():
            mask = given & ~forbidden
            object.__setattr__(table, "action_mask", mask)
    if mask is None or np.shape(mask) != probability.shape[:2]:
        return
    fill_excluded(table, ~np.asarray(mask, np.bool_), forbidden, fields)


def fill_excluded(table: TransitionTable, excluded: Bools, forbidden: Bools, fields: Sequence[NDArray[Any]]) -> None:
    """Let the `excluded` pairs `[S, A]` that are `forbidden`, or have no distribution, end the episode for 0.

    `fields` are the table's probability, reward, next_state and terminated.
    """
    probability = fields[0]
    empty = excluded & (forbidden | np.isnan(probability).any(axis=-1) | (probability == 0).all(axis=-1))
    if not empty.any():
        return
    states, actions = np.nonzero(empty)
    for name, values in zip(("probability", "reward", "next_state", "terminated"), fields, strict=True):
        filled = values.copy()
        filled[states, actions] = name == "terminated"
        filled[states, actions, 0] = {"probability": 1, "next_state": states, "terminated": True}.get(name, 0)
        object.__setattr__(table, name, filled)


def forbidden_pairs(probability: NDArray[Any], reward: NDArray[Any]) -> Bools:
    """Return which pairs a reward of −∞ forbids, `[S, A]`.

    Raises:
        TableError: a reward is −∞ in some outcomes of a pair only.
    """
    possible, minus = probability != 0, np.isneginf(reward)
    forbidden: Bools = np.asarray((minus & possible).any(axis=-1))
    partly = forbidden & (possible & ~minus).any(axis=-1)
    if partly.any():
        state, action = (int(i) for i in np.argwhere(partly)[0])
        raise TableError(
            f"reward of state {state}, action {action} is −∞ in some outcomes only: −∞ says that the action may not be "
            "taken, so it must be in all"
        )
    return forbidden


def from_arrays(
    probability: ArrayLike,
    next_state: ArrayLike,
    reward: ArrayLike,
    terminated: ArrayLike,
    start: ArrayLike,
    **optional: Any,
) -> TransitionTable:
    """Build a table from array-likes `[S, A, K]` and `start [S]`, with lossless conversions only.

    A reward of −∞ says that the action may not be taken, as in QuantEcon; such a pair, and one that `action_mask`
    excludes, needs no distribution.
    """
    return TransitionTable(probability, next_state, reward, terminated, start, **optional)  # type: ignore[arg-type]


def check_shapes(table: TransitionTable) -> None:
    """Check that the arrays fit together."""
    shape = table.probability.shape
    if len(shape) != 3 or 0 in shape:
        raise TableError(f"probability: expected a shape [S, A, K] without zeros, received {list(shape)}")
    for name in ("next_state", "reward", "terminated"):
        if getattr(table, name).shape != shape:
            raise TableError(f"{name}: expected shape {list(shape)}, received {list(getattr(table, name).shape)}")
    if table.start.shape != shape[:1]:
        raise TableError(f"start: expected shape {list(shape[:1])}, received {list(table.start.shape)}")


def check_numbers(table: TransitionTable) -> None:
    """Check that probabilities are distributions, indices exist and rewards are not too large; all are finite."""
    if found := describe_first(lambda part: np.abs(part) > MAX_REWARD, table.reward):
        raise TableError(f"reward holds {found}: expected at most {MAX_REWARD:g} in magnitude")
    for name in ("probability", "start"):
        if found := describe_first(lambda part: part < 0, getattr(table, name)):
            raise TableError(f"{name} holds {found}: probabilities are at least 0")
    if found := describe_first(lambda part: (part < 0) | (part >= table.states), table.next_state):
        raise TableError(f"next_state holds {found}: expected 0 to {table.states - 1}")
    off = find_first(lambda part: np.abs(part.sum(-1) - 1) > SUM_TOLERANCE, table.probability)
    if off is not None:
        state, action = off
        total = table.probability[state, action].sum()
        raise TableError(f"probability of state {state}, action {action} sums to {total:.6g}, not to 1")
    if abs(table.start.sum() - 1) > SUM_TOLERANCE:
        raise TableError(f"start sums to {table.start.sum():.6g}, not to 1")


def check_optional(table: TransitionTable) -> None:
    """Check the table's optional fields."""
    states, actions = table.states, table.actions
    if table.time_limit is not None and table.time_limit < 1:
        raise TableError(f"time_limit: expected 1 or more, received {table.time_limit}")
    if table.discount is not None and not 0 <= table.discount <= 1:
        raise TableError(f"discount: expected a number between 0 and 1, received {table.discount}")
    if table.action_mask is not None:
        if table.action_mask.shape != (states, actions):
            raise TableError(
                f"action_mask: expected shape {[states, actions]}, received {list(table.action_mask.shape)}"
            )
        if not table.action_mask.any(-1).all():
            state = int(np.argmin(table.action_mask.any(-1)))
            raise TableError(f"action_mask excludes every action of state {state}")
    if table.factors is not None and (int(np.prod(table.factors)) != states or min(table.factors) < 1):
        raise TableError(f"factors {list(table.factors)} make {int(np.prod(table.factors))} states, not {states}")
    for name, count in (("state_names", states), ("action_names", actions)):
        names = getattr(table, name)
        if names is not None and len(names) != count:
            raise TableError(f"{name}: expected {count} names, received {len(names)}")


def check_logged(table: TransitionTable) -> None:
    """Check that the logged transitions of an estimated table estimate that table."""
    if table.logged is None:
        return
    try:
        found = arrange(table.logged, table.states, table.actions)
    except ValueError as error:
        raise TableError(f"logged: {error}") from None
    probability, reward, _ = found.weighted(np.ones(table.logged.episodes))
    same = (
        found.next_state.shape == table.next_state.shape
        and np.array_equal(found.next_state, table.next_state)
        and np.array_equal(found.terminated, table.terminated)
        and np.allclose(probability, table.probability, atol=SUM_TOLERANCE)
        and np.allclose(reward, table.reward, atol=SUM_TOLERANCE)
    )
    if not same:
        raise TableError("logged: these transitions do not estimate this table")


BYTES_PER_ENTRY = 100  # of S·A·K; the arrays take 25, planning and the compiled loop at their peak the rest


def check_memory(shape: tuple[int, ...]) -> None:
    """Reject, before anything is allocated, a table too large for this machine.

    Raises:
        TableError: arrays of shape `[S, A, K]` would take more than most of the memory.
    """
    size = math.prod(shape) * BYTES_PER_ENTRY
    if memory := memory_exceeded(size):
        sizes = " × ".join(f"{count:,}" for count in shape)
        raise TableError(f"a table of {sizes} outcomes takes {size / 2**30:,.1f} GiB, and {memory}")


Row = tuple[float, int, float, bool]  # probability, next state, reward, terminated


def merge_rows(rows: Sequence[Row]) -> dict[tuple[int, float, bool], float]:
    """Sum the probabilities of rows that agree in next state, reward *and* terminated; drop impossible ones.

    Slippery CliffWalking reaches state 36 from itself both with −1 and with −100: two outcomes, not one.
    """
    merged: dict[tuple[int, float, bool], float] = {}
    for probability, next_state, reward, terminated in rows:
        if probability != 0:
            if int(next_state) != next_state:
                raise ValueError(f"next state {next_state!r}")
            key = (int(next_state), float(reward), bool(terminated))
            merged[key] = merged.get(key, 0.0) + float(probability)
    return merged


def form_of(p: Any) -> str:
    """Describe what was given instead of P, down to the first malformed part."""
    if isinstance(p, np.ndarray):
        return f"an array of shape {list(p.shape)}"
    place = ""
    for _ in range(3):
        if isinstance(p, Mapping):
            key: Any = next(iter(p), None)
        elif isinstance(p, list | tuple) and p:
            key = 0
        else:
            break
        if key is None:
            return f"an empty dict{place}"
        if key != 0 and place.count("[") < 2:
            return f"a dict{place} whose first key is {key!r}"
        place = f"{place}[{key!r}]" if place else f" at [{key!r}]"
        p = p[key]
    text = repr(p)
    return f"{text if len(text) <= 60 else text[:59] + '…'}{place}"


def actions_of(state: Any) -> set[Any]:
    """Return the actions that a state has rows for."""
    keys = state.keys() if isinstance(state, Mapping) else range(len(state))
    return {key for key in keys if len(state[key])}


def count_actions(present: set[Any]) -> int:
    """Return A, given the actions that any state has rows for.

    Raises:
        LookupError: they are not 0 … A−1, or there are none.
    """
    if not present or present != set(range(len(present))):
        raise LookupError
    return len(present)


def from_rows(p: Mapping[int, Any] | Sequence[Any], start: ArrayLike, **optional: Any) -> TransitionTable:
    """Build a table from Gymnasium's ``P[state][action] = [(probability, next_state, reward, terminated), …]``.

    An action that is missing in a state, or has no rows there, is excluded by the mask. A state without any action is
    the end of an episode.

    Args:
        p: the rows, keyed 0 … S−1 and 0 … A−1.
        start: distribution of the first state, `[S]`.
        **optional: other fields of the table.

    Raises:
        TableError: rows are missing or malformed, or the numbers do not form a decision process.
    """
    try:
        states = len(p)
        present = [actions_of(p[s]) for s in range(states)]
        actions = count_actions(set().union(*present))
        merged = [[merge_rows(p[s][a] if a in present[s] else ()) for a in range(actions)] for s in range(states)]
        has = np.array([[a in present[s] for a in range(actions)] for s in range(states)], np.bool_)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        raise TableError(
            "P is not of the form P[state][action] = [(probability, next_state, reward, terminated), …] "
            f"with states and actions from 0: it is {form_of(p)}"
        ) from None
    width = max((len(outcomes) for row in merged for outcomes in row), default=0)
    shape = (states, actions, max(width, 1))
    check_memory(shape)
    has |= ~has.any(axis=1, keepdims=True)
    given = optional.pop("action_mask", None)
    if not has.all():
        optional["action_mask"] = has if given is None else has & array(given, np.bool_, "action_mask", 2)
    elif given is not None:
        optional["action_mask"] = given
    probability, reward = np.zeros(shape), np.zeros(shape)
    next_state, terminated = np.zeros(shape, np.int64), np.ones(shape, np.bool_)
    for s, row in enumerate(merged):
        if not any(row):
            probability[s, :, 0], next_state[s] = 1, s
        for a, outcomes in enumerate(row):
            for k, ((target, gain, ends), chance) in enumerate(outcomes.items()):
                probability[s, a, k], next_state[s, a, k] = chance, target
                reward[s, a, k], terminated[s, a, k] = gain, ends
    return from_arrays(probability, next_state, reward, terminated, start, **optional)


def from_successors(
    states: int,
    actions: int,
    successors: Successors,
    start: ArrayLike,
    progress: Progress | None = None,
    **optional: Any,
) -> TransitionTable:
    """Build a table from a function that returns the outcomes of a state and an action.

    Outcomes that agree in next state, reward and terminated are merged, and those of probability 0 dropped. As in
    `from_rows`, a pair without outcomes is excluded by the mask, and a state without any is the end of an episode.

    Args:
        states: S.
        actions: A.
        successors: called with a state 0 … S−1 and an action 0 … A−1; returns
            ``[(probability, next_state, reward, terminated), …]``.
        start: distribution of the first state, `[S]`.
        progress: called with the number of states that are done and S, four times a second and at the end.
        **optional: other fields of the table.

    Raises:
        TableError: the outcomes of a pair are no distribution, lead out of the states or have rewards that are not
            finite, or the table would take more than most of the memory. What `successors` itself raises is passed on,
            with a note of the state and action.
        TypeError: a field is unknown.
    """
    check_given(states, actions, start, optional)
    limits = Limits(MAX_REWARD, SUM_TOLERANCE, check_memory)
    try:
        outcomes, has = collect_outcomes((int(states), int(actions)), successors, limits, progress)
    except OutcomeError as error:
        raise TableError(str(error)) from None
    has |= ~has.any(axis=1, keepdims=True)
    if not has.all():
        given = optional.get("action_mask")
        optional["action_mask"] = has if given is None else has & array(given, np.bool_, "action_mask", 2)
    table = from_arrays(*outcomes, start, **optional)
    if progress is not None:
        progress(states, states)
    return table


def check_given(states: int, actions: int, start: ArrayLike, optional: Mapping[str, Any]) -> None:
    """Reject, before any work, what could not be part of a table whatever its outcomes were.

    Raises:
        TableError: the numbers of states and actions, `start` or a field of `optional` are unfit.
        TypeError: a field is unknown.
    """
    for name, count in (("states", states), ("actions", actions)):
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            raise TableError(f"{name}: expected a number of 1 or more, received {count!r}")
    for name in optional:
        if name not in OPTIONAL:
            raise TypeError(f"a table has no field {name!r}{nearest(name, OPTIONAL)}")
    shape = (int(states), int(actions), 1)
    check_memory(shape)
    sure, nothing, first = np.broadcast_to(1.0, shape), np.broadcast_to(0.0, shape), np.broadcast_to(0, shape)
    from_arrays(sure, first, nothing, sure, start, **optional)  # a process that ends at once


OPTIONAL = ("time_limit", "discount", "action_mask", "factors", "state_names", "action_names")
LOGGED = ("logged", "prior")  # of an estimated table: its transitions, float64 `[N, 6]`, and their prior
MAX_BYTES = 2**50  # size that a file may claim while only its shapes are read
TABLE_BYTES = 32  # maximum size of the arrays, per entry of S·A·K
REST = 2**26  # bytes for names and everything else that does not grow with the outcomes


def save_table(table: TransitionTable, path: Path, compressed: bool = False) -> None:
    """Write the table as an ``.npz`` that `load_table` reads.

    Args:
        table: the table.
        path: the file.
        compressed: whether to compress a large table too, which then cannot stay in its file when it is read.

    Raises:
        TableError: the names are too long for `load_table` to read.
    """
    check_names(table)
    optional = {name: getattr(table, name) for name in OPTIONAL if getattr(table, name) is not None}
    if table.logged is not None:
        optional |= {"logged": table.logged.to_array(), "prior": table.logged.prior}
    arrays = {
        name: np.asarray(value) for name, value in ({name: getattr(table, name) for name in ARRAYS} | optional).items()
    }
    if is_large(table) and not compressed:
        write_npz(path, arrays)
        return
    with path.open("wb") as file:  # np.savez would add an extension to a name without one
        np.savez_compressed(file, allow_pickle=False, **arrays)


def check_names(table: TransitionTable) -> None:
    """Reject names too long for `load_table`: each takes as much space in the file as the longest."""
    room = table.probability.size * (BYTES_PER_ENTRY - TABLE_BYTES) + REST
    for kind, names in (("state", table.state_names), ("action", table.action_names)):
        longest = max(map(len, names or ()), default=0)
        if 2 * 4 * longest * len(names or ()) > room:
            raise TableError(
                f"the {kind} names take too much room in an .npz, which stores each with the {longest:,} characters "
                "of the longest: shorten them"
            )


def load_table(path: Path) -> TransitionTable:
    """Read a table from ``.npz``, without pickle.

    Raises:
        UsageError: the file does not exist.
        TableError: the file is damaged, lacks an array, has an unknown one, or is not a decision process.
    """
    if not path.is_file():
        where = "" if path.is_absolute() else f" (seen from {Path.cwd()})"
        raise UsageError(f"no transition table at {path}{where}")
    try:
        shapes = read_shapes(path, MAX_BYTES)
        shape = shapes.get("probability", ())
        check_memory(shape)
        logged = shapes.get("logged", ())
        check_memory(logged)
        limit = math.prod(shape) * BYTES_PER_ENTRY + math.prod(logged) * 8 + REST
        values = read_npz(path, limit, mapped=True)
    except ArchiveError as error:
        single = f"a single array, not an .npz of {', '.join(ARRAYS)}"
        what = single if is_single_array(path) else f"not a readable .npz file: {error}"
        raise TableError(f"{path} is {what}") from None
    for name in ARRAYS:
        if name not in values:
            ends = "; if no outcome ends an episode, it is np.zeros(probability.shape, bool)"
            cure = ends if name == "terminated" else ""
            raise TableError(f"{path} lacks '{name}'; a table holds {', '.join(ARRAYS)}{cure}")
    for name in values:
        if name not in (*ARRAYS, *OPTIONAL, *LOGGED):
            discount = "; the discount of a table is named 'discount'" if name in ("gamma", "beta") else ""
            raise TableError(f"{path} holds an unknown array '{name}'{discount or nearest(name, (*ARRAYS, *OPTIONAL))}")
    arrays = [values.pop(name) for name in ARRAYS]
    try:
        table = from_arrays(*arrays, **read_optional(values))
        check_logged(table)
    except TableError as error:
        once = "reward" in str(error) and values_of_pairs(arrays)
        cure = "; if it is that of every outcome, np.broadcast_to(reward[..., None], probability.shape) repeats it"
        raise TableError(f"{path}: {error}{cure if once else ''}") from None
    return table


def values_of_pairs(arrays: Sequence[NDArray[Any]]) -> bool:
    """Whether the rewards of a table are `[S, A]` instead of `[S, A, K]`."""
    named = dict(zip(ARRAYS, arrays, strict=True))
    return named["probability"].ndim == 3 and named["reward"].shape == named["probability"].shape[:2]


def is_single_array(path: Path) -> bool:
    """Whether a file was written by `numpy.save`."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX
    except OSError:
        return False


def read_optional(values: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Convert the optional arrays of an ``.npz`` to the fields of a table."""
    fields: dict[str, Any] = {}
    prior = float(array(values.get("prior", np.zeros(())), np.float64, "prior", 0))
    for name, value in values.items():
        if name == "logged":
            try:
                fields[name] = LoggedData.from_array(array(value, np.float64, name, 2), prior)
            except ValueError as error:
                raise TableError(f"logged: {error}") from None
        elif name == "prior":
            continue
        elif name in ("state_names", "action_names"):
            fields[name] = tuple(str(item) for item in value.ravel())
        elif name == "action_mask":
            fields[name] = array(value, np.bool_, name, 2)
        elif name == "factors":
            fields[name] = tuple(int(item) for item in array(value, np.int64, name, 1))
        else:
            kind = np.int64 if name == "time_limit" else np.float64
            fields[name] = array(value, kind, name, 0).item()
    return fields
