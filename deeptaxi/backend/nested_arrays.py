"""Nested arrays: the state and the arguments of a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What a function of a program returns if it has something to say besides the new state."""

    state: Any
    value: Any  # an array


def arrays_of(state: Any) -> list[Any]:
    """Flatten a state into a list of arrays; TensorFlow's loops and variables do not accept None."""
    if isinstance(state, tuple | list):
        return [array for part in state for array in arrays_of(part)]
    return [] if state is None else [state]


def pack_as(structure: Any, arrays: Sequence[Any]) -> Any:
    """Pack the arrays into the structure of `structure`; the inverse of `arrays_of`."""
    left = iter(arrays)

    def pack(part: Any) -> Any:
        if not isinstance(part, tuple | list):
            return None if part is None else next(left)
        parts = [pack(inner) for inner in part]
        return type(part)(*parts) if hasattr(part, "_fields") else type(part)(parts)

    return pack(structure)
