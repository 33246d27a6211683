"""Which actions may be taken in each state, where that can be known before an episode."""

from __future__ import annotations

import numpy as np

from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.foreign import blaming, closing
from deeptaxi.mdp.table import Bools


def known_mask(environment: Environment) -> Bools | None:
    """Return the allowed actions of all states, bool `[S, A]`, where they can be known before an episode.

    They come from the table, or from an environment with a method ``action_mask(state)`` such as Taxi.
    """
    if environment.table is not None and environment.table.action_mask is not None:
        return environment.table.action_mask
    with blaming(environment.config.id), closing(environment.make()) as env:
        method = getattr(env.unwrapped, "action_mask", None)
        if not callable(method) or len(environment.codec.layout) > 1:
            return None
        first = environment.codec.layout[0][1]
        mask = np.array([method(state + first) for state in range(environment.states)], dtype=np.bool_)
    return usable(mask)


def usable(mask: Bools) -> Bools:
    """Lift the mask `[…, A]` of states for which it excludes everything: ones where no episode goes on."""
    return mask | ~mask.any(axis=-1, keepdims=True)
