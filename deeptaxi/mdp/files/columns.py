"""Columns of a table file: CSV, JSON, JSON lines, Parquet; each value with the line that it stood on.

Values stay as they are read until they are asked for as numbers, truth values or labels; what does not fit is an error
that names column, line and value.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deeptaxi.errors import UsageError, nearest, printable
from deeptaxi.io.safe_load import digits_limited, parse_json, read_text
from deeptaxi.mdp.files.outcomes import Source
from deeptaxi.mdp.table import Bools, Floats, Ints, TableError

TEXT_BYTES = 2**27  # of a file of rows: some five million transitions
CELLS = 2**27  # of a Parquet file, which may claim billions in a few bytes
LABEL = 200  # letters of a name
WHOLE = re.compile(r"[+-]?\d{1,18}(\.0*)?", re.ASCII)
SEPARATORS = re.compile(r"[\s_-]")
TRUE, FALSE = ("1", "1.0", "true", "t", "yes"), ("0", "0.0", "false", "f", "no")
ALIASES = {
    "state": ("state", "s", "obs", "observation", "from", "current_state", "observations", "states"),
    "action": ("action", "a", "act", "actions"),
    "next_state": (
        "next_state", "s_next", "s_prime", "s'", "sp", "s2", "next", "next_obs", "next_observation", "to", "next_s",
        "next_observations", "next_states", "target",
    ),
    "probability": ("probability", "prob", "p", "transition_probability"),
    "reward": ("reward", "r", "rewards"),
    "terminated": ("terminated", "terminal", "done", "terminals", "dones", "is_terminal", "terminations"),
    "truncated": ("truncated", "timeout", "timeouts", "truncations"),
    "episode": ("episode", "episode_id", "episode_ends", "trajectory", "traj", "traj_id", "trajectory_id"),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns of a file.

    Attributes:
        source: the file.
        values: the values of each column by the names of `ALIASES`, all of one length.
        lines: where each row stood, `[N]`.
        header: the names in the file of the columns in `values`.
        others: the names of the columns that are not read.
    """

    source: Source
    values: Mapping[str, Sequence[Any]]
    lines: Ints
    header: Mapping[str, str]
    others: tuple[str, ...] = ()

    def fault(self, index: Any, name: str, what: str) -> TableError:
        """Create the error for one value."""
        value = printable(str(self.values[name][int(index)]))[:60]
        return self.source.fault(f"column '{self.header[name]}' holds {value!r}: {what}", self.lines[int(index)])

    def require(self, *names: str) -> None:
        """Reject a file that lacks a column.

        Raises:
            TableError: it does.
        """
        for name in names:
            if name not in self.values:
                found = ", ".join(map(repr, self.header.values())) or "none that is known"
                raise TableError(
                    f"{self.source.name} lacks the column '{name}': expected one named "
                    f"{' or '.join(ALIASES[name][:3])}; it has {found}"
                )

    def numbers(self, name: str) -> Floats:
        """Return a column as numbers, `[N]`; they may be infinite, but not NaN.

        Raises:
            TableError: a value is invalid.
        """
        values = self.values[name]
        try:
            found = np.asarray([number_of(value) for value in values], np.float64)
        except (TypeError, ValueError, OverflowError):
            wrong = next(index for index, value in enumerate(values) if not is_number_like(value))
            raise self.fault(wrong, name, "expected a number") from None
        if np.isnan(found).any():
            raise self.fault(np.argmax(np.isnan(found)), name, "expected a number")
        return found

    def flags(self, name: str) -> Bools:
        """Return a column as truth values, `[N]`.

        Raises:
            TableError: a value is invalid.
        """
        words = [str(value).strip().lower() for value in self.values[name]]
        known = {**dict.fromkeys(TRUE, True), **dict.fromkeys(FALSE, False)}
        wrong = next((index for index, word in enumerate(words) if word not in known), None)
        if wrong is not None:
            raise self.fault(wrong, name, "expected true or false, or 1 or 0")
        return np.array([known[word] for word in words], np.bool_)

    def labels(self, *names: str) -> tuple[list[Ints], tuple[str, ...] | None]:
        """Return columns of states or actions as numbers from 0, and their names if they are texts.

        Texts are numbered in the order in which they come, row by row.

        Raises:
            TableError: a value is neither, is a negative number, or texts and numbers are mixed.
        """
        texts = {name: [label_text(value) for value in self.values[name]] for name in names}
        whole = {
            name: np.array([WHOLE.fullmatch(text) is not None for text in texts[name]], np.bool_) for name in names
        }
        if all(mark.all() for mark in whole.values()):
            return [self.whole_numbers(name, texts[name]) for name in names], None
        first = names[0]
        if any(mark.any() for mark in whole.values()):
            numbered = next(name for name in names if whole[name].any())
            index = int(np.argmax(whole[numbered]))
            other = next(name for name in names if not whole[name].all())
            wrong = int(np.argmin(whole[other]))
            if is_number_like(texts[other][wrong]) or not texts[other][wrong]:
                raise self.fault(wrong, other, "expected a whole number from 0")
            has = f"{self.source.unit} {self.lines[index]:,} has the number {texts[numbered][index]}"
            raise self.fault(wrong, other, f"{has}; name all of them, or number all")
        for name in names:
            for index, text in enumerate(texts[name]):
                if not text or is_number_like(text) or len(text) > LABEL:
                    raise self.fault(index, name, f"expected a whole number from 0, or a name of 1 to {LABEL} letters")
        numbers: dict[str, int] = {}
        for row in range(len(texts[first])):
            for name in names:
                numbers.setdefault(texts[name][row], len(numbers))
        return [np.array([numbers[text] for text in texts[name]], np.int64) for name in names], tuple(numbers)

    def whole_numbers(self, name: str, texts: Sequence[str]) -> Ints:
        """Convert texts to whole numbers from 0."""
        found = np.array([int(text.partition(".")[0]) for text in texts], np.int64)
        if (found < 0).any():
            raise self.fault(np.argmax(found < 0), name, "numbers begin with 0")
        return found


def number_of(value: Any) -> float:
    """Convert a value of a cell to a number."""
    if isinstance(value, bool) or value is None:
        raise ValueError("no number")
    return float(value)


def is_number_like(value: Any) -> bool:
    """Whether a value is a number, NaN included."""
    try:
        number_of(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def label_text(value: Any) -> str:
    """Return the text of a state or an action: lists are tuples."""
    return "" if value is None else str(tuple(value) if isinstance(value, list) else value).strip()


def recognize(header: Iterable[Any]) -> dict[str, int]:
    """Return where each known column is; an exact name goes before an alias."""
    names = [SEPARATORS.sub("", str(name).strip("\ufeff").lower()) for name in header]
    found = {}
    for name, aliases in ALIASES.items():
        plain = [SEPARATORS.sub("", alias) for alias in aliases]
        place = next((names.index(alias) for alias in plain if alias in names), None)
        if place is not None:
            found[name] = place
    return found


def columns_of(source: Source, header: Sequence[Any], rows: Sequence[Sequence[Any]], lines: Sequence[int]) -> Columns:
    """Arrange rows by column.

    Raises:
        TableError: there are no rows, or two columns of one name.
    """
    if not rows:
        raise TableError(f"{source.name} has no rows")
    places = recognize(header)
    texts = [str(name).strip("\ufeff").strip() for name in header]
    for place in places.values():
        if texts.count(texts[place]) > 1:
            raise TableError(f"{source.name} has {texts.count(texts[place])} columns '{printable(texts[place])[:40]}'")
    values = {name: [row[place] for row in rows] for name, place in places.items()}
    names = {name: printable(str(header[place]).strip().strip("\ufeff"))[:40] for name, place in places.items()}
    read = set(places.values())
    others = tuple(printable(text)[:40] for place, text in enumerate(texts) if place not in read)
    return Columns(source, values, np.asarray(lines, np.int64), names, others)


def read_csv(path: Path) -> Columns:
    """Read a CSV with a header; the separator is a comma, a semicolon or a tab.

    Raises:
        TableError: it is no text, has no rows, or a row has more or fewer values than the header.
    """
    text = text_of(path)
    first = text.partition("\n")[0]
    separator = max((",", ";", "\t"), key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    source, rows, lines = Source(str(path)), [], []
    try:
        header = next(reader, [])
        known = recognize(header)
        if "state" not in known and "action" not in known:
            near = next((nearest(str(name), ALIASES) for name in header if nearest(str(name), ALIASES)), "")
            raise TableError(
                f"{path}: the first line is no header of rows: expected names such as state, action, next_state, "
                f"probability, reward, terminated{near}"
            )
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise source.fault(
                    f"expected {len(header)} values as in the header, received {len(row)}", reader.line_num
                )
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise source.fault(f"it is not sound ({printable(str(error))})", reader.line_num) from None
    return columns_of(source, header, rows, lines)


def read_json_lines(path: Path) -> Columns:
    """Read a file with a JSON object a line."""
    source, records, lines = Source(str(path)), [], []
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            with digits_limited():
                record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise source.fault(f"it is no JSON ({printable(str(error))[:100]})", number) from None
        records.append(record)
        lines.append(number)
    return from_records(source, records, lines)


def from_records(source: Source, records: Sequence[Any], lines: Sequence[int]) -> Columns:
    """Arrange a list of objects, all with the keys of the first, by column.

    Raises:
        TableError: an entry is no object, or lacks a key.
    """
    keys = list(records[0]) if records and isinstance(records[0], Mapping) else []
    rows = []
    for record, line in zip(records, lines, strict=True):
        if not isinstance(record, Mapping) or any(key not in record for key in keys):
            lacks = next((key for key in keys if isinstance(record, Mapping) and key not in record), None)
            what = "expected an object" if lacks is None else f"'{printable(lacks)}' is missing"
            raise source.fault(what, line)
        rows.append([record[key] for key in keys])
    return columns_of(source, keys, rows, lines)


def from_lists(source: Source, values: Mapping[str, Any]) -> Columns:
    """Arrange an object of lists, such as ``{"state": [0, 1], …}``.

    Raises:
        TableError: they are no lists of one length.
    """
    lists = {key: value for key, value in values.items() if isinstance(value, list) and recognize([key])}
    lengths = {len(value) for value in lists.values()}
    if len(lengths) != 1:
        raise TableError(f"{source.name}: expected lists of one length, received {sorted(lengths)}")
    rows = list(zip(*lists.values(), strict=True))
    return columns_of(source, list(lists), rows, range(1, len(rows) + 1))


def read_parquet(path: Path) -> Columns:
    """Read a Parquet file by PyArrow.

    Raises:
        UsageError: PyArrow is not installed.
        TableError: the file is damaged or too large.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError(f"{path}: Parquet takes the package pyarrow: pip install 'deeptaxi[parquet]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            header = list(file.schema_arrow.names)
            wanted = [header[place] for place in recognize(header).values()]
            if file.metadata.num_rows * max(len(wanted), 1) > CELLS:
                raise TableError(
                    f"{path} says that it has {file.metadata.num_rows:,} rows; at most {CELLS:,} cells are read"
                )
            found = file.read(columns=wanted).to_pydict()
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise TableError(
            f"{path} is no readable Parquet file: {printable(' '.join(str(error).split()))[:160]}"
        ) from None
    rows = list(zip(*found.values(), strict=True))
    return columns_of(Source(str(path), "row"), list(found), rows, range(1, len(rows) + 1))


def text_of(path: Path) -> str:
    """Read a text file of others.

    Raises:
        UsageError: there is no such file.
        TableError: it is too large, or no text.
    """
    try:
        return read_text(path, TEXT_BYTES, plain=True)
    except FileNotFoundError:
        where = "" if path.is_absolute() else f" (seen from {Path.cwd()})"
        raise UsageError(f"no file at {path}{where}") from None
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        what = "it is no text in UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise TableError(f"cannot read {path}: {what}") from None


def read_document(path: Path) -> Any:
    """Read a JSON file of others; raises the errors of `text_of`."""
    text = text_of(path)
    try:
        return parse_json(text)
    except ValueError as error:
        raise TableError(f"{path} is no JSON: {printable(str(error))[:160]}") from None
