"""Step the copies of an environment in worker processes.

Each worker makes a share of the copies, and does for them what `RestorableVectorEnv` does for all of them in one
process; what it runs is in `worker_process`. A step of all copies is one message to each worker and one back. Nothing
in the result depends on the number of workers: every copy is seeded by itself, and what all copies share, the numbering
of observations, stays in the training's process.

**A worker is not a fork**, which TensorFlow's threads would not survive, nor one of `multiprocessing`, which would
import the script that trains once more. It is a fresh interpreter with the import path of this one, so that what can be
imported here can be imported there. What cannot, such as a class of a script or notebook, is pickled by value, by
cloudpickle.

**Random numbers** of an environment belong to its copy, as those of `self.np_random` do. Generators of the process,
from which some draw, are shared by the copies of a process: the training warns of it.

**A worker that dies** takes the state of its copies along, so the training ends; its marks say what it was doing.
Workers ignore the signals that end a training, which closes them when it ends; without it they end by themselves.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from typing import IO, Any, NoReturn

import cloudpickle
import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from numpy.typing import NDArray

from deeptaxi.config import TrainConfig
from deeptaxi.errors import DeepTaxiError, EnvironmentFailedError, UsageError, one_line
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.numbering import NumberingCodec
from deeptaxi.mdp.unfinished_episodes import (
    Episode,
    Replayed,
    RestorableEnvs,
    RestorableVectorEnv,
    SavedEpisode,
    Steps,
)
from deeptaxi.mdp.worker_process import (
    MAKING,
    MARK,
    RESETTING,
    STEPPING,
    WAITING,
    Failure,
    Setup,
    ending_signals,
    read_message,
    write_message,
)

CLOSING = 1.0  # seconds that environments have to close, before their worker is killed


def open_copies(environment: Environment, count: int, masks: bool, workers: int | None) -> RestorableEnvs:
    """Create `count` copies of an environment, in this process or in a number of others.

    Args:
        environment: the environment.
        count: N.
        masks: whether they show the action mask.
        workers: the number of processes; None to step all copies in this one.

    Raises:
        UsageError: the environment cannot be sent to another process.
        EnvironmentFailedError: a copy cannot be made there.
    """
    if workers is None:
        return RestorableVectorEnv([environment.make_numbered(masks) for _ in range(count)], environment.first_action)
    return WorkerVectorEnv(environment, count, masks, workers)


def check_workers(config: TrainConfig, environment: Environment) -> None:
    """Reject worker processes that a training cannot use.

    Raises:
        UsageError: its loop steps no environments, there are fewer copies than workers, or the environment cannot be
            sent to another process.
    """
    workers, copies = config.interaction.workers, config.interaction.environments
    if workers is None:
        return
    if config.loop == "compiled":
        raise UsageError(
            f"--workers {workers}: the compiled loop steps no environment, as it has the transition table of "
            f"{environment.config.id}: leave out --workers, or use --loop gymnasium"
        )
    if workers > copies:
        raise UsageError(
            f"--workers {workers}: there are {copies} environments to step: at most --workers {copies}, or more "
            "--environments"
        )
    pickle_setup(environment, masks=False)


def pickle_setup(environment: Environment, masks: bool) -> bytes:
    """Pickle what a worker makes its copies from.

    Raises:
        UsageError: the environment cannot be pickled.
    """
    # A table is for planning; where observations are numbered as they are first seen, this process does it.
    slim, codec = replace(environment, table=None), growing_codec(environment)
    if codec is not None:
        slim = slim.with_codec(codec.whole())
    dtype = np.int64 if codec is None else object
    try:
        setup: bytes = cloudpickle.dumps(Setup(registered_here(environment.config.id), slim, masks, dtype))
    except Exception as error:  # whatever an object's own __reduce__ raises
        raise UsageError(
            f"--workers: {environment.config.id} cannot be sent to another process ({type(error).__name__}: "
            f"{one_line(error)}): name what makes it, module:Class, or leave out --workers"
        ) from error
    return setup


def growing_codec(environment: Environment) -> NumberingCodec | None:
    """Return the codec, if it numbers observations as they are first seen; else None."""
    codec = environment.numbering
    return None if codec is None or codec.complete else codec


def registered_here(name: str) -> dict[str, bytes]:
    """Return the registered environments that a worker may not know, each pickled.

    They are the one that is trained on; those that are named by their modules, which need not be imported yet; and what
    a script or notebook registers, by class or as ``__main__:MyEnv``, if it can be pickled.
    """
    found = {}
    for key, spec in gymnasium.registry.items():
        entry: Any = spec.entry_point
        if isinstance(entry, str) and entry.startswith("gymnasium."):
            continue
        with suppress(*(() if key == name else (Exception,))):  # whatever importing or an object's __reduce__ raises
            if isinstance(entry, str) and entry.startswith("__main__:"):
                entry = load_env_creator(entry)
            if key == name or isinstance(entry, str) or getattr(entry, "__module__", "") == "__main__":
                found[key] = cloudpickle.dumps(replace(spec, entry_point=entry))
    return found


class WorkerVectorEnv:
    """`RestorableEnvs` in other processes; see the module.

    Args:
        environment: the environment.
        count: N.
        masks: whether copies show the action mask.
        workers: the number of processes, at most N.

    Raises:
        UsageError: the environment cannot be sent to another process.
        EnvironmentFailedError: a copy cannot be made there.
    """

    def __init__(self, environment: Environment, count: int, masks: bool, workers: int) -> None:
        self.num_envs = count
        self._environment = environment
        self._codec = growing_codec(environment)
        self._shares = [share.tolist() for share in np.array_split(np.arange(count), workers)]
        self._bounds = [(share[0], share[-1] + 1) for share in self._shares]
        self._lengths = np.zeros(count, np.int64)  # steps of the unfinished episodes
        self._actions = np.zeros(count, np.int32)  # of the last step
        self._workers: list[EnvWorker] = []
        self._answered = False  # whether there is an answer to all that was asked
        self._saved: list[SavedEpisode] = []  # once this is closed
        setup = pickle_setup(environment, masks)
        try:
            self._workers += (EnvWorker() for _ in range(workers))
            self._ask("make", [(setup, len(share)) for share in self._shares])
        except OSError as error:
            self.close()
            raise DeepTaxiError(f"--workers {workers}: cannot start a process: {error}") from None
        except BaseException:
            self.close()
            raise

    def begin(self, seeds: Sequence[int]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Reset every copy with its seed; return the states `[N]` and the masks that are shown."""
        self._lengths[:] = 0
        answers = self._ask("begin", [([seeds[copy] for copy in share],) for share in self._shares])
        states, shown = zip(*answers, strict=True)
        return self._number(chain.from_iterable(states)), self._join(shown)

    def step_and_reset(self, actions: NDArray[np.int32]) -> Steps:
        """Step every copy by its action, counted from 0, and reset those whose episode ended."""
        self._actions = actions
        self._lengths += 1
        listed = actions.tolist()
        answers = self._ask("step", [(listed[begin:end],) for begin, end in self._bounds])
        *columns, all_shown, all_begun, all_begun_shown = zip(*answers, strict=True)
        states, rewards, terminated, truncated = (list(chain.from_iterable(column)) for column in columns)
        reached, shown = self._number(states), self._join(all_shown)
        ends = np.array(terminated, np.bool_), np.array(truncated, np.bool_)
        if not any(all_begun):
            return Steps(reached, np.array(rewards, np.float64), *ends, shown, None, {})
        over = ends[0] | ends[1]
        self._lengths[over] = 0
        begun = reached.copy()
        begun[over] = self._number(chain.from_iterable(all_begun))
        return Steps(reached, np.array(rewards, np.float64), *ends, shown, begun, self._join(all_begun_shown))

    def save(self) -> list[SavedEpisode]:
        """Return the unfinished episode of every copy, also after `close`, for a training's last checkpoint."""
        if not self._workers:
            return self._saved
        return [saved for answer in self._ask("save", [()] * len(self._shares)) for saved in answer]

    def replay(self, episodes: Sequence[Episode]) -> list[Replayed | None]:
        """Play the episode of every copy again, right after `begin`; None for one that ends early or fails."""
        self._lengths[:] = [len(episode.actions) for episode in episodes]
        answers = self._ask("replay", [([episodes[copy] for copy in share],) for share in self._shares])
        found = [replayed for answer in answers for replayed in answer]
        if self._codec is None:
            return found
        return [one and one._replace(state=self._codec.state_of(one.state)) for one in found]

    def restart(self, copy: int, generators: Any) -> tuple[int, dict[str, Any]]:
        """Reset a copy whose generators have these states; return its state and what it shows."""
        self._lengths[copy] = 0
        index = next(index for index, share in enumerate(self._shares) if copy in share)
        arguments: list[Any] = [None] * len(self._shares)
        arguments[index] = (copy - self._shares[index][0], generators)
        ((state, shown),) = self._ask("restart", arguments)
        return (state if self._codec is None else self._codec.state_of(state)), shown

    def draws_from_process(self) -> bool:
        """Return whether copies drew from the random numbers of their process."""
        return any(self._ask("draws_from_process", [()] * len(self._shares)))

    def close(self) -> None:
        """Close all copies and end the workers: at once, or after a second those whose environments do not close."""
        if self._answered:
            with suppress(DeepTaxiError):
                self._saved = self.save()
        for worker in self._workers:
            worker.leave()
        deadline = time.monotonic() + CLOSING
        for worker in self._workers:
            worker.end(deadline)
        self._workers.clear()

    def _ask(self, method: str, arguments: Sequence[Any]) -> list[Any]:
        """Call a method in each worker that there are arguments for; return what it returns.

        Raises:
            EnvironmentFailedError: an environment failed, the one that would have without workers; or a worker died.
        """
        asked = [index for index, given in enumerate(arguments) if given is not None]
        self._answered = False
        for index in asked:
            self._workers[index].send((method, arguments[index]))
        answers = [self._workers[index].receive() for index in asked]
        failures = [(failure.doing, index) for index, failure in enumerate(answers) if isinstance(failure, Failure)]
        if failures:
            _, index = min(failures)  # all step before one of them is reset
            self._raise(asked[index], answers[index])
        self._answered = True
        return answers

    def _raise(self, index: int, failure: Failure) -> NoReturn:
        if failure.error is not None:
            raise failure.error from WorkerError(failure.traceback)
        copy = self._shares[index][0] + failure.copy
        doing = {
            MAKING: f" while it made environment {copy}",
            RESETTING: f" in reset() of environment {copy}",
            WAITING: " between two steps",
        }
        if failure.doing == STEPPING:
            action = int(self._actions[copy]) + self._environment.first_action
            doing[STEPPING] = f" in step({action}) of environment {copy}, at step {self._lengths[copy]:,} of an episode"
        raise EnvironmentFailedError(
            f"the environment {self._environment.config.id} failed: worker {index + 1} of {len(self._workers)} "
            f"{describe_exit(failure.exit_code)}{doing.get(failure.doing, '')}"
        )

    def _number(self, states: Iterable[int]) -> NDArray[np.int64]:
        """Return states; observations that are numbered as they are first seen get theirs in the order of copies."""
        codec = self._codec
        return np.array(list(states) if codec is None else [codec.state_of(state) for state in states], np.int64)

    def _join(self, shown: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Join the action masks that the shares of all workers show, as `batch_masks` returns them."""
        if not any(shown):
            return {}
        width = next(one["action_mask"] for one in shown if one).shape[1:]
        masks = [
            one or {"action_mask": np.zeros((len(share), *width)), "_action_mask": np.zeros(len(share), np.bool_)}
            for one, share in zip(shown, self._shares, strict=True)
        ]
        return {name: np.concatenate([one[name] for one in masks]) for name in ("action_mask", "_action_mask")}


class WorkerError(Exception):
    """The traceback of an error in a worker, for `--debug`."""


def describe_exit(code: int) -> str:
    """Describe how a process ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}{', as where memory runs out,' if name == 'SIGKILL' else ''}"


BOOT = "import sys; sys.path[:] = {path!r}; from deeptaxi.mdp.worker_process import serve; serve({parent}, {marks})"


class EnvWorker:
    """A process that steps a share of the copies, as the training's process sees it."""

    def __init__(self) -> None:
        path = [entry for entry in sys.path if isinstance(entry, str)]
        shared, self._marks = shared_marks()
        try:
            code = BOOT.format(path=path, parent=os.getpid(), marks=shared)
            with without_signals():
                self._process = subprocess.Popen(  # noqa: S603  # this interpreter
                    [sys.executable, *interpreter_options(), "-c", code],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    pass_fds=() if shared is None else (shared,),
                )
        finally:
            if shared is not None:
                os.close(shared)
        self._requests: IO[bytes] = self._process.stdin  # type: ignore[assignment]  # pipes
        self._answers: IO[bytes] = self._process.stdout  # type: ignore[assignment]

    def send(self, request: Any) -> None:
        """Ask for something; if the worker is dead, `receive` says so."""
        with suppress(OSError):
            write_message(self._requests, pickle.dumps(request, 5))

    def receive(self) -> Any:
        """Return the answer, or a `Failure`."""
        message = read_message(self._answers)
        if message is not None:
            return pickle.loads(message)  # noqa: S301  # of our own process
        doing, copy = (-1, 0) if self._marks is None else MARK.unpack_from(self._marks, 0)
        return Failure(doing, copy, exit_code=self._process.wait())

    def leave(self) -> None:
        """Let the worker close its environments and end."""
        with suppress(OSError):
            self._requests.close()

    def end(self, deadline: float) -> None:
        """Wait until the worker has ended; kill it after the deadline."""
        try:
            self._process.wait(max(deadline - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        except BaseException:  # as a second Ctrl-C
            self._process.kill()
            raise
        self._answers.close()
        if self._marks is not None:
            self._marks.close()


def interpreter_options() -> list[str]:
    """Return the options by which this interpreter treats code otherwise than without: assertions and warnings."""
    optimized = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    return [*optimized, *(f"-W{option}" for option in sys.warnoptions)]


def shared_marks() -> tuple[int | None, mmap.mmap | None]:
    """Return a file that has no name, and its memory, where a process can inherit a file; else None."""
    if os.name != "posix":
        return None, None
    try:
        with tempfile.TemporaryFile() as file:
            file.write(MARK.pack(-1, 0))
            file.flush()
            return os.dup(file.fileno()), mmap.mmap(file.fileno(), MARK.size)
    except OSError:  # the disk is full
        return None, None


@contextmanager
def without_signals() -> Iterator[None]:
    """Start a process that no signal ends before it ignores them: it inherits which ones are blocked."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ending_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
