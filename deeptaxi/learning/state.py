"""The state of a training between two updates: everything needed to resume it bit for bit.

It consists of named arrays, such as ``program.ring.entries``, and JSON-serializable facts: counters, running sums and
states of random number generators. Together with the seed and configuration, it reproduces the same updates, with the
same random numbers, as the training it was taken from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deeptaxi.config import TrainConfig
from deeptaxi.errors import DeepTaxiError
from deeptaxi.io.safe_load import is_a
from deeptaxi.metrics import Record


class TrainingState(NamedTuple):
    """The state of a training between two updates."""

    arrays: Mapping[str, NDArray[Any]]
    facts: Mapping[str, Any]


class CheckpointEvent(NamedTuple):
    """A point between two updates at which a checkpoint can be taken."""

    update: int
    last: bool  # whether the training ends here
    state_dict: Callable[[], TrainingState]

    @property
    def kind(self) -> str:
        """The kind of the event, as a record has one."""
        return "checkpoint"


OnCheckpoint = Callable[[CheckpointEvent], Iterable[Record]]  # may save the state; yields records


class StateMismatchError(DeepTaxiError):
    """A saved state does not belong to this training: a part is missing, misshapen or out of range."""


def named_arrays(name: str, state: Any) -> dict[str, NDArray[Any]]:
    """Copy the arrays of nested tuples, keyed by path, such as ``name.ring.entries``; None is skipped."""
    return {path: np.array(array) for path, array in paths(name, state)}


def paths(name: str, state: Any) -> Iterator[tuple[str, Any]]:
    """Yield the arrays of nested tuples with their paths."""
    if isinstance(state, tuple | list):
        fields = getattr(state, "_fields", range(len(state)))
        for field, part in zip(fields, state, strict=True):
            yield from paths(f"{name}.{field}", part)
    elif state is not None:
        yield name, state


def fill_arrays(name: str, like: Any, saved: TrainingState) -> Any:
    """Undo `named_arrays`: return nested tuples structured like `like`, filled with the saved arrays.

    Raises:
        StateMismatchError: an array is missing or has another shape.
    """
    if isinstance(like, tuple | list):
        fields = getattr(like, "_fields", range(len(like)))
        parts = [fill_arrays(f"{name}.{field}", part, saved) for field, part in zip(fields, like, strict=True)]
        return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)
    return None if like is None else array(saved, name, tuple(like.shape), like.dtype.name)


def merge_states(*parts: TrainingState) -> TrainingState:
    """Merge the states of several parts into one."""
    arrays = {name: value for part in parts for name, value in part.arrays.items()}
    return TrainingState(arrays, {name: value for part in parts for name, value in part.facts.items()})


def array(saved: TrainingState, name: str, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    """Return one array of a saved state.

    Raises:
        StateMismatchError: it is missing, or has another shape or type.
    """
    found = saved.arrays.get(name)
    if found is None:
        raise StateMismatchError(f"it has no '{name}'")
    if (found.shape, found.dtype) != (shape, np.dtype(kind)):
        raise StateMismatchError(
            f"'{name}' is {found.dtype} {list(found.shape)}, expected {np.dtype(kind)} {list(shape)}"
        )
    return found


def fact(saved: TrainingState, name: str, kind: Any) -> Any:
    """Return one fact of a saved state.

    Raises:
        StateMismatchError: it is missing or has another type.
    """
    found = saved.facts.get(name)
    if not is_a(found, kind):
        raise StateMismatchError(f"'{name}' is {str(found)[:40]!r}")
    return found


def count(saved: TrainingState, name: str, most: int, least: int = 0) -> int:
    """Return one fact of a saved state, a count from `least` to `most`.

    Raises:
        StateMismatchError: it is missing or not such a count.
    """
    found = fact(saved, name, int)
    if not least <= found <= most:
        raise StateMismatchError(f"'{name}' is {brief(found)}, expected {least} … {most}")
    return int(found)


def amount(saved: TrainingState, name: str) -> float:
    """Return one fact of a saved state, a finite number of at least 0.

    Raises:
        StateMismatchError: it is missing or not such a number.
    """
    found = fact(saved, name, float)
    if not 0 <= found < math.inf:
        raise StateMismatchError(f"'{name}' is {found}, expected a number from 0 on")
    return float(found)


def brief(number: float) -> str:
    """Format a number to fit on one line; Python refuses to format very long integers."""
    return str(number) if abs(number) < 10**20 else "a number of more than 20 digits"


def steps_in(config: TrainConfig) -> int:
    """Return an upper bound on the steps of a training, including its prefill."""
    copies, each = config.interaction.environments, config.interaction.steps_per_update
    prefill = config.replay.start + copies * (config.target.n_step + 1)
    return 2 * (prefill + copies * each * (config.updates + 1))


def check_range(saved: TrainingState, name: str, low: int, high: int) -> None:
    """Reject integers outside `low` … `high` − 1: compiled code would silently read other rows.

    Raises:
        StateMismatchError: an integer is out of range.
    """
    found = saved.arrays[name]
    if found.size and not (low <= found.min() and found.max() < high):
        raise StateMismatchError(f"'{name}' holds {found.min()} … {found.max()}, expected {low} … {high - 1}")


def generator_state(generator: np.random.Generator) -> dict[str, Any]:
    """Return the JSON-serializable state of a generator."""
    return dict(generator.bit_generator.state)


def set_generator(generator: np.random.Generator, state: Any) -> None:
    """Set the state of a generator.

    Raises:
        StateMismatchError: the state does not fit this kind of generator.
    """
    try:
        generator.bit_generator.state = state
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise StateMismatchError(f"no state of {type(generator.bit_generator).__name__}: {error}") from None
