"""Allowed actions per state, where they are known before an episode."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeptaxi.errors import DeepTaxiError
from deeptaxi.mdp.contract import blaming, closing
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.table import Bools


def known_mask(environment: Environment) -> Bools | None:
    """Return the allowed actions of all states, bool `[S, A]`, or None if they are not known before an episode.

    They come from the table, or from an environment with a method ``action_mask(state)``, such as Taxi.
    """
    if environment.table is not None and environment.table.action_mask is not None:
        return environment.table.action_mask
    with blaming(environment.config.id), closing(environment.make()) as env:
        method = getattr(env.unwrapped, "action_mask", None)
        if not callable(method) or len(environment.codec.layout) > 1:
            return None
        first = environment.codec.layout[0][1]
        given = np.array([method(state + first) for state in range(environment.states)])
    if not is_mask(given, (environment.states, environment.actions)):
        raise DeepTaxiError(
            f"the environment {environment.config.id} failed: action_mask(state) does not return "
            f"{environment.actions} truth values for each state"
        )
    return usable(given.astype(np.bool_))


def is_mask(given: NDArray[Any], shape: tuple[int, ...]) -> bool:
    """Whether an array is a mask of `shape`: booleans, or numbers 0 and 1."""
    return given.shape == shape and given.dtype.kind in "biuf" and bool(((given == 0) | (given == 1)).all())


def usable(mask: Bools) -> Bools:
    """Allow every action in states whose mask `[…, A]` excludes all of them; no episode continues there."""
    return mask | ~mask.any(axis=-1, keepdims=True)
