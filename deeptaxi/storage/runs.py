"""Claim, write and read the folder of a run and its log.

A run is `<out>/model.keras`, `config.toml`, `card.md` and `card.json`; its log is `<logs>/<name of out>/metrics.jsonl`.
Both folders are reserved before any work is done, so that no work is lost because a name is taken or the disk is not
writable, and locked until they are released: they have one writer at a time.

**Limits.** Reading has a size limit for every file, because files may be untrusted. Files written here must stay below
it: the weights of the network, the log, and the two files with the arguments of the environment, `config.toml` and
`card.json`. A run that would exceed a limit is rejected before it starts.

**Disk space.** A run reserves space for its model, so that it is not lost if the disk fills up in the meantime:

    <run>/.spare-<host>-<random>/    one file of the expected size, and an empty file for each further name

This is a temporary folder (`io.atomic`): the next run removes that of a killed process. It is released just before
the run is written.
"""

from __future__ import annotations

import contextlib
import errno
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

from deeptaxi import metrics
from deeptaxi.backend.exactness import chosen_backend, versions
from deeptaxi.config import TrainConfig, dump_toml
from deeptaxi.errors import DeepTaxiError, TakenError, UsageError
from deeptaxi.io import safe_load
from deeptaxi.io.atomic import (
    SPARE,
    Scratch,
    cannot_write,
    check_free,
    check_no_link,
    make_folder,
    remove_if_empty,
    tidy,
    write_atomic_all,
)
from deeptaxi.io.locks import TRAINING, TRIES, lock
from deeptaxi.io.safe_archive import format_bytes
from deeptaxi.io.safe_load import read_toml
from deeptaxi.learning.memory import FLOAT, count_weights
from deeptaxi.mdp.describe import encoded_factors
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.numbering import NumberingCodec
from deeptaxi.mdp.table import ARRAYS, TransitionTable, save_table
from deeptaxi.metrics import Finished, read_history, to_json
from deeptaxi.storage import keras_file, model_card
from deeptaxi.storage.compact_group import check_no_agent
from deeptaxi.storage.logs import LOG_FILE, PREVIOUS
from deeptaxi.storage.model_card import card, describe_versions, limits, read_card, training_command, write_card
from deeptaxi.storage.observations import FACT, save_observations
from deeptaxi.storage.run_folder import (
    CARD_FILE,
    CARD_JSON,
    CHECKPOINTS,
    CONFIG_FILE,
    MODEL_FILE,
    OBSERVATIONS_FILE,
    TABLE_FILE,
    is_compact,
)

MODELS = Path("models")
FILES = (MODEL_FILE, CONFIG_FILE, CARD_FILE, CARD_JSON)


@dataclass(frozen=True)
class RunFolder:
    """A reserved run folder with its log, cleanup actions, and reserved disk space.

    `destination` is the folder as the files of the run name it, if the run is to be moved there, and its log with it.
    """

    folder: Path
    log: Path
    undoing: ExitStack
    spare: Spare | None = None
    destination: Path | None = None

    @property
    def relative_log(self) -> str:
        """The path of the log, relative to the run folder: it holds wherever both are moved, or read from."""
        return os.path.relpath(self.log.resolve(), self.folder.resolve())

    def release(self) -> None:
        """Release the locks and remove folders that were created but not used."""
        self.undoing.close()

    def with_spare(
        self, config: TrainConfig, environment: Environment, table: TransitionTable | None, weights: int | None = None
    ) -> RunFolder:
        """Reserve disk space for the model until it is written; `weights` as for `size_of`.

        Raises:
            DiskError: there is not enough space to save the run.
        """
        spare = Spare(self.folder, size_of(config, environment, table, weights))
        self.undoing.callback(spare.release)
        return replace(self, spare=spare)


def default_name(config: TrainConfig) -> str:
    """Return the default name of a run: environment, network and seed."""
    place = Path(config.environment.id)
    known = place.name.replace(".py:", ":") if ":" in place.name else place.stem
    environment = re.sub(r"[^a-z0-9]+", "-", known.lower()).strip("-")
    return f"{environment}-{config.network.kind}-{config.seed}"


def default_folder(config: TrainConfig, logs: Path, models: Path = MODELS) -> Path:
    """Return the first free default folder for a run."""
    return next(free_folders(config, logs, models))


def free_folders(config: TrainConfig, logs: Path, models: Path = MODELS) -> Iterator[Path]:
    """Yield free folders for a run, such as ``models/taxi-v4-dueling-0``, then ``…-0-2``."""
    name = default_name(config)
    numbered = (models / (name if number == 1 else f"{name}-{number}") for number in itertools.count(1))
    return (path for path in numbered if not any(map(os.path.lexists, (path, logs / path.name / LOG_FILE))))


def reserve_free(config: TrainConfig, logs: Path, table: bool = False, models: Path = MODELS) -> RunFolder:
    """Reserve the first free default folder, even if other processes reserve folders concurrently. See `reserve`."""
    folders = free_folders(config, logs, models)
    while True:
        with contextlib.suppress(TakenError):
            return reserve(next(folders), logs, force=False, table=table)


def reserve(folder: Path, logs: Path, force: bool, table: bool = False) -> RunFolder:
    """Check that a run can be written to `folder` and its log under `logs`; create and lock both.

    Args:
        folder: the run folder.
        logs: the folder of logs.
        force: whether to overwrite an existing run.
        table: whether to save a transition table with the model.

    Raises:
        UsageError: a run or log of that name exists and `force` is not set, the log belongs to another run, or another
            process is writing there (`InUseError`).
        DeepTaxiError: a folder cannot be written to.
    """
    check_no_agent(folder)
    log = logs / folder.resolve().name / LOG_FILE
    files = (*FILES, OBSERVATIONS_FILE, *((TABLE_FILE,) if table else ()))
    with ExitStack() as undoing:
        lock_folder(folder, undoing, log=log.parent)
        hold_log(log.parent, folder, undoing, "--out or --logs")
        if not force and not (folder / MODEL_FILE).exists() and any((folder / CHECKPOINTS).glob("[0-9]*.npz")):
            raise TakenError(
                f"{folder} holds a training that was interrupted: resume it with --resume {shlex.quote(str(folder))}, "
                "choose another --out, or overwrite it with --force"
            )
        for path in (*(folder / name for name in files), log):
            check_free(path, force, replaceable=path.is_file())
        if log.exists():
            check_ours(folder, log)
        return RunFolder(folder, log, undoing.pop_all())


def check_resumable(folder: Path) -> None:
    """Reject a path that is not a folder, before anything is created there.

    Raises:
        UsageError: it is not a folder.
    """
    if not folder.is_dir() and is_compact(folder.parent):
        raise UsageError(
            f"{folder} is an agent of a compact group, which has no checkpoints: --config "
            f"{shlex.quote(str(folder / CONFIG_FILE))} trains it from the beginning"
        )
    if not folder.is_dir():
        fault = "is a file" if folder.exists() else "does not exist"
        raise UsageError(f"{folder} {fault}: --resume takes the folder of a run")


def lock_folder(folder: Path, undoing: ExitStack, option: str = "--out", log: Path | None = None) -> None:
    """Create and lock a folder; `undoing` unlocks it, and removes it if it is new and empty.

    Args:
        folder: the folder, which may exist.
        undoing: stack of cleanup actions.
        option: option by which the user chooses the folder.
        log: log folder of the run that is written there.

    Raises:
        UsageError: a subfolder from which files may be removed is a link, or another process is writing there.
        DeepTaxiError: the folder cannot be written to.
    """
    for name in (CHECKPOINTS, PREVIOUS):
        check_no_link(folder / name)
    for _ in range(TRIES):
        with contextlib.suppress(FileNotFoundError):  # another process has just released and removed it
            for new in reversed(make_folder(folder)):
                undoing.callback(remove_if_empty, new)
            undoing.callback(lock(folder, TRAINING, option, log).release)
            for path in (folder, folder / CHECKPOINTS):
                tidy(path)
            return
    raise DeepTaxiError(f"cannot write in {folder}: the folder it is in is gone; choose another {option}")


def hold_log(log: Path, folder: Path, undoing: ExitStack, option: str) -> None:
    """Create and lock a log folder like `lock_folder`, unless it is the run folder, which is already locked."""
    if log.resolve() != folder.resolve():
        lock_folder(log, undoing, option)


def check_ours(run: Path, log: Path) -> None:
    """Reject the log of another run, which not even --force may overwrite.

    Raises:
        UsageError: the log belongs to an existing run folder other than `run`.
    """
    try:
        started = read_history(log, earlier=True).started
    except DeepTaxiError:  # its owner is unknown
        return
    owner = log.parent / started.run if started and started.run else run
    if owner.exists() and owner.resolve() != run.resolve():
        raise UsageError(f"{log} is the log of {os.path.relpath(owner)}: choose another --out or --logs")


def save_run(
    run: RunFolder,
    network: Any,
    environment: Mapping[str, Any],
    config: TrainConfig,
    finished: Finished,
    preset: str = "none",
    table: TransitionTable | None = None,
    disturbed: bool = False,
    numbering: NumberingCodec | None = None,
) -> None:
    """Write model, configuration and card atomically: all or none.

    `environment` is the result of `Environment.describe`. A `table` without a file of its own is saved in the run
    folder, and so is the `numbering` of observations that were numbered as they were first seen.
    """
    if run.spare is not None:
        run.spare.release()
    facts = card(run.destination or run.folder, environment, config, finished, preset, disturbed=disturbed)
    about = {"log": run.relative_log, **facts_of(finished, preset)}
    with write_atomic_all(run.folder, last=CARD_JSON) as aside:
        network.save(aside / MODEL_FILE)
        if table is not None:
            about["table"] = TABLE_FILE
            save_table(table, aside / TABLE_FILE)
        if numbering is not None:
            with (aside / OBSERVATIONS_FILE).open("wb") as file:
                about[FACT] = save_observations(file, numbering)
        (aside / CONFIG_FILE).write_text(dump_toml(config, about), encoding="utf-8")
        write_card(aside, facts)


def add_episodes(folder: Path, episodes: Mapping[str, Any]) -> None:
    """Add the results of sampled episodes to the card of a saved run.

    Raises:
        DeepTaxiError: the card cannot be written; it is left unchanged.
    """
    facts = read_card(folder)
    if facts is None:
        return
    facts = {**facts, "episodes": dict(episodes)}
    with write_atomic_all(folder, last=CARD_JSON) as aside:
        write_card(aside, {**facts, "limits": limits(facts)})


def facts_of(finished: Finished, preset: str) -> dict[str, str]:
    """Return the facts for the table ``[run]`` of the configuration file."""
    found = versions(chosen_backend())
    return {
        "preset": preset,
        "weights_digest": finished.weights_digest,
        "deeptaxi": found["deeptaxi"],
        "versions": f"{describe_versions(found)}, {platform.machine()}",
    }


def train_again(run: RunFolder, config: TrainConfig) -> str:
    """Return the command that trains the run again."""
    return training_command(run.folder, config)


def read_facts(folder: Path) -> dict[str, Any]:
    """Read the table ``[run]`` of a run's configuration file; empty if it is missing.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        facts = read_toml(folder / CONFIG_FILE).get("run", {})
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {folder / CONFIG_FILE}: {error}") from None
    return {key: str(value) for key, value in facts.items()} if isinstance(facts, dict) else {}


NAMES = 12  # files and folders created when a run is written
OTHERS = 2**18  # bytes of a run besides weights and table: configuration, cards, Keras' description of the layers
LAYER = 2**13  # bytes per layer besides its weights
BLOCK = 2**20


class Spare:
    """Disk space reserved in a run folder until `release`.

    Args:
        run: the run folder.
        size: bytes to reserve.

    Raises:
        DiskError: there is not enough space.
    """

    def __init__(self, run: Path, size: int) -> None:
        try:
            self._scratch: Scratch | None = Scratch(run, SPARE)
            try:
                for number in range(NAMES):
                    (self._scratch.path / str(number)).touch()
                occupy(self._scratch.path / "0", size)
            except BaseException:
                self.release()
                raise
        except OSError as error:
            raise cannot_write(run, error) from None

    def release(self) -> None:
        """Release the space; further calls do nothing."""
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            scratch.close()


def occupy(path: Path, size: int) -> None:
    """Allocate a file of `size` bytes on disk, or a smaller one if the file system limits file sizes."""
    with path.open("wb") as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
                return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EFBIG):
                raise
            if error.errno == errno.EFBIG:
                return
        for start in range(0, size, BLOCK):
            file.write(bytes(min(BLOCK, size - start)))


def size_of(
    config: TrainConfig, environment: Environment, table: TransitionTable | None, own_weights: int | None = None
) -> int:
    """Return the maximum size of a run in bytes, including `table` if it is saved with the model.

    `own_weights` is the number of weights of a network of the user's own, None for deeptaxi's.
    """
    arrays = [getattr(table, name) for name in (*ARRAYS, "action_mask")] if table is not None else []
    hidden, factors = config.network.hidden, encoded_factors(environment, config.network)
    weights = count_weights(config, environment.states, environment.actions)
    weights += sum(factors or ()) * (
        hidden[0] if hidden else environment.actions
    )  # `count_weights` counts these at their minimum
    weights = weights if own_weights is None else own_weights
    tables = sum(int(one.nbytes) for one in arrays if one is not None)
    if environment.numbering is not None:
        tables += environment.states * environment.numbering.width
    return FLOAT * weights + LAYER * (len(hidden) + 2) + OTHERS + tables


EVALUATION = 1_000  # bytes of a log per evaluation with its snapshot; about 600 in practice
PROGRESS = 2**20  # bytes of a log besides evaluations: a thousand records
FACTS = 2**13  # bytes of facts that are unknown before a run ends: versions, verdict
UNKNOWN = Finished("updates", 0, 0, 0, 0.0, 0.0, "0" * 64, None, None)


def check_room(folder: Path, environment: Mapping[str, Any], config: TrainConfig) -> None:
    """Reject a run whose files could not be read back.

    Args:
        folder: the run folder.
        environment: result of `Environment.describe`.
        config: the complete configuration.

    Raises:
        UsageError: a file would exceed its limit; the message says which, and what to change.
    """
    check_weights(config, environment["states"], environment["actions"])
    check_log(config)
    check_texts(folder, environment, config)


def check_weights(config: TrainConfig, states: int, actions: int) -> None:
    """Reject a network whose weights exceed the limit of a `.keras` file."""
    size, most = FLOAT * count_weights(config, states, actions), keras_file.MAX_BYTES - keras_file.SPARE
    if size > most:
        raise UsageError(
            f"the weights of this network take {format_bytes(size)}, and a model file of more than "
            f"{format_bytes(most)} could not be opened again: set a smaller --hidden"
        )


def check_log(config: TrainConfig) -> None:
    """Reject more evaluations than fit within the limit of a log."""
    size, most = config.updates // config.evaluation.every * EVALUATION, metrics.MAX_BYTES - PROGRESS
    if size > most:
        every = -(-config.updates * EVALUATION // most)
        raise UsageError(
            f"--eval-every {config.evaluation.every} in {config.updates:,} updates makes a log of "
            f"{format_bytes(size)}, and one of more than {format_bytes(metrics.MAX_BYTES)} could not be read again: "
            f"set --eval-every {every} or more"
        )


def check_texts(folder: Path, environment: Mapping[str, Any], config: TrainConfig) -> None:
    """Reject environment arguments that exceed the limits of `config.toml` and `card.json`."""
    text = dump_toml(config, {})
    check_text(CONFIG_FILE, text, safe_load.TOML_BYTES)
    try:
        safe_load.parse_toml(text)
    except ValueError as error:
        raise UsageError(f"config.toml could not be read again: {error}; simplify --env-arg") from None
    card = to_json(model_card.card(folder, environment, config, UNKNOWN), indent=2)
    check_text(CARD_JSON, card, model_card.CARD_BYTES)


def check_text(name: str, text: str, limit: int) -> None:
    """Reject a text that exceeds its limit."""
    size = len(text.encode(errors="surrogatepass")) + FACTS
    if size > limit:
        raise UsageError(
            f"{name} would take {format_bytes(size)}, and more than {format_bytes(limit)} could not be read again: "
            "shorten --env-arg"
        )
