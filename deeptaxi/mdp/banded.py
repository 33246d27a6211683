"""Solve the equations of a Markov chain directly where its states can be lined up with all transitions short.

In a corridor, a grid or a queue every state leads to near ones. In the order of the reverse Cuthill-McKee algorithm
(George & Liu, Computer Solution of Large Sparse Positive Definite Systems, 1981, §4.3) the matrix of V = R + P·V is
then zero but for a band of b diagonals to either side, and elimination fills nothing outside it: S·b² operations,
however slowly values would settle in sweeps. The cost is known before it is paid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deeptaxi.machine import check_address_space
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
