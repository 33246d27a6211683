"""A compiled program with a state that stays on the device, on TensorFlow and JAX.

What its functions may be made of where `keras.ops` ends is in `xla`.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from deeptaxi.backend import first_call, name

IDLE = 4  # programs that are kept for trainings to come
LARGEST = 2**25  # bytes of a state whose program is kept
_idle: dict[Hashable, Program] = {}
_lent: Counter[Hashable] = Counter()  # how many of each kind come back one day


def borrow_program(kind: Hashable, functions: Mapping[str, Callable[..., Any]], state: Any, owner: object) -> Program:
    """Return a program in `state`: one of its kind that is idle, or one that is still to be compiled.

    Compiling takes longer than many a training does. Once nothing refers to `owner` any more, the program is idle.

    Args:
        kind: all that the functions depend on, and the shapes of their arguments.
        functions: as for `Program`.
        state: as for `Program`.
        owner: what uses the program.
    """
    kind = (kind, shapes_of(state))
    if kind not in _idle and _lent[kind]:
        gc.collect()  # a training that failed may be garbage that refers to itself, and hold its program
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
    """Keep a program; of too many, let the one go that has been idle longest."""
    _lent[kind] -= 1
    _idle[kind] = program
    while len(_idle) > IDLE:
        del _idle[next(iter(_idle))]


def shapes_of(arrays: Any) -> Any:
    """Return nested arrays with the type and the shape of each in its place."""
    if isinstance(arrays, tuple | list):
        return tuple(shapes_of(part) for part in arrays)
    return None if arrays is None else (str(arrays.dtype), arrays.shape)


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

    def reset(self, state: Any) -> None:
        """Put the program into another state of the same shapes."""
        self._inner.reset(state)

    def arguments(self, values: Any) -> Any:
        """Move nested arrays to the device."""
        return self._inner.arguments(values)


class _Jax:
    """The state is donated to each call, which gives its memory back with the new state in it."""

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
    """The state is in variables, which XLA changes in place; tensors would be copied at every call."""

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
            before = pack_as(self._structure, [variable.read_value() for variable in self._variables])
            for variable, value in zip(self._variables, arrays_of(function(before, *arguments)), strict=True):
                variable.assign(value)

        return compiled


def arrays_of(state: Any) -> list[Any]:
    """Return the arrays of a state in order; TensorFlow's loops and variables take no None."""
    if isinstance(state, tuple | list):
        return [array for part in state for array in arrays_of(part)]
    return [] if state is None else [state]


def pack_as(structure: Any, arrays: Sequence[Any]) -> Any:
    """Return the arrays in the places of those of `structure`."""
    import tensorflow as tf

    left = iter(arrays)
    flat = [None if item is None else next(left) for item in tf.nest.flatten(structure)]
    return tf.nest.pack_sequence_as(structure, flat)
