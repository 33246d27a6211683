"""Transition tables as `.npz` files, without pickle: the arrays of the table under their names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import MAGIC_PREFIX
from numpy.typing import NDArray

from deeptaxi.archives import ArchiveError, read_npz, read_shapes
from deeptaxi.errors import UsageError, nearest
from deeptaxi.mdp.memory import BYTES_PER_ENTRY, check_memory
from deeptaxi.mdp.table import ARRAYS as TYPES
from deeptaxi.mdp.table import TableError, TransitionTable, array, from_arrays

ARRAYS = tuple(TYPES)
OPTIONAL = ("time_limit", "discount", "action_mask", "factors", "state_names", "action_names")
MAX_BYTES = 2**50  # that a file may say it has, as long as only its shapes are read
TABLE_BYTES = 32  # of S·A·K, that the arrays take at most
REST = 2**26  # bytes for names, and for what else does not grow with the outcomes


def save(table: TransitionTable, path: Path) -> None:
    """Write the table as a compressed ``.npz`` that `load` reads.

    Raises:
        TableError: names are so long that `load` would not read them.
    """
    check_names(table)
    optional = {name: getattr(table, name) for name in OPTIONAL if getattr(table, name) is not None}
    with path.open("wb") as file:  # np.savez would add an ending to a name without one
        np.savez_compressed(file, **{name: getattr(table, name) for name in ARRAYS}, **optional)


def check_names(table: TransitionTable) -> None:
    """Refuse names that take more than `load` reads: each takes as much room in the file as the longest does."""
    room = table.probability.size * (BYTES_PER_ENTRY - TABLE_BYTES) + REST
    for kind, names in (("state", table.state_names), ("action", table.action_names)):
        longest = max(map(len, names or ()), default=0)
        if 2 * 4 * longest * len(names or ()) > room:
            raise TableError(
                f"the {kind} names take too much room in an .npz, which gives each the {longest:,} letters of the "
                "longest: shorten them"
            )


def load(path: Path) -> TransitionTable:
    """Read a table from ``.npz``, without pickle.

    Raises:
        UsageError: there is no such file.
        TableError: the file is damaged, lacks an array, has an unknown one, or is not a decision process.
    """
    if not path.is_file():
        where = "" if path.is_absolute() else f" (seen from {Path.cwd()})"
        raise UsageError(f"no transition table at {path}{where}")
    try:
        shape = read_shapes(path, MAX_BYTES).get(ARRAYS[0], ())
        check_memory(shape)
        values = read_npz(path, math.prod(shape) * BYTES_PER_ENTRY + REST)
    except ArchiveError as error:
        single = f"a single array, not an .npz of {', '.join(ARRAYS)}"
        what = single if is_single(path) else f"not a readable .npz file: {error}"
        raise TableError(f"{path} is {what}") from None
    for name in ARRAYS:
        if name not in values:
            raise TableError(f"{path} lacks '{name}'; a table holds {', '.join(ARRAYS)}")
    for name in values:
        if name not in ARRAYS + OPTIONAL:
            raise TableError(f"{path} holds an unknown array '{name}'{nearest(name, ARRAYS + OPTIONAL)}")
    try:
        arrays = [values.pop(name) for name in ARRAYS]
        return from_arrays(*arrays, **read_optional(values))
    except TableError as error:
        raise TableError(f"{path}: {error}") from None


def is_single(path: Path) -> bool:
    """Return whether a file is what `numpy.save` writes."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC_PREFIX)) == MAGIC_PREFIX
    except OSError:
        return False


def read_optional(values: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Turn the optional arrays of an ``.npz`` into the fields of a table."""
    fields: dict[str, Any] = {}
    for name, value in values.items():
        if name in ("state_names", "action_names"):
            fields[name] = tuple(str(item) for item in value.ravel())
        elif name == "action_mask":
            fields[name] = array(value, np.bool_, name, 2)
        elif name == "factors":
            fields[name] = tuple(int(item) for item in array(value, np.int64, name, 1))
        else:
            kind = np.int64 if name == "time_limit" else np.float64
            fields[name] = array(value, kind, name, 0).item()
    return fields
