"""Transition tables as `.npz` files, without pickle: the arrays of the table under their names."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeptaxi.errors import UsageError, nearest
from deeptaxi.mdp.memory import check_memory
from deeptaxi.mdp.table import ARRAYS as TYPES
from deeptaxi.mdp.table import TableError, TransitionTable, array, from_arrays

ARRAYS = tuple(TYPES)
OPTIONAL = ("time_limit", "discount", "action_mask", "factors", "state_names", "action_names")


def save(table: TransitionTable, path: Path) -> None:
    """Write the table as a compressed ``.npz`` that `load` reads."""
    optional = {name: getattr(table, name) for name in OPTIONAL if getattr(table, name) is not None}
    with path.open("wb") as file:  # np.savez would add an ending to a name without one
        np.savez_compressed(file, **{name: getattr(table, name) for name in ARRAYS}, **optional)


def load(path: Path) -> TransitionTable:
    """Read a table from ``.npz``, without pickle.

    Raises:
        UsageError: there is no such file.
        TableError: the file is damaged, lacks an array, has an unknown one, or is not a decision process.
    """
    try:
        with path.open("rb") as file:  # closed by us: np.load leaves a damaged one open
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise TableError(f"{path} is a single array, not an .npz of {', '.join(ARRAYS)}")
            if archive.zip is not None and f"{ARRAYS[0]}.npy" in archive.zip.namelist():
                check_memory(declared_shape(archive.zip, f"{ARRAYS[0]}.npy"))
            values = {name: archive[name] for name in archive.files}
    except (FileNotFoundError, IsADirectoryError):
        where = "" if path.is_absolute() else f" (seen from {Path.cwd()})"
        raise UsageError(f"no transition table at {path}{where}") from None
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = "it holds pickled objects, which are never loaded" if "pickle" in str(error) else error
        raise TableError(f"{path} is not a readable .npz file: {reason}") from None
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


def declared_shape(archive: zipfile.ZipFile, member: str) -> tuple[int, ...]:
    """Return the shape that an array says it has, without reading it: compressed, a small file may hold a huge one."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, _ = read(file)
    return tuple(shape)


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
