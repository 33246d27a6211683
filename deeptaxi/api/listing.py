"""List environments, presets and trained agents as rows of plain values.

At module level, this imports neither NumPy nor Gymnasium.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.io.locks import LOCK_FILE
from deeptaxi.storage.run_folder import CHECKPOINTS

if TYPE_CHECKING:
    from deeptaxi.api.environments import EnvLike
    from deeptaxi.mdp.environment import Environment
    from deeptaxi.presets import Preset

__all__ = ("envs", "presets", "zoo")

# Arguments that turn a known environment into a different problem.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "Taxi-v4": [{"is_rainy": True}, {"fickle_passenger": True}],
    "FrozenLake-v1": [{"is_slippery": False}],
    "FrozenLake8x8-v1": [{"is_slippery": False}],
}


def envs(
    *env: EnvLike, env_args: Mapping[str, Any] | None = None, time_limit: int | None = None
) -> list[dict[str, Any]]:
    """List environments with their sizes, time limit, table availability and exact optimum.

    Args:
        *env: environments, as `train` takes them; if none, all registered ones and their best-known variants.
        env_args: arguments for `gymnasium.make`, for the given environments.
        time_limit: steps after which an episode is truncated, instead of the environments' own limits.

    Raises:
        UsageError: a given environment does not exist, or there are arguments but no environment.
    """
    if env_args and not env:
        raise UsageError("--env-arg needs the environment that takes it: deeptaxi envs ENV --env-arg KEY=VALUE")
    from deeptaxi.api.environments import EnvSpec
    from deeptaxi.api.status import planning_status
    from deeptaxi.mdp.environment import trainable_ids

    asked: list[tuple[EnvLike, Mapping[str, Any] | None]] = [(name, env_args) for name in env]
    if not env:
        asked = [(name, kwargs) for name in trainable_ids() for kwargs in ({}, *VARIANTS.get(name, []))]
    rows: list[dict[str, Any]] = []
    with planning_status("computing the exact optima …"):
        for name, kwargs in asked:
            try:
                rows.append(environment_row(EnvSpec(name, kwargs or {}, time_limit, discover=bool(env)).open()))
            except DeepTaxiError:
                if env:  # requested by name; otherwise environments that cannot be trained are omitted
                    raise
    return rows


def environment_row(environment: Environment) -> dict[str, Any]:
    """Build one row of the environment list."""
    from deeptaxi.evaluation.resampling import describe_log
    from deeptaxi.evaluation.solution import estimated_return

    table, resets = environment.table, environment.start_resets
    found = None if table is None else describe_log(table)
    best, uncertainty = (None, None) if table is None else estimated_return(table, environment.horizon, resets)
    return {
        **environment.describe(),
        "horizon": environment.horizon,
        "table": table is not None,
        "table_missing": environment.table_missing,
        "start_states": None if table is None else int((table.start > 0).sum()),
        "optimal_return": best,
        "starts_estimated_from_resets": None if table is None else resets,
        "return_uncertainty": uncertainty,
        "estimated": asdict(found) if found else None,
    }


def presets(*name: str) -> list[dict[str, Any]]:
    """List the presets: settings tuned for known problems, which `train` selects automatically.

    Args:
        *name: those to list; if none, all.

    Raises:
        UsageError: there is no preset of a name.
    """
    from deeptaxi.presets import listed_presets, packaged_preset

    return [preset_row(item) for item in (map(packaged_preset, name) if name else listed_presets())]


def preset_row(preset: Preset) -> dict[str, Any]:
    """Build one row of the preset list."""
    from deeptaxi.config import TrainConfig

    return {
        "name": preset.name,
        "environment": preset.environment["id"],
        "kwargs": preset.environment["kwargs"],
        "network": preset.network,
        "updates": preset.settings.get("updates", TrainConfig().updates),
        "description": preset.description,
        "problems": [{"id": problem.id, "kwargs": dict(problem.kwargs)} for problem in preset.problems],
        "settings": dict(preset.settings),
        "study": None if preset.study is None else asdict(preset.study),
    }


def zoo(folder: str | Path = "models") -> list[dict[str, Any]]:
    """List the agents in a folder with the verdicts from their model cards, without loading a model.

    Args:
        folder: folder of run folders; a checkout of deeptaxi comes with proven agents in `models`.

    Raises:
        UsageError: the folder does not exist.
    """
    from deeptaxi.storage.zoo import agents

    return agents(Path(folder))


def without_model(folder: Path) -> list[str]:
    """Explain why `folder` or run folders in it hold no agent."""
    from deeptaxi.storage.zoo import folders_in, model_bytes

    inside = [path for path, _ in folders_in(folder)]
    places = [path for path in (folder, *inside) if model_bytes(path) is None and begun(path)]
    if not places:
        return []
    from deeptaxi.storage.models import describe_unfinished

    return [str(found) for found in map(describe_unfinished, places) if found is not None]


def begun(folder: Path) -> bool:
    """Return whether a training run has left files in a folder."""
    return (folder / LOCK_FILE).exists() or (folder / CHECKPOINTS).exists()
