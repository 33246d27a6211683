"""A compiled program whose state stays on the device, on TensorFlow and JAX.

Operations that `keras.ops` lacks are in `xla`.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from deeptaxi.backend.keras_backend import first_call, name

IDLE = 4  # idle programs kept for later trainings
LARGEST = 2**25  # bytes: programs with a larger state are not kept
_idle: dict[Hashable, Program] = {}
_lent: Counter[Hashable] = Counter()  # programs of each kind in use


def borrow_program(kind: Hashable, functions: Mapping[str, Callable[..., Any]], state: Any, owner: object) -> Program:
    """Return a program with the given state: an idle one of its kind, or a new one to be compiled.

    Compiling takes longer than many trainings. The program becomes idle once `owner` is garbage.

    Args:
        kind: everything that the functions and the shapes of their arguments depend on.
        functions: as for `Program`.
        state: as for `Program`.
        owner: what uses the program.
    """
    kind = (kind, shapes_of(state))
    if kind not in _idle and _lent[kind]:
        gc.collect()  # a failed training may be cyclic garbage that still holds its program
    program = _idle.pop(kind, None)
    if program is None:
        program = Program(functions, state)
    else:
        program.reset(state)
    if sum(array.nbytes for array in arrays_of(state)) <= LARGEST:
        _lent[kind] += 1
        weakref.finalize(owner, _put_back, kind, program).atexit = False
    return program


def _put_back(kind: Hashable, program: Program) -> None:
    """Return a program to the pool; drop the one that has been idle longest if there are too many."""
    _lent[kind] -= 1
    _idle[kind] = program
    while len(_idle) > IDLE:
        del _idle[next(iter(_idle))]


def shapes_of(arrays: Any) -> Any:
    """Return nested arrays with each array replaced by its dtype and shape."""
    if isinstance(arrays, tuple | list):
        return tuple(shapes_of(part) for part in arrays)
    return None if arrays is None else (str(arrays.dtype), arrays.shape)


class Program:
    """Compiled functions of one state, which stays on the device between calls and is updated in place.

    Args:
        functions: by name; each takes (state, *arguments) and returns the new state.
        state: nested tuples of arrays or None.
    """

    def __init__(self, functions: Mapping[str, Callable[..., Any]], state: Any) -> None:
        self._inner = (_TensorFlow if name() == "tensorflow" else _Jax)(functions, state)

    def __call__(self, function: str, *arguments: Any) -> None:
        """Run a function and wait for it; prepare its arguments with `arguments`."""
        self._inner.call(function, *arguments)

    @property
    def state(self) -> Any:
        """The state, as arrays of the backend; invalid after the next call."""
        return self._inner.state

    def reset(self, state: Any) -> None:
        """Replace the state by another of the same shapes."""
        self._inner.reset(state)

    def arguments(self, values: Any) -> Any:
        """Move nested arrays to the device."""
        return self._inner.arguments(values)


class _Jax:
    """The state is donated to each call, which reuses its memory for the new state."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]], state: Any) -> None:
        import jax

        self._compiled = {key: jax.jit(function, donate_argnums=0) for key, function in functions.items()}
        self.reset(state)

    def reset(self, state: Any) -> None:
        import jax

        self.state = jax.tree.map(jax.numpy.array, state)

    def arguments(self, values: Any) -> Any:
        import jax

        return jax.tree.map(jax.numpy.asarray, values)

    def call(self, function: str, *arguments: Any) -> None:
        import jax

        self.state = jax.block_until_ready(self._compiled[function](self.state, *arguments))


class _TensorFlow:
    """The state is held in variables, which XLA updates in place; tensors would be copied on every call."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]], state: Any) -> None:
        import tensorflow as tf

        self._structure = state
        self._variables = [tf.Variable(value) for value in arrays_of(state)]
        self._functions = functions
        self._compiled: dict[str, Any] = {}

    def reset(self, state: Any) -> None:
        for variable, value in zip(self._variables, arrays_of(state), strict=True):
            variable.assign(value)

    @property
    def state(self) -> Any:
        return pack_as(self._structure, [variable.value() for variable in self._variables])

    def arguments(self, values: Any) -> Any:
        import tensorflow as tf

        return tf.nest.map_structure(lambda value: None if value is None else tf.convert_to_tensor(value), values)

    def call(self, function: str, *arguments: Any) -> None:
        if function not in self._compiled:
            # Calling the concrete function skips the tracer's lookup.
            concrete = self._compile(self._functions[function]).get_concrete_function(*arguments)
            self._compiled[function] = concrete
            first_call(concrete, arguments)
        else:
            self._compiled[function](*arguments)

    def _compile(self, function: Callable[..., Any]) -> Any:
        import tensorflow as tf

        @tf.function(jit_compile=True, autograph=False)
        def compiled(*arguments: Any) -> None:
            before = pack_as(self._structure, [variable.read_value() for variable in self._variables])
            for variable, value in zip(self._variables, arrays_of(function(before, *arguments)), strict=True):
                variable.assign(value)

        return compiled


def arrays_of(state: Any) -> list[Any]:
    """Flatten a state into a list of arrays; TensorFlow's loops and variables do not accept None."""
    if isinstance(state, tuple | list):
        return [array for part in state for array in arrays_of(part)]
    return [] if state is None else [state]


def pack_as(structure: Any, arrays: Sequence[Any]) -> Any:
    """Pack the arrays into the structure of `structure`."""
    import tensorflow as tf

    left = iter(arrays)
    flat = [None if item is None else next(left) for item in tf.nest.flatten(structure)]
    return tf.nest.pack_sequence_as(structure, flat)
