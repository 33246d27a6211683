"""The run folder and its log.

A run is `<out>/model.keras`, `config.toml`, `card.md` and `card.json`; its log is `<logs>/<name of out>/metrics.jsonl`.
The place is claimed before any work is done, so that nothing is lost to a name that is taken or a disk that cannot be
written, and both folders are locked until it is released: they have one writer at a time.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deeptaxi.config import TrainConfig, dump_toml
from deeptaxi.errors import DeepTaxiError, TakenError, UsageError
from deeptaxi.exactness import chosen_backend, versions
from deeptaxi.io.atomic import check_free, check_no_link, make_folder, remove_if_empty, tidy, write_atomic_all
from deeptaxi.io.locks import TRAINING, TRIES, lock
from deeptaxi.io.safe_load import read_toml
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.table import TransitionTable, save_table
from deeptaxi.metrics import Finished, read_history
from deeptaxi.storage.logs import LOG_FILE, PREVIOUS
from deeptaxi.storage.model_card import card, describe_versions, limits, read_card, training_command, write_card
from deeptaxi.storage.room import Spare, size_of
from deeptaxi.storage.run_folder import CARD_FILE, CARD_JSON, CHECKPOINTS, CONFIG_FILE, MODEL_FILE, TABLE_FILE

MODELS = Path("models")
FILES = (MODEL_FILE, CONFIG_FILE, CARD_FILE, CARD_JSON)


@dataclass(frozen=True)
class Run:
    """A claimed place: the run folder, its log, what is to be undone in the end, and the room that is kept free."""

    folder: Path
    log: Path
    undoing: ExitStack
    spare: Spare | None = None

    def release(self) -> None:
        """Free the place for others, and remove the folders that were made for nothing."""
        self.undoing.close()

    def with_spare(self, config: TrainConfig, environment: Environment, table: TransitionTable | None) -> Run:
        """Keep room free for the model until it is written.

        Raises:
            DiskError: there is not so much, so that a training would be in vain.
        """
        spare = Spare(self.folder, size_of(config, environment, table))
        self.undoing.callback(spare.release)
        return replace(self, spare=spare)


def default_name(config: TrainConfig) -> str:
    """Return what a run is called: environment, network and seed."""
    environment = re.sub(r"[^a-z0-9]+", "-", Path(config.environment.id).stem.lower()).strip("-")
    return f"{environment}-{config.network.kind}-{config.seed}"


def default_folder(config: TrainConfig, logs: Path, models: Path = MODELS) -> Path:
    """Return the first free name for a run."""
    return next(free_folders(config, logs, models))


def free_folders(config: TrainConfig, logs: Path, models: Path = MODELS) -> Iterator[Path]:
    """Yield the free names for a run, such as ``models/taxi-v4-dueling-0``, then ``…-0-2``."""
    name = default_name(config)
    numbered = (models / (name if number == 1 else f"{name}-{number}") for number in itertools.count(1))
    return (path for path in numbered if not any(map(os.path.lexists, (path, logs / path.name / LOG_FILE))))


def claim_free(config: TrainConfig, logs: Path, table: bool = False, models: Path = MODELS) -> Run:
    """Claim the first free name: one that another process takes at this moment is not. See `claim`."""
    folders = free_folders(config, logs, models)
    while True:
        with contextlib.suppress(TakenError):
            return claim(next(folders), logs, force=False, table=table)


def claim(folder: Path, logs: Path, force: bool, table: bool = False) -> Run:
    """Make sure that a run can be written to `folder` and its log under `logs`; create both, and lock them.

    Args:
        folder: the run folder.
        logs: the folder of logs.
        force: whether a run that is there may be replaced.
        table: whether a transition table is to be kept beside the model.

    Raises:
        UsageError: a run or a log of that name exists, and `force` is not set or the log is another run's; or another
            training writes there (`InUseError`).
        DeepTaxiError: a folder cannot be written to.
    """
    log = logs / folder.resolve().name / LOG_FILE
    files = (*FILES, TABLE_FILE) if table else FILES
    with ExitStack() as undoing:
        lock_folder(folder, undoing, log=log.parent)
        hold_log(log.parent, folder, undoing, "--out or --logs")
        if not force and not (folder / MODEL_FILE).exists() and any((folder / CHECKPOINTS).glob("[0-9]*.npz")):
            raise TakenError(
                f"{folder} holds a training that was broken off: go on with it by --resume {shlex.quote(str(folder))}, "
                "choose another --out, or overwrite it with --force"
            )
        for path in (*(folder / name for name in files), log):
            check_free(path, force, replaceable=path.is_file())
        if log.exists():
            check_ours(folder, log)
        return Run(folder, log, undoing.pop_all())


def check_resumable(folder: Path) -> None:
    """Refuse what cannot be a run folder to go on with, before anything is made there.

    Raises:
        UsageError: it is none.
    """
    if not folder.is_dir():
        fault = "is a file" if folder.exists() else "does not exist"
        raise UsageError(f"{folder} {fault}: --resume takes the folder of a run")


def lock_folder(folder: Path, undoing: ExitStack, option: str = "--out", log: Path | None = None) -> None:
    """Make a folder and lock it, and let `undoing` free it and remove it if it is new and nothing is in it.

    Args:
        folder: which may be there.
        undoing: what is done in the end.
        option: by which the user chooses it.
        log: the log folder of the run that is written there.

    Raises:
        UsageError: a folder in it, from which something may be removed, is a link; or another training writes there.
        DeepTaxiError: it cannot be written to.
    """
    for name in (CHECKPOINTS, PREVIOUS):
        check_no_link(folder / name)
    for _ in range(TRIES):
        with contextlib.suppress(FileNotFoundError):  # the process that gives the place back has just removed it
            for new in reversed(make_folder(folder)):
                undoing.callback(remove_if_empty, new)
            undoing.callback(lock(folder, TRAINING, option, log).release)
            for place in (folder, folder / CHECKPOINTS):
                tidy(place)
            return
    raise DeepTaxiError(f"cannot write in {folder}: the folder it is in is gone; choose another {option}")


def hold_log(log: Path, folder: Path, undoing: ExitStack, option: str) -> None:
    """Make and lock a log folder, as `lock_folder` does; one that is the run folder itself is locked already."""
    if log.resolve() != folder.resolve():
        lock_folder(log, undoing, option)


def check_ours(run: Path, log: Path) -> None:
    """Refuse the log of another run, which --force does not take: each run keeps its own.

    Raises:
        UsageError: the log says that it belongs to a run folder that exists, and is not `run`.
    """
    try:
        started = read_history(log, earlier=True).started
    except DeepTaxiError:  # nothing in it says whose it is
        return
    owner = log.parent / started.run if started and started.run else run
    if owner.exists() and owner.resolve() != run.resolve():
        raise UsageError(f"{log} is the log of {os.path.relpath(owner)}: choose another --out or --logs")


def save_run(
    run: Run,
    network: Any,
    environment: Mapping[str, Any],
    config: TrainConfig,
    finished: Finished,
    preset: str = "none",
    table: TransitionTable | None = None,
    disturbed: bool = False,
) -> None:
    """Write model, configuration and card: all of them, or none if something fails.

    `environment` is what `Environment.describe` says. A `table` that has no file of its own is kept in the run folder.
    """
    if run.spare is not None:
        run.spare.release()
    facts = card(run.folder, environment, config, finished, preset, disturbed=disturbed)
    about = {"log": str(run.log), **facts_of(finished, preset)}
    with write_atomic_all(run.folder, last=CARD_JSON) as aside:
        network.save(aside / MODEL_FILE)
        if table is not None:
            about["table"] = TABLE_FILE
            save_table(table, aside / TABLE_FILE)
        (aside / CONFIG_FILE).write_text(dump_toml(config, about), encoding="utf-8")
        write_card(aside, facts)


def add_episodes(folder: Path, episodes: Mapping[str, Any]) -> None:
    """Write what sampled episodes came to into the card of a run that is kept.

    Raises:
        DeepTaxiError: the disk or the permissions do not allow it; the card is as it was.
    """
    facts = read_card(folder)
    if facts is None:
        return
    facts = {**facts, "episodes": dict(episodes)}
    with write_atomic_all(folder, last=CARD_JSON) as aside:
        write_card(aside, {**facts, "limits": limits(facts)})


def facts_of(finished: Finished, preset: str) -> dict[str, str]:
    """Return what a run is known by beside its configuration: the table ``[run]`` of its file."""
    found = versions(chosen_backend())
    return {
        "preset": preset,
        "weights_digest": finished.weights_digest,
        "deeptaxi": found["deeptaxi"],
        "versions": f"{describe_versions(found)}, {platform.machine()}",
    }


def train_again(run: Run, config: TrainConfig) -> str:
    """Return the command that makes the run again, elsewhere."""
    return training_command(run.folder, config)


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what a run folder's files say of it: the table ``[run]`` of its configuration; empty if it says nothing.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        facts = read_toml(folder / CONFIG_FILE).get("run", {})
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {folder / CONFIG_FILE}: {error}") from None
    return {key: str(value) for key, value in facts.items()} if isinstance(facts, dict) else {}
