"""The formats of exports, and which of them can be written here.

All have one signature: integer states `[B]` in, ``q_values`` `[B, A]` and ``action`` `[B]` out; a table is looked up.
Nothing here imports Keras, so a runtime that is missing is known at once.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from deeptaxi.errors import UsageError
from deeptaxi.exactness import chosen_backend

NAN, ERROR = "NaN and action −1", "error"  # what a state outside 0 … S−1 may give


@dataclass(frozen=True)
class Format:
    """A form in which others use an agent.

    Attributes:
        name: what the user calls it.
        file: its name in a folder of all formats.
        ending: of the names of other places.
        summary: what it is, in one line.
        outside: what a state outside 0 … S−1 gives.
        packages: the modules that write it and read it back, beyond deeptaxi's own requirements.
        extra: the extra of deeptaxi that brings them.
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
        """Return why it cannot be written here, and what to do; None if it can."""
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
        Format("csv", "q_table.csv", ".csv", "Q table and greedy policy, a row a state", ERROR),
        Format("npz", "q_table.npz", ".npz", "the same as NumPy arrays"),
        Format("json", "q_table.json", ".json", "the same as JSON, with the environment", ERROR),
    )
}  # fmt: skip


def check_available(name: str) -> None:
    """Refuse a format that cannot be written here.

    Raises:
        UsageError: it is unknown, its runtime is not installed, or another backend writes it.
    """
    if name not in FORMATS:
        raise UsageError(f"unknown format '{name}': expected one of {', '.join(FORMATS)}")
    reason = FORMATS[name].missing()
    if reason:
        raise UsageError(f"cannot write {name}: {reason}")
