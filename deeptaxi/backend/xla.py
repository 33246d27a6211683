"""Operations that `keras.ops` lacks, for programs.

One of the few modules that distinguish the backends (the others: `keras_backend`, `program`). Call these only inside a
function of a `program.Program`. XLA compiles it on TensorFlow and JAX; on PyTorch it is run as it stands, and what only
compiled loops use is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from deeptaxi.backend.keras_backend import name
from deeptaxi.backend.nested_arrays import arrays_of, pack_as


def gather(array: Any, index: Any) -> Any:
    """Return ``array[index]`` along the first axis; every index must be nonnegative and in range.

    The result is materialized in memory, instead of being recomputed wherever it is used, as most results are.
    """
    if name() == "tensorflow":
        import tensorflow as tf

        return tf.gather(array, index)
    if name() == "torch":
        return array[index]
    return array.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def scatter(array: Any, index: Any, values: Any) -> Any:
    """Return `array` with ``array[index] = values``; an index past the end writes nothing.

    For a repeated index one value wins, the same one in every run.
    """
    if name() == "tensorflow":
        import tensorflow as tf

        return tf.tensor_scatter_nd_update(array, index[:, None], values)
    if name() == "torch":
        kept = index < array.shape[0]
        return array.index_put((index[kept],), values[kept])
    return array.at[index].set(values, mode="drop", wrap_negative_indices=False)


def scatter_add(array: Any, index: Any, values: Any) -> Any:
    """Return `array` with `values` added at `index`; repeated indices sum, an index past the end adds nothing."""
    if name() == "tensorflow":
        import tensorflow as tf

        return tf.tensor_scatter_nd_add(array, index[:, None], values)
    if name() == "torch":
        kept = index < array.shape[0]
        return array.index_put((index[kept],), values[kept], accumulate=True)
    return array.at[index].add(values, mode="drop", wrap_negative_indices=False)


def at(array: Any, index: Any) -> Any:
    """Return ``array[index]`` for a scalar index known only at run time."""
    if name() == "tensorflow":
        import tensorflow as tf

        return tf.gather(array, index)  # array[index] would make XLA recompile at every call
    if name() == "torch":
        return array[index]
    import jax

    unsigned = jax.numpy.asarray(index).astype("uint32")  # a negative index would count from the end
    return jax.lax.dynamic_index_in_dim(array, unsigned, keepdims=False)


def put(array: Any, start: Any, values: Any) -> Any:
    """Return `array` with its rows from `start` on replaced by `values`, which must fit."""
    rest = [0] * (len(array.shape) - 1)
    if name() == "tensorflow":
        import tensorflow as tf
        from tensorflow.compiler.tf2xla.python import xla

        return xla.dynamic_update_slice(array, values, tf.stack([start, *rest]))
    if name() == "torch":
        array[start : start + len(values)] = values  # in place, as compiled programs do
        return array
    import jax

    unsigned = jax.numpy.asarray(start).astype("uint32")
    return jax.lax.dynamic_update_slice(array, values, (unsigned, *(jax.numpy.zeros_like(unsigned) for _ in rest)))


def materialize(array: Any) -> Any:
    """Return `array` materialized in memory: the compiler may not fuse it into its consumers."""
    if name() == "tensorflow":
        from tensorflow.compiler.tf2xla.python import xla

        return xla.optimization_barrier(array)[0]
    if name() == "torch":
        return array
    import jax

    return jax.lax.optimization_barrier(array)


def zero_after(array: Any) -> Any:
    """Return int32 zeros of the shape of `array` that the compiler cannot know before it has computed `array`.

    An array that a step both reads and writes is updated in place only if the write depends on the reads; otherwise the
    compiler copies all of it, at every step.
    """
    from keras import ops

    return ops.cast(ops.abs(array) < -1.0, "int32")  # also for NaN


def loop(first: Any, last: Any, body: Callable[[Any, Any], Any], state: Any) -> Any:
    """Return the state after ``state = body(i, state)`` for i from `first` to `last` − 1."""
    if name() == "tensorflow":
        import tensorflow as tf

        def step(i: Any, arrays: list[Any]) -> tuple[Any, list[Any]]:
            return i + 1, arrays_of(body(i, pack_as(state, arrays)))

        start = (tf.convert_to_tensor(first), arrays_of(state))
        return pack_as(state, tf.while_loop(lambda i, _: i < last, step, start, parallel_iterations=1)[1])
    import jax

    return jax.lax.fori_loop(first, last, body, state)


def divide(numbers: Any, divisor: Any) -> tuple[Any, Any]:
    """Return the quotients and remainders of nonnegative int32; `//` and `%` also provide for negative ones."""
    if name() == "tensorflow":
        import tensorflow as tf

        return tf.truncatediv(numbers, divisor), tf.truncatemod(numbers, divisor)
    if name() == "torch":
        return numbers // divisor, numbers % divisor
    import jax

    divisor = jax.numpy.broadcast_to(jax.numpy.asarray(divisor, "int32"), numbers.shape)
    return jax.lax.div(numbers, divisor), jax.lax.rem(numbers, divisor)


def sum_rows(array: Any) -> Any:
    """Return the sums of the rows of an array `[L, n]`, `[L]`, added in the same order for each of several agents.

    XLA chooses the order of a plain sum, and on JAX, for a group of agents in one program (`vectorized`), another one
    than for an agent alone. On TensorFlow there are no such groups, and it compiles faster.
    """
    from keras import ops

    if name() == "tensorflow":
        return ops.sum(array, axis=1)
    while (length := array.shape[1]) > 1:
        half = length // 2
        added = array[:, :half] + array[:, half : 2 * half]
        array = ops.concatenate([added, array[:, 2 * half :]], axis=1) if length % 2 else added
    return array[:, 0]


def random_bits(seed: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Return random int32 of `shape` from the counter-based generator Threefry, keyed by `seed` and `index`.

    Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (2011).
    """
    if name() == "tensorflow":
        import tensorflow as tf

        return tf.random.stateless_uniform(shape, tf.stack([seed, index]), None, None, tf.int32, alg="threefry")
    import jax

    key = jax.random.key_data(jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), index))
    # These are the bits of `jax.random.bits`, in half the time: on CPUs, that writes to memory every four rounds.
    count = jax.lax.iota("uint32", math.prod(shape))
    first, second = threefry(key, jax.numpy.zeros_like(count), count)
    return jax.numpy.reshape(first ^ second, shape).astype("int32")


ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key: Any, first: Any, second: Any) -> tuple[Any, Any]:
    """Return the 64 random bits of each 64-bit count, as two halves: Threefry-2x32 with 20 rounds, on JAX.

    Args:
        key: uint32 `[2]`.
        first: uint32 `[n]`, the upper half of the counts.
        second: uint32 `[n]`, the lower half.
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA)
    first, second = first + keys[0], second + keys[1]
    for group in range(5):
        for distance in ROTATIONS[group % 2]:
            first = first + second
            second = (second << distance | second >> (32 - distance)) ^ first
        first, second = first + keys[(group + 1) % 3], second + keys[(group + 2) % 3] + (group + 1)
    return first, second


def naturals(bits: Any) -> Any:
    """Convert random bits to int32 from 0 to 2³¹ − 1."""
    from keras import ops

    return ops.bitwise_and(bits, 0x7FFFFFFF)


def fractions(bits: Any) -> Any:
    """Convert random bits to float32 in [0, 1), multiples of 2⁻²⁴."""
    from keras import ops

    return ops.cast(ops.bitwise_and(ops.right_shift(bits, 8), 0xFFFFFF), "float32") * 2.0**-24


def as_float(bits: Any) -> Any:
    """Return the float32 numbers that int32 `bits` encode."""
    if name() == "tensorflow":
        import tensorflow as tf

        return tf.bitcast(bits, tf.float32)
    if name() == "torch":
        import torch

        return bits.view(torch.float32)
    import jax

    return jax.lax.bitcast_convert_type(bits, "float32")


def as_bits(numbers: Any) -> Any:
    """Return the int32 bits that encode float32 `numbers`; the inverse of `as_float`."""
    if name() == "tensorflow":
        import tensorflow as tf

        return tf.bitcast(numbers, tf.int32)
    if name() == "torch":
        import torch

        return numbers.view(torch.int32)
    import jax

    return jax.lax.bitcast_convert_type(numbers, "int32")


def pullback(function: Callable[..., Any], values: Sequence[Any]) -> tuple[Any, Callable[[Any], list[Any]]]:
    """Return ``function(*values)`` and the map from dE/d(result) to dE/d(each of the arrays `values`)."""
    result, back, _ = pullback_of_first(lambda *arrays: (function(*arrays), ()), values)
    return result, back


def pullback_of_first(
    function: Callable[..., tuple[Any, Any]], values: Sequence[Any]
) -> tuple[Any, Callable[[Any], list[Any]], Any]:
    """Return the `pullback` of the first of the two results of a function, and the second result."""
    if name() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(persistent=True) as tape:
            tape.watch(values)
            result, other = function(*values)

        def back(upstream: Any) -> list[Any]:
            found = tape.gradient(result, list(values), upstream, unconnected_gradients="zero")
            return [tf.convert_to_tensor(gradient) for gradient in found]  # that of a gather is a list of rows

        return result, back, other
    if name() == "torch":
        import torch

        with torch.enable_grad():
            inputs = [value.detach().requires_grad_() for value in values]
            result, other = function(*inputs)

        def back_of_torch(upstream: Any) -> list[Any]:
            return list(torch.autograd.grad(result, inputs, upstream, allow_unused=True, materialize_grads=True))

        return result.detach(), back_of_torch, pack_as(other, [array.detach() for array in arrays_of(other)])
    import jax

    result, pull, other = jax.vjp(function, *values, has_aux=True)
    return result, lambda upstream: list(pull(upstream)), other
