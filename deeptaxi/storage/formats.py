"""The endings of model files, and the export formats with their availability.

All have the same signature: integer states `[B]` in, ``q_values`` `[B, A]` and ``action`` `[B]` out; tables are looked
up. This module does not import Keras, so a missing runtime is reported at once.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

from deeptaxi.backend.exactness import chosen_backend
from deeptaxi.errors import UsageError

ModelKind = Literal["keras", "array", "served"]
MODEL_ENDINGS: dict[ModelKind, tuple[str, ...]] = {  # of the files that are read as models
    "keras": (".keras", ".h5", ".hdf5"),
    "array": (".npy", ".npz", ".csv", ".json"),
    "served": (".onnx",),
}
NAN, ERROR = "NaN and action −1", "error"  # possible answers to a state outside 0 … S−1


@dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
        name: name of the format for users.
        file: file name in a folder of all formats.
        ending: suffix of other paths.
        summary: one-line description.
        outside: answer to a state outside 0 … S−1.
        packages: modules that write it and read it back, beyond deeptaxi's own requirements.
        extra: the extra of deeptaxi that installs them.
        by_tensorflow: whether only Keras' TensorFlow backend can write it.
        rounds: whether its Q values may differ from the network's by rounding.
    """

    name: str
    file: str
    ending: str
    summary: str
    outside: str = NAN
    packages: tuple[str, ...] = ()
    extra: str = ""
    by_tensorflow: bool = False
    rounds: bool = False

    def missing(self) -> str | None:
        """Return why the format is unavailable, and what to do; None if it is available."""
        absent = [package for package in self.packages if importlib.util.find_spec(package) is None]
        if absent:
            return f"it needs {', '.join(absent)}: pip install 'deeptaxi[{self.extra}]'"
        if self.by_tensorflow and chosen_backend() != "tensorflow":
            return f"it is written by Keras' TensorFlow backend, and this is {chosen_backend()}: unset KERAS_BACKEND"
        return None


FORMATS = {
    form.name: form
    for form in (
        Format("keras", "model.keras", ".keras", "Keras model file; needs deeptaxi's layers, `evaluate` reads it"),
        Format("plain", "plain.keras", "-plain.keras", "Keras model file of Keras' own layers", rounds=True),
        Format(
            "savedmodel", "savedmodel", "-savedmodel", "TensorFlow SavedModel, ready to serve", by_tensorflow=True,
            rounds=True,
        ),
        Format(
            "onnx", "model.onnx", ".onnx", "ONNX, for ONNX Runtime", by_tensorflow=True, rounds=True,
            packages=("onnx", "onnxruntime", "tf2onnx"), extra="onnx",
        ),
        Format(
            "litert", "model.tflite", ".tflite", "LiteRT (TensorFlow Lite), for small devices", by_tensorflow=True,
            rounds=True, packages=("ai_edge_litert",), extra="litert",
        ),
        Format("csv", "q_table.csv", ".csv", "Q table and greedy policy, one row per state", ERROR),
        Format("npz", "q_table.npz", ".npz", "the same as NumPy arrays"),
        Format("json", "q_table.json", ".json", "the same as JSON, with the environment", ERROR),
    )
}  # fmt: skip


def check_available(name: str) -> None:
    """Reject an unavailable format.

    Raises:
        UsageError: the format is unknown, its runtime is not installed, or it needs another backend.
    """
    if name not in FORMATS:
        raise UsageError(f"unknown format '{name}': expected one of {', '.join(FORMATS)}")
    reason = FORMATS[name].missing()
    if reason:
        raise UsageError(f"cannot write {name}: {reason}")
