"""Curves of several trainings laid over each other: their median, and the smallest and largest of them.

A curve is known where its training was looked at; in between, and after the training has ended, it keeps the value that
it had last. It starts where the last of the trainings was first looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deeptaxi.mdp.table import Floats

POINTS = 400  # of a curve: more than can be told apart


class Curve(NamedTuple):
    """Numbers over updates, `[N]` each, the updates ascending."""

    updates: Floats
    values: Floats


class Spread(NamedTuple):
    """The median of several curves, and the range that they are in, `[N]` each."""

    updates: Floats
    median: Floats
    low: Floats
    high: Floats


def thin_out(curve: Curve, limit: int = POINTS) -> Curve:
    """Return the curve with at most `limit` points, the first and the last among them."""
    if len(curve.updates) <= limit:
        return curve
    kept = np.unique(np.linspace(0, len(curve.updates) - 1, limit).astype(np.int64))
    return Curve(curve.updates[kept], curve.values[kept])


def spread(curves: Sequence[Curve]) -> Spread | None:
    """Return the median and the range of the curves; None where not one has a point."""
    known = [curve for curve in curves if len(curve.updates)]
    if not known:
        return None
    if len(known) == 1:
        curve = thin_out(known[0])
        return Spread(curve.updates, curve.values, curve.values, curve.values)
    updates = np.unique(np.concatenate([curve.updates for curve in known]))
    updates = updates[updates >= max(curve.updates[0] for curve in known)]
    held = np.stack(
        [curve.values[np.searchsorted(curve.updates, updates, side="right") - 1] for curve in known]
    )  # [runs, N]
    columns = (np.median(held, axis=0), held.min(axis=0), held.max(axis=0))
    return Spread(*(thin_out(Curve(updates, column)).values for column in (updates, *columns)))
