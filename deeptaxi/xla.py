"""What a compiled program is made of where `keras.ops` ends, on TensorFlow and JAX: the backends that compile by XLA.

With `backend.py` and `artifacts/export.py` the only file that knows the two apart. Functions on arrays are to be called
while a program is traced: inside a function that `Program` compiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deeptaxi.backend import first_call, name


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

    return jax.lax.dynamic_update_slice(array, values, (start, *rest))


def materialised(array: Any) -> Any:
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
            return i + 1, _arrays(body(i, _pack(state, arrays)))

        start = (tf.convert_to_tensor(first), _arrays(state))
        return _pack(state, tf.while_loop(lambda i, _: i < last, step, start, parallel_iterations=1)[1])
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


class Program:
    """Compiled functions of one state, which stays on the device between calls and is changed in place.

    Args:
        functions: by name, each a function of (state, *arguments) that returns the state after.
        state: nested tuples of arrays, or of None.
    """

    def __init__(self, functions: Mapping[str, Callable[..., Any]], state: Any) -> None:
        self._inner = (_TensorFlow if name() == "tensorflow" else _Jax)(functions, state)

    def __call__(self, function: str, *arguments: Any) -> None:
        """Run one of the functions, and wait for it; arguments come from `arguments`."""
        self._inner.call(function, *arguments)

    @property
    def state(self) -> Any:
        """The state, as arrays of the backend; not to be kept over a call."""
        return self._inner.state

    def arguments(self, values: Any) -> Any:
        """Move nested arrays to the device."""
        return self._inner.arguments(values)


class _Jax:
    """The state is donated to each call, which gives its memory back with the new state in it."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]], state: Any) -> None:
        import jax

        self.state = jax.tree.map(jax.numpy.array, state)
        self._compiled = {key: jax.jit(function, donate_argnums=0) for key, function in functions.items()}

    def arguments(self, values: Any) -> Any:
        import jax

        return jax.tree.map(jax.numpy.asarray, values)

    def call(self, function: str, *arguments: Any) -> None:
        import jax

        self.state = jax.block_until_ready(self._compiled[function](self.state, *arguments))


class _TensorFlow:
    """The state is in variables, which XLA changes in place; tensors would be copied at every call."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]], state: Any) -> None:
        import tensorflow as tf

        self._structure = state
        self._variables = [tf.Variable(value) for value in _arrays(state)]
        self._functions = functions
        self._compiled: dict[str, Any] = {}

    @property
    def state(self) -> Any:
        return _pack(self._structure, [variable.value() for variable in self._variables])

    def arguments(self, values: Any) -> Any:
        import tensorflow as tf

        return tf.nest.map_structure(lambda value: None if value is None else tf.convert_to_tensor(value), values)

    def call(self, function: str, *arguments: Any) -> None:
        if function not in self._compiled:
            # Calling the concrete function skips the tracer's look-up.
            concrete = self._compile(self._functions[function]).get_concrete_function(*arguments)
            self._compiled[function] = concrete
            first_call(concrete, arguments)
        else:
            self._compiled[function](*arguments)

    def _compile(self, function: Callable[..., Any]) -> Any:
        import tensorflow as tf

        @tf.function(jit_compile=True, autograph=False)
        def compiled(*arguments: Any) -> None:
            before = _pack(self._structure, [variable.read_value() for variable in self._variables])
            for variable, value in zip(self._variables, _arrays(function(before, *arguments)), strict=True):
                variable.assign(value)

        return compiled


def _arrays(state: Any) -> list[Any]:
    """Return the arrays of a state in order; TensorFlow's loops and variables take no None."""
    import tensorflow as tf

    return [value for value in tf.nest.flatten(state) if value is not None]


def _pack(structure: Any, arrays: Sequence[Any]) -> Any:
    """Return the arrays in the places of those of `structure`."""
    import tensorflow as tf

    left = iter(arrays)
    flat = [None if item is None else next(left) for item in tf.nest.flatten(structure)]
    return tf.nest.pack_sequence_as(structure, flat)
