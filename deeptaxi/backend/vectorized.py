"""Several trainings at once on JAX: the states of their programs stacked, and their calls made as one by `jax.vmap`.

Each training is a task in a thread of its own, but only one thread runs at a time, in turn: until it calls its program,
or ends. Once all of them wait for a call, which is of the same function and the same updates for all, it is made for
all. What differs from task to task, such as the seed, is stacked too; what does not, such as the transition table, is
there once. Tasks that end leave their rows, which are dropped when they are half.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar, copy_context
from typing import Any, Generic, TypeVar

import numpy as np

from deeptaxi.backend.nested_arrays import Answer, arrays_of, pack_as

T = TypeVar("T")


class AbandonedError(BaseException):
    """Raised in a task whose result is not wanted any more, to end it."""


class Task(Generic[T]):
    """A function that runs in turn with others, and waits with them at each call of its program.

    Args:
        function: what it runs.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._turn, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._result: T | None = None
        self._error: BaseException | None = None
        self._abandoned = False
        self.ended = False
        self.program: TaskProgram | None = None
        self._thread = threading.Thread(target=copy_context().run, args=(self._run,), daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._turn.acquire()
        current_task.set(self)
        try:
            if not self._abandoned:
                self._result = self._function()
        except BaseException as error:  # which is raised where the result is asked for
            self._error = error
        finally:
            self.ended = True
            self._paused.release()

    def resume(self) -> None:
        """Run it until it pauses or ends."""
        self._turn.release()
        self._paused.acquire()

    def pause(self) -> None:
        """Let the others run, in its own thread, until it is resumed."""
        self._paused.release()
        self._turn.acquire()
        if self._abandoned:
            raise AbandonedError

    def abandon(self) -> None:
        """End it without a result."""
        self._abandoned = True
        self._turn.release()
        self._thread.join()

    def result(self) -> T:
        """Return its result, or raise its error."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


current_task: ContextVar[Task[Any] | None] = ContextVar("current_task", default=None)


class TaskProgram:
    """The program of one task: a row of the stacked one. A `Program`, whose functions and state it has at first.

    Attributes:
        functions: as for `Program`.
        initial: the state before the first call; as arrays of NumPy.
        request: the function that it waits for, and its arguments.
        value: what that function returned besides the state.
    """

    in_step = True

    def __init__(self, task: Task[Any], functions: Mapping[str, Callable[..., Any]], state: Any) -> None:
        self.functions, self.initial = functions, state
        self.request: tuple[str, tuple[Any, ...]] = ("", ())
        self.value: Any = None
        self.stack: Stack | None = None
        self._task = task
        task.program = self

    def __call__(self, function: str, *arguments: Any) -> Any:
        """Run a function together with the other tasks."""
        self.request = (function, arguments)
        self._task.pause()
        value, self.value = self.value, None
        return value

    @property
    def state(self) -> Any:
        """The state, as arrays of NumPy."""
        return self.read(lambda state: state)

    def read(self, part: Callable[[Any], Any]) -> Any:
        """Return a part of the state."""
        return part(self.initial) if self.stack is None else self.stack.read(self, part)

    def reset(self, state: Any) -> None:
        """Replace the state, before the first call.

        Raises:
            ValueError: there was a call.
        """
        if self.stack is not None:
            raise ValueError("tasks that run together cannot be reset")
        self.initial = state

    def arguments(self, values: Any) -> Any:
        """Return arguments as they are: they are moved to the device with those of the other tasks."""
        return values

    def argument(self, buffer: Any) -> Any:
        """Return an argument for the next call alone, as it is."""
        return buffer


class Stack:
    """The stacked programs of T tasks, arrays `[T, …]` of their states, and the functions compiled for them.

    Args:
        programs: of the tasks, which are alike.
    """

    def __init__(self, programs: Sequence[TaskProgram]) -> None:
        import jax

        self._programs = list(programs)  # by row
        self._structure = programs[0].initial
        states = [arrays_of(program.initial) for program in programs]
        self._arrays = [jax.numpy.asarray(np.stack(same)) for same in zip(*states, strict=True)]
        self._places = pack_as(self._structure, range(len(self._arrays)))  # where each array of a state is
        self._host: dict[int, Any] = {}  # the arrays that were asked for since the last call
        self._compiled: dict[tuple[str, tuple[int | None, ...]], Callable[..., Any]] = {}
        self._constants: dict[tuple[int, ...], tuple[Sequence[Any], Any, int | None]] = {}
        for program in programs:
            program.stack, program.initial = self, None

    def read(self, program: TaskProgram, part: Callable[[Any], Any]) -> Any:
        """Return a part of the state of one program."""
        found, row = part(self._places), self._programs.index(program)
        places = arrays_of(found)
        for place in places:
            if place not in self._host:
                self._host[place] = np.array(self._arrays[place])  # a copy: the next call reuses the memory
        return pack_as(found, [self._host[place][row] for place in places])

    def call(self, programs: Sequence[TaskProgram]) -> None:
        """Make the call that all `programs` wait for; others of the stack have ended.

        Raises:
            RuntimeError: they wait for different calls.
        """
        import jax

        self._drop_ended(programs)
        function, arguments = programs[0].request
        if any(program.request[0] != function for program in programs):
            raise RuntimeError("trainings that run together have come to different calls")
        asked = {program: program.request[1] for program in programs}
        leaves = [arrays_of(asked.get(program, arguments)) for program in self._programs]  # what has ended, as another
        values, axes = zip(*map(self._stacked, zip(*leaves, strict=True)), strict=True)
        key = function, axes
        if key not in self._compiled:
            self._compiled[key] = self._compile(programs[0].functions[function], arguments, axes)
        self._host.clear()
        self._arrays, value = self._compiled[key](self._arrays, *values)
        jax.block_until_ready(self._arrays)  # type: ignore[no-untyped-call]
        for program in programs:
            program.value = None if value is None else np.array(value[self._programs.index(program)])

    def _drop_ended(self, left: Sequence[TaskProgram]) -> None:
        """Drop the rows of programs that have ended, if they are half; until then, they are computed in vain."""
        import jax

        kept = [row for row, program in enumerate(self._programs) if program in left]
        if len(kept) * 2 > len(self._programs):
            return
        rows = jax.numpy.asarray(kept)
        self._arrays = [array[rows] for array in self._arrays]
        self._programs = [self._programs[row] for row in kept]
        self._host.clear()
        self._constants.clear()

    def _stacked(self, leaves: Sequence[Any]) -> tuple[Any, int | None]:
        """Return one argument of all tasks, and the axis along which it is stacked; None if it is the same for all."""
        import jax

        key = tuple(map(id, leaves))
        if key in self._constants:
            return self._constants[key][1:]
        same = all(leaf is leaves[0] or np.array_equal(leaf, leaves[0]) for leaf in leaves[1:])
        value = jax.numpy.asarray(leaves[0] if same else np.stack(leaves))
        axis = None if same else 0
        if np.ndim(leaves[0]):  # numbers may change from call to call
            self._constants[key] = leaves, value, axis
        return value, axis

    def _compile(
        self, function: Callable[..., Any], structure: Any, axes: tuple[int | None, ...]
    ) -> Callable[..., Any]:
        """Return a function of the stacked arrays of the state, and of the arguments that `axes` describe."""
        import jax

        def one(arrays: list[Any], *arguments: Any) -> tuple[list[Any], Any]:
            returned = function(pack_as(self._structure, arrays), *pack_as(structure, arguments))
            state, value = returned if isinstance(returned, Answer) else (returned, None)
            return arrays_of(state), value

        return jax.jit(jax.vmap(one, in_axes=(0, *axes)), donate_argnums=0)


def run_together(functions: Sequence[Callable[[], T]]) -> Iterator[T]:
    """Run functions whose programs are alike together, and yield their results as they end.

    Args:
        functions: each calls one program, as often as the others and with the same numbers until it ends.
    """
    tasks: list[Task[T]] = [Task(function) for function in functions]
    stack: Stack | None = None
    try:
        while tasks:
            for task in tasks.copy():
                task.resume()
                if task.ended:
                    tasks.remove(task)
                    yield task.result()
            waiting = [task.program for task in tasks if task.program is not None]
            if not waiting:
                continue
            if stack is None:
                stack = Stack(waiting)
            stack.call(waiting)
    finally:
        for task in tasks:
            task.abandon()


def on_accelerator() -> bool:
    """Return whether JAX computes on a GPU or TPU."""
    import jax

    return bool(jax.default_backend() != "cpu")
