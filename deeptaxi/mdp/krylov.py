"""Values of a policy on a large table by a Krylov method.

V = R + γP·V is a linear system, which sweeps solve at the rate γ: 0.99 takes thousands of them. BiCGSTAB (van der
Vorst, 1992) needs about the square root of that where states are left as easily as they are entered. It may also fail,
and its own residual drifts; so it is asked again for what is left, and the result is only where sweeps begin, which
prove it.
"""

from __future__ import annotations

import time

import numpy as np

from deeptaxi.mdp.chains import ROUNDING
from deeptaxi.mdp.sparse_rows import Rows
from deeptaxi.mdp.stopping import check_stop
from deeptaxi.mdp.sweeps import EVERY, listener
from deeptaxi.mdp.table import Floats

MOST = 1_000  # iterations of a round, of two products each
ROUNDS, PRECISION = 4, 1e-8  # each round solves for what the last has left, to this share


def approach(rows: Rows, discount: float, start: Floats) -> tuple[Floats, int]:
    """Approach the values of the policy that `rows` fix.

    Args:
        rows: P and R, with a single action.
        discount: γ, below 1.
        start: the first values, `[S]`.

    Returns:
        Values `[S]`, those of the start if these are better, and the number of products with P.
    """
    from scipy.sparse.linalg import LinearOperator, bicgstab

    reward, products = rows.reward.reshape(-1), 0

    def leave(values: Floats) -> Floats:
        nonlocal products
        products += 1
        check_stop()
        left: Floats = rows.matrix @ values
        left *= -discount
        left += values
        return left

    heard, reported = listener(), time.monotonic()

    def tell(_: Floats) -> None:
        nonlocal reported
        if heard is not None and time.monotonic() - reported > EVERY:
            reported = time.monotonic()
            heard(products, largest / (1 - discount), True)

    found = start[rows.order]
    left = reward - leave(found)
    largest = float(np.abs(left).max())
    matrix = LinearOperator((len(reward), len(reward)), leave, dtype=np.float64)
    for _ in range(ROUNDS):
        if largest <= ROUNDING / 2 * (1 + float(np.abs(found).max())):
            break
        with np.errstate(all="ignore"):  # it may break down
            step = bicgstab(matrix, left, rtol=PRECISION, atol=0.0, maxiter=MOST, callback=tell)[0]
            step += found
            remains = reward - leave(step)
            smaller = float(np.abs(remains).max())
        if not smaller < largest / 2:  # also what is not a number
            break
        found, left, largest = step, remains, smaller
    return found[rows.place], products
