"""Arrays in files: `.npz`, `.mat`, and `.json` with matrices.

Nothing is unpickled. What a file says of its size is compared with the memory before it is unpacked: NumPy's arrays by
the headers of the archive, MATLAB's by counting what its compressed parts unpack to.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deeptaxi.errors import UsageError, printable
from deeptaxi.io.safe_archive import ArchiveError, format_bytes, read_npz, read_shapes
from deeptaxi.io.safe_load import open_plain
from deeptaxi.mdp.files.columns import from_lists, from_records, read_document
from deeptaxi.mdp.files.matrices import holds_matrices, read_matrices, recognize_matrices
from deeptaxi.mdp.files.outcomes import Facts, Reading, ReadOptions, Source
from deeptaxi.mdp.files.row_files import read_rows
from deeptaxi.mdp.files.values import read_p
from deeptaxi.mdp.table import MAX_BYTES, TableError, array, physical_memory

SHARE = 0.2  # of the memory for the arrays of a file, which are taken apart and put together again
MAT_HEADER = 128  # bytes
COMPRESSED = 15  # the type of a compressed element
HDF5 = b"\x89HDF\r\n\x1a\n"
BLOCK = 2**20
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
    """Read matrices in a `.mat` of MATLAB, version 7 or earlier, by SciPy.

    Raises:
        UsageError: there is no such file.
        TableError: it is damaged, too large, of another version, or holds something else.
    """
    source = Source(str(path))
    check_mat(path)
    from scipy import io, sparse

    try:
        shapes = {name: tuple(shape) for name, shape, _ in io.whosmat(str(path))}
        known = recognize_matrices(list(shapes))
        check_size(source, {name: shape for name, shape in shapes.items() if name in known.values()})
        found = io.loadmat(str(path), variable_names=list(known.values()))
    except TableError:
        raise
    except Exception as error:  # SciPy's parser raises errors of many kinds
        raise TableError(f"{path} is no readable .mat file: {printable(' '.join(str(error).split()))[:160]}") from None
    arrays = {name: unpack_cells(source, name, found[name], sparse) for name in known.values() if name in found}
    if not arrays:
        raise TableError(f"{path} holds {', '.join(map(repr, shapes)) or 'nothing'}: expected P and R")
    return read_matrices(source, arrays, options, matlab=True)


def unpack_cells(source: Source, name: str, value: Any, sparse: Any) -> Any:
    """Return the matrices of a cell array as a list; anything else as it is.

    Raises:
        TableError: it holds something other than numbers.
    """
    if sparse.issparse(value):
        return value
    if getattr(value, "dtype", np.dtype("f")).kind == "O":
        cells = list(value.ravel())
        if not cells or not all(
            sparse.issparse(cell) or getattr(cell, "dtype", np.dtype("O")).kind in "biuf" for cell in cells
        ):
            raise TableError(f"{source.name}: '{name}' holds cells that are no matrices of numbers")
        return cells if any(map(sparse.issparse, cells)) else np.stack(cells) if same_shape(cells) else cells
    return value


def same_shape(cells: list[Any]) -> bool:
    """Whether all arrays have one shape."""
    return len({cell.shape for cell in cells}) == 1


def check_mat(path: Path) -> None:
    """Count what the compressed elements of a `.mat` unpack to, before anything is kept of it.

    Raises:
        UsageError: there is no such file.
        TableError: that is too much, or the file is of another version.
    """
    limit, total = most_bytes(), 0
    try:
        with open_plain(path) as file:
            head = file.read(MAT_HEADER)
            if HDF5 in (head[:8], head) or b"MATLAB 7.3" in head[:20]:
                raise TableError(f"{path} is of MATLAB 7.3 (HDF5), which is not read: save it with save(…, '-v7')")
            order = {b"IM": "little", b"MI": "big"}.get(head[126:128])
            while order is not None and len(tag := file.read(8)) == 8:
                kind, size = (int.from_bytes(part, order) for part in (tag[:4], tag[4:]))  # type: ignore[arg-type]
                unpacking, left = zlib.decompressobj(), size
                while left > 0 and (block := file.read(min(BLOCK, left))):
                    left -= len(block)
                    total += len(block)
                    while kind == COMPRESSED and block:
                        total += len(unpacking.decompress(block, BLOCK))
                        block = unpacking.unconsumed_tail
                        if total > limit:
                            raise TableError(f"{path} unpacks to more than the {format_bytes(limit)} that are read")
    except FileNotFoundError:
        raise UsageError(f"no file at {path}") from None
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror or error}") from None
    except zlib.error as error:
        raise TableError(f"{path} is no readable .mat file: {error}") from None


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
