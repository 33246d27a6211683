"""The random number generators that an environment keeps among its attributes: Gymnasium's, and those of its own."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np

from deeptaxi.learning.moment import UnfitError

KINDS = (np.random.Generator, np.random.RandomState, random.Random)


def generators_of(env: Any) -> dict[str, Any]:
    """Return the states of an environment's generators by the attributes that hold them, as JSON has them.

    To ask an environment of Gymnasium's for `np_random` would give it one by chance, if it has drawn nothing yet.
    """
    return {name: state_of(generator) for name, generator in held(env).items()}


def set_generators_of(env: Any, states: Any) -> None:
    """Put an environment's generators into these states.

    Raises:
        UnfitError: one is no state of its generator.
    """
    states = states if isinstance(states, Mapping) else {}
    if "_np_random" in states:
        getattr(env.unwrapped, "np_random", None)  # it is made when it is asked for
    for name, generator in held(env).items():
        if name in states:
            set_state(generator, states[name])


def held(env: Any) -> dict[str, Any]:
    """Return the generators among an environment's attributes; that of the operating system has no state."""
    attributes: Mapping[str, Any] = getattr(env.unwrapped, "__dict__", {})
    found = {name: value for name, value in attributes.items() if isinstance(value, KINDS)}
    return {name: value for name, value in found.items() if not isinstance(value, random.SystemRandom)}


def state_of(generator: Any) -> Any:
    """Return the state of a generator, of lists and whole numbers."""
    if isinstance(generator, random.Random):
        version, numbers, gauss = generator.getstate()
        return [version, list(numbers), gauss]
    return plain(generator.get_state(legacy=False) if is_old(generator) else generator.bit_generator.state)


def set_state(generator: Any, state: Any) -> None:
    """Put a generator into a state that `state_of` gave."""
    try:
        if isinstance(generator, random.Random):
            generator.setstate((state[0], tuple(state[1]), state[2]))
        elif is_old(generator):
            generator.set_state(state)
        else:
            generator.bit_generator.state = state
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise UnfitError(f"no state of a {type(generator).__name__}: {error}") from None


def is_old(generator: Any) -> bool:
    """Whether it is NumPy's generator of before 2019."""
    return isinstance(generator, np.random.RandomState)


def plain(state: Any) -> Any:
    """Return nested mappings with lists in place of arrays."""
    if isinstance(state, Mapping):
        return {name: plain(part) for name, part in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state
