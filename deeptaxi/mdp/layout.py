"""What a state number means: the parts that it is made of.

A state number is the row-major index of its parts: with sizes n_1, …, n_F (the *factors*) and parts p_1, …, p_F,

    s = (… (p_1 · n_2 + p_2) · n_3 + …) · n_F + p_F,    S = n_1 · … · n_F.

The factors are taken from where they are written down: a transition table's `factors`, the parts of an observation, or
the attributes of Gymnasium's own toy-text environments. They are never guessed from S.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium
from gymnasium.envs.toy_text.cliffwalking import CliffWalkingEnv
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.envs.toy_text.taxi import TaxiEnv
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from deeptaxi.errors import UsageError
from deeptaxi.mdp.contract import Answers, CheckedEnv
from deeptaxi.mdp.environment import Env, Environment
from deeptaxi.mdp.foreign import blaming, closing
from deeptaxi.sections import NetworkConfig

# What lies around an environment and passes its observations on as they are.
TRANSPARENT = (
    *(Answers, CheckedEnv, TimeLimit, OrderEnforcing, PassiveEnvChecker),
    *(gymnasium.ActionWrapper, gymnasium.RewardWrapper),
)


def factors(environment: Environment) -> tuple[int, ...] | None:
    """Return the sizes of the parts that a state number is made of, row-major; None where they are not known.

    A state of one part alone has no factors: one-hot over the part is one-hot over the state.
    """
    layout = environment.codec.layout
    if environment.table is not None and environment.table.factors is not None:
        found: tuple[int, ...] | None = environment.table.factors
    elif len(layout) > 1:
        found = tuple(size for size, _ in layout)
    else:
        with blaming(environment.config.id), closing(environment.make()) as env:
            found = toy_text_factors(env)
    sound = found is not None and len(found) > 1 and math.prod(found) == environment.states
    return found if sound else None


def inside(env: Env) -> Any:
    """Return what makes the observations: the environment without the wrappers that pass them on."""
    while isinstance(env, TRANSPARENT):
        env = env.env
    return env


def toy_text_factors(env: Env) -> tuple[int, ...] | None:
    """Return the factors of Taxi, FrozenLake or CliffWalking, read off the environment; None for any other."""
    inner = inside(env)
    if isinstance(inner, TaxiEnv):  # row, column, where the passenger is (the last: aboard), destination
        return inner.max_row + 1, inner.max_col + 1, len(inner.locs) + 1, len(inner.locs)
    if isinstance(inner, FrozenLakeEnv):
        return int(inner.nrow), int(inner.ncol)
    if isinstance(inner, CliffWalkingEnv):
        return tuple(int(size) for size in inner.shape)
    return None


def encoded_factors(environment: Environment, network: NetworkConfig) -> tuple[int, ...] | None:
    """Return the factors that the first layer's input is encoded by; None for one-hot over all states.

    Raises:
        UsageError: a factored encoding is asked for where the factors are not known.
    """
    if network.encoding == "joint":
        return None
    found = factors(environment)
    if found is None:
        raise UsageError(
            f"{environment.config.id} does not say what parts its states are made of: leave out --encoding factored, "
            "or give a MultiDiscrete or Tuple observation, or a .npz table with 'factors'"
        )
    return found
