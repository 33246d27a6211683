"""The log folder of a run: `metrics.jsonl`, a record a line, and `visits.npz`, what the training tried.

`visits.npz` holds two int64 arrays `[S, A]`: `visits`, how often each (state, action) was tried in the whole training,
and `replay`, how many entries of it the memory held at the end.
"""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeptaxi.artifacts.files import written_aside
from deeptaxi.artifacts.models import CONFIG_FILE
from deeptaxi.errors import DeepTaxiError, UsageError

LOG_FILE, VISITS_FILE = "metrics.jsonl", "visits.npz"
LOGS = Path("logs")
Counts = NDArray[np.int64]


class Visits(NamedTuple):
    """What a training tried, and what of it the memory held at the end."""

    visits: Counts  # [S, A]
    replay: Counts  # [S, A]


def find_log(run: Path) -> Path:
    """Return the log folder of a run.

    It is where the run says it is, as seen from here or from beside the run's own folder of runs, else the folder of
    the run's name in `logs/`. A log folder is its own log.

    Raises:
        UsageError: there is no such run, or no log of it.
    """
    if (run / LOG_FILE).is_file():
        return run
    config = run / CONFIG_FILE
    if not config.is_file():
        raise UsageError(f"{run} is neither a run folder nor a log folder: it holds no {CONFIG_FILE} and no {LOG_FILE}")
    try:
        said = Path(str(tomllib.loads(config.read_text(encoding="utf-8")).get("run", {}).get("log", "")))
    except (OSError, ValueError) as error:
        raise DeepTaxiError(f"cannot read {config}: {error}") from None
    absolute = run.resolve()
    places = [said, absolute.parent.parent / said, absolute.parent.parent / LOGS / absolute.name / LOG_FILE]
    for place in places:
        if place.name == LOG_FILE and place.is_file():
            return place.parent
    raise UsageError(f"{run} has no log: it says {said}, which is not there")


def save_visits(log: Path, visits: Counts, replay: Counts) -> None:
    """Write `visits.npz` into the log folder."""
    with written_aside(log / VISITS_FILE) as aside, aside.open("wb") as file:
        np.savez_compressed(file, visits=visits, replay=replay)


def read_visits(log: Path) -> Visits | None:
    """Read `visits.npz` of a log folder; None where there is none, as of a training that was broken off.

    Raises:
        DeepTaxiError: the file is damaged.
    """
    path = log / VISITS_FILE
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Visits(*(np.asarray(arrays[name], np.int64) for name in Visits._fields))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DeepTaxiError(f"{path} is damaged: {error}") from None
