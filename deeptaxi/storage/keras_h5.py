"""Load an untrusted `.h5` file, in which Keras saved whole models before `.keras`.

It is one HDF5 file: the attribute `model_config` holds the network as JSON, the group `model_weights` its weights. What
`keras_file` rejects is rejected here too. In this JSON, layers have no module, and in files of Keras 2 nothing has; so
names are first completed as Keras will understand them, then checked.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from deeptaxi.io.safe_archive import ArchiveError, format_bytes
from deeptaxi.io.safe_load import open_plain
from deeptaxi.storage.keras_file import (
    LAYERS,
    MAX_CONFIG,
    OTHERS,
    SPARE,
    VALUES,
    WHOLE,
    NotANetworkError,
    check_config,
    check_weights,
    check_widths,
    limit_weights,
    parse_config,
    size_of,
)

ENDINGS = (".h5", ".hdf5")
MAX_BYTES = 2**31
CONFIG = "model_config"
OWN = "deeptaxi>"
MODELS = {
    "Sequential": "keras", "Functional": "keras.src.models.functional", "Model": "keras.src.models.functional",
}  # fmt: skip


def load_model(path: Path) -> Any:
    """Load a model from an `.h5` file, without its compile state. Keras must have been imported.

    Raises:
        ArchiveError: the file is damaged, or holds something that is rejected; the message is only the reason.
        NotANetworkError: Keras cannot build a network from it.
    """
    content = read_bytes(path)
    check_weights(content, name="it")
    check_network(content)
    model = build(content)
    most = OTHERS * size_of(model) + SPARE
    if len(content) > most:
        raise ArchiveError(f"it takes {format_bytes(len(content))}, its network {format_bytes(size_of(model))}")
    return model


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, once and for all.

    Raises:
        ArchiveError: it cannot be read, or is too large.
    """
    try:
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise ArchiveError(f"it takes {format_bytes(size)}, where at most {format_bytes(MAX_BYTES)} are read")
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ArchiveError(error.strerror or str(error)) from None


def check_network(content: bytes) -> None:
    """Check the `model_config` of an HDF5 file.

    Raises:
        ArchiveError: it is missing or damaged, or it holds something that is rejected.
    """
    import h5py

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            text = file.attrs.get(CONFIG)
            named = "layers" in file or "layer_names" in file.attrs
    except Exception as error:  # h5py raises many types, depending on what is wrong
        raise ArchiveError(f"it is damaged ({' '.join(str(error).split())[:200]})") from None
    if text is None:
        what = "holds weights without their network" if named else "is no model of Keras"
        raise ArchiveError(f"it {what}: save the whole model, model.save('model.keras')")
    if len(text) > MAX_CONFIG:
        raise ArchiveError(f"its {CONFIG} takes {format_bytes(len(text))}, where at most {MAX_CONFIG:,} are read")
    check_config(complete(parse_config(text if isinstance(text, bytes) else str(text).encode(), CONFIG)))


def complete(value: Any) -> Any:
    """Return a JSON value whose objects name their modules."""
    if isinstance(value, list):
        return [complete(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: complete(item) for key, item in value.items()}
    if "class_name" in found and "module" not in found:
        found |= module_of(str(found["class_name"]))
    return found


def module_of(name: str) -> dict[str, str]:
    """Return the fields that Keras takes a bare class name for; none for an unknown one, which is rejected then."""
    import keras

    if name.startswith(OWN):
        return {"module": "deeptaxi.layers", "class_name": name.removeprefix(OWN), "registered_name": name}
    if name in MODELS:
        return {"module": MODELS[name], "class_name": "Functional" if name == "Model" else name}
    if name in LAYERS or name in VALUES:
        return {"module": "keras.layers"}
    found = next((area for area in WHOLE if hasattr(getattr(keras, area), name)), None)
    return {} if found is None else {"module": f"keras.{found}"}


def build(content: bytes) -> Any:
    """Build the network of a checked file, from the very bytes that were checked.

    Raises:
        NotANetworkError: Keras cannot build it, or it is larger than its weights.
    """
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    try:
        with limit_weights(len(content)), h5py.File(io.BytesIO(content), "r") as file:
            model = legacy_h5_format.load_model_from_hdf5(file, compile=False, safe_mode=True)
        check_widths(model)
    except Exception as error:  # Keras raises many types, depending on what is wrong
        raise NotANetworkError(str(error)) from error
    return model
