"""Check that the files of a run will be readable, and reserve disk space for them.

**Limits.** Reading has a size limit for every file, because files may be untrusted. Files written here must stay below
it: the weights of the network, the log, and the two files with the arguments of the environment, `config.toml` and
`card.json`. A run that would exceed a limit is rejected before it starts.

**Disk space.** A run reserves space for its model, so that it is not lost if the disk fills up in the meantime:

    <run>/.spare-<host>-<random>/    one file of the expected size, and an empty file for each further name

This is a temporary folder (`io.temporary`): the next run removes that of a killed process. It is released just before
the run is written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeptaxi import metrics
from deeptaxi.config import TrainConfig, dump_toml
from deeptaxi.errors import UsageError
from deeptaxi.io import safe_load
from deeptaxi.io.atomic import SPARE, cannot_write
from deeptaxi.io.safe_archive import format_bytes
from deeptaxi.io.temporary import Scratch
from deeptaxi.learning.memory import FLOAT, count_weights
from deeptaxi.mdp.describe import encoded_factors
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.table import ARRAYS, TransitionTable
from deeptaxi.metrics import Finished, to_json
from deeptaxi.storage import keras_file, model_card
from deeptaxi.storage.run_folder import CARD_JSON, CONFIG_FILE

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


def size_of(config: TrainConfig, environment: Environment, table: TransitionTable | None) -> int:
    """Return the maximum size of a run in bytes, including `table` if it is saved with the model."""
    arrays = [getattr(table, name) for name in (*ARRAYS, "action_mask")] if table is not None else []
    hidden, factors = config.network.hidden, encoded_factors(environment, config.network)
    weights = count_weights(config, environment.states, environment.actions)
    weights += sum(factors or ()) * (
        hidden[0] if hidden else environment.actions
    )  # `count_weights` counts these at their minimum
    tables = sum(int(one.nbytes) for one in arrays if one is not None)
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
