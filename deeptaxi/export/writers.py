"""Writing a network in the formats that `formats` lists.

`keras` and `savedmodel` hold the network itself: the one answers to the last bit as it does, and so does the other with
relu; TensorFlow joins other activations with their layer when it runs a graph. `plain`, `onnx` and `litert` hold what
stands for the network in Keras' own layers (`network.plain`). TensorFlow's formats are traced by
``keras.export.ExportArchive``, which keeps the weights; each is a function of the states,

    inside   = 0 ≤ s < S
    q_values = Q(s) if inside else NaN               [B, A]
    action   = argmax_a Q(s, a) if inside else −1    [B]

written with TensorFlow's own operations, as LiteRT has none for what `keras.ops.argmax` makes of them.
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

from deeptaxi.export import q_tables
from deeptaxi.export.q_tables import Labels
from deeptaxi.importing import standard_error_aside
from deeptaxi.io.temporary import temporary
from deeptaxi.network.agent import agent
from deeptaxi.network.plain import plain_network

OPSET = 17  # of ONNX: every runtime since 2022 has it
Served = Callable[[Any], dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """What is written.

    Attributes:
        network: states `[B]` to Q values `[B, A]`.
        q_values: those of all states, `[S, A]`.
        labels: the names of states and actions.
    """

    network: keras.Model
    q_values: NDArray[np.float32]
    labels: Labels

    @property
    def states(self) -> int:
        """S."""
        return len(self.q_values)

    @cached_property
    def plain(self) -> keras.Model:
        """The network in Keras' own layers."""
        return plain_network(self.network)


def write_keras(source: Source, path: Path) -> None:
    """Write the network as it is, with its layers."""
    agent(source.network, source.states).save(path)


def write_plain(source: Source, path: Path) -> None:
    """Write what stands for it in Keras' own layers."""
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
    """Write TensorFlow's ``Erfc``, which gelu is made of and ONNX has not, as 1 − erf."""
    shape, kind = graph.get_shape(node.output[0]), graph.get_dtype(node.output[0])
    graph.remove_node(node.name)
    one = graph.make_const(f"{node.name}_one", np.float32(1))
    erf = graph.make_node("Erf", node.input, name=f"{node.name}_erf")
    graph.make_node("Sub", [one.output[0], erf.output[0]], outputs=node.output, shapes=[shape], dtypes=[kind])


def write_litert(source: Source, path: Path) -> None:
    """Write a LiteRT file with the signature ``serving_default``, of the operations that every interpreter has."""
    import tensorflow as tf

    def network(state: Any) -> Any:
        # The converter writes −∞, which stands for actions that may not be taken, as the lowest number there is.
        q_values = source.plain(state)
        return tf.where(q_values > tf.float32.min, q_values, 2 * q_values)

    with temporary() as scratch, standard_error_aside():
        archive(source.plain, serving_function(network, source.states), scratch.path / "savedmodel")
        converter = tf.lite.TFLiteConverter.from_saved_model(str(scratch.path / "savedmodel"))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        path.write_bytes(converter.convert())


def signature() -> list[Any]:
    """Return the one input of every served form."""
    import tensorflow as tf

    return [tf.TensorSpec([None], tf.int32, name="state")]


def serving_function(network: Callable[[Any], Any], states: int) -> Served:
    """Return what a served form computes of states `[B]`; `network` gives the Q values of those that exist."""
    import tensorflow as tf

    def answer(state: Any) -> dict[str, Any]:
        inside = tf.logical_and(state >= 0, state < states)
        q_values = network(tf.where(inside, state, 0))
        action = tf.argmax(q_values, axis=-1, output_type=tf.int32)
        return {"q_values": tf.where(inside[:, None], q_values, np.nan), "action": tf.where(inside, action, -1)}

    return answer


def function(answer: Served) -> Any:
    """Return `answer` as a TensorFlow function."""
    import tensorflow as tf

    return tf.function(answer, input_signature=signature(), autograph=False)


def archive(network: keras.Model, answer: Served, path: Path) -> None:
    """Write a SavedModel of `answer`, which computes with the weights of `network`."""
    made = keras.export.ExportArchive()
    made.track(network)
    made.add_endpoint(name="serving_default", fn=answer, input_signature=signature())
    made.write_out(str(path), verbose=False)


def table_writer(name: str) -> Callable[[Source, Path], None]:
    """Return the writer of a table."""
    write, _ = q_tables.WRITERS[name]
    return lambda source, path: write(path, source.q_values, source.labels)


WRITERS: dict[str, Callable[[Source, Path], None]] = {
    "keras": write_keras,
    "plain": write_plain,
    "savedmodel": write_savedmodel,
    "onnx": write_onnx,
    "litert": write_litert,
    **{name: table_writer(name) for name in q_tables.WRITERS},
}
