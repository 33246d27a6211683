"""The folder of a sweep: what is to be trained, and one line for each job that has ended.

    sweep.toml       the grid (`grid`)
    results.jsonl    a line of JSON for each ended job, in the order in which they ended
    <point>/seed-N/  the run of a job, an ordinary run folder

A line is appended as soon as its job has ended, so that a killed sweep can be continued. A job that is tried again has
another line, and the last one counts; a line that was cut off, by a full disk or a killed process, counts as none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeptaxi.errors import UsageError
from deeptaxi.experiments.grid import Grid, dump_grid, grid_of, read_grid
from deeptaxi.io import safe_load
from deeptaxi.io.atomic import cannot_write, write_text
from deeptaxi.metrics import to_json

GRID_FILE, RESULTS_FILE = "sweep.toml", "results.jsonl"
DONE, FAILED = "done", "failed"
# What every line has, and more; the file may be anyone's, or damaged.
LINE = {"job": str, "point": str, "seed": safe_load.Seed, "status": str, "reason?": str}
DONE_LINE = LINE | {
    "varied": dict, "environment": safe_load.Line, "weights_digest": safe_load.Line, "updates": int,
    "best_update?": int, "train_seconds": float, "episodes?": {"mean_return": float},
    "exact?": {"optimal?": bool, "return": float, "normalized_score?": float},
}  # fmt: skip


class SweepFolder:
    """The folder of a sweep, open for writing.

    Args:
        path: the folder; it exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None

    def begin(self, grid: Grid) -> None:
        """Write the grid.

        Raises:
            DiskError: the disk is full, or the folder cannot be written to.
        """
        write_text(self.path / GRID_FILE, dump_grid(grid))

    def append(self, result: Mapping[str, Any]) -> None:
        """Append the line of a job.

        Raises:
            DiskError: the disk is full, or the folder cannot be written to.
        """
        try:
            if self._file is None:
                path = self.path / RESULTS_FILE
                torn = path.exists() and not ends_with_newline(path)
                self._file = path.open("ab")
                if torn:
                    self._file.write(b"\n")
            self._file.write(f"{to_json(dict(result))}\n".encode())
            self._file.flush()
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def close(self) -> None:
        """Write what is left to the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Remove the files of a sweep that has left nothing."""
        self.close()
        for name in (RESULTS_FILE, GRID_FILE):
            (self.path / name).unlink(missing_ok=True)


def ends_with_newline(path: Path) -> bool:
    """Return whether a file is empty or its last line is complete."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def is_sweep(path: Path) -> bool:
    """Return whether a folder is that of a sweep."""
    return (path / GRID_FILE).is_file()


def read_sweep(path: Path) -> tuple[Grid, dict[str, dict[str, Any]]]:
    """Return the grid of a sweep's folder, and the last line of each job that has ended, by its name.

    Raises:
        UsageError: the folder is no sweep's, or a file in it cannot be read.
    """
    if not is_sweep(path):
        raise UsageError(f"{path} is no folder of a sweep: it has no {GRID_FILE}")
    try:
        grid = grid_of(read_grid(path / GRID_FILE))
    except UsageError as error:
        raise UsageError(f"{path / GRID_FILE}: {error}") from None
    return grid, read_results(path)


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Return the last line of each job that has ended, by its name, in the order in which they ended first.

    Raises:
        UsageError: the file cannot be read.
    """
    found: dict[str, dict[str, Any]] = {}
    try:
        with safe_load.open_plain(path / RESULTS_FILE) as file:
            for line in safe_load.lines_of(file):
                try:
                    result = json.loads(line)
                except (ValueError, RecursionError):
                    continue  # cut off
                if safe_load.fault_of(result, LINE) is None and (
                    result["status"] != DONE or safe_load.fault_of(result, DONE_LINE) is None
                ):
                    found[result["job"]] = result
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path / RESULTS_FILE}: {error}") from None
    return found
