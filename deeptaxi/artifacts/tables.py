"""Q tables as files: `csv`, `npz` and `json`, with the greedy policy, and reading them back.

Numbers are written with as many digits as it takes to read the same number back, and no more. −∞, the value of an
action that the agent may not take, is ``-inf`` in CSV and null in JSON.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeptaxi.evaluation.exact import policy_of
from deeptaxi.records import to_json

Q = NDArray[np.floating]


def write_csv(path: Path, q: Q, about: Mapping[str, Any]) -> None:
    """Write one row a state: state, its Q values, the greedy action."""
    del about  # CSV has no place for it
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["state", *(f"q_{action}" for action in range(q.shape[1])), "action"])
        for state, (row, action) in enumerate(zip(q, policy_of(q), strict=True)):
            writer.writerow([state, *(str(value) for value in row), action])


def read_csv(path: Path) -> Q:
    """Read the Q values back, float64 `[S, A]`."""
    return np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2, encoding="utf-8")[:, 1:-1]


def write_npz(path: Path, q: Q, about: Mapping[str, Any]) -> None:
    """Write ``q_values`` `[S, A]` and ``policy`` `[S]`, and what is known of the environment as JSON text."""
    with path.open("wb") as file:
        np.savez_compressed(file, q_values=q, policy=policy_of(q), about=np.array(to_json(about)))


def read_npz(path: Path) -> Q:
    """Read the Q values back."""
    with np.load(path, allow_pickle=False) as archive:
        return np.asarray(archive["q_values"])


def write_json(path: Path, q: Q, about: Mapping[str, Any]) -> None:
    """Write ``q_values`` (a list a state) and ``policy``, beside what is known of the environment."""
    shortest = [[float(str(value)) for value in row] for row in q]
    path.write_text(to_json({**about, "q_values": shortest, "policy": policy_of(q).tolist()}) + "\n", encoding="utf-8")


def read_json(path: Path) -> Q:
    """Read the Q values back, float64 `[S, A]`; null is −∞."""
    rows = json.loads(path.read_text(encoding="utf-8"))["q_values"]
    return np.array([[-np.inf if value is None else value for value in row] for row in rows])


WRITERS: dict[str, tuple[Callable[[Path, Q, Mapping[str, Any]], None], Callable[[Path], Q]]] = {
    "csv": (write_csv, read_csv),
    "npz": (write_npz, read_npz),
    "json": (write_json, read_json),
}
