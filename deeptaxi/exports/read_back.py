"""Read exports back, each in a new process without deeptaxi (`readers`), and compare all states.

With q the network's Q values and q' the export's, both float32 `[S, A]`, and a' its actions:

    max_s,a |q' − q| ≤ tolerance          over the pairs where q is finite; −∞ in the same places
    q'[s, a'[s]] = max_a q'[s, a]         its actions are greedy in its own Q values

so if a' differs from the network's action, the network's Q values of both are equal within twice the tolerance: a tie.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeptaxi.errors import DeepTaxiError
from deeptaxi.io.atomic import cannot_write, temporary
from deeptaxi.mdp.table import Ints
from deeptaxi.search_path import current_entries
from deeptaxi.storage.formats import ERROR, Format

LIMIT = 900  # seconds; on a slow disk, importing TensorFlow for the first time takes a minute or two
SCRIPT = Path(__file__).with_name("readers.py")


class Answers(NamedTuple):
    """The answers of an export."""

    q_values: NDArray[np.float32]  # [S, A]
    actions: NDArray[np.int32]  # [S]
    outside_q_values: NDArray[np.float32]  # [2, A], for the states −1 and S
    outside_actions: NDArray[np.int32]  # [2]
    outside_errors: NDArray[np.bool_]  # [2], whether the answer was an error


class Readings:
    """Processes that read exports in parallel, one per format."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, form: str, path: Path, states: int, block: int) -> None:
        """Start reading an export of S `states`, `block` at a time.

        `block` must be the network's own batch size: another one could change the last bits.
        """
        words = [sys.executable, "-P", SCRIPT, form, path, states, block, self.folder / f"{form}.npz"]
        with (self.folder / f"{form}.err").open("wb") as aside:
            self.processes[form] = subprocess.Popen(  # noqa: S603  # our own script
                [str(word) for word in words],
                env=surroundings(),
                stdin=subprocess.PIPE,  # closes when this process ends, which ends the reader
                stdout=aside,
                stderr=aside,
            )

    def answers(self, form: str) -> Answers:
        """Wait for the answers of an export.

        Raises:
            DeepTaxiError: the export cannot be read, or not within `LIMIT`.
        """
        try:
            code = self.processes[form].wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise DeepTaxiError(
                f"reading the {form} export back took more than {LIMIT} s, so it was not kept"
            ) from None
        if code != 0:
            reason = last_line(self.folder / f"{form}.err") or f"the process ended with code {code}"
            raise DeepTaxiError(f"the {form} export cannot be read back, so it was not kept: {reason}")
        with np.load(self.folder / f"{form}.npz", allow_pickle=False) as found:
            return Answers(*(found[name] for name in Answers._fields))

    def stop(self) -> None:
        """End the processes that are still running."""
        for process in self.processes.values():
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()


@contextmanager
def readings() -> Iterator[Readings]:
    """Yield `Readings` whose processes end with the block, or with this process.

    Raises:
        DiskError: a temporary folder cannot be created.
    """
    try:
        scratch = temporary()
    except OSError as error:
        raise cannot_write(Path(tempfile.gettempdir()), error) from None
    with scratch:
        started = Readings(scratch.path)
        try:
            yield started
        finally:
            started.stop()


def surroundings() -> dict[str, str]:
    """Return the environment variables of a reader: the packages and backend of this process, and one thread.

    No package is imported from the current folder.
    """
    import keras

    current = current_entries()

    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(folder for folder in sys.path if folder not in current),
        "KERAS_BACKEND": str(keras.backend.backend()),
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def last_line(file: Path) -> str:
    """Return the last line of a process's output, which names its exception."""
    lines = file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


class Comparison(NamedTuple):
    """The differences between an export and the network."""

    max_difference: float
    differing_actions: int  # states in which it breaks a tie differently


def compare(form: Format, answers: Answers, q_values: NDArray[np.float32], policy: Ints | None = None) -> Comparison:
    """Compare an export's answers with the network's Q values `[S, A]`; those of a policy `[S]`, with its actions.

    Raises:
        DeepTaxiError: they differ by more than rounding, or a state that does not exist gets the wrong answer.
    """
    difference = max_difference(answers.q_values, q_values)
    if difference > tolerance(form, q_values):
        raise DeepTaxiError(f"the {form.name} export differs from the model by {difference:g}, so it was not kept")
    wrong = ~greedy(answers.q_values, answers.actions) if policy is None else answers.actions != policy
    if wrong.any():
        raise DeepTaxiError(
            f"the {form.name} export's actions contradict its Q values in {wrong.sum()} states, such as "
            f"{wrong.argmax()}, so it was not kept"
        )
    marked = np.isnan(answers.outside_q_values).all(axis=1) & (answers.outside_actions == -1)
    if not (answers.outside_errors if form.outside == ERROR else marked & ~answers.outside_errors).all():
        raise DeepTaxiError(
            f"the {form.name} export should give {form.outside} for states that do not exist, but does not, "
            "so it was not kept"
        )
    if policy is not None:
        return Comparison(difference, 0)
    return Comparison(difference, int((answers.actions != q_values.argmax(axis=1)).sum()))


def greedy(q_values: NDArray[np.float32], actions: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return whether the action is greedy in each state, `[S]`."""
    chosen = np.take_along_axis(q_values, np.clip(actions, 0, q_values.shape[1] - 1)[:, None], axis=1)[:, 0]
    return np.asarray((chosen == q_values.max(axis=1)) & (actions >= 0) & (actions < q_values.shape[1]))


def tolerance(form: Format, q_values: NDArray[np.float32]) -> float:
    """Return the allowed rounding difference; 0 if the format performs the same operations."""
    finite = np.abs(q_values[np.isfinite(q_values)])
    return 1e-6 * max(1.0, float(finite.max(initial=0.0))) if form.rounds else 0.0


def max_difference(found: NDArray[Any], expected: NDArray[np.float32]) -> float:
    """Return the largest difference of two `[S, A]` in float32; infinite if shapes or masked actions differ."""
    if found.shape != expected.shape or not np.array_equal(np.isneginf(found), np.isneginf(expected)):
        return float("inf")
    finite = np.isfinite(expected)
    difference = np.abs(found.astype(np.float32)[finite] - expected[finite]).max(initial=0.0)
    return float("inf") if np.isnan(difference) else float(difference)
