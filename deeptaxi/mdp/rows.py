"""A transition table from the rows of a ``P``, as Gymnasium's toy-text environments have it.

P[state][action] = [(probability, next_state, reward, terminated), …]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deeptaxi.mdp.memory import check_memory
from deeptaxi.mdp.table import TableError, TransitionTable, from_arrays

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
    """Say what stands in the place of P, down to its first part that is not of its form."""
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


def from_rows(p: Mapping[int, Any] | Sequence[Any], start: ArrayLike, **optional: Any) -> TransitionTable:
    """Build a table from a Gymnasium-style ``P[state][action] = [(probability, next_state, reward, terminated), …]``.

    Args:
        p: the rows, keyed 0 … S−1 and 0 … A−1.
        start: distribution of the first state, `[S]`.
        **optional: further fields of the table.

    Raises:
        TableError: rows are missing or are not of that form, or the numbers are not a decision process.
    """
    try:
        states = len(p)
        actions = len(p[0])
        merged = [[merge_rows(p[s][a]) for a in range(actions)] for s in range(states)]
        if any(len(p[s]) != actions for s in range(states)):
            raise TableError("P has states with different numbers of actions")
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
        raise TableError(
            "P is not of the form P[state][action] = [(probability, next_state, reward, terminated), …] "
            f"with states and actions from 0: it is {form_of(p)}"
        ) from None
    width = max((len(outcomes) for row in merged for outcomes in row), default=0)
    shape = (states, actions, max(width, 1))
    check_memory(shape)
    probability, reward = np.zeros(shape), np.zeros(shape)
    next_state, terminated = np.zeros(shape, np.int64), np.ones(shape, np.bool_)
    for s, row in enumerate(merged):
        for a, outcomes in enumerate(row):
            for k, ((target, gain, ends), chance) in enumerate(outcomes.items()):
                probability[s, a, k], next_state[s, a, k] = chance, target
                reward[s, a, k], terminated[s, a, k] = gain, ends
    return from_arrays(probability, next_state, reward, terminated, start, **optional)
