"""Write a network in the formats listed in `storage.formats`.

`keras` and `savedmodel` hold the network itself. `keras` gives the same answers, bit for bit, and so does `savedmodel`
with relu; TensorFlow fuses other activations with their layer when it runs a graph. `plain`, `onnx` and `litert` hold
an equivalent network of Keras' own layers (`network.plain`). TensorFlow's formats are traced by
``keras.export.ExportArchive``, which stores the weights; each is a function of the states,

    inside   = 0 ≤ s < S
    q_values = Q(s) if inside else NaN               [B, A]
    action   = argmax_a Q(s, a) if inside else −1    [B]

written with TensorFlow's own operations, because LiteRT does not support those that `keras.ops.argmax` produces.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from deeptaxi.backend.importing import standard_error_aside
from deeptaxi.exports import q_tables
from deeptaxi.exports.q_tables import Labels
from deeptaxi.io.atomic import temporary
from deeptaxi.mdp.table import Ints
from deeptaxi.network.plain import plain_network
from deeptaxi.network.policy_model import agent

OPSET = 17  # ONNX opset; supported by every runtime since 2022
Served = Callable[[Any], dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """A network to export, with its Q values and labels.

    Attributes:
        network: maps states `[B]` to Q values `[B, A]`; None for a policy, which only tables can hold.
        q_values: Q values of all states, `[S, A]`; of a policy `[S, 0]`.
        labels: names of states and actions.
        policy: the actions of a policy without Q values, `[S]`, or None.
    """

    network: keras.Model
    q_values: NDArray[np.float32]
    labels: Labels
    policy: Ints | None = None

    @property
    def states(self) -> int:
        """The number of states, S."""
        return len(self.q_values)

    @cached_property
    def plain(self) -> keras.Model:
        """The equivalent network of Keras' own layers."""
        return plain_network(self.network)


def write_keras(source: Source, path: Path) -> None:
    """Write the network itself, with deeptaxi's layers."""
    agent(source.network, source.states).save(path)


def write_plain(source: Source, path: Path) -> None:
    """Write the equivalent network of Keras' own layers."""
    agent(source.plain, source.states).save(path)


def write_savedmodel(source: Source, path: Path) -> None:
    """Write a SavedModel with the signature ``serving_default``."""
    archive(source.network, serving_function(source.network, source.states), path)


def write_onnx(source: Source, path: Path) -> None:
    """Write an ONNX file with the input ``state`` and the outputs ``q_values`` and ``action``."""
    with standard_error_aside():
        import tf2onnx

        traced = function(serving_function(source.plain, source.states))
        model, _ = tf2onnx.convert.from_function(
            traced, input_signature=signature(), opset=OPSET, custom_op_handlers={"Erfc": (convert_erfc, [])}
        )
    path.write_bytes(model.SerializeToString())


def convert_erfc(graph: Any, node: Any, _name: str, _arguments: Any) -> None:
    """Convert TensorFlow's ``Erfc``, which gelu uses and ONNX lacks, to 1 − erf."""
    shape, kind = graph.get_shape(node.output[0]), graph.get_dtype(node.output[0])
    graph.remove_node(node.name)
    one = graph.make_const(f"{node.name}_one", np.float32(1))
    erf = graph.make_node("Erf", node.input, name=f"{node.name}_erf")
    graph.make_node("Sub", [one.output[0], erf.output[0]], outputs=node.output, shapes=[shape], dtypes=[kind])


def write_litert(source: Source, path: Path) -> None:
    """Write a LiteRT file with the signature ``serving_default``, using only built-in operations."""
    import tensorflow as tf

    def network(state: Any) -> Any:
        # The converter turns −∞, which marks actions that are not allowed, into the lowest finite number.
        q_values = source.plain(state)
        return tf.where(q_values > tf.float32.min, q_values, 2 * q_values)

    with temporary() as scratch, standard_error_aside():
        archive(source.plain, serving_function(network, source.states), scratch.path / "savedmodel")
        converter = tf.lite.TFLiteConverter.from_saved_model(str(scratch.path / "savedmodel"))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        path.write_bytes(converter.convert())


def signature() -> list[Any]:
    """Return the input signature of every served format."""
    import tensorflow as tf

    return [tf.TensorSpec([None], tf.int32, name="state")]


def serving_function(network: Callable[[Any], Any], states: int) -> Served:
    """Return the function of states `[B]` that a served format computes; `network` maps valid states to Q values."""
    import tensorflow as tf

    def answer(state: Any) -> dict[str, Any]:
        inside = tf.logical_and(state >= 0, state < states)
        q_values = network(tf.where(inside, state, 0))
        action = tf.argmax(q_values, axis=-1, output_type=tf.int32)
        return {"q_values": tf.where(inside[:, None], q_values, np.nan), "action": tf.where(inside, action, -1)}

    return answer


def function(answer: Served) -> Any:
    """Wrap `answer` as a TensorFlow function."""
    import tensorflow as tf

    return tf.function(answer, input_signature=signature(), autograph=False)


def archive(network: keras.Model, answer: Served, path: Path) -> None:
    """Write a SavedModel of `answer`, which uses the weights of `network`."""
    made = keras.export.ExportArchive()
    made.track(network)
    made.add_endpoint(name="serving_default", fn=answer, input_signature=signature())
    made.write_out(str(path), verbose=False)


def table_writer(name: str) -> Callable[[Source, Path], None]:
    """Return the writer of a table format."""
    write = q_tables.WRITERS[name]
    return lambda source, path: write(path, source.q_values, source.labels, source.policy)


WRITERS: dict[str, Callable[[Source, Path], None]] = {
    "keras": write_keras,
    "plain": write_plain,
    "savedmodel": write_savedmodel,
    "onnx": write_onnx,
    "litert": write_litert,
    **{name: table_writer(name) for name in q_tables.WRITERS},
}
