"""Write Q tables as `csv`, `npz` and `json`, with the greedy policy and the environment's names.

A policy without Q values is Q values of no action, `[S, 0]`, with the policy beside them: the same tables without them.
`storage.arrays` reads all of these back.

Numbers are written with as many digits as are needed to read the same number back. −∞, the value of an action that is
not allowed, is ``-inf`` in CSV and null in JSON.

A table cannot check the state it is asked for, so states outside 0 … S−1 must not be found in it:

- `csv`, `json`: states are looked up by their number, as text; −1 and S do not exist.
- `npz`: NumPy counts −1 from the end. The last row, S, is not a state: its Q values are NaN, its action is −1. Both −1
  and S read it; beyond S, NumPy raises IndexError. Other negative numbers count from the end, so avoid them.

Spreadsheets evaluate CSV cells that look like formulas, and names come from untrusted files, so such names are prefixed
with an apostrophe (https://owasp.org/www-community/attacks/CSV_Injection). Numbers stay as they are.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeptaxi.errors import UsageError
from deeptaxi.evaluation.exact import policy_of
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.table import Ints
from deeptaxi.metrics import to_json

Q = NDArray[np.floating]
CSV_STATES = 1_048_575  # a spreadsheet's rows, less the header
JSON_STATES = 1_000_000  # most readers hold the whole document in memory, several times
# The start of a cell, also for spreadsheets that split at semicolons or tabs, before a character that starts a formula.
FORMULA = re.compile(r"(^|[;\t])(?=\s*[=+\-@＝＋－＠\t\r\n])")  # some spreadsheets accept full-width signs
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?(e[+-]?[0-9]+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Labels:
    """Names of the states and actions in a table, and its environment.

    Attributes:
        actions: names of the actions, `[A]`.
        state: function that returns the name of a state.
        environment: id, arguments and sizes, as in the JSON of every command; empty if unknown.
    """

    actions: tuple[str, ...]
    state: Callable[[int], str]
    environment: Mapping[str, Any] = field(default_factory=dict)


def labels_of(environment: Environment) -> Labels:
    """Return the names that an environment gives its states and actions."""
    from deeptaxi.mdp.describe import names_of

    names = names_of(environment)
    return Labels(names.actions, names.state, environment.describe())


def number_labels(actions: int) -> Labels:
    """Return numbered labels, for a table whose environment is unknown."""
    return Labels(tuple(f"action {action}" for action in range(actions)), lambda state: f"state {state}")


def check_size(states: int, actions: int, form: str) -> None:
    """Reject a text file that would be too large to open.

    Raises:
        UsageError: there are too many states for the format.
    """
    most = {"csv": CSV_STATES, "json": JSON_STATES}.get(form, states)
    if states > most:
        megabytes = states * (40 + 14 * actions) / 1e6
        raise UsageError(
            f"a {form} table holds at most {most:,} states, but this one has {states:,} (about {megabytes:,.0f} MB); "
            "choose npz, or a format other than a table"
        )


def rows(q: Q, labels: Labels, policy: Ints | None) -> Iterator[tuple[int, str, list[str], int, str]]:
    """Yield each state with its name, Q values as text, action and that action's name; None: the greedy policy."""
    taken = policy_of(q) if policy is None else policy
    for state, (values, action) in enumerate(zip(q, taken.tolist(), strict=True)):
        yield state, labels.state(state), [str(value) for value in values], action, labels.actions[action]


def as_text(name: str) -> str:
    """Escape a name that a spreadsheet would take for a formula; plain numbers stay as they are."""
    return name if NUMBER.fullmatch(name) else FORMULA.sub(r"\1'", name)


def write_csv(path: Path, q: Q, labels: Labels, policy: Ints | None = None) -> None:
    """Write one row per state: number, name, one Q value per action, greedy action and its name."""
    states, actions = q.shape
    check_size(states, actions, "csv")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        q_names = [as_text(f"q_{name}") for name in labels.actions[:actions]]
        writer.writerow(["state", "state_name", *q_names, "action", "action_name"])
        for state, name, values, action, action_name in rows(q, labels, policy):
            writer.writerow([state, as_text(name), *values, action, as_text(action_name)])


def write_json(path: Path, q: Q, labels: Labels, policy: Ints | None = None) -> None:
    """Write ``policy``, which maps each state to its Q values and greedy action, one line per state."""
    states, actions = q.shape
    check_size(states, actions, "json")
    about = {"environment": labels.environment or None, "states": len(q), "actions": labels.actions}
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{to_json(about)[:-1]}, "policy": {{')
        for state, name, values, action, action_name in rows(q, labels, policy):
            entry = {
                "name": name,
                **({"q_values": [float(value) for value in values]} if actions else {}),
                "action": action,
                "action_name": action_name,
            }
            file.write(f'{"," if state else ""}\n"{state}": {to_json(entry)}')
        file.write("\n}}\n")


def write_npz(path: Path, q: Q, labels: Labels, policy: Ints | None = None) -> None:
    """Write ``q_values`` `[S + 1, A]`, ``policy`` `[S + 1]`, ``state_names``, ``action_names``, ``environment``.

    Row S is a sentinel: NaN, and action −1.
    """
    values: dict[str, Any] = (
        {"q_values": np.vstack([q, np.full((1, q.shape[1]), np.nan, q.dtype)])} if q.shape[1] else {}
    )
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            policy=np.append(policy_of(q) if policy is None else policy, -1).astype(np.int32),
            state_names=np.array([labels.state(state) for state in range(len(q))]),
            action_names=np.array(labels.actions),
            environment=np.array(to_json(labels.environment or None)),
            **values,
        )


WRITERS: dict[str, Callable[[Path, Q, Labels, Ints | None], None]] = {
    "csv": write_csv,
    "npz": write_npz,
    "json": write_json,
}
