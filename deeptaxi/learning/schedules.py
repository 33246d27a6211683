"""The courses that ε, the learning rate and the importance exponent take over a training, as one pure function.

With the progress p ≥ 0 of the training (1 at its end) and the share x = min(1, p / fraction) of the way that is done:

    constant      start
    linear        start + (end − start) · x
    exponential   start · (end / start)ˣ
    cosine        end + (start − end) · ½ · (1 + cos π·x)

The cosine is that of Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts" (2017), eq. 5,
without restarts.
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops


def course(kind: str, start: float, end: float, fraction: float, progress: Any) -> Any:
    """Return the value at `progress`, a Python float of a Python number, else a float array of the same shape.

    Args:
        kind: ``"constant"``, ``"linear"``, ``"exponential"`` or ``"cosine"``.
        start: value at the start.
        end: value from `fraction` on.
        fraction: progress at which the end is reached, above 0.
        progress: p, a number or a float array.
    """
    plain = isinstance(progress, int | float)
    share = min(1.0, progress / fraction) if plain else ops.minimum(progress / fraction, 1.0)
    if kind == "constant":
        return start + 0.0 * share  # of the shape of `progress`, like the others
    if kind == "linear":
        return start + (end - start) * share
    if kind == "exponential":
        return start * (end / start) ** share
    cosine = math.cos(math.pi * share) if plain else ops.cos(math.pi * share)
    return end + (start - end) * 0.5 * (1.0 + cosine)
