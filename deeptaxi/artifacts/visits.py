"""`visits.npz` of a log folder: two int64 arrays `[S, A]`.

`visits` is how often each (state, action) was tried in the whole training, and `replay` how many entries of it the
memory held at the end.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deeptaxi.archives import ArchiveError, read_npz
from deeptaxi.artifacts.files import written_aside
from deeptaxi.artifacts.succession import VISITS_FILE
from deeptaxi.errors import DeepTaxiError
from deeptaxi.learning.coverage import Coverage
from deeptaxi.mdp.memory import physical_memory

VISITS_BYTES = 2**30  # of two counts of eight bytes, where nothing says of how many (state, action)
COUNTS = 2 * 8  # bytes of a (state, action)
HEADERS = 2**12


def save_visits(log: Path, coverage: Coverage) -> None:
    """Write `visits.npz` into the log folder."""
    with written_aside(log / VISITS_FILE) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **coverage._asdict())


def read_visits(log: Path, pairs: int | None = None) -> Coverage | None:
    """Read `visits.npz` of a log folder; None where there is none, as of a training that was broken off.

    Args:
        log: the folder.
        pairs: of states and actions, S·A, as its records say; None where they do not.

    Raises:
        DeepTaxiError: the file is damaged.
    """
    path = log / VISITS_FILE
    if not path.is_file():
        return None
    limit = VISITS_BYTES if pairs is None else min(COUNTS * pairs, int(min(2**62, physical_memory()))) + HEADERS
    try:
        arrays = read_npz(path, limit)
    except ArchiveError as error:
        raise DeepTaxiError(f"{path} is damaged: {error}") from None
    for name in Coverage._fields:
        if (
            name not in arrays
            or arrays[name].dtype.kind not in "iu"
            or arrays[name].ndim != 2
            or arrays[name].min() < 0
        ):
            raise DeepTaxiError(f"{path} is damaged: it holds no counts '{name}'")
    if len({arrays[name].shape for name in Coverage._fields}) > 1:
        raise DeepTaxiError(f"{path} is damaged: its counts are of several sizes")
    return Coverage(*(arrays[name].astype(np.int64) for name in Coverage._fields))
