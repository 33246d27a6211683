"""Loading a `.keras` file that others may have made, or may be changing meanwhile.

The file is opened once. What is looked through is what is loaded: its configuration and its weights are read once, and
Keras is given those very bytes, not the name of the file. No more weights are read than the network has that the
configuration asks for, and none before that is known.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from deeptaxi.archives import ArchiveError, opened, told
from deeptaxi.artifacts.keras_file import limits, read_config
from deeptaxi.artifacts.keras_weights import (
    OTHERS,
    SPARE,
    WEIGHTS,
    check_weights,
    check_widths,
    size_of,
    weights_limited,
)
from deeptaxi.errors import DeepTaxiError


class NotANetworkError(DeepTaxiError):
    """Keras cannot make a network of a file."""


def load_model(path: Path) -> Any:
    """Load a model in Keras' safe mode; how it was compiled is passed over. Keras must have been imported.

    Raises:
        ArchiveError: the file is damaged, or holds something that is not loaded; the message is the reason alone.
        NotANetworkError: Keras cannot make a network of it.
    """
    with opened(path, sum(limits().values())) as archive:
        config = read_config(archive)
        size = archive.getinfo(WEIGHTS).file_size
        model = build(config, size)
        most = OTHERS * size_of(model) + SPARE
        if size > most:
            raise ArchiveError(f"its {WEIGHTS} takes {told(size)}, where its network has {told(size_of(model))}")
        content = archive.read(WEIGHTS)
    check_weights(content, most)
    fill(model, content)
    return model


def build(config: bytes, size: int) -> Any:
    """Build the model that a `config.json` asks for, which was looked through; its weights take `size` bytes or less.

    Raises:
        NotANetworkError: Keras cannot, or it is larger.
    """
    from keras.src.saving import saving_lib

    try:
        with weights_limited(size):
            model = saving_lib._model_from_config(config, None, compile=False, safe_mode=True)
        check_widths(model)
    except Exception as error:  # Keras raises many kinds, by the part of the file that is wrong
        raise NotANetworkError(str(error)) from error
    return model


def fill(model: Any, content: bytes) -> None:
    """Load the weights of a model from the bytes of its `model.weights.h5`, which were looked through.

    As `keras.saving.load_model` does, which takes nothing but the name of a file.
    """
    from keras.src.saving import saving_lib

    failed: set[int] = set()
    messages: dict[int, Any] = {}
    store = saving_lib.H5IOStore(io.BytesIO(content), mode="r")
    try:
        saving_lib._load_state(
            model,
            weights_store=store,
            assets_store=None,
            inner_path="",
            visited_saveables=set(),
            failed_saveables=failed,
            error_msgs=messages,
        )
    finally:
        store.close()
    if failed:
        saving_lib._raise_loading_failure(messages)
