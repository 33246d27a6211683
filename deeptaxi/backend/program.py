"""A program whose state stays on the device, compiled on TensorFlow and JAX.

On PyTorch it is run as it stands, without gradients but where they are asked for.

Operations that `keras.ops` lacks are in `xla`.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeptaxi.backend.keras_backend import first_call, name
from deeptaxi.backend.nested_arrays import Answer, arrays_of, pack_as
from deeptaxi.backend.vectorized import TaskProgram, current_task

IDLE = 4  # idle programs kept for later trainings
LARGEST = 2**25  # bytes: programs with a larger state are not kept
_idle: dict[Hashable, Program] = {}
_lent: Counter[Hashable] = Counter()  # programs of each kind in use


def borrow_program(
    kind: Hashable, functions: Mapping[str, Callable[..., Any]], state: Any, owner: object
) -> Program | TaskProgram:
    """Return a program with the given state: an idle one of its kind, or a new one to be compiled.

    Among trainings that run together (`vectorized`), it is the row of one in a program that is theirs.

    Compiling takes longer than many trainings. The program becomes idle once `owner` is garbage.

    Args:
        kind: everything that the functions and the shapes of their arguments depend on; None for a program of its own.
        functions: as for `Program`.
        state: as for `Program`.
        owner: what uses the program.
    """
    task = current_task.get()
    if task is not None:
        return TaskProgram(task, functions, state)
    if kind is None:
        return Program(functions, state)
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
        functions: by name; each takes (state, *arguments) and returns the new state, or an `Answer`.
        state: nested tuples of arrays or None.
    """

    in_step = False  # with other programs

    def __init__(self, functions: Mapping[str, Callable[..., Any]], state: Any) -> None:
        inner: Any = {"tensorflow": _TensorFlow, "jax": _Jax, "torch": _Torch}[name()]
        self._inner = inner(functions, state)

    def __call__(self, function: str, *arguments: Any) -> Any:
        """Run a function, wait for it, and return the value of its answer; prepare its arguments with `arguments`."""
        return self._inner.call(function, *arguments)

    @property
    def state(self) -> Any:
        """The state, as arrays of the backend (of NumPy on PyTorch); invalid after the next call."""
        return self._inner.state

    def read(self, part: Callable[[Any], Any]) -> Any:
        """Return a part of the state, such as ``lambda state: state.agent``; faster than the whole of it."""
        return self._inner.read(part)

    def reset(self, state: Any) -> None:
        """Replace the state by another of the same shapes."""
        self._inner.reset(state)

    def arguments(self, values: Any) -> Any:
        """Move nested arrays to the device."""
        return self._inner.arguments(values)

    def argument(self, buffer: NDArray[Any]) -> Any:
        """Return an argument for the next call alone that shares the memory of an `aligned_buffer`."""
        return self._inner.argument(buffer)


ALIGNMENT = 64  # bytes: the backends copy what begins elsewhere, which takes as long as a small program


def aligned_buffer(size: int, dtype: Any) -> NDArray[Any]:
    """Return an empty array `[size]` whose memory backends take as it is."""
    itemsize = np.dtype(dtype).itemsize
    whole = np.empty(size * itemsize + ALIGNMENT, np.uint8)
    begin = -whole.ctypes.data % ALIGNMENT
    return whole[begin : begin + size * itemsize].view(dtype)


class _Jax:
    """The state is donated to each call, which reuses its memory for the new state."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]], state: Any) -> None:
        import jax

        self._compiled = {key: jax.jit(function, donate_argnums=0) for key, function in functions.items()}
        self.reset(state)

    def reset(self, state: Any) -> None:
        import jax

        self.state = jax.tree.map(jax.numpy.array, state)

    def read(self, part: Callable[[Any], Any]) -> Any:
        return part(self.state)

    def arguments(self, values: Any) -> Any:
        import jax

        return jax.tree.map(jax.numpy.asarray, values)

    def argument(self, buffer: NDArray[Any]) -> Any:
        return buffer

    def call(self, function: str, *arguments: Any) -> Any:
        import jax

        returned = jax.block_until_ready(self._compiled[function](self.state, *arguments))
        self.state, value = returned if isinstance(returned, Answer) else (returned, None)
        return value


class _TensorFlow:
    """The state is held in variables, which XLA updates in place; tensors would be copied on every call."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]], state: Any) -> None:
        import tensorflow as tf

        self._structure = state
        self._variables = [tf.Variable(value) for value in arrays_of(state)]
        self._packed = pack_as(state, self._variables)
        self._functions = functions
        self._compiled: dict[str, Callable[[list[Any]], Any]] = {}

    def reset(self, state: Any) -> None:
        import tensorflow as tf

        for variable, value in zip(self._variables, arrays_of(state), strict=True):
            tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)  # `assign` takes three times as long

    @property
    def state(self) -> Any:
        return self.read(lambda state: state)

    def read(self, part: Callable[[Any], Any]) -> Any:
        found = part(self._packed)
        return pack_as(found, [variable.value() for variable in arrays_of(found)])  # kept, it would be copied

    def arguments(self, values: Any) -> Any:
        import tensorflow as tf

        return pack_as(values, list(map(tf.convert_to_tensor, arrays_of(values))))

    def argument(self, buffer: NDArray[Any]) -> Any:
        import tensorflow as tf

        return tf.experimental.dlpack.from_dlpack(buffer.__dlpack__())

    def call(self, function: str, *arguments: Any) -> Any:
        tensors = arrays_of(arguments)
        if function not in self._compiled:
            concrete = self._compile(self._functions[function], arguments).get_concrete_function(*tensors)
            self._compiled[function] = concrete_call(concrete)
            return first_call(concrete, tensors)
        return self._compiled[function](tensors)

    def _compile(self, function: Callable[..., Any], structure: Any) -> Any:
        import tensorflow as tf

        structure = tf.nest.map_structure(lambda value: None if value is None else 0, structure)

        @tf.function(jit_compile=True, autograph=False)
        def compiled(*tensors: Any) -> Any:
            arguments = pack_as(structure, tensors)
            before = pack_as(self._structure, [variable.read_value() for variable in self._variables])
            returned = function(before, *arguments)
            after, value = returned if isinstance(returned, Answer) else (returned, None)
            for variable, new in zip(self._variables, arrays_of(after), strict=True):
                variable.assign(new)
            return value

        return compiled


class _Torch:
    """The state is replaced by what a call returns; parts of it are changed in place (`xla.put`)."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]], state: Any) -> None:
        self._functions = functions
        self.reset(state)

    def reset(self, state: Any) -> None:
        self._state = self._tensors(state)

    @property
    def state(self) -> Any:
        return self.read(lambda state: state)

    def read(self, part: Callable[[Any], Any]) -> Any:
        found = part(self._state)
        return pack_as(found, [tensor.numpy(force=True).copy() for tensor in arrays_of(found)])

    def arguments(self, values: Any) -> Any:
        return self._tensors(values)

    def argument(self, buffer: NDArray[Any]) -> Any:
        return self._tensors(buffer)

    def call(self, function: str, *arguments: Any) -> Any:
        import torch

        with torch.no_grad():
            returned = self._functions[function](self._state, *arguments)
        self._state, value = returned if isinstance(returned, Answer) else (returned, None)
        return None if value is None else value.numpy(force=True)

    @staticmethod
    def _tensors(values: Any) -> Any:
        """Copy nested arrays to tensors of the device."""
        import torch
        from keras import ops

        return pack_as(values, [ops.convert_to_tensor(torch.tensor(np.asarray(array))) for array in arrays_of(values)])


def concrete_call(concrete: Any) -> Callable[[list[Any]], Any]:
    """Return what calls a concrete function of TensorFlow with a list of tensors.

    Its `__call__` matches arguments to a signature, which takes as long as a small program; where this TensorFlow has
    the method that it calls then, that is called at once.
    """
    flat, captured = getattr(concrete, "_call_flat", None), concrete.captured_inputs
    if flat is None:
        return lambda tensors: concrete(*tensors)

    def call(tensors: list[Any]) -> Any:
        returned = flat(tensors, captured)
        return returned[0] if isinstance(returned, list | tuple) else returned

    return call
