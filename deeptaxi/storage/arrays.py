"""Read a Q table or a policy that others saved: `.npy`, `.npz`, `.csv`, `.json`, or an array in Python.

    Q table    real numbers `[S, A]`; −∞ for an action that is not allowed
    policy     integers `[S]`, an action per state: it has no Q values, and none are made up for it

Anything that could be either, or something else (state values `[S]`, action probabilities `[S, A]`), is rejected by
name. The tables that deeptaxi exports (`exports.q_tables`) are among what is read.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeptaxi.errors import UsageError, one_line
from deeptaxi.io.safe_archive import ArchiveError, read_npy, read_npz
from deeptaxi.io.safe_load import parse_json, read_text
from deeptaxi.mdp.environment import Environment

MAX_BYTES = 2**30  # of an array
TEXT_BYTES = 2**28  # of a text
Q_NAMES = ("q_values", "q_table", "qtable", "q")
POLICY_NAMES = ("policy", "action", "actions")
STATE_NAMES = ("", "state", "index")  # columns that number the states; pandas' has no name
TEXT_NAMES = ("state_name", "action_name")  # columns of deeptaxi's own tables
TABLE_NAMES = ("probability", "next_state")  # arrays of a transition table
INTEGER = re.compile(r"[+-]?\d{1,9}")
Array = NDArray[Any]


def read_decisions(path: Path, environment: Environment) -> Array:
    """Read a Q table, float `[S, A]`, or a policy, int64 `[S]`, of an environment.

    Raises:
        UsageError: it is something else, or of another size.
    """
    try:
        found = READERS[path.suffix.lower()](path, environment.states, environment.actions)
    except (ArchiveError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as a Q table or a policy: {one_line(error, 300)}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    return check_decisions(found, environment, str(path))


def decisions_of(values: Any, environment: Environment) -> Array:
    """Convert an array, nested lists or a tensor to a Q table or a policy.

    Raises:
        UsageError: it is neither, or of another size.
    """
    try:
        found = np.array(values)
    except (ValueError, TypeError) as error:
        raise UsageError(f"the array cannot be read as a Q table or a policy: {one_line(error, 300)}") from None
    return check_decisions(found, environment, "the array")


def check_decisions(found: Array, environment: Environment, name: str) -> Array:
    """Verify that an array is a Q table or a policy of the environment; return it, read-only.

    Raises:
        UsageError: it is neither, or of another size.
    """
    place, states, actions = environment.config.id, environment.states, environment.actions
    if found.dtype.kind not in "biuf":
        raise UsageError(f"{name} holds {found.dtype}, not numbers: expected Q values [{states}, {actions}]")
    if found.shape == (states,):
        checked = as_policy(found, actions, name)
    elif found.shape == (states, actions):
        checked = as_q_table(found, name)
    else:
        turned = "; transpose it" if found.shape == (actions, states) else ": name its own with --env"
        raise UsageError(
            f"{name} has the shape {list(found.shape)}, {place} has [S, A] = [{states}, {actions}]: expected a Q table "
            f"[{states}, {actions}] or a policy [{states}]{turned}"
        )
    checked.setflags(write=False)
    return checked


def as_policy(found: Array, actions: int, name: str) -> Array:
    """Return integers `[S]` as a policy, int64.

    Raises:
        UsageError: they are not integers, or not actions.
    """
    if found.dtype.kind == "f":
        raise UsageError(
            f"{name} holds real numbers, one a state, as the values of states are: a policy is integers, the action of "
            "each state (.astype(int), or fmt='%d' in numpy.savetxt)"
        )
    policy = found.astype(np.int64)
    outside = (policy < 0) | (policy >= actions)
    if outside.any():
        state = int(outside.argmax())
        raise UsageError(f"{name} takes action {policy[state]} in state {state}: expected 0 to {actions - 1}")
    return policy


def as_q_table(found: Array, name: str) -> Array:
    """Return numbers `[S, A]` as Q values; one-hot rows, which are a policy, as int64 `[S]`.

    Raises:
        UsageError: they are probabilities, NaN or +∞.
    """
    values = found if found.dtype.kind == "f" and found.dtype.itemsize in (4, 8) else found.astype(np.float64)
    values = values.astype(values.dtype.newbyteorder("="))  # a copy, in this machine's byte order
    broken = (np.isnan(values) | np.isposinf(values)).any(axis=1)
    if broken.any():
        raise UsageError(
            f"{name} holds NaN or +∞ in {int(broken.sum()):,} of {len(values):,} states, such as state "
            f"{int(broken.argmax())}: Q values are finite; −∞ marks an action that is not allowed"
        )
    if values.shape[1] > 1 and (values >= 0).all() and np.allclose(values.sum(axis=1), 1, rtol=0, atol=1e-6):
        if ((values == 0) | (values == 1)).all():
            return np.asarray(values.argmax(axis=1), np.int64)
        raise UsageError(
            f"{name} holds probabilities, which sum to 1 in every state, not Q values: a random policy is not "
            "evaluated; its likeliest actions are .argmax(axis=1)"
        )
    return values


def read_npy_array(path: Path, _states: int, _actions: int) -> Array:
    """Read an `.npy`."""
    return read_npy(path, MAX_BYTES)


def read_npz_array(path: Path, states: int, _actions: int) -> Array:
    """Read the Q values of an `.npz`, else its policy, else its only array.

    The last row of deeptaxi's own, which stands for states that do not exist, is removed.
    """
    arrays = read_npz(path, MAX_BYTES)
    name = chosen_name(arrays)
    found = arrays[name]
    own = len(found) == states + 1 and found.ndim in (1, 2)
    if own and (np.isnan(found[-1]).all() if found.dtype.kind == "f" else (found[-1] == -1).all()):
        return found[:-1]
    return found


def chosen_name(arrays: Mapping[str, Any]) -> str:
    """Return the name of the Q table or policy among several.

    Raises:
        ValueError: none is known by its name, and there are several.
    """
    if all(name in arrays for name in TABLE_NAMES):
        raise ValueError("it is a transition table, not a model (`deeptaxi solve` solves it)")
    lower = {name.lower(): name for name in arrays}
    found = next((lower[name] for name in (*Q_NAMES, *POLICY_NAMES) if name in lower), None)
    if found is not None:
        return found
    if len(arrays) != 1:
        names = ", ".join(sorted(arrays)[:8]) or "nothing"
        raise ValueError(f"it holds {names}: expected q_values [S, A] or policy [S]")
    return next(iter(arrays))


def read_json_array(path: Path, states: int, _actions: int) -> Array:
    """Read lists of numbers `[S, A]` or `[S]`, alone, under a name such as ``q_values``, or by state number.

    null is −∞, as in deeptaxi's own.
    """
    found = parse_json(read_text(path, TEXT_BYTES, plain=True))
    named = isinstance(found, dict) and not all(INTEGER.fullmatch(key) for key in found)
    return rows_array(found[chosen_name(found)] if named else found, states)


def rows_array(found: Any, states: int) -> Array:
    """Return JSON lists, or an object with a list or number per state, as an array.

    Raises:
        ValueError: it is anything else.
    """
    if isinstance(found, dict):
        missing = next((state for state in range(len(found)) if str(state) not in found), None)
        if missing is not None:
            raise ValueError(f"its states are not 0 to {states - 1}: there is no {missing}")
        found = [decision_of(found[str(state)]) for state in range(len(found))]
    if not isinstance(found, list):
        raise ValueError("expected a list with the Q values or the action of each state")  # noqa: TRY004  # of a file
    if all(type(value) is int for value in found):
        return integers(found)
    return real_rows(found, "state {}".format)


def decision_of(row: Any) -> Any:
    """Return the Q values or action of a state in JSON."""
    if not isinstance(row, dict):
        return row
    if "q_values" in row:
        return row["q_values"]
    if "action" not in row:
        raise ValueError("a state has neither q_values nor an action")
    return row["action"]


def integers(values: Sequence[int]) -> Array:
    """Return integers as an array; those that no action has become −1."""
    return np.array([value if abs(value) < 2**31 else -1 for value in values], np.int64)


def real_rows(rows: Sequence[Any], describe: Any) -> Array:
    """Return rows of numbers as float64 `[n, m]`, or numbers as `[n]`; None is −∞. `describe` names a row.

    Raises:
        ValueError: a row has another length, or holds something else.
    """
    single = bool(rows) and not isinstance(rows[0], list)
    width = 1 if single or not rows else len(rows[0])
    values = np.empty((len(rows), width))
    for index, row in enumerate(rows):
        cells = [row] if single else row
        if not isinstance(cells, list) or len(cells) != width:
            held = len(cells) if isinstance(cells, list) else 1
            raise ValueError(f"{describe(index)} has {held} numbers, {describe(0)} has {width}")
        for column, cell in enumerate(cells):
            if cell is not None and type(cell) not in (int, float):
                raise ValueError(f"{describe(index)} holds {str(cell)[:40]!r}, which is not a number")
            values[index, column] = -np.inf if cell is None else cell
    return values[:, 0] if single else values


def read_csv_array(path: Path, states: int, actions: int) -> Array:
    """Read a text of numbers, separated by commas, semicolons, tabs or blanks, with or without a header.

    A column ``state`` orders the rows; columns ``q_…`` are the Q values, else ``action`` is the policy, else all others
    are the Q values.
    """
    lines = read_text(path, TEXT_BYTES, plain=True).lstrip("\ufeff").splitlines()
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]
    if not numbered:
        raise ValueError("it is empty")
    cells = [split_line(line, numbered[0][1]) for _, line in numbered]
    numbers = [number for number, _ in numbered]
    header: list[str] | None = None
    if is_header(cells[0], len(cells), states):
        header, cells, numbers = [cell.strip().lower() for cell in cells[0]], cells[1:], numbers[1:]
    for number, row in zip(numbers, cells, strict=True):
        if len(row) != len(header or cells[0]):
            raise ValueError(f"line {number} has {len(row)} columns, the first has {len(header or cells[0])}")
    index, chosen = columns_of(header, cells, states, actions)
    found = cells_array([[row[column] for column in chosen] for row in cells], numbers)
    return found if index is None else in_order(found, [row[index] for row in cells])


def split_line(line: str, first: str) -> list[str]:
    """Split a line at the separator that the `first` one has."""
    mark = next((mark for mark in ",;\t" if mark in first), None)
    return line.split() if mark is None else next(csv.reader([line], delimiter=mark))


def is_header(cells: Sequence[str], lines: int, states: int) -> bool:
    """Return whether the first line is a header: not only numbers, or only the numbers of the columns."""
    if not all(is_number(cell) for cell in cells):
        return True
    return lines == states + 1 and [cell.strip() for cell in cells] == [str(n) for n in range(len(cells))]


def is_number(cell: str) -> bool:
    """Return whether a cell holds a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def columns_of(
    header: Sequence[str] | None, cells: Sequence[Sequence[str]], states: int, actions: int
) -> tuple[int | None, list[int]]:
    """Return the column of the state numbers, or None, and those of the Q values or the policy.

    Raises:
        ValueError: the header names none.
    """
    width = len(cells[0]) if cells else 0
    if header is None:
        counted = [row[0].strip() for row in cells] == [str(state) for state in range(states)]
        if counted and (width == actions + 1 or width == 2 < actions):
            return 0, list(range(1, width))
        return None, list(range(width))
    index = next((column for column, name in enumerate(header) if name in STATE_NAMES), None)
    q_columns = [column for column, name in enumerate(header) if name.startswith("q_")]
    policy = [column for column, name in enumerate(header) if name in POLICY_NAMES]
    others = [column for column, name in enumerate(header) if column != index and name not in TEXT_NAMES]
    chosen = q_columns or policy[:1] or others
    if not chosen:
        raise ValueError(f"its header is {', '.join(header)[:80]}: expected a column an action, or 'action'")
    return index, chosen


def cells_array(rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> Array:
    """Return texts of numbers as an array: int64 `[n]` for a single column of integers, else float64.

    Raises:
        ValueError: a cell is not a number; the message says where. `numbers` are those of the lines.
    """
    if rows and len(rows[0]) == 1 and all(INTEGER.fullmatch(row[0].strip()) for row in rows):
        return integers([int(row[0]) for row in rows])
    values: list[list[float]] = []
    for number, row in zip(numbers, rows, strict=True):
        wrong = next((cell for cell in row if not is_number(cell)), None)
        if wrong is not None:
            raise ValueError(f"line {number} holds {wrong[:40]!r}, which is not a number")
        values.append([float(cell) for cell in row])
    found = np.array(values, np.float64)
    return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found


def in_order(found: Array, states: Sequence[str]) -> Array:
    """Sort rows by their state numbers.

    Raises:
        ValueError: these are not 0 … n−1, each once.
    """
    order = [int(state) if INTEGER.fullmatch(state.strip()) else -1 for state in states]
    if sorted(order) != list(range(len(order))):
        wrong = next((text for text, number in zip(states, order, strict=True) if number < 0), "")
        more = f": {wrong[:40]!r}" if wrong else ""
        raise ValueError(f"its states are not 0 to {len(order) - 1}, each once{more}")
    return found[np.argsort(order)]


READERS = {".npy": read_npy_array, ".npz": read_npz_array, ".csv": read_csv_array, ".json": read_json_array}
