"""Arrays in files: `.npz`, `.mat`, and `.json` with matrices.

Nothing is unpickled. What a file says of its size is compared with the memory before it is unpacked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deeptaxi.io.safe_archive import ArchiveError, format_bytes, read_npz, read_shapes
from deeptaxi.machine import physical_memory
from deeptaxi.mdp.files.columns import from_lists, from_records, read_document
from deeptaxi.mdp.files.mat_files import read_mat_arrays
from deeptaxi.mdp.files.matrices import holds_matrices, read_matrices, recognize_matrices
from deeptaxi.mdp.files.outcomes import Facts, Reading, ReadOptions, Source
from deeptaxi.mdp.files.row_files import read_rows
from deeptaxi.mdp.files.values import read_p
from deeptaxi.mdp.table import MAX_BYTES, TableError, array

SHARE = 0.2  # of the memory for the arrays of a file, which are taken apart and put together again
OWN = ("next_state", "terminated")  # arrays that only deeptaxi's tables have


def most_bytes() -> int:
    """Return how much the arrays of a file may take."""
    memory = physical_memory()
    return int(memory * SHARE) if math.isfinite(memory) else 2**32


def holds_foreign_arrays(path: Path) -> bool:
    """Whether an `.npz` holds matrices of another convention, and is no table of deeptaxi's."""
    try:
        names = list(read_shapes(path, MAX_BYTES))
    except (ArchiveError, OSError):
        return False  # reported by the reader of tables
    return not set(OWN).intersection(names) and holds_matrices(names)


def read_npz_matrices(path: Path, options: ReadOptions) -> Reading:
    """Read matrices in an `.npz`; raises the errors of `read_matrices`."""
    source = Source(str(path))
    try:
        check_size(source, read_shapes(path, MAX_BYTES))
        return read_matrices(source, read_npz(path, most_bytes()), options)
    except ArchiveError as error:
        raise TableError(f"{path} is not a readable .npz file: {error}") from None


def check_size(source: Source, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Reject arrays that say that they are larger than what is read."""
    size = sum(math.prod(shape) for shape in shapes.values()) * 8
    if size > most_bytes():
        limit = format_bytes(most_bytes())
        raise TableError(f"{source.name} says that its arrays take {format_bytes(size)}; at most {limit} are read")


def read_mat(path: Path, options: ReadOptions) -> Reading:
    """Read matrices in a `.mat` of MATLAB.

    Raises:
        UsageError: there is no such file.
        TableError: it is damaged, too large, of another version, or holds something else.
    """
    source, found = Source(str(path)), read_mat_arrays(path, most_bytes())
    known = recognize_matrices(list(found))
    if not known:
        raise TableError(f"{path} holds {', '.join(map(repr, found)) or 'nothing'}: expected P and R")
    arrays = {}
    for name in known.values():
        value = found[name]
        if value is None or (isinstance(value, list) and (not value or any(cell is None for cell in value))):
            raise TableError(f"{path}: '{name}' holds something other than numbers")
        arrays[name] = value
    return read_matrices(source, arrays, options, matlab=True)


def read_json_table(path: Path, options: ReadOptions) -> Reading:
    """Read a `.json`: rows as objects or lists, matrices P and R, or a P of rows.

    Raises:
        UsageError: there is no such file.
        TableError: it holds something else, or no decision process.
    """
    source, document = Source(str(path), "row"), read_document(path)
    if isinstance(document, list):
        return read_rows(from_records(source, document, range(1, len(document) + 1)), options)
    if not isinstance(document, Mapping) or not document:
        raise TableError(f"{path} holds no object and no list: expected rows of outcomes, or P and R")
    facts = given_facts(source, document)
    rows = next((document[name] for name in ("rows", "transitions") if is_records(document.get(name))), None)
    if rows is not None:
        return read_rows(from_records(source, rows, range(1, len(rows) + 1)), options, facts)
    if all(name in document and isinstance(document[name], list) for name in ("state", "action", "next_state")):
        return read_rows(from_lists(source, document), options, facts)
    if isinstance(document.get("P"), Mapping):
        return read_p(source, document["P"], options, facts)
    if holds_matrices(list(document)):
        return read_matrices(source, document, options)
    if all(key.isdecimal() for key in document):
        return read_p(source, document, options, None)
    raise TableError(f"{path} holds {', '.join(map(repr, list(document)[:6]))}: expected rows of outcomes, or P and R")


def is_records(value: Any) -> bool:
    """Whether a value is a list of objects."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def given_facts(source: Source, document: Mapping[str, Any]) -> Facts:
    """Return start, discount and time limit that a JSON document says.

    Raises:
        TableError: they are no numbers.
    """
    try:
        start = None if document.get("start") is None else array(document["start"], np.float64, "start", 1)
        discount = (
            None if document.get("discount") is None else float(array(document["discount"], np.float64, "discount", 0))
        )
        limit = (
            None
            if document.get("time_limit") is None
            else int(array(document["time_limit"], np.int64, "time_limit", 0))
        )
    except TableError as error:
        raise TableError(f"{source.name}: {error}") from None
    return Facts(0, 0, start, discount, limit)
