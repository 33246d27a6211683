"""What the player on a page knows: a small problem as data, its policies, and episodes that were recorded.

The data is JSON in the page. Numbers that a page computes with (probabilities, rewards) are exact, so that an episode
clicked through on the page has the same rewards and return as in Python; Q values are exact for the digits they show.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.path import Path
from numpy.typing import NDArray

from deeptaxi.evaluation.recording import Recording
from deeptaxi.learning.coverage import DIGITS
from deeptaxi.mdp.describe import GridMap, Names
from deeptaxi.mdp.table import Bools, Floats, TransitionTable
from deeptaxi.metrics import History
from deeptaxi.report.content import Content
from deeptaxi.report.maps import MOST_CELLS, sign

MOST_SNAPSHOT_DIGITS = 40_000  # of the policies of all snapshots together
LONGEST_NAME = 80  # characters
BASE = len(DIGITS)


def play_data(content: Content) -> dict[str, Any] | None:
    """Return the data of the player; None if the problem cannot be played on a page."""
    playable, subject, grid = content.playable, content.subject, content.grid
    comparison = subject.comparison
    if playable is None or comparison is None:
        return None
    table = playable.table
    drawn = grid if grid is not None and grid.cells <= MOST_CELLS else None
    starts = np.flatnonzero(table.start > 0)
    return {
        "states": table.states,
        "actions": [name[:LONGEST_NAME] for name in content.names.actions],
        "names": pack_names(content.names, table.states),
        "outcomes": pack_outcomes(table),
        "allowed": None if table.action_mask is None else digits(table.action_mask),
        "starts": {"states": starts.tolist(), "probability": distinct(table.start[starts])},
        "policy": distinct(subject.policy),
        "best": distinct(playable.best),
        "optimal": digits(comparison.optimal),
        "reachable": digits(comparison.reachable),
        "q": None if comparison.q is None else shortest(comparison.q),
        "value": best_values(playable.value),
        "training_value": None if comparison.q_star is None else best_values(comparison.q_star),
        "discount": playable.discount,
        "training_discount": playable.training_discount,
        "time_limit": playable.time_limit,
        "horizon": playable.horizon,
        "recordings": [pack_recordings(seed, found) for seed, found in playable.recordings.items()],
        "watch": playable.watch,
        "map": None if drawn is None else pack_map(drawn),
        "snapshots": None if drawn is None else pack_snapshots(subject.run.history, table.states),
    }


def to_island(data: Mapping[str, Any]) -> str:
    """Format data as JSON that may stand inside a script element: no text in it can end the element."""
    found = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return found.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def pack_names(names: Names, states: int) -> list[dict[str, Any]] | None:
    """Return the names of the states, each phrase of them by itself if all have as many; None if only numbered."""
    found = [names.state(state)[:LONGEST_NAME] for state in range(states)]
    if all(name == f"state {state}" for state, name in enumerate(found)):
        return None
    phrases = [name.split(", ") for name in found]
    if len(set(map(len, phrases))) > 1:
        return [distinct(found)]
    return [distinct(column) for column in zip(*phrases, strict=True)]


def pack_outcomes(table: TransitionTable) -> dict[str, Any]:
    """Return the possible outcomes of all pairs one after the other, and how many each pair has.

    Next states are relative to the state, as on a grid a few differences are all there is.
    """
    possible = table.probability > 0
    moves = table.next_state - np.arange(table.states)[:, np.newaxis, np.newaxis]
    return {
        "counts": distinct(possible.sum(axis=2).ravel()),
        "move": distinct(moves[possible]),
        "reward": distinct(table.reward[possible]),
        "probability": distinct(table.probability[possible]),
        "terminated": distinct(table.terminated[possible].astype(np.int64)),
    }


def distinct(entries: NDArray[Any] | Sequence[str]) -> dict[str, Any]:
    """Return an array as its distinct values and the number of each entry's: base-36 digits, if there are so few.

    Of a single value, no numbers.
    """
    values: Sequence[Any] = entries.tolist() if isinstance(entries, np.ndarray) else entries
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    if len(numbers) == 1:
        return {"values": list(numbers), "of": None}
    of = [numbers[value] for value in values]
    return {"values": list(numbers), "of": "".join(DIGITS[n] for n in of) if len(numbers) <= BASE else of}


def digits(chosen: Bools) -> str:
    """Return an array of truth values as a text of 0 and 1."""
    return "".join(np.where(chosen.ravel(), "1", "0").tolist())


def shortest(values: NDArray[Any]) -> list[float | None]:
    """Return values with the fewest digits that tell them from their neighbors in float32; None if not finite."""
    flat = values.ravel()
    if (flat.astype(np.float32) == flat).all():
        flat = flat.astype(np.float32)
    return [float(str(value)) if np.isfinite(value) else None for value in flat]


def best_values(q_star: Floats) -> list[float | None]:
    """Return the value of each state `[S]` from Q* `[S, A]`, to ten digits; the page backs Q* up from them."""
    best = np.where(np.isnan(q_star), -np.inf, q_star).max(axis=1)
    return [float(f"{value:.10g}") if np.isfinite(value) else None for value in best]


def pack_recordings(seed: int, found: Mapping[str, Recording]) -> dict[str, Any]:
    """Return the recordings of one seed."""
    return {
        "seed": seed,
        **{
            name: [one.start, "".join(map(str, one.outcomes)) if max(one.outcomes, default=0) < 10 else
                   list(one.outcomes), one.length, one.ending]
            for name, one in found.items()
        },
    }  # fmt: skip


def pack_map(grid: GridMap) -> dict[str, Any]:
    """Return a map: its cells, what is on them, its layers, and the sign of each action as an SVG path."""
    return {
        "rows": grid.rows,
        "columns": grid.columns,
        "kinds": [[row, column, kind] for row, kinds in enumerate(grid.kinds) for column, kind in enumerate(kinds)
                  if kind != "floor"],
        "letters": [[row, column, letter] for (row, column), letter in grid.letters.items()],
        "walls": [[*one, *other] for one, other in grid.walls],
        "signs": [svg_path(sign(move, action)) for action, move in enumerate(grid.moves)],
        "places": not grid.row[1],
        "row": [grid.row[0].rstrip(":"), list(grid.row[1])],
        "column": [grid.column[0].rstrip(":"), list(grid.column[1])],
        "across": [f"{grid.across[0]} {text}".strip() for text in grid.across[1]],
        "down": [f"{grid.down[0]} {text}".strip() for text in grid.down[1]],
        "layers": [
            [{"states": layer.states.ravel().tolist(), "marks": layer.marks} for layer in row]
            for row in grid.layers
        ],
    }  # fmt: skip


def svg_path(shape: Path) -> str:
    """Return a path in a cell as the `d` of an SVG path, in hundredths of a cell."""
    parts = []
    for points, code in shape.iter_segments(simplify=False):
        letter = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}[code]
        parts.append(letter + ("" if letter == "Z" else " ".join(f"{100 * value:.0f}" for value in points)))
    return "".join(parts)


def pack_snapshots(history: History | None, states: int) -> dict[str, Any] | None:
    """Return the policies of the training's snapshots, evenly chosen if there are many; None without any."""
    if history is None:
        return None
    known = [one for one in history.snapshots if one.policy is not None and len(one.policy) == states]
    if len(known) < 2:
        return None
    found = {one.update: [one.value, one.optimal_start_states, one.start_states] for one in history.evaluations}
    most = max(2, MOST_SNAPSHOT_DIGITS // states)
    chosen = np.unique(np.linspace(0, len(known) - 1, min(most, len(known))).round().astype(int)).tolist()
    kept = [known[index] for index in chosen]
    return {
        "of": len(known),
        "kept": None if history.finished is None else history.finished.best_update,
        "updates": [one.update for one in kept],
        "policies": [one.policy for one in kept],
        "evaluations": [found.get(one.update) for one in kept],
    }
