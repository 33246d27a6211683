"""Whether what a training would leave can be read back: refused before it begins, not after it has ended.

Every file that is read has a limit, as it may be somebody else's. What is written here must stay below: the weights of
the network, the log, and the two texts that tell the arguments of an environment, `config.toml` and `card.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeptaxi import metrics
from deeptaxi.config import TrainConfig, dump_toml
from deeptaxi.errors import UsageError
from deeptaxi.io import safe_load
from deeptaxi.io.safe_archive import told
from deeptaxi.learning.resolve import FLOAT, weights_of
from deeptaxi.metrics import Finished, to_json
from deeptaxi.storage import keras_file, model_card
from deeptaxi.storage.run_folder import CARD_JSON, CONFIG_FILE

EVALUATION = 1_000  # bytes of a log that an evaluation takes, with its snapshot; some 600 do
PROGRESS = 2**20  # bytes of a log beside them: a thousand records
FACTS = 2**13  # bytes of a file about a run that nobody knows before it has ended: versions, verdict
UNKNOWN = Finished("updates", 0, 0, 0, 0.0, 0.0, "0" * 64, None, None)


def check_room(folder: Path, environment: Mapping[str, Any], config: TrainConfig) -> None:
    """Refuse a training whose files could not be read back.

    Args:
        folder: the run folder.
        environment: what `Environment.describe` says.
        config: the whole configuration.

    Raises:
        UsageError: a file would be larger than what is read; it says which, and what to change.
    """
    check_weights(config, environment["states"], environment["actions"])
    check_log(config)
    check_texts(folder, environment, config)


def check_weights(config: TrainConfig, states: int, actions: int) -> None:
    """Refuse a network whose weights are more than what is read of a `.keras` file."""
    size, most = FLOAT * weights_of(config, states, actions), keras_file.MAX_BYTES - keras_file.SPARE
    if size > most:
        raise UsageError(
            f"the weights of this network take {told(size)}, and a model file of more than {told(most)} could not be "
            "opened again: set a smaller --hidden"
        )


def check_log(config: TrainConfig) -> None:
    """Refuse more evaluations than what is read of a log."""
    size, most = config.updates // config.evaluation.every * EVALUATION, metrics.MAX_BYTES - PROGRESS
    if size > most:
        every = -(-config.updates * EVALUATION // most)
        raise UsageError(
            f"--eval-every {config.evaluation.every} in {config.updates:,} updates makes a log of {told(size)}, and "
            f"one of more than {told(metrics.MAX_BYTES)} could not be read again: set --eval-every {every} or more"
        )


def check_texts(folder: Path, environment: Mapping[str, Any], config: TrainConfig) -> None:
    """Refuse arguments of an environment that take more than what is read of `config.toml` and `card.json`."""
    text = dump_toml(config, {})
    check_text(CONFIG_FILE, text, safe_load.TOML_BYTES)
    try:
        safe_load.parse_toml(text)
    except ValueError as error:
        raise UsageError(f"config.toml could not be read again: {error}; simplify --env-arg") from None
    check_text(
        CARD_JSON,
        to_json(model_card.card(folder, environment, config, UNKNOWN), indent=2),
        model_card.CARD_BYTES,
    )


def check_text(name: str, text: str, limit: int) -> None:
    """Refuse a text that takes more than its limit."""
    size = len(text.encode(errors="surrogatepass")) + FACTS
    if size > limit:
        raise UsageError(
            f"{name} would take {told(size)}, and more than {told(limit)} could not be read again: shorten --env-arg"
        )
