"""Drawing from a given distribution over n values in constant time, whatever n is, by the method of aliases.

Walker, An efficient method for generating discrete random variables with general distributions (1977); the table is
built by Vose's algorithm (1991). Draw a slot i uniformly from 0 … n−1 and u uniformly from [0, 1); the value is i if
u < share[i], else alias[i].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from deeptaxi import xla


def alias_table(weights: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return (share, alias), each `[D, n]`, for D distributions over n values, `[D, n]`, that sum to 1.

    Values above the mean are gone through in order, all D distributions at a time: each gives what it has too much to
    the values below the mean, until it is below itself and is filled up by the next one above.
    """
    rows, count = weights.shape
    mass = weights * count
    share, alias = np.ones((rows, count)), np.tile(np.arange(count, dtype=np.int32), (rows, 1))
    order = np.argsort(mass > 1, axis=1, kind="stable")  # those below the mean first
    lights = (mass <= 1).sum(axis=1)
    light, heavy = np.zeros(rows, np.int64), lights.copy()
    row = np.flatnonzero(heavy < count)
    left = np.zeros(rows)
    left[row] = mass[row, order[row, heavy[row]]]
    while row.size:
        giver = order[row, heavy[row]]
        fill = (left[row] > 1) & (light[row] < lights[row])
        filled = np.where(fill, order[row, np.minimum(light[row], count - 1)], giver)
        after = order[row, np.minimum(heavy[row] + 1, count - 1)]
        share[row, filled] = np.where(fill, mass[row, filled], np.minimum(left[row], 1))
        alias[row, filled] = np.where(fill, giver, after)
        left[row] += mass[row, np.where(fill, filled, after)] - 1
        light[row] += fill
        heavy[row] += ~fill
        row = row[heavy[row] < count]
    return share.astype(np.float32), alias


def value_of(share: Any, alias: Any, slot: Any, uniform: Any, first: Any = 0) -> Any:
    """Return the values `[N]` that slots and uniform numbers stand for; called while a program is traced.

    Args:
        share: float32, of one distribution or of several, end to end.
        alias: int32, of the same shape.
        slot: int32 `[N]`, each of its values equally likely.
        uniform: float32 in [0, 1), `[N]`.
        first: where the distribution to draw from begins, int32 `[N]`.
    """
    kept = uniform < xla.gather(share, first + slot)
    return ops.where(kept, slot, xla.gather(alias, first + slot))
