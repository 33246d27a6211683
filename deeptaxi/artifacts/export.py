"""Exports: a trained network in the form that others use, each read back and compared before it takes its place.

- ``keras``: the `.keras` file.
- ``savedmodel``: a TensorFlow SavedModel; needs neither deeptaxi nor Keras. Its signature ``serving_default`` takes
  ``state`` int32 `[B]` and gives ``q_values`` float32 `[B, A]` and ``action`` int32 `[B]`. A state outside 0 … S−1
  gives NaN and action −1.
- ``csv``, ``npz``, ``json``: the Q table with the greedy policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from deeptaxi import backend
from deeptaxi.artifacts.files import check_free, written_aside
from deeptaxi.artifacts.models import load_network
from deeptaxi.artifacts.tables import WRITERS, Labels, numbered
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.evaluation.exact import allowed_actions
from deeptaxi.network.build import BLOCK, tabulate


@dataclass(frozen=True)
class Export:
    """What was written: the largest absolute difference of its Q values from the network's, over all states."""

    format: str
    path: str
    states: int
    max_difference: float


def export(network: keras.Model, form: str, path: Path, labels: Labels | None = None, force: bool = False) -> Export:
    """Write `network` to `path` in the given format.

    Args:
        network: states `[B]` to Q values `[B, A]`.
        form: ``keras``, ``savedmodel``, ``csv``, ``npz`` or ``json``.
        path: a file, or for ``savedmodel`` a folder.
        labels: the environment's own names, for the formats that have a place for them.
        force: whether to replace what is there, if it is of the same kind.

    Raises:
        UsageError: the place is taken, or the backend cannot write this format.
        DeepTaxiError: the network gives NaN, the disk refuses, or what is read back differs; nothing is left then.
    """
    if form == "keras" and path.suffix != ".keras":
        raise UsageError(f"--out {path}: Keras reads and writes only names that end in .keras")
    check_free(path, force, replaceable=is_savedmodel(path) if form == "savedmodel" else path.is_file())
    q_values = tabulate(network)
    allowed_actions(q_values, None)
    with written_aside(path) as aside:
        if form in WRITERS:
            write, read = WRITERS[form]
            write(aside, q_values, labels or numbered(q_values.shape[1]))
            found = read(aside)
        elif form == "keras":
            network.save(aside)
            found = tabulate(load_network(aside))
        else:
            write_savedmodel(network, aside)
            found = read_savedmodel(aside, q_values)
        difference = max_difference(found, q_values)
        if difference > tolerance(form, q_values):
            raise DeepTaxiError(f"the {form} export differs from the model by {difference:g}, so it was not kept")
    return Export(form, str(path), len(q_values), difference)


def tolerance(form: str, q_values: NDArray[np.float32]) -> float:
    """Return the difference that is rounding: none but in a SavedModel, which another compiler may run."""
    finite = np.abs(q_values[np.isfinite(q_values)])
    return 1e-6 * max(1.0, float(finite.max(initial=0.0))) if form == "savedmodel" else 0.0


def max_difference(found: NDArray[Any], expected: NDArray[np.float32]) -> float:
    """Return the largest absolute difference in float32; infinite where shapes or masked actions disagree."""
    if found.shape != expected.shape or not np.array_equal(np.isneginf(found), np.isneginf(expected)):
        return float("inf")
    finite = np.isfinite(expected)
    return float(np.abs(found.astype(np.float32)[finite] - expected[finite]).max(initial=0.0))


def is_savedmodel(path: Path) -> bool:
    """Whether a folder is a SavedModel."""
    return (path / "saved_model.pb").is_file()


def answer(network: keras.Model, state: Any) -> dict[str, Any]:
    """Return what every served model answers: Q values `[B, A]` and the greedy action `[B]`, −1 for unknown states."""
    q_values = network(state, training=False)
    unknown = ops.any(ops.isnan(q_values), axis=-1)
    action = ops.where(unknown, -1, ops.cast(ops.argmax(q_values, axis=-1), "int32"))
    return {"q_values": q_values, "action": action}


def write_savedmodel(network: keras.Model, path: Path) -> None:
    """Write a SavedModel with the signature ``serving_default``."""
    if backend.name() != "tensorflow":
        raise UsageError("a savedmodel is written by the TensorFlow backend: unset KERAS_BACKEND")
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint(
        name="serving_default",
        fn=lambda state: answer(network, state),
        input_signature=[tf.TensorSpec([None], tf.int32, name="state")],
    )
    archive.write_out(str(path), verbose=False)


def read_savedmodel(path: Path, expected: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ask the SavedModel for the Q values of all states, and check its actions on the way."""
    import tensorflow as tf

    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    blocks = []
    for first in range(0, len(expected), BLOCK):
        states = np.arange(first, min(first + BLOCK, len(expected)), dtype=np.int32)
        reply = serve(state=tf.constant(states))
        if not np.array_equal(reply["action"].numpy(), expected[states].argmax(axis=1)):
            raise DeepTaxiError("the savedmodel export acts differently from the model, so it was not kept")
        blocks.append(reply["q_values"].numpy())
    return np.concatenate(blocks)
