"""Tabulate models that another runtime computes: TensorFlow SavedModels and ONNX files.

Neither holds Python code. An ONNX graph can only compute; a SavedModel is a program of TensorFlow's operations, among
which are some that read and write files or call back into Python. So the operations that its signature may come to are
compared with a list of those that compute, and its variables are all that is restored.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeptaxi.backend import keras_backend
from deeptaxi.backend.exactness import chosen_backend
from deeptaxi.backend.importing import standard_error_aside
from deeptaxi.errors import DeepTaxiError, UsageError, one_line
from deeptaxi.io.atomic import temporary
from deeptaxi.io.safe_archive import format_bytes
from deeptaxi.io.safe_load import open_plain
from deeptaxi.mdp.environment import Environment
from deeptaxi.network.encodings import encode, expectation, kind_of, parts_of

SAVED_MODEL, SIGNATURE = "saved_model.pb", "serving_default"
Q_NAMES = ("q_values", "q", "output", "outputs")
MAX_GRAPH, MAX_BYTES = 2**27, 2**31
MAX_FILES = 16  # of variables
BLOCK = 4096  # states at a time
CLOSE = 1e-4  # allowed difference between blocks, relative to the largest Q value
# TensorFlow's operations that only compute, and those that call functions of the same file.
COMPUTE = {
    "Abs", "Add", "AddN", "AddV2", "All", "Any", "ArgMax", "ArgMin", "Assert", "AvgPool", "BatchMatMul",
    "BatchMatMulV2", "BatchMatMulV3", "BiasAdd", "Bincount", "BroadcastArgs", "BroadcastTo", "Cast", "Ceil",
    "ClipByValue", "ConcatV2", "Const", "Conv2D", "Cos", "Cumsum", "DenseBincount", "DepthwiseConv2dNative",
    "DivNoNan", "Einsum", "Elu", "EnsureShape", "Equal", "Erf", "Erfc", "Exp", "ExpandDims", "Expm1", "Fill",
    "Floor", "FloorDiv", "FloorMod", "FusedBatchNormV3", "GatherNd", "GatherV2", "Greater", "GreaterEqual",
    "Identity", "IdentityN", "Inv", "IsFinite", "IsInf", "IsNan", "LeakyRelu", "Less", "LessEqual", "Log", "Log1p",
    "LogSoftmax", "LogicalAnd", "LogicalNot", "LogicalOr", "MatMul", "Max", "MaxPool", "Maximum", "Mean", "Min",
    "Minimum", "Mod", "Mul", "MulNoNan", "Neg", "NoOp", "NotEqual", "OneHot", "OnesLike", "Pack", "Pad", "PadV2",
    "PartitionedCall", "Placeholder", "Pow", "PreventGradient", "Prod", "Range", "Rank", "ReadVariableOp",
    "RealDiv", "Reciprocal", "Relu", "Relu6", "Reshape", "ResourceGather", "ReverseV2", "Round", "Rsqrt", "Select",
    "SelectV2", "Selu", "Shape", "ShapeN", "Sigmoid", "Sign", "Sin", "Size", "Slice", "Softmax", "Softplus",
    "Softsign", "Split", "SplitV", "Sqrt", "Square", "SquaredDifference", "Squeeze", "StatefulPartitionedCall",
    "StopGradient", "StridedSlice", "Sub", "Sum", "Tan", "Tanh", "Tile", "TopKV2", "Transpose", "TruncateDiv",
    "Unpack", "Where", "Xdivy", "Xlogy", "ZerosLike",
}  # fmt: skip
SAVERS = ("__inference__traced_save", "__inference__traced_restore")  # called only to save or restore by a session


class Served(NamedTuple):
    """A model of another runtime.

    Attributes:
        shape: of its input, without the batch axis; None for an axis of any length.
        dtype: of its input.
        call: from inputs `[B, *shape]` to its outputs by name.
    """

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    call: Callable[[NDArray[Any]], dict[str, NDArray[Any]]]


def read_served(path: Path, environment: Environment) -> NDArray[Any]:
    """Return the Q values `[S, A]` of a SavedModel folder or an ONNX file.

    Raises:
        UsageError: its runtime is missing, or it does not take states and give Q values.
        DeepTaxiError: it is damaged, does more than compute, or is not a function of the state.
    """
    try:
        served = open_onnx(path) if path.is_file() else open_savedmodel(path)
        return tabulate_served(served, environment, str(path))
    except (DeepTaxiError, MemoryError):
        raise
    except Exception as error:  # each runtime raises its own types
        reason = one_line(error)
        raise DeepTaxiError(f"{path} cannot be run: {type(error).__name__}: {reason}") from error


def tabulate_served(served: Served, environment: Environment, name: str) -> NDArray[Any]:
    """Return the Q values `[S, A]`, asked twice: in order, and in reverse in other blocks.

    Raises:
        UsageError: its input or outputs are not those of a Q-network.
        DeepTaxiError: the two differ.
    """
    parts, states = parts_of(environment), environment.states
    if kind_of(served.shape, states, parts) is None:
        shape = ["B", *served.shape]
        raise UsageError(f"{name} has an input of shape {shape}: {expectation(states, parts)}".replace("'", ""))

    def ask(numbers: NDArray[np.integer]) -> NDArray[Any]:
        inputs = encode(numbers, served.shape, states, parts).astype(served.dtype)
        return q_values_of(served.call(inputs), len(numbers), environment.actions, name)

    order = np.arange(states)
    values = np.concatenate([ask(order[first : first + BLOCK]) for first in range(0, states, BLOCK)])
    half = min(BLOCK, (states + 1) // 2)
    again = np.concatenate([ask(order[::-1][first : first + half]) for first in range(0, states, half)])[::-1]
    slack = CLOSE * max(1.0, float(np.abs(values[np.isfinite(values)]).max(initial=0.0)))
    if not np.allclose(values, again, rtol=0, atol=slack, equal_nan=True):
        raise DeepTaxiError(f"{name} gives other Q values for a state when other states are asked with it")
    return values


def q_values_of(outputs: dict[str, NDArray[Any]], count: int, actions: int, name: str) -> NDArray[Any]:
    """Return the Q values among the outputs: by their name, else the only output of their shape.

    Raises:
        UsageError: it has no signature, or several.
    """
    fitting = {key: value for key, value in outputs.items() if value.shape == (count, actions)}
    fitting = {key: value for key, value in fitting.items() if value.dtype.kind == "f"}
    named = next((key for key in Q_NAMES if key in fitting), None)
    if named is None and len(fitting) != 1:
        shapes = ", ".join(f"{key} {value.dtype} {list(value.shape)}" for key, value in outputs.items())[:200]
        raise UsageError(f"{name} gives {shapes} for {count} states: expected q_values {[count, actions]}")
    found = fitting[named or next(iter(fitting))]
    return found.astype(np.float64 if found.dtype.itemsize == 8 else np.float32)


def open_onnx(path: Path) -> Served:
    """Open an ONNX file with ONNX Runtime, on one thread of the CPU.

    Raises:
        UsageError: ONNX Runtime is not installed, or the model has several inputs.
        DeepTaxiError: the file is too large or cannot be read.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise UsageError(f"{path} is read by ONNX Runtime: pip install 'deeptaxi[onnx]'")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    content = read_bytes(path, MAX_BYTES)  # weights in other files are not looked for
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    if len(session.get_inputs()) != 1:
        raise UsageError(f"{path} has {len(session.get_inputs())} inputs: expected one, the state")
    taken, names = session.get_inputs()[0], [output.name for output in session.get_outputs()]
    kinds = {"tensor(float)": "f4", "tensor(double)": "f8", "tensor(int32)": "i4", "tensor(int64)": "i8"}
    if taken.type not in kinds:
        raise UsageError(f"{path} takes {taken.type}: expected states as integers or real numbers")
    shape = tuple(side if isinstance(side, int) else None for side in taken.shape[1:])

    def call(inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return dict(zip(names, map(np.asarray, session.run(names, {taken.name: inputs})), strict=True))

    return Served(shape, np.dtype(kinds[taken.type]), call)


def open_savedmodel(path: Path) -> Served:
    """Open the signature ``serving_default`` of a SavedModel with TensorFlow.

    Raises:
        UsageError: TensorFlow is not at hand, or there is no such signature of one input.
        DeepTaxiError: the model does more than compute.
    """
    if chosen_backend() != "tensorflow":
        raise UsageError(f"{path} is read by TensorFlow, and Keras runs on {chosen_backend()}: unset KERAS_BACKEND")
    keras_backend.start()
    with standard_error_aside(), temporary() as scratch:
        import tensorflow as tf
        from tensorflow.core.protobuf import saved_model_pb2

        content = read_bytes(path / SAVED_MODEL, MAX_GRAPH)
        check_operations(saved_model_pb2.SavedModel.FromString(content), str(path))
        copy = scratch.path / "model"  # TensorFlow reads files by their names: what is checked is what it gets
        (copy / "variables").mkdir(parents=True)
        (copy / SAVED_MODEL).write_bytes(content)
        for file in sorted((path / "variables").glob("variables.*"))[:MAX_FILES]:
            (copy / "variables" / file.name).write_bytes(read_bytes(file, MAX_BYTES))
        loaded = tf.saved_model.load(str(copy))
    if SIGNATURE not in loaded.signatures:
        raise UsageError(f"{path} has no signature {SIGNATURE}: save it with model.export(…)")
    serve = loaded.signatures[SIGNATURE]
    specs = serve.structured_input_signature[1]
    if len(specs) != 1:
        raise UsageError(f"{path} takes {', '.join(specs) or 'nothing'}: expected one input, the state")
    (key, spec), keep = next(iter(specs.items())), loaded

    def call(inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        _ = keep  # its variables live as long as it does
        return {name: value.numpy() for name, value in serve(**{key: tf.constant(inputs, spec.dtype)}).items()}

    return Served(tuple(spec.shape[1:]), np.dtype(spec.dtype.as_numpy_dtype), call)


def check_operations(found: Any, name: str) -> None:
    """Check all that a SavedModel's functions may come to.

    Raises:
        DeepTaxiError: an operation does more than compute.
    """
    for meta in found.meta_graphs:
        if not meta.object_graph_def.nodes:
            raise DeepTaxiError(f"{name} is of TensorFlow 1, which runs its own operations to load it: refused")
        kinds = {node.WhichOneof("kind") for node in meta.object_graph_def.nodes}
        if "resource" in kinds or "asset" in kinds or meta.asset_file_def:
            raise DeepTaxiError(f"{name} holds tables or files beside its variables, which no Q-network needs: refused")
        asked = {*operations(meta.graph_def.library), *entries(meta.object_graph_def)} - COMPUTE
        if asked:
            raise DeepTaxiError(f"{name} asks for {min(asked)}, which does more than compute: refused")


def operations(library: Any) -> Iterator[str]:
    """Yield the operations of all functions, and the savers that they call; the savers' own are not looked at."""
    for function in library.function:
        if function.signature.name.startswith(SAVERS):
            continue
        for node in function.node_def:
            yield node.op
            called = (value.func.name for value in node.attr.values() if value.HasField("func"))
            yield from (one for one in called if one.startswith(SAVERS))


def entries(graph: Any) -> Iterator[str]:
    """Yield the savers that the objects of a SavedModel offer as functions to call."""
    for node in graph.nodes:
        offered = [*node.function.concrete_functions, node.bare_concrete_function.concrete_function_name]
        yield from (one for one in offered if one.startswith(SAVERS))


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a file of at most `limit` bytes.

    Raises:
        DeepTaxiError: it cannot be read, or is larger.
    """
    try:
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise DeepTaxiError(f"{path} takes {format_bytes(size)}, where at most {format_bytes(limit)} are read")
            return file.read(limit + 1)
    except OSError as error:
        raise DeepTaxiError(f"{path} cannot be read: {error.strerror}") from None
