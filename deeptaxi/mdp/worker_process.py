"""What a worker process of `mdp.workers` runs: it makes its share of the copies, and answers what it is asked.

A message is its length and a pickle. The training's process asks with a method's name and arguments; the worker answers
with what the method returns, or with a `Failure`. What it is doing is in its marks, a page of memory that both
processes see: they remain when it dies.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import random
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

import gymnasium
import numpy as np

from deeptaxi.errors import DeepTaxiError, EnvironmentFailedError, UsageError, one_line
from deeptaxi.mdp.contract import blaming
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.unfinished_episodes import RestorableVectorEnv
from deeptaxi.mdp.vector_env import NumberedEnv

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU", "SIGBREAK")  # that end a training
LENGTH = struct.Struct("<Q")  # before each message
MARK = struct.Struct("<qq")  # what a worker is doing, and to which of its copies
WAITING, MAKING, STEPPING, RESETTING = range(4)


class Setup(NamedTuple):
    """What a worker makes its copies from."""

    registered: dict[str, bytes]  # environments by their ids, pickled
    environment: Environment
    masks: bool
    dtype: Any  # of the states


@dataclass(frozen=True)
class Failure:
    """Why a worker has no answer: an error of the environment, or it died.

    Attributes:
        doing: what the worker was doing; -1 if that is unknown.
        copy: to which of its copies.
        error: of the environment; None if the worker died.
        traceback: of the error, as text.
        exit_code: of a worker that died; -n if signal n killed it.
    """

    doing: int
    copy: int
    error: DeepTaxiError | None = None
    traceback: str = ""
    exit_code: int = 0


def write_message(file: IO[bytes], message: bytes) -> None:
    """Write a message and its length."""
    file.write(LENGTH.pack(len(message)) + message)
    file.flush()


def read_message(file: IO[bytes]) -> bytes | None:
    """Return a message; None at the end of the file."""
    head = file.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    message = file.read(length)
    return message if len(message) == length else None


class Marks:
    """What the worker is doing, and to which copy; `memory` shows it to the training's process."""

    def __init__(self, memory: mmap.mmap | None) -> None:
        self.doing, self.copy = WAITING, 0
        self._memory = memory

    def set(self, doing: int, copy: int = 0) -> None:
        """Mark what comes next."""
        self.doing, self.copy = doing, copy
        if self._memory is not None:
            MARK.pack_into(self._memory, 0, doing, copy)


class MarkedEnv(NumberedEnv):
    """Marks each reset and step."""

    marks: Marks
    copy: int

    def reset(self, **given: Any) -> tuple[int, dict[str, Any]]:
        """Reset the environment; return the state."""
        self.marks.set(RESETTING, self.copy)
        return super().reset(**given)

    def step(self, action: Any) -> tuple[int, Any, bool, bool, dict[str, Any]]:
        """Step the environment; return the state."""
        self.marks.set(STEPPING, self.copy)
        return super().step(action)


class Share:
    """The copies of one worker."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._name = "of this training"
        self._vector = RestorableVectorEnv([], 0)
        self._random_state: Any = None

    def answer(self, method: str, arguments: tuple[Any, ...]) -> bytes:
        """Call a method; return what it returns, or the failure, pickled."""
        try:
            function: Callable[..., Any] = getattr(self, method, None) or getattr(self._vector, method)
            with blaming(self._name):
                message = pickle.dumps(function(*arguments), 5)
        except DeepTaxiError as error:
            trace = "".join(traceback.format_exception(error))
            own = type(error).__module__.startswith("deeptaxi.")  # else it may not be known there
            known = error if own else EnvironmentFailedError(str(error))
            message = pickle.dumps(Failure(self._marks.doing, self._marks.copy, known, trace), 5)
        self._marks.set(WAITING)
        return message

    def make(self, setup: bytes, count: int) -> None:
        """Make the copies.

        Raises:
            DeepTaxiError: they cannot be made here.
        """
        self._marks.set(MAKING)
        try:
            registered, environment, masks, dtype = pickle.loads(setup)  # noqa: S301  # of our own process
        except Exception as error:  # what is imported may raise anything
            raise UsageError(
                f"--workers: a worker cannot import what the environment is made of ({type(error).__name__}: "
                f"{one_line(error)}): leave out --workers, or put it where Python finds it"
            ) from error
        for name, spec in registered.items():
            with suppress(Exception):  # what cannot be imported is reported if it is needed
                gymnasium.registry.setdefault(name, pickle.loads(spec))  # noqa: S301  # as above
        self._name = environment.config.id
        envs: list[MarkedEnv] = []
        with blaming(self._name):
            for copy in range(count):
                self._marks.set(MAKING, copy)
                env = environment.make_numbered(masks, cls=MarkedEnv)
                env.marks, env.copy = self._marks, copy
                envs.append(env)
        self._vector = RestorableVectorEnv(envs, environment.first_action, dtype)
        self._random_state = global_random_state()

    def begin(self, seeds: Sequence[int]) -> tuple[list[int], dict[str, Any]]:
        """Reset every copy with its seed; return the states `[N]` and the masks that are shown."""
        states, shown = self._vector.begin(seeds)
        return states.tolist(), shown

    def step(self, actions: Sequence[int]) -> tuple[Any, ...]:
        """Return `Steps` as lists, which are pickled in a tenth of the time of arrays; of resets only their states."""
        steps = self._vector.step_and_reset(np.array(actions, np.int32))
        begun = [] if steps.begun is None else steps.begun[steps.terminated | steps.truncated].tolist()
        return (*(column.tolist() for column in steps[:4]), steps.shown, begun, steps.begun_shown)

    def draws_from_process(self) -> bool:
        """Return whether the copies drew from the random numbers of this process."""
        return bool(self._random_state != global_random_state())

    def close(self) -> None:
        """Close all copies."""
        self._vector.close()


def global_random_state() -> Any:
    """Return the states of the random number generators of this process: those of `random` and `np.random`."""
    own, legacy = random.getstate(), np.random.get_state(legacy=False)  # noqa: NPY002  # whether others drew from it
    return own, repr(legacy), legacy["state"]["key"].tobytes()


def serve(parent: int, marks: int | None) -> None:
    """Answer the training's process until it leaves; the worker's main function.

    What environments print goes to standard error, as standard output has the answers.

    Args:
        parent: the training's process.
        marks: the file of the marks.
    """
    ignore_signals()
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    redirect_standard_streams()
    threading.Thread(target=exit_with_parent, args=(parent,), daemon=True).start()
    share = Share(Marks(None if marks is None else mmap.mmap(marks, MARK.size)))
    with closing(share):
        for method, arguments in messages(requests):
            try:
                write_message(answers, share.answer(method, arguments))
            except OSError:  # the training has ended
                break


def messages(file: IO[bytes]) -> Iterator[Any]:
    """Yield what is asked until the end of the file."""
    while (message := read_message(file)) is not None:
        yield pickle.loads(message)  # noqa: S301  # of our own process


def ignore_signals() -> None:
    """Ignore the signals that end a training, which then ends its workers.

    By functions, which processes that an environment starts do not inherit.
    """
    for number in ending_signals():
        signal.signal(number, lambda *_: None)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ending_signals())


def ending_signals() -> list[signal.Signals]:
    """Return the signals that end a training, of those that this system has."""
    return [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]


def redirect_standard_streams() -> None:
    """Let code of the environment read nothing, and print to standard error."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # there is none
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
    os.close(nothing)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def exit_with_parent(parent: int) -> None:
    """End this process, whatever it is doing, once the training's process is gone."""
    while os.name != "posix" or os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
