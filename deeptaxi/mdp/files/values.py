"""Python values that are tables: a `P` of rows, as Gymnasium's toy text has it, in any numbering.

``P[state][action] = [(probability, next_state, reward, terminated), …]``, of dicts or lists. Keys that are not numbers
from 0 are names. An action that a state lacks may not be taken there; a state that P lacks is an end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deeptaxi.errors import printable
from deeptaxi.mdp.files.outcomes import (
    Facts,
    Outcomes,
    Reading,
    ReadOptions,
    Source,
    assemble_table,
    counted,
    is_number,
)
from deeptaxi.mdp.table import TableError, form_of

DIGITS = 15  # of a state number
FORM = "P[state][action] = [(probability, next_state, reward, terminated), …]"


def read_p(source: Source, p: Any, options: ReadOptions, facts: Facts | None = None) -> Reading:
    """Make a table of a `P`.

    Raises:
        TableError: it is not of that form, or no decision process.
    """
    rows: list[tuple[Any, Any, Any, float, float, bool]] = []
    short = False
    try:
        for state, actions in items(p):
            for action, outcomes in items(actions):
                for outcome in outcomes:
                    probability, next_state, reward, *end = outcome
                    short = short or not end
                    rows.append((state, action, next_state, float(probability), float(reward), flag(*end)))
    except (TypeError, ValueError, AttributeError):
        raise TableError(f"{source.name} is not of the form {FORM}: it is {' '.join(form_of(p).split())}") from None
    if not rows:
        raise TableError(f"{source.name} is not of the form {FORM}: it holds no outcomes")
    given = facts or Facts(0, 0)
    state_names, states = numbering(source, "state", [key for key, _ in items(p)], [row[2] for row in rows])
    action_names, actions = numbering(source, "action", [row[1] for row in rows], [])
    notes = ("no outcome ends an episode, as none has a fourth value, terminated",) if short else ()
    columns = list(zip(*rows, strict=True))
    outcomes = Outcomes(
        np.array([states[identify(key)] for key in columns[0]], np.int64),
        np.array([actions[identify(key)] for key in columns[1]], np.int64),
        np.array([states[identify(key)] for key in columns[2]], np.int64),
        np.array(columns[3], np.float64),
        np.array(columns[4], np.float64),
        np.array(columns[5], np.bool_),
    )
    known = Facts(
        max(states.values()) + 1,
        max(actions.values()) + 1,
        given.start,
        given.discount,
        given.time_limit,
        state_names,
        action_names,
        notes=notes,
    )
    found = assemble_table(source, outcomes, known, options)
    return Reading(found.table, f"{counted(len(rows), 'outcome')} P[state][action]", found.notes)


def items(value: Any) -> list[tuple[Any, Any]]:
    """Return keys and values of a dict, or numbers and entries of a list."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    raise TypeError


def flag(value: Any = False, *more: Any) -> bool:
    """Return the truth value of an outcome; one of 0 and 1 will do.

    Raises:
        ValueError: it is neither, or more values follow.
    """
    if more or not (isinstance(value, bool | np.bool_) or (is_number(value) and value in (0, 1))):
        raise ValueError(f"terminated {value!r}")
    return bool(value)


def identify(key: Any) -> str:
    """Return what tells a state or action apart: numbers alike, whatever their type; JSON's keys are texts."""
    if is_number(key) and not isinstance(key, int):
        key = key.item() if isinstance(key, np.generic) else key
    if isinstance(key, float) and key.is_integer():
        key = int(key)
    if isinstance(key, tuple):
        return f"({', '.join(map(identify, key))})"
    return str(key)


def numbering(
    source: Source, kind: str, keys: Sequence[Any], more: Sequence[Any]
) -> tuple[tuple[str, ...] | None, dict[str, int]]:
    """Number keys, as they are if they are whole numbers, else in their order; return names, if any, and numbers.

    Raises:
        TableError: a number is negative.
    """
    texts = list(dict.fromkeys([*map(identify, keys), *map(identify, more)]))
    if all(text.isascii() and text.removeprefix("-").isdecimal() for text in texts):
        negative = next((text for text in texts if text.startswith("-")), None)
        if negative is not None:
            raise TableError(f"{source.name} has {kind} {negative}: numbers begin with 0")
        large = next((text for text in texts if len(text) > DIGITS), None)
        if large is not None:
            raise TableError(f"{source.name} has {kind} {large[:40]}: numbers have at most {DIGITS} digits")
        return None, {text: int(text) for text in texts}
    return tuple(printable(text)[:200] for text in texts), {text: number for number, text in enumerate(texts)}
