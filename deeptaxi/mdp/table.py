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

import math
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeptaxi.errors import DeepTaxiError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SUM_TOLERANCE = 1e-6
BYTES_PER_ENTRY = 100  # of S·A·K; the arrays take 25, planning and the compiled loop at their peak the rest
MEMORY_SHARE = 0.8
MAX_REWARD = 1e30  # networks learn in float32, which ends at 3e38


class TableError(DeepTaxiError):
    """The arrays do not describe a Markov decision process."""


@dataclass(frozen=True, eq=False)
class TransitionTable:
    """All outcomes of every (state, action), and where episodes start.

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
        check_shapes(self)
        check_numbers(self)
        check_optional(self)
        # Sums that are off by rounding alone would add up over thousands of planning steps.
        object.__setattr__(self, "probability", self.probability / self.probability.sum(-1, keepdims=True))
        object.__setattr__(self, "start", self.start / self.start.sum())

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


def check_memory(shape: tuple[int, ...]) -> None:
    """Refuse, before anything is allocated, a table that this machine cannot hold.

    Raises:
        TableError: arrays of `shape` `[S, A, K]` would take more than most of the memory.
    """
    size, memory = math.prod(shape) * BYTES_PER_ENTRY, physical_memory()
    if size > MEMORY_SHARE * memory:
        told = " × ".join(f"{count:,}" for count in shape)
        raise TableError(
            f"a table of {told} outcomes takes {size / 2**30:,.1f} GiB, and this machine has {memory / 2**30:,.1f} GiB"
        )


def physical_memory() -> float:
    """Return the bytes of memory of this machine; infinity where the system does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):  # Windows
        return math.inf


def array(values: ArrayLike, dtype: type, name: str, dimensions: int) -> NDArray[Any]:
    """Return `values` as an array of `dtype` with that many dimensions; nothing is rounded on the way."""
    raw = np.asarray(values)
    if raw.ndim != dimensions or raw.dtype.kind not in "biuf":
        raise TableError(f"{name}: expected numbers in {dimensions} dimensions, received {raw.dtype} {list(raw.shape)}")
    if raw.dtype.kind == "f" and not np.isfinite(raw).all():
        raise TableError(f"{name} holds {describe_first(~np.isfinite(raw), raw)}: all numbers must be finite")
    with np.errstate(invalid="ignore"):  # what does not fit is refused below
        cast: NDArray[Any] = raw.astype(dtype)
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
    return TransitionTable(
        array(probability, np.float64, "probability", 3),
        array(next_state, np.int64, "next_state", 3),
        array(reward, np.float64, "reward", 3),
        array(terminated, np.bool_, "terminated", 3),
        array(start, np.float64, "start", 1),
        **optional,
    )


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
