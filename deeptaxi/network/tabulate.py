"""Tabulate the Q values of all states, calling the network on as many at a time as fit in memory.

The computation of networks from `build_q_network` is known (`structure`). Any other network may compute anything, so
before it is called, shapes are propagated through its graph for `ROWS` states, without running it. This gives

    bytes = Σ over all tensors of the graph, which Keras keeps until the end     per state
    rows  = the first axis of each tensor, which must be one row per state

Afterwards it is called once more, on other blocks of states in another order. If the results differ, it is not a
function of the state and has no policy: it mixes states, as `ops.flip(x, axis=0)` does, or draws random numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
from keras.src.models.functional import Functional
from numpy.typing import NDArray

from deeptaxi.errors import DeepTaxiError
from deeptaxi.layers import ActionMask, Dueling
from deeptaxi.network.build import sizes
from deeptaxi.network.encodings import NO_PARTS, Parts, encode, kind_of
from deeptaxi.network.structure import made_by, structure_of

BLOCK = 65_536  # most states at a time
BUDGET = 2**29  # bytes for all of them together
ROWS = 251  # a prime, unlikely to be the width of a layer
WITHIN = 3  # temporaries of a layer, in multiples of the widest tensor
ROUNDING = 1e-4  # allowed difference between blocks, relative to the largest Q value
EXACT = {"float16": 2**11, "bfloat16": 2**8, "float32": 2**24, "float64": 2**53}  # integers are exact up to here
NOISE = re.compile(r"\x1b\[[0-9;]*m|\{\{[^}]*\}\} ?|\[Op:\w+\]")  # in TensorFlow's messages
WIDE = ("float64", "int32", "int64", "uint32", "uint64")  # would lose bits as float32
NARROW = ("float32", "float16", "bfloat16", "int8", "int16", "uint8", "uint16")


class MixedStatesError(DeepTaxiError):
    """The answer of a network to one state depends on the others that are asked with it, or on chance."""


def tabulate(network: keras.Model, states: int | None = None, parts: Parts = NO_PARTS) -> NDArray[np.floating]:
    """Return the Q values of all states, `[S, A]`: float32, or float64 if float32 would lose bits.

    Args:
        network: a network from `build_q_network`, or a Keras model accepted by `inspect.check_foreign`.
        states: S; ignored for networks from `build_q_network`.
        parts: the parts of an observation, if the network may take these.

    Raises:
        MixedStatesError: its answer to one state depends on the others.
        DeepTaxiError: it cannot be called, needs too much memory, or is not a function of the state.
    """
    found = structure_of(network)
    if found is not None:
        if found.table is not None:  # the fast path of evaluations during training
            return np.array(keras.ops.convert_to_numpy(found.table))
        states, actions = sizes(network)
        return call_batch(network, np.arange(states), states, actions, block_of(8 * found.width))
    if states is None:
        states, _ = sizes(network)  # raises with an explanation
    tensors = list(passed_on(network, states, parts))
    q_values = call_batch(network, np.arange(states), states, None, block_of(bytes_of(tensors)), parts)
    check_function(network, q_values, tensors, parts)
    return q_values


class Streams(NamedTuple):
    """The two streams of a dueling network in all states.

    Attributes:
        value: V, `[S]`.
        advantage: A, `[S, A]`, of which the head subtracts its aggregate: Q = V + A − mean(A).
    """

    value: NDArray[np.floating]
    advantage: NDArray[np.floating]


def tabulate_streams(network: keras.Model, states: int, parts: Parts = NO_PARTS) -> Streams | None:
    """Return V and A of all states, of any model whose graph ends in `Dueling`, or in that and `ActionMask`; else None.

    The arguments and errors are those of `tabulate`.
    """
    output = network.outputs[0]
    masked = made_by(output, ActionMask)
    found = made_by(output if masked is None else masked[1][1], Dueling)
    if found is None:
        return None
    both = keras.Model(network.inputs, keras.layers.Concatenate()(found[1]))
    values = tabulate(both, states, parts)
    return Streams(values[:, 0], values[:, 1:])


def block_size(network: keras.Model, states: int, parts: Parts = NO_PARTS) -> int:
    """Return the number of states to call a network on at a time.

    Raises:
        DeepTaxiError: even a single state needs too much memory.
    """
    found = structure_of(network)
    return block_of(8 * found.width if found is not None else bytes_of(list(passed_on(network, states, parts))))


class GreedyPolicy:
    """The greedy actions of a network from `build_q_network`, computed for the states that are asked for.

    Args:
        network: the network.
    """

    def __init__(self, network: keras.Model) -> None:
        self._network = network
        self._states, self._actions = sizes(network)

    def __getitem__(self, states: Any) -> Any:
        """Return the actions of `states`, int64 of their shape."""
        numbers = np.asarray(states)
        flat = numbers.reshape(-1)
        q_values = call_batch(self._network, flat, self._states, self._actions, max(len(flat), 1))
        return q_values.argmax(axis=-1).reshape(numbers.shape)


def block_of(size: int) -> int:
    """Return the number of states to process at a time, at `size` bytes each.

    Raises:
        DeepTaxiError: even a single state needs too much memory.
    """
    if size > BUDGET:
        raise DeepTaxiError(
            f"the network computes {size / 2**20:,.0f} MiB of numbers for a single state, more than the limit of "
            f"{BUDGET // 2**20} MiB: it is not run; remove the layer that makes it so wide"
        )
    return int(min(BLOCK, BUDGET // max(1, size)))


def bytes_of(tensors: list[Any]) -> int:
    """Return the bytes per state of symbolic tensors with `ROWS` states."""
    each = [int(math.prod(tensor.shape[1:])) * itemsize(str(tensor.dtype)) for tensor in tensors]
    return sum(each) + WITHIN * max(each, default=0)


def itemsize(dtype: str) -> int:
    """Return the bytes per number of a Keras dtype; 4 for those computed in float32."""
    return 16 if "128" in dtype else 8 if "64" in dtype else 4


def passed_on(network: keras.Model, states: int, parts: Parts = NO_PARTS) -> Iterator[Any]:
    """Yield the symbolic tensors of a network for `ROWS` states, including its input, without running it.

    Raises:
        DeepTaxiError: a tensor does not have one row per state or has an unknown size, or a layer fails.
    """
    found: list[tuple[str, Any]] = []
    taken = network.inputs[0]
    check_input(taken, states, parts)
    state = keras.KerasTensor((ROWS, *taken.shape[1:]), dtype=taken.dtype)
    with refusals():
        shape_recorder(network, found)(state)
    for name, tensor in [("input", state), *found]:
        if not tensor.shape or tensor.shape[0] != ROWS:
            raise MixedStatesError(
                f"the network's '{name}' gives numbers of shape {list(tensor.shape)} for {ROWS} states, not one row "
                "per state: its answer to one state depends on the others; keep axis 0 as it is"
            )
        if None in tensor.shape:
            raise DeepTaxiError(f"the network's '{name}' has an output whose size is unknown before it runs")
        yield tensor


def shape_recorder(operation: Any, found: list[tuple[str, Any]]) -> Callable[..., Any]:
    """Return a function that computes an operation's output shapes and appends them, and inner ones, to `found`."""
    inner = getattr(operation, "_functional", None) or operation

    def shapes(*args: Any, **kwargs: Any) -> Any:
        if type(inner) is Functional:
            outputs = inner._run_through_graph(args[0], operation_fn=lambda one: shape_recorder(one, found))
        else:
            outputs = operation.compute_output_spec(*args, **kwargs)
        tensors = [x for x in keras.tree.flatten(outputs) if isinstance(x, keras.KerasTensor)]
        found.extend((operation.name, tensor) for tensor in tensors)
        found.extend((operation.name, tensor) for tensor in scores(operation, args, kwargs))
        return outputs

    return shapes


def scores(operation: Any, args: Any, kwargs: Any) -> Iterator[Any]:
    """Yield the attention scores of all pairs of positions, which are not outputs."""
    if "Attention" not in type(operation).__name__:
        return
    shapes = [x.shape for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor)]
    places = [math.prod(shape[1:-1]) for shape in shapes if None not in shape]
    heads = getattr(operation, "num_heads", None) or getattr(operation, "num_query_heads", 1)
    yield keras.KerasTensor((ROWS, heads, max(places, default=1), max(places, default=1)), dtype="float32")


def check_input(tensor: Any, states: int, parts: Parts = NO_PARTS) -> None:
    """Verify that the input's dtype can represent all state numbers exactly.

    Raises:
        DeepTaxiError: it cannot.
    """
    dtype = str(tensor.dtype)
    if kind_of(tensor.shape[1:], states, parts) != "number":
        return
    most = np.iinfo(dtype).max if dtype.startswith(("int", "uint")) else EXACT.get(dtype, 0)
    if states - 1 > most:
        raise DeepTaxiError(f"the network's input is {dtype}, which cannot tell {states:,} states apart: make it int32")


def feed(network: keras.Model, states: NDArray[np.integer], count: int, parts: Parts = NO_PARTS) -> Any:
    """Return the network's input for `states` `[B]` out of `count`."""
    tensor = network.inputs[0]
    return keras.ops.cast(encode(states, tensor.shape[1:], count, parts), tensor.dtype)


def call_batch(
    network: keras.Model,
    states: NDArray[np.integer],
    count: int,
    actions: int | None,
    block: int,
    parts: Parts = NO_PARTS,
    training: bool | None = False,
) -> NDArray[np.floating]:
    """Call a network block by block on `states` `[n]` out of `count`; return the Q values `[n, A]`.

    `training` is Keras' argument; with None, each layer has the value that the model was built with.

    Raises:
        DeepTaxiError: it cannot be called, or returns anything else.
    """
    width = int(network.outputs[0].shape[-1]) if actions is None else actions
    blocks = []
    for first in range(0, len(states), block):
        some = states[first : first + block]
        with refusals():
            outputs = keras.tree.flatten(network(feed(network, some, count, parts), training=training))
            values = keras.ops.convert_to_numpy(outputs[0])
        dtype = keras.backend.standardize_dtype(outputs[0].dtype)
        if len(outputs) != 1 or values.shape != (len(some), width) or dtype not in (*NARROW, *WIDE):
            raise DeepTaxiError(
                f"the network gives {dtype} {list(values.shape)} for {len(some)} states, where Q values "
                f"{[len(some), width]} of real numbers were expected: look at the activations and types of its layers"
            )
        blocks.append(values.astype(np.float64 if dtype in WIDE else np.float32))
    return np.concatenate(blocks)


def check_function(
    network: keras.Model, q_values: NDArray[np.floating], tensors: list[Any], parts: Parts = NO_PARTS
) -> None:
    """Call a network again, on the states in reverse order and at most half of them at a time.

    `q_values` `[S, A]` are the results of the first call, `tensors` the symbolic tensors of the network.

    Raises:
        MixedStatesError: the results differ.
    """
    count = len(q_values)
    block = min(block_of(bytes_of(tensors)), (count + 1) // 2)
    again = call_batch(network, np.arange(count)[::-1], count, None, block, parts)[::-1]
    finite = np.abs(q_values[np.isfinite(q_values)])
    coarse = {"float16": 2**-6, "bfloat16": 2**-3}
    rounding = max((coarse.get(str(tensor.dtype), ROUNDING) for tensor in tensors), default=ROUNDING)
    slack = rounding * max(1.0, float(finite.max(initial=0.0)))
    other = ~np.isclose(again, q_values, rtol=0, atol=slack, equal_nan=True).all(axis=1)
    if other.any():
        raise MixedStatesError(
            f"the network gives different Q values for state {int(other.argmax())} when called with other states, or "
            "called again: it is not a function of the state; remove what mixes axis 0 or draws random numbers"
        )


@contextmanager
def refusals() -> Iterator[None]:
    """Convert exceptions of Keras and the backend to a one-line `DeepTaxiError`."""
    try:
        yield
    except (DeepTaxiError, MemoryError):
        raise
    except Exception as error:  # Keras and the backends raise many types
        raise DeepTaxiError(f"the network cannot be run: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """Return the first line of a Keras or backend error, without call arguments."""
    lines = [line.strip() for line in NOISE.sub("", str(error)).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("Exception encountered", "Arguments received", "•"))]
    first = next(iter(kept or lines), "")
    return f"{type(error).__name__}: {first[:200]}" if first else type(error).__name__
