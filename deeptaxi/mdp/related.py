"""Environments that are easily confused: same size, different dynamics.

Taxi with and without rain, FrozenLake and CliffWalking slippery or not. They come from the packaged presets: the
problems of the environment's class with other arguments.
"""

from __future__ import annotations

import gymnasium

from deeptaxi.arguments import words
from deeptaxi.config import EnvironmentConfig
from deeptaxi.mdp.environment import Environment, open_environment
from deeptaxi.mdp.table import TransitionTable
from deeptaxi.presets import Problem, listed_presets


def related_tables(environment: Environment) -> dict[str, TransitionTable]:
    """Return the tables of the other problems of the environment's class with as many states and actions."""
    if environment.config.id.endswith(".npz"):
        return {}
    found: dict[str, TransitionTable] = {}
    seen: list[Problem] = []
    for problem in (problem for preset in listed_presets() for problem in preset.problems):
        same_class = entry_point(problem.id) == entry_point(environment.config.id) is not None
        if problem in seen or not same_class or problem.is_meant(environment.config.id, environment.config.kwargs):
            continue
        seen.append(problem)
        other = open_environment(EnvironmentConfig(problem.id, problem.kwargs))
        if other.table is not None and other.table.probability.shape[:2] == (environment.states, environment.actions):
            found[f"{problem.id} {words(problem.kwargs)}".strip()] = other.table
    return found


def entry_point(name: str) -> str | None:
    """Return the class of a registered environment as text, or None."""
    spec = gymnasium.registry.get(name.rpartition(":")[2])
    return str(spec.entry_point) if spec is not None else None
