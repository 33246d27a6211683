"""Values of large tables, computed once and remembered: in this process, and as files in the user's cache folder.

    <cache>/values/<sha256 of what determines them>.npy        float64 [S + 1]: the values, and the number of sweeps

An entry needs no trust: one Bellman step proves how near it is to the fixed point (`planning.settle`), and an entry
that is not, whether damaged, foreign or altered, is computed again. So any failure here only costs time.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from deeptaxi.errors import DeepTaxiError
from deeptaxi.io.mapped import in_blocks
from deeptaxi.mdp.stopping import check_stop
from deeptaxi.mdp.table import Floats, TransitionTable

T = TypeVar("T")
FOLDER = "values"
LIMIT = 100 * 2**20  # bytes of all files
MOST = LIMIT // 4  # bytes of one file
MOST_RESULTS = 64  # of a table
HEADER = 128  # bytes before the numbers in a file of one dimension

_digests: WeakKeyDictionary[TransitionTable, str] = WeakKeyDictionary()
_results: WeakKeyDictionary[TransitionTable, dict[str, Any]] = WeakKeyDictionary()


def once(table: TransitionTable, key: str, compute: Callable[[], T]) -> T:
    """Return what `compute` returns, computed once for a table and `key`, while the table lives.

    Of more than `MOST_RESULTS` keys of a table, such as those of many discounts, the oldest are forgotten.
    """
    known = _results.setdefault(table, {})
    found: T = known[key] if key in known else compute()
    known[key] = found
    while len(known) > MOST_RESULTS:
        del known[next(iter(known))]
    return found


def digest_arrays(*arrays: NDArray[Any] | None) -> str:
    """Return the sha256 of arrays, their types and shapes."""
    digest = hashlib.sha256()
    for values in arrays:
        digest.update(b"none" if values is None else f"{values.dtype.str}{values.shape}".encode())
        if values is None:
            continue
        for part in in_blocks(values):
            check_stop()
            digest.update(np.ascontiguousarray(values[part]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def digest_of(table: TransitionTable) -> str:
    """Return the sha256 of a table's outcomes."""
    if table not in _digests:
        _digests[table] = digest_arrays(table.probability, table.next_state, table.reward, table.terminated)
    return _digests[table]


def name_of(table: TransitionTable, *parts: object) -> str:
    """Return the name of the entry of a table and the `parts` that determine the values besides it."""
    return hashlib.sha256("\n".join((digest_of(table), *map(repr, parts))).encode()).hexdigest()


def folder_of_values() -> Path | None:
    """Return the folder of all entries, or None if the cache is disabled."""
    from deeptaxi.backend.cache import default_root

    root = default_root()
    return None if root is None else root / FOLDER


def recall_values(name: str, states: int) -> tuple[Floats, int] | None:
    """Return the values `[S]` of an entry, and the sweeps that they took; None without one of that size."""
    folder = folder_of_values()
    if folder is None:
        return None
    with contextlib.suppress(OSError, ValueError, EOFError):
        path = folder / f"{name}.npy"
        if path.stat().st_size != HEADER + 8 * (states + 1):
            return None
        found = np.load(path, allow_pickle=False)
        if found.dtype == np.float64 and found.shape == (states + 1,) and np.isfinite(found).all():
            return found[:-1], int(np.clip(found[-1], 1, 2**53))
    return None


def remember_values(name: str, values: Floats, sweeps: int) -> None:
    """Write an entry, aside and renamed, and remove the oldest ones above the limit; do nothing if that fails."""
    folder = folder_of_values()
    if folder is None or HEADER + 8 * (len(values) + 1) > MOST:
        return
    from deeptaxi.backend.cache import remove_oldest
    from deeptaxi.io.atomic import write_atomic

    with contextlib.suppress(OSError, DeepTaxiError):
        for each in (*reversed(folder.parents), folder):
            each.mkdir(mode=0o700, exist_ok=True)
        with write_atomic(folder / f"{name}.npy") as aside:
            np.save(aside, np.append(values, sweeps))
        remove_oldest(folder.glob("*.npy"), LIMIT)
