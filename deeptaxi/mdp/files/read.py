"""Read a transition table from any file or value that is known here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deeptaxi.errors import DeepTaxiError, UsageError, nearest
from deeptaxi.io.safe_archive import ArchiveError, read_shapes
from deeptaxi.mdp.files import READ, is_table_file
from deeptaxi.mdp.files.array_files import holds_foreign_arrays, read_json_table, read_mat, read_npz_matrices
from deeptaxi.mdp.files.cassandra import PARTIAL, read_cassandra
from deeptaxi.mdp.files.columns import from_lists, read_csv, read_json_lines, read_parquet
from deeptaxi.mdp.files.matrices import from_matrices, holds_matrices, is_sparse, read_matrices
from deeptaxi.mdp.files.outcomes import Facts, Reading, ReadOptions, Source, start_of
from deeptaxi.mdp.files.prism import read_prism
from deeptaxi.mdp.files.row_files import read_rows
from deeptaxi.mdp.files.values import FORM, read_p
from deeptaxi.mdp.table import MAX_BYTES, TableError, TransitionTable, load_table

OWN_FORM = "deeptaxi's table"
WANTED = f"a dict {FORM}, arrays (P, R), or a TransitionTable"
PICKLES = (
    "{0} is a pickle, which can run any code and is never opened; if you trust where it is from, convert it: "
    """python -c "import {1}, deeptaxi; deeptaxi.convert({2}, '{3}')\""""
)


def options_of(given: Mapping[str, Any]) -> ReadOptions:
    """Return the options given by name, as `--env-arg` has them.

    Raises:
        UsageError: a name is not known, or a value is wrong.
    """
    known = [item.name for item in dataclasses.fields(ReadOptions)]
    for name in given:
        if name not in known:
            instead = nearest(name, known) or f": expected {', '.join(known)}"
            raise UsageError(f"a file of a table takes no argument '{name}'{instead}")
    return ReadOptions(**given)


def read_table_file(path: Path, options: ReadOptions | None = None) -> Reading:
    """Read a transition table from a file of any known form, recognized by the ending of its name.

    Args:
        path: the file.
        options: what the file does not say.

    Raises:
        UsageError: the file does not exist, is of a form that is not read, or has no such start.
        TableError: it is damaged, or does not describe a decision process.
    """
    given = options or ReadOptions()
    return check_used(str(path), given, read_by_ending(path, given))


def read_by_ending(path: Path, given: ReadOptions) -> Reading:
    """Read a table with the reader that the ending of its name asks for; raises the errors of `read_table_file`."""
    ending = path.suffix.lower()
    if ending in (".pkl", ".pickle", ".joblib"):
        raise UsageError(describe_pickle(path))
    if ending == ".pomdp":
        raise UsageError(PARTIAL.format(path))
    if ending == ".npy":
        raise UsageError(
            f"{path} holds a single array: save transitions and rewards together, np.savez('{path.stem}.npz', P=P, R=R)"
        )
    if ending == ".npz":
        return read_any_npz(path, given)
    if ending == ".mat":
        return read_mat(path, given)
    if ending == ".json":
        return read_json_table(path, given)
    if ending == ".tra":
        return read_prism(path, given)
    if ending == ".mdp":
        return read_cassandra(path, given)
    readers = {".csv": read_csv, ".tsv": read_csv, ".jsonl": read_json_lines, ".parquet": read_parquet}
    if ending not in readers:
        raise UsageError(f"{path}: expected a name that ends in {', '.join(READ)}")
    return read_rows(readers[ending](path), given)


def check_used(name: str, options: ReadOptions, found: Reading) -> Reading:
    """Reject options that say nothing of a table of this form, and return the reading.

    Raises:
        UsageError: there is a goal without PRISM's labels, or a prior without logged transitions.
    """
    if options.goal is not None and "PRISM" not in found.form:
        raise UsageError(f"{name}: --goal names a label of PRISM's files (.tra), and this holds {found.form}")
    if options.prior and found.table.logged is None:
        raise UsageError(f"{name}: --prior is for logged transitions, and this holds {found.form}")
    return found


def describe_pickle(path: Path) -> str:
    """Return why a pickle is not opened, and the lines of Python that convert it."""
    joblib = path.suffix.lower() == ".joblib"
    text = str(path).replace("\\", "\\\\").replace("'", "\\'")
    loaded = f"joblib.load('{text}')" if joblib else f"pickle.loads(pathlib.Path('{text}').read_bytes())"
    return PICKLES.format(path, "joblib" if joblib else "pathlib, pickle", loaded, Path(text).with_suffix(".npz"))


def read_any_npz(path: Path, options: ReadOptions) -> Reading:
    """Read a table of deeptaxi's, or matrices of another convention.

    Raises:
        UsageError: options are given for a table, which says all by itself.
        TableError: the file is damaged.
    """
    if path.is_file() and holds_foreign_arrays(path):
        return read_npz_matrices(path, options)
    if options != ReadOptions():
        names = [item.name for item in dataclasses.fields(options) if getattr(options, item.name) != item.default]
        raise UsageError(f"a transition table takes no arguments, received {', '.join(names)}")
    try:
        return Reading(load_table(path), OWN_FORM)
    except TableError as error:
        raise with_pickle_advice(path, error) from None


def with_pickle_advice(path: Path, error: TableError) -> TableError:
    """Say what to do about an `.npz` that holds pickled objects."""
    try:
        read_shapes(path, MAX_BYTES)
    except (ArchiveError, OSError) as found:
        if "pickled" in str(found):
            return TableError(f"{error}; save arrays of numbers: np.savez('{path}', P=np.stack(P), R=R)")
    return error


def is_table_value(value: Any) -> bool:
    """Whether a value of Python may be a table: a dict, a list, a tuple, or a data frame."""
    return isinstance(value, Mapping | list | tuple) or is_frame(value)


def is_foreign(source: Any) -> bool:
    """Whether a file or value is a table of another form, which takes the options of `ReadOptions`."""
    if not isinstance(source, str | Path):
        return is_table_value(source)
    path = Path(source)
    return is_table_file(str(source)) and (path.suffix.lower() != ".npz" or holds_foreign_arrays(path))


def change_table(source: Source, table: TransitionTable, options: ReadOptions) -> TransitionTable:
    """Return a table of deeptaxi's with another start, discount or time limit.

    Raises:
        UsageError: the options ask for something else, or there is no such state.
    """
    kept = {
        name: value for name in ("start", "discount", "time_limit") if (value := getattr(options, name)) is not None
    }
    if options != ReadOptions(**kept):
        raise UsageError(f"{source.name} has a table of its own: prior, goal and end_absorbing are for other forms")
    if "start" in kept:
        facts = Facts(table.states, table.actions, table.start, state_names=table.state_names)
        kept["start"] = start_of(source, options.start, facts, np.zeros(table.states, np.bool_))[0]
    return dataclasses.replace(table, **kept)


def is_frame(value: Any) -> bool:
    """Whether a value is a data frame."""
    return hasattr(value, "columns") and callable(getattr(value, "to_dict", None))


def read_value(value: Any, options: ReadOptions | None = None) -> Reading:
    """Read a transition table from a value of Python.

    Args:
        value: ``P[state][action] = [(probability, next_state, reward, terminated), …]`` as dict or list; a pair
            (P, R) of arrays P `[A, S, S]`, R `[S]`, `[S, A]` or `[A, S, S]`, or of lists of sparse matrices; a dict of
            such arrays by name (P or Q, R, s_indices, …); a data frame of rows; or a `TransitionTable`.
        options: what the value does not say.

    Raises:
        TableError: it has another form, or is not a decision process.
        UsageError: it has no such start.
    """
    given = options or ReadOptions()
    return check_used("the table", given, read_by_type(value, given))


def read_by_type(value: Any, given: ReadOptions) -> Reading:
    """Read a table with the reader of the value's type; raises the errors of `read_value`."""
    source = Source("P")
    if isinstance(value, TransitionTable):
        return Reading(value, OWN_FORM)
    if is_frame(value):
        lists = {str(name): list(column) for name, column in value.to_dict("list").items()}
        return read_rows(from_lists(Source("the data frame", "row"), lists), given)
    if isinstance(value, Mapping):
        names = [name for name in value if isinstance(name, str)]
        if len(names) == len(value) and holds_matrices(names) and not isinstance(value.get("P"), Mapping):
            return read_matrices(Source("the dict"), value, given)
        return read_p(source, value, given)
    if isinstance(value, tuple) and len(value) == 2 and not isinstance(value[0], Mapping):
        return from_matrices(Source("(P, R)"), *value, given)
    if isinstance(value, list | tuple) and value and not any(map(is_sparse, value)):
        return read_p(source, value, given)
    raise TableError(f"expected {WANTED}, received {type(value).__name__}: P alone has no rewards")


def as_transition_table(value: Any, **options: Any) -> TransitionTable:
    """Return a value of Python as a transition table; `options` are those of `ReadOptions`. See `read_value`.

    Raises:
        DeepTaxiError: it is no table.
    """
    try:
        return read_value(value, options_of(options)).table
    except (TypeError, RecursionError) as error:  # a value of another kind altogether
        raise DeepTaxiError(f"expected {WANTED}, received {type(value).__name__}: {error}") from None
