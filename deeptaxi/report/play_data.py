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
from deeptaxi.mdp.describe import GridMap, Names
from deeptaxi.mdp.table import Bools, Floats, TransitionTable
from deeptaxi.metrics import History
from deeptaxi.report.content import Content
from deeptaxi.report.maps import MOST_CELLS, sign

MOST_SNAPSHOT_DIGITS = 40_000  # of the policies of all snapshots together
LONGEST_NAME = 80  # characters
# Digits that JSON, HTML and a script element leave as they are.
ALPHABET = "".join(chr(code) for code in range(35, 127) if chr(code) not in "&'<>\\")


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
        "alphabet": ALPHABET,
        "states": table.states,
        "actions": [name[:LONGEST_NAME] for name in content.names.actions],
        "names": pack_names(content.names, table.states),
        "outcomes": pack_outcomes(table),
        "allowed": None if table.action_mask is None else digits(table.action_mask),
        "starts": {"states": starts.tolist(), "probability": distinct(table.start[starts].tolist())},
        "policy": distinct(subject.policy.tolist()),
        "best": distinct(playable.best.tolist()),
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

    An outcome is its move, reward, probability and whether it terminates: few are distinct, as a move is the difference
    between two states, and a grid has few of these.
    """
    possible = table.probability > 0
    moves = table.next_state - np.arange(table.states)[:, np.newaxis, np.newaxis]
    columns = (moves, table.reward, table.probability, table.terminated.astype(np.int64))
    return {
        "counts": distinct(possible.sum(axis=2).ravel().tolist()),
        "kinds": distinct(list(zip(*(column[possible].tolist() for column in columns), strict=True))),
    }


def distinct(entries: Sequence[Any]) -> dict[str, Any]:
    """Return entries as the distinct ones and the number of each: as digits of `ALPHABET`, if there are so few.

    If there is only one, no numbers.
    """
    numbers = {entry: number for number, entry in enumerate(dict.fromkeys(entries))}
    if len(numbers) == 1:
        return {"values": list(numbers), "of": None}
    of = [numbers[entry] for entry in entries]
    return {"values": list(numbers), "of": "".join(ALPHABET[n] for n in of) if len(numbers) <= len(ALPHABET) else of}


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
