"""Solve V = R + γP·V, the equations of a policy on a large table, where sweeps would take too long.

**By a band.** In a corridor, a grid or a queue every state leads to near ones. In the order of the reverse
Cuthill-McKee algorithm (George & Liu, Computer Solution of Large Sparse Positive Definite Systems, 1981, §4.3) the
matrix is then zero but for a band of b diagonals to either side, and elimination fills nothing outside it: S·b²
operations, however slowly values would settle in sweeps. The cost is known before it is paid.

**By a Krylov method.** Sweeps converge at the rate γ: 0.99 takes thousands of them. BiCGSTAB (van der Vorst, 1992)
needs about the square root of that where states are left as easily as they are entered. It may also fail, and its own
residual drifts; so it is restarted for what is left, and the result is only where sweeps begin, which prove it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from deeptaxi.machine import check_address_space
from deeptaxi.mdp.chains import ROUNDING
from deeptaxi.mdp.sparse_rows import Rows
from deeptaxi.mdp.stopping import check_stop
from deeptaxi.mdp.sweeps import EVERY, listener
from deeptaxi.mdp.table import Floats

if TYPE_CHECKING:
    from scipy.sparse import csr_array

OPERATIONS, CHEAP = 2**31, 2**26  # about a CPU second, and what costs less than to look for anything else
BYTES = 2**28  # of the band
LARGEST = 2**16  # states, of which most problems have too wide a band


def solve_banded_chain(chances: csr_array, right: Floats, most: int = OPERATIONS) -> Floats | None:
    """Solve (1 − P)·X = `right` for X `[S, …]`; return None if the band is too wide for that to pay, or it fails.

    Args:
        chances: P `[S, S]`: of continuing, each times the discount.
        right: `[S, …]`.
        most: operations that elimination may take.
    """
    states = chances.shape[0]
    if states > LARGEST:
        return None
    check_address_space()
    from scipy.linalg import LinAlgError, solve_banded
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    order = np.asarray(reverse_cuthill_mckee(chances, symmetric_mode=False), np.int64)
    place = np.empty(states, np.int64)
    place[order] = np.arange(states)
    row = np.repeat(place, np.diff(chances.indptr))
    column = place[chances.indices]
    below, above = int((row - column).max(initial=0)), int((column - row).max(initial=0))
    height = 2 * below + above + 1  # with what elimination needs
    if states * below * (below + above) > most or 8 * states * height > BYTES:
        return None
    band = np.zeros((below + above + 1, states))
    np.subtract.at(band, (above + row - column, column), chances.data)
    band[above] += 1
    try:
        found = solve_banded((below, above), band, right[order], overwrite_ab=True, check_finite=False)
    except LinAlgError:  # singular within rounding
        return None
    return np.asarray(found[place]) if np.isfinite(found).all() else None


MOST = 1_000  # iterations of a round, of two products each
ROUNDS, PRECISION = 4, 1e-8  # each round solves for what the last has left, to this share


def solve_krylov(rows: Rows, discount: float, start: Floats) -> tuple[Floats, int]:
    """Approximate the values of the policy that `rows` fix by BiCGSTAB.

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
