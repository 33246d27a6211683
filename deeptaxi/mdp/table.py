"""The transition table: a finite Markov decision process written out.

For every state s and action a there are up to K outcomes k, each with

    probability[s, a, k]   p_k, summing to 1 over k,
    next_state[s, a, k]    s'_k,
    reward[s, a, k]        r_k,
    terminated[s, a, k]    whether the episode ends there for good: nothing follows, whatever s' has in its own row,

and `start[s]` is the distribution of the first state. Unused outcomes have probability 0.
Two quantities derived from it are all that planning needs:

    expected_reward[s, a]     = Σ_k p_k · r_k
    continuation[s, a, k]     = p_k · (1 − terminated_k)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.scratch import ASIDE, Scratch, put_new

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ARRAYS: dict[str, tuple[type, int]] = {  # types and dimensions
    "probability": (np.float64, 3), "next_state": (np.int64, 3), "reward": (np.float64, 3), "terminated": (np.bool_, 3),
    "start": (np.float64, 1),
}  # fmt: skip
SUM_TOLERANCE = 1e-6
MAX_REWARD = 1e30  # networks learn in float32, which ends at 3e38


class TableError(DeepTaxiError):
    """The arrays do not describe a Markov decision process."""


@dataclass(frozen=True, eq=False)
class TransitionTable:
    """All outcomes of every (state, action), and where episodes start.

    Nested lists and arrays of other types do as well where nothing is lost by the conversion.

    Attributes:
        probability, reward: float64 `[S, A, K]`.
        next_state: int64 `[S, A, K]`.
        terminated: bool `[S, A, K]`.
        start: float64 `[S]`.
        time_limit: steps before an episode is cut, or None.
        discount: the discount that the problem is meant with, or None.
        action_mask: bool `[S, A]`, True where the action may be taken, or None.
        factors: sizes of the parts that a state number is made of, row-major, or None.
        state_names, action_names: `[S]` and `[A]` texts, or None.

    Raises:
        TableError: shapes, probabilities, indices or rewards are not those of a decision process.
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

    def __post_init__(self) -> None:
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
        # Sums that are off by rounding alone would add up over thousands of planning steps.
        object.__setattr__(self, "probability", self.probability / self.probability.sum(-1, keepdims=True))
        object.__setattr__(self, "start", self.start / self.start.sum())

    def __repr__(self) -> str:
        counts = {
            "state": self.states,
            "action": self.actions,
            "outcome": self.probability.shape[2],
            "start state": int((self.start > 0).sum()),
        }
        told = ", ".join(f"{count:,} {name}{'s' * (count != 1)}" for name, count in counts.items())
        return f"TransitionTable({told})"

    @classmethod
    def load(cls, path: str | Path) -> TransitionTable:
        """Read a table from `.npz`, without pickle; raises what `npz.load` does."""
        from deeptaxi.mdp import npz

        return npz.load(Path(path))

    @classmethod
    def from_rows(cls, p: Mapping[int, Any] | Sequence[Any], start: ArrayLike, **optional: Any) -> TransitionTable:
        """Build a table from ``p[state][action] = [(probability, next_state, reward, terminated), …]``.

        This is the `P` of Gymnasium's toy-text environments. `start` `[S]` is the distribution of the first state,
        `optional` any further fields. Raises `TableError` where rows are missing, or are not a decision process.
        """
        from deeptaxi.mdp import rows

        return rows.from_rows(p, start, **optional)

    def save(self, path: str | Path, force: bool = False) -> None:
        """Write the table as `.npz`, which the environment of every command may be.

        Raises:
            UsageError: there is something already, and `force` is not set.
            OSError: the disk or the permissions do not allow it; what was there still is.
        """
        from deeptaxi.mdp import npz

        if os.path.lexists(path) and not force:
            raise UsageError(f"{path} exists; choose another name, or overwrite it with force=True")
        with Scratch(Path(path).parent, ASIDE) as scratch:
            npz.save(self, scratch.path / "table.npz")
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
        return np.asarray(np.einsum("sak,sak->sa", self.probability, self.reward))

    @cached_property
    def continuation(self) -> Floats:
        """p_k · (1 − terminated_k), `[S, A, K]`."""
        return self.probability * ~self.terminated


def array(values: ArrayLike, dtype: type, name: str, dimensions: int) -> NDArray[Any]:
    """Return `values` as an array of `dtype` with that many dimensions; nothing is rounded on the way."""
    try:
        raw = np.asarray(values)
    except ValueError:
        raise TableError(
            f"{name}: expected numbers in {dimensions} dimensions, received rows of several lengths"
        ) from None
    if raw.ndim != dimensions or raw.dtype.kind not in "biuf":
        raise TableError(f"{name}: expected numbers in {dimensions} dimensions, received {raw.dtype} {list(raw.shape)}")
    if raw.dtype.kind == "f" and not np.isfinite(raw).all():
        raise TableError(f"{name} holds {describe_first(~np.isfinite(raw), raw)}: all numbers must be finite")
    with np.errstate(invalid="ignore"):  # what does not fit is refused below
        cast: NDArray[Any] = raw.astype(dtype, copy=False)
    if dtype is not np.float64 and not (cast == raw).all():
        raise TableError(f"{name} holds {describe_first(cast != raw, raw)}: expected {np.dtype(dtype).name} values")
    return cast


def describe_first(where: Bools, values: NDArray[Any]) -> str:
    """Name the first entry that `where` marks, as ``nan at [3, 0, 1]``."""
    index = tuple(int(i) for i in np.argwhere(where)[0])
    return f"{values[index]} at {list(index)}"


def from_arrays(
    probability: ArrayLike,
    next_state: ArrayLike,
    reward: ArrayLike,
    terminated: ArrayLike,
    start: ArrayLike,
    **optional: Any,
) -> TransitionTable:
    """Build a table from array-likes `[S, A, K]` and `start [S]`, casting where nothing is lost."""
    arrays: Any = (probability, next_state, reward, terminated, start)
    return TransitionTable(*arrays, **optional)


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
    """Check that probabilities are distributions, indices exist and rewards are finite."""
    for name in ("probability", "reward", "start"):
        values = getattr(table, name)
        if not np.isfinite(values).all():
            raise TableError(f"{name} holds {describe_first(~np.isfinite(values), values)}: all numbers must be finite")
    large = np.abs(table.reward) > MAX_REWARD
    if large.any():
        raise TableError(f"reward holds {describe_first(large, table.reward)}: expected at most {MAX_REWARD:g} in size")
    for name in ("probability", "start"):
        values = getattr(table, name)
        if (values < 0).any():
            raise TableError(f"{name} holds {describe_first(values < 0, values)}: probabilities are at least 0")
    outside = (table.next_state < 0) | (table.next_state >= table.states)
    if outside.any():
        found = describe_first(outside, table.next_state)
        raise TableError(f"next_state holds {found}: expected 0 to {table.states - 1}")
    sums = table.probability.sum(-1)
    off = np.abs(sums - 1) > SUM_TOLERANCE
    if off.any():
        state, action = (int(i) for i in np.argwhere(off)[0])
        raise TableError(f"probability of state {state}, action {action} sums to {sums[state, action]:.6g}, not to 1")
    if abs(table.start.sum() - 1) > SUM_TOLERANCE:
        raise TableError(f"start sums to {table.start.sum():.6g}, not to 1")


def check_optional(table: TransitionTable) -> None:
    """Check what a table may carry besides its arrays."""
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
