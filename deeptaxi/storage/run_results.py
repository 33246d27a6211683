"""What runs achieved, by their model cards and logs: many of them are read without loading a model."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeptaxi.arguments import short_words
from deeptaxi.config import TrainConfig, resolve, with_former_defaults, with_literals
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.io.locks import LOCK_FILE
from deeptaxi.metrics import History, read_history
from deeptaxi.schema import leaf_settings, value_at
from deeptaxi.storage.compact_group import agents_in, find_agent, run_folder_of
from deeptaxi.storage.logs import LOG_FILE, find_log
from deeptaxi.storage.model_card import read_card
from deeptaxi.storage.models import SAVED_MODEL, describe_unfinished
from deeptaxi.storage.run_folder import AGENTS_FILE, CARD_JSON, CHECKPOINTS, CONFIG_FILE, MODEL_FILE

MARKS = (CARD_JSON, MODEL_FILE, CONFIG_FILE)  # a folder with one of these is a run, or was to become one
NUMBERS = re.compile(r"(\d+)")
NO_CURVE = np.zeros((2, 0))
MOST = 255  # characters of a name that are sorted by
DONE = ("optimal", "updates")  # how a training ends that was neither interrupted nor stopped to be resumed


class TimeToOptimum(NamedTuple):
    """When a run became optimal for good, or how far it got without.

    Attributes:
        updates: of the first evaluation from which all found the policy optimal, or of the end.
        seconds: the same in seconds of training.
        reached: whether it became optimal; otherwise the time is censored.
    """

    updates: float
    seconds: float
    reached: bool


@dataclass(frozen=True, eq=False)
class RunResult:
    """One finished run.

    Attributes:
        name: its folder, as the user can type it.
        folder: its folder; None of a run that is not saved.
        environment: id, arguments and time limit of its environment, in words.
        objective_discount: discount of its verdict.
        settings: all settings by their dotted names, and the arguments of the environment.
        exact: the exact verdict, or None.
        mean_return: the exact return, or the mean of sampled episodes; None if nothing says how good it is.
        network: the network in a few words.
        preset: the preset it was trained with.
        digest: of its weights.
        processor: what it was trained on.
        time_to_optimum: when it became optimal; None if its log does not say.
        curve: updates and the values of the greedy policy at them, `[2, N]`, by its log.
    """

    name: str
    folder: Path | None
    environment: str
    objective_discount: float
    settings: Mapping[str, Any]
    exact: Mapping[str, Any] | None
    mean_return: float | None
    network: str
    preset: str
    digest: str
    processor: str
    time_to_optimum: TimeToOptimum | None
    curve: NDArray[np.float64]

    @property
    def seed(self) -> Any:
        """Its seed."""
        return self.settings["seed"]

    @property
    def optimal(self) -> bool | None:
        """Whether it is optimal; None if unknown."""
        return None if self.exact is None else self.exact["optimal"]

    @property
    def normalized_score(self) -> float | None:
        """0 as the random policy, 1 as the optimum; None if it is not known."""
        return None if self.exact is None else self.exact.get("normalized_score")


def time_to_optimum(history: History) -> TimeToOptimum | None:
    """Return when a run became optimal for good; None if its log has no evaluations, or no end."""
    evaluations, end = history.evaluations, history.finished
    if end is None or not evaluations:
        return None
    since = None
    for record in reversed(evaluations):
        if not record.optimal:
            break
        since = record.update
    if since is None:
        return TimeToOptimum(float(end.updates), end.train_seconds, False)
    known = [(0, 0.0), *((record.update, record.seconds) for record in history.progress)]
    if end.updates > known[-1][0]:
        known.append((end.updates, end.train_seconds))
    updates, seconds = np.array(known, np.float64).T
    return TimeToOptimum(float(since), float(np.interp(since, updates, seconds)), True)


def value_curve(history: History) -> NDArray[np.float64]:
    """Return updates and the values of the greedy policy at them, `[2, N]`."""
    known = [(record.update, record.value) for record in history.evaluations if record.value is not None]
    return np.array(known, np.float64).reshape(-1, 2).T


def run_folders(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield all run folders at or below the paths, each once, in order; links below a path are not followed.

    Raises:
        UsageError: a path does not exist, is a file, or holds no runs.
    """
    seen: set[Path] = set()
    for path in paths:
        if find_agent(path) is not None:
            if (real := path.resolve()) not in seen:
                seen.add(real)
                yield path
            continue
        if not path.is_dir():
            fault = "is a file" if path.exists() else "does not exist"
            raise UsageError(f"{path} {fault}: name a run folder, or a folder that holds some")
        found = False
        for place, folders, files in os.walk(path):
            folders[:] = sorted((name for name in folders if not name.startswith(".")), key=by_numbers)
            if AGENTS_FILE in (*files, *folders):
                folders.clear()
                members = [Path(place) / name for name in sorted(agents_in(Path(place)), key=by_numbers)]
                new = [member for member in members if member.resolve() not in seen]
                found, seen = found or bool(members), seen | {member.resolve() for member in new}
                yield from new
                continue
            begun = CHECKPOINTS in folders or (LOCK_FILE in files and not folders)
            if not begun and not any(name in files for name in MARKS):
                continue
            folders.clear()
            found = True
            if (real := Path(place).resolve()) not in seen:
                seen.add(real)
                yield Path(place)
        if not found:
            raise UsageError(f"{path} holds no runs: `deeptaxi train ENV --out {path}/NAME` puts one there")


def by_numbers(name: str) -> list[tuple[int, str]]:
    """Return what names are sorted by: the numbers in them by size, so that seed-10 comes after seed-2."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in NUMBERS.split(name[:MOST])]


def holds_runs(folder: Path) -> bool:
    """Whether a folder is no model itself, but runs lie below it."""
    if not folder.is_dir() or any((folder / name).exists() for name in (*MARKS, CHECKPOINTS, SAVED_MODEL, LOG_FILE)):
        return False
    try:
        return next(run_folders([folder])) != folder  # which has only been begun, if it is
    except UsageError:
        return False


def read_result(folder: Path) -> RunResult:
    """Read the card of a run, and its log, if it has one.

    Raises:
        DeepTaxiError: the run is not finished, or its card is missing or damaged.
    """
    named, folder = folder, run_folder_of(folder)
    unfinished = describe_unfinished(folder)
    if unfinished is not None:
        raise DeepTaxiError(unfinished_in_words(unfinished.holder, unfinished.failure))
    card = read_card(folder)
    if card is None:
        done = (folder / MODEL_FILE).exists()
        raise DeepTaxiError("it has no card.json" if done else "its training did not finish, and left no model")
    training = card["training"]
    if training.get("failure"):
        raise DeepTaxiError(f"its training failed: {training['failure']}")
    if training["stopped"] not in DONE:
        raise DeepTaxiError(f"its training was ended early, after {training['updates']:,} updates")
    try:
        config = resolve(with_former_defaults(with_literals(card["configuration"])))
    except UsageError as error:
        raise DeepTaxiError(f"its configuration is damaged: {error}") from None
    exact, episodes, history = card["exact"], card.get("episodes"), log_of(folder)
    return RunResult(
        name=str(named),
        folder=named,
        environment=words_of(card["environment"]["id"], config),
        objective_discount=config.evaluation.objective_discount,
        settings=flat_settings(config),
        exact=exact,
        mean_return=exact["return"] if exact else episodes["mean_return"] if episodes else None,
        network=card["network"]["description"],
        preset=card["preset"],
        digest=card["weights_digest"],
        processor=card["machine"]["processor"],
        time_to_optimum=None if history is None else time_to_optimum(history),
        curve=NO_CURVE if history is None else value_curve(history),
    )


def unfinished_in_words(holder: str | None, failure: str | None) -> str:
    """Say why a run has no model."""
    if holder is not None:
        return f"it is still being trained, by {holder}"
    return "its training was interrupted" if failure is None else f"its training failed: {failure}"


def log_of(folder: Path) -> History | None:
    """Return the log of a run; None if it is missing or damaged."""
    try:
        return read_history(find_log(folder) / LOG_FILE)
    except DeepTaxiError:
        return None


def words_of(name: str, config: TrainConfig) -> str:
    """Describe an environment: its id, its arguments in a fixed order, and a time limit of the user's own."""
    environment = config.environment
    limit = f"time_limit={environment.time_limit}" if environment.time_limit else ""
    return " ".join(part for part in (name, short_words(dict(sorted(environment.kwargs.items()))), limit) if part)


@cache
def setting_paths() -> list[tuple[str, ...]]:
    """Return the paths of all settings."""
    return [path for path, _, _ in leaf_settings(TrainConfig)]


def flat_settings(config: TrainConfig) -> dict[str, Any]:
    """Return every setting by its dotted name, such as ``optimizer.learning_rate``, mappings entry by entry."""
    found: dict[str, Any] = {}
    for path in setting_paths():
        name, value = ".".join(path), value_at(config, path)
        if isinstance(value, Mapping):
            found.update({f"{name}.{key}": item for key, item in value.items()})
        elif path != ("environment", "id"):
            found[name] = value
    return found
