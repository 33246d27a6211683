"""A compiled program with a state that stays on the device, on TensorFlow and JAX.

What its functions may be made of where `keras.ops` ends is in `xla`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deeptaxi.backend import first_call, name


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
        self._variables = [tf.Variable(value) for value in arrays_of(state)]
        self._functions = functions
        self._compiled: dict[str, Any] = {}

    @property
    def state(self) -> Any:
        return packed(self._structure, [variable.value() for variable in self._variables])

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
            before = packed(self._structure, [variable.read_value() for variable in self._variables])
            for variable, value in zip(self._variables, arrays_of(function(before, *arguments)), strict=True):
                variable.assign(value)

        return compiled


def arrays_of(state: Any) -> list[Any]:
    """Return the arrays of a state in order; TensorFlow's loops and variables take no None."""
    import tensorflow as tf

    return [value for value in tf.nest.flatten(state) if value is not None]


def packed(structure: Any, arrays: Sequence[Any]) -> Any:
    """Return the arrays in the places of those of `structure`."""
    import tensorflow as tf

    left = iter(arrays)
    flat = [None if item is None else next(left) for item in tf.nest.flatten(structure)]
    return tf.nest.pack_sequence_as(structure, flat)
