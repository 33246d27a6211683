"""Collect the outcomes of every pair from a Python function: `successors(state, action)`.

The function is called once a pair, and what it returns is checked at once, so that a fault in the last of a million
states names that state, and one in the first costs no time. Outcomes are kept as they come, without padding; the
arrays `[S, A, K]` are laid out at the end, when K is known.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

EVERY = 0.25  # seconds between two calls of `progress`

Successors = Callable[[int, int], Iterable[tuple[float, int, float, bool]]]
Progress = Callable[[int, int], object]  # receives the number of states that are done, and of all


class OutcomeError(Exception):
    """The outcomes of a pair are unfit. The message names the state and the action."""


class Outcomes(NamedTuple):
    """The arrays of a table, `[S, A, K]`; a pair without any outcome ends there."""

    probability: NDArray[np.float64]
    next_state: NDArray[np.int64]
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]


@dataclass(frozen=True)
class Limits:
    """What is accepted.

    Attributes:
        reward: the largest magnitude of a reward.
        tolerance: by how much a sum of probabilities may differ from 1.
        check_memory: called with `[S, A, K]` whenever K grows; raises if such a table is too large.
    """

    reward: float
    tolerance: float
    check_memory: Callable[[tuple[int, ...]], object]


def collect_outcomes(
    shape: tuple[int, int], successors: Successors, limits: Limits, progress: Progress | None
) -> tuple[Outcomes, NDArray[np.bool_]]:
    """Call `successors` for every pair.

    Args:
        shape: S and A.
        successors: returns ``[(probability, next_state, reward, terminated), …]`` for a state and an action.
        limits: what is accepted.
        progress: called with the number of states that are done and S, four times a second.

    Returns:
        The outcomes, merged where next state, reward and terminated agree, and which pairs have any, `[S, A]`.

    Raises:
        OutcomeError: they are malformed, no distribution, or out of range. What `successors` itself raises is passed
            on, with a note of the state and action.
    """
    states, actions = shape
    probability, reward = array("d"), array("d")
    next_state, terminated = array("q"), bytearray()
    counts = np.zeros(shape, np.int32)
    width, due = 1, time.monotonic() + EVERY
    for state in range(states):
        for action in range(actions):
            outcomes = call(successors, state, action, states, limits)
            counts[state, action] = len(outcomes)
            for (target, gain, ends), chance in outcomes.items():
                probability.append(chance)
                next_state.append(target)
                reward.append(gain)
                terminated.append(ends)
            if len(outcomes) > width:
                width = len(outcomes)
                limits.check_memory((states, actions, width))
        if progress is not None and time.monotonic() >= due:
            progress(state + 1, states)
            due = time.monotonic() + EVERY
    return lay_out(counts, width, (probability, next_state, reward, terminated)), counts > 0


def call(
    successors: Successors, state: int, action: int, states: int, limits: Limits
) -> dict[tuple[int, float, bool], float]:
    """Return the outcomes of a pair: their probabilities by next state, reward and terminated.

    Raises:
        OutcomeError: they are malformed, no distribution, or out of range.
    """
    try:
        rows = successors(state, action)
    except Exception as error:
        error.add_note(f"in successors({state}, {action})")
        raise
    merged: dict[tuple[int, float, bool], float] = {}
    total, forbidden = 0.0, False
    try:
        for chance, target, gain, ends in rows:
            if chance == 0:
                continue
            key = (int(target), float(gain), bool(ends))
            if key[0] != target or not 0 <= key[0] < states:
                raise refusal(state, action, f"leads to state {target!r}: expected 0 to {states - 1:,}")
            if not abs(key[1]) <= limits.reward:  # also what is not a number
                if key[1] != -math.inf:
                    expected = f"expected at most {limits.reward:g} in magnitude"
                    raise refusal(state, action, f"holds the reward {key[1]}: {expected}")
                forbidden = True
            if chance < 0:
                raise refusal(state, action, f"holds the probability {chance}: probabilities are at least 0")
            merged[key] = merged.get(key, 0.0) + float(chance)
            total += chance
    except (TypeError, ValueError, ArithmeticError):
        expected = "expected [(probability, next_state, reward, terminated), …]"
        raise refusal(state, action, f"is {describe(rows)}: {expected}") from None
    if merged and not forbidden and not abs(total - 1) <= limits.tolerance:
        raise refusal(state, action, f"has probabilities that sum to {total:.6g}, not to 1")
    return merged


def refusal(state: int, action: int, what: str) -> OutcomeError:
    """Return the error that what `successors` returned for a pair is unfit."""
    return OutcomeError(f"successors({state}, {action}) {what}")


def describe(rows: object) -> str:
    """Describe what was returned instead of outcomes, in one line."""
    text = " ".join(repr(rows).split())
    return text if len(text) <= 60 else f"{text[:59]}…"


def lay_out(counts: NDArray[np.int32], width: int, flat: tuple[Any, ...]) -> Outcomes:
    """Pad outcomes that are kept one after the other, the first `counts` of each pair, to arrays `[S, A, K]`."""
    shape = (*counts.shape, width)
    used = np.arange(width) < counts[..., None]
    laid = Outcomes(np.zeros(shape), np.zeros(shape, np.int64), np.zeros(shape), np.ones(shape, np.bool_))
    for field, values in zip(laid, flat, strict=True):
        field[used] = np.frombuffer(values, field.dtype)
    ends = ~used[..., 0]
    laid.probability[ends, 0] = 1.0
    laid.next_state[ends] = np.nonzero(ends)[0][:, None]
    return laid
