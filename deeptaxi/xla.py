"""What a compiled program is made of where `keras.ops` ends, on TensorFlow and JAX: the backends that compile by XLA.

Of the few files that know the two apart (`backend`, `program`, `storage.export`). All of it is to be called while a
program is traced: inside a function that `program.Program` compiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from deeptaxi.backend import name
from deeptaxi.program import arrays_of, pack_as


def gather(array: Any, index: Any) -> Any:
    """Return ``array[index]`` along the first axis; every index must be from 0 on and inside.

    The result is laid out in memory, and not computed again in each place that uses it, as most results are.
    """
    if name() == "tensorflow":
        import tensorflow as tf

        return tf.gather(array, index)
    return array.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def scatter(array: Any, index: Any, values: Any) -> Any:
    """Return `array` with ``array[index] = values``; an index past the end writes nothing.

    Of a repeated index one value stays, the same one in every run.
    """
    if name() == "tensorflow":
        import tensorflow as tf

        return tf.tensor_scatter_nd_update(array, index[:, None], values)
    return array.at[index].set(values, mode="drop", wrap_negative_indices=False)


def scatter_add(array: Any, index: Any, values: Any) -> Any:
    """Return `array` with `values` added at `index`; a repeated index sums, one past the end adds nothing."""
    if name() == "tensorflow":
        import tensorflow as tf

        return tf.tensor_scatter_nd_add(array, index[:, None], values)
    return array.at[index].add(values, mode="drop", wrap_negative_indices=False)


def at(array: Any, index: Any) -> Any:
    """Return ``array[index]`` for a scalar index that is known only when the program runs."""
    if name() == "tensorflow":
        import tensorflow as tf

        return tf.gather(array, index)  # array[index] would make XLA compile anew at every call
    import jax

    return jax.lax.dynamic_index_in_dim(array, index, keepdims=False)


def put(array: Any, start: Any, values: Any) -> Any:
    """Return `array` with `values` in place of its rows from `start` on; all of them must fit."""
    rest = [0] * (len(array.shape) - 1)
    if name() == "tensorflow":
        import tensorflow as tf
        from tensorflow.compiler.tf2xla.python import xla

        return xla.dynamic_update_slice(array, values, tf.stack([start, *rest]))
    import jax

    return jax.lax.dynamic_update_slice(array, values, (start, *(jax.numpy.zeros_like(start) for _ in rest)))


def materialize(array: Any) -> Any:
    """Return `array`, laid out in memory as it is: the compiler may not merge it into what uses it."""
    if name() == "tensorflow":
        from tensorflow.compiler.tf2xla.python import xla

        return xla.optimization_barrier(array)[0]
    import jax

    return jax.lax.optimization_barrier(array)


def zero_after(array: Any) -> Any:
    """Return int32 zeros of the shape of `array`, which the compiler cannot know before it has `array`.

    An array that a step both reads and writes is changed in place only if the write depends on the reads; else the
    compiler copies all of it, at every step.
    """
    from keras import ops

    return ops.cast(ops.abs(array) < -1.0, "int32")  # of NaN too


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


def random_bits(seed: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """Return random int32 of `shape` by the counter-based generator Threefry, keyed by `seed` and `index`.

    Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (2011).
    """
    if name() == "tensorflow":
        import tensorflow as tf

        return tf.random.stateless_uniform(shape, tf.stack([seed, index]), None, None, tf.int32, alg="threefry")
    import jax

    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), index)
    return jax.random.bits(key, shape, "uint32").astype("int32")


def naturals(bits: Any) -> Any:
    """Return random bits as int32 from 0 to 2³¹ − 1."""
    from keras import ops

    return ops.bitwise_and(bits, 0x7FFFFFFF)


def fractions(bits: Any) -> Any:
    """Return random bits as float32 in [0, 1), multiples of 2⁻²⁴."""
    from keras import ops

    return ops.cast(ops.bitwise_and(ops.right_shift(bits, 8), 0xFFFFFF), "float32") * 2.0**-24


def pullback(function: Callable[..., Any], values: Sequence[Any]) -> tuple[Any, Callable[[Any], list[Any]]]:
    """Return ``function(*values)``, and what turns dE/d(result) into dE/d(each of the arrays `values`)."""
    if name() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(persistent=True) as tape:
            tape.watch(values)
            result = function(*values)
        return result, lambda upstream: list(tape.gradient(result, list(values), upstream))
    import jax

    result, back = jax.vjp(function, *values)
    return result, lambda upstream: list(back(upstream))
