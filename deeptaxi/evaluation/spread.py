"""Aggregate the curves of several trainings: their median, minimum and maximum.

A curve is known at its recorded updates; in between, and after its training has ended, its last value is carried
forward. The aggregate starts when every curve has a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from deeptaxi.mdp.table import Floats

POINTS = 400  # per curve: more than can be distinguished in a plot


class Curve(NamedTuple):
    """Values over updates, `[N]` each, the updates ascending."""

    updates: Floats
    values: Floats


class Spread(NamedTuple):
    """The median and range of several curves, `[N]` each."""

    updates: Floats
    median: Floats
    low: Floats
    high: Floats


def thin_out(curve: Curve, limit: int = POINTS) -> Curve:
    """Reduce a curve to at most `limit` points, including the first and the last."""
    if len(curve.updates) <= limit:
        return curve
    kept = np.unique(np.linspace(0, len(curve.updates) - 1, limit).astype(np.int64))
    return Curve(curve.updates[kept], curve.values[kept])


def spread(curves: Sequence[Curve]) -> Spread | None:
    """Return the median and range of the curves; None if none has any points."""
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
