"""Comparing what an export answers with what the network answers, over all states.

With q the network's Q values and q' the export's, both float32 `[S, A]`, and a' its actions:

    max_s,a |q' − q| ≤ tolerance          over the pairs where q is finite; −∞ in the same places
    q'[s, a'[s]] = max_a q'[s, a]         its actions are greedy in its own Q values

so where a' is another action than the network's, the network holds the two equal within twice the tolerance: a tie.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeptaxi.artifacts.export.formats import ERROR, Format
from deeptaxi.artifacts.export.reading import Answers
from deeptaxi.errors import DeepTaxiError


class Comparison(NamedTuple):
    """How near an export is to the network."""

    max_difference: float
    differing_actions: int  # states in which it takes the other of two tied actions


def compare(form: Format, answers: Answers, q_values: NDArray[np.float32]) -> Comparison:
    """Compare an export's answers with the network's Q values `[S, A]`.

    Raises:
        DeepTaxiError: they differ by more than rounding, or a state that does not exist is answered.
    """
    difference = max_difference(answers.q_values, q_values)
    if difference > tolerance(form, q_values):
        raise DeepTaxiError(f"the {form.name} export differs from the model by {difference:g}, so it was not kept")
    wrong = ~greedy(answers.q_values, answers.actions)
    if wrong.any():
        raise DeepTaxiError(
            f"the {form.name} export does not act by its Q values in {wrong.sum()} states, such as {wrong.argmax()}, "
            "so it was not kept"
        )
    marked = np.isnan(answers.outside_q_values).all(axis=1) & (answers.outside_actions == -1)
    if not (answers.outside_errors if form.outside == ERROR else marked & ~answers.outside_errors).all():
        raise DeepTaxiError(
            f"the {form.name} export should give {form.outside} for states that do not exist, and does not, "
            "so it was not kept"
        )
    return Comparison(difference, int((answers.actions != q_values.argmax(axis=1)).sum()))


def greedy(q_values: NDArray[np.float32], actions: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return in which states `[S]` the action is one of the best."""
    chosen = np.take_along_axis(q_values, np.clip(actions, 0, q_values.shape[1] - 1)[:, None], axis=1)[:, 0]
    return np.asarray((chosen == q_values.max(axis=1)) & (actions >= 0) & (actions < q_values.shape[1]))


def tolerance(form: Format, q_values: NDArray[np.float32]) -> float:
    """Return the difference that is rounding; where the same operations are done, there is none."""
    finite = np.abs(q_values[np.isfinite(q_values)])
    return 1e-6 * max(1.0, float(finite.max(initial=0.0))) if form.rounds else 0.0


def max_difference(found: NDArray[Any], expected: NDArray[np.float32]) -> float:
    """Return the largest absolute difference in float32; infinite where shapes or masked actions disagree."""
    if found.shape != expected.shape or not np.array_equal(np.isneginf(found), np.isneginf(expected)):
        return float("inf")
    finite = np.isfinite(expected)
    difference = np.abs(found.astype(np.float32)[finite] - expected[finite]).max(initial=0.0)
    return float("inf") if np.isnan(difference) else float(difference)
