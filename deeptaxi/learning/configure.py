"""From what a user asks for and an open environment to the configuration of a training. Imports no Keras.

The preset is the one that is named; else the one that was tuned for the environment and the network; else, where there
is a true transition table, settings derived from its numbers (`defaults`); else none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from deeptaxi.config import TrainConfig, encoding_of, kind_of, merge, resolve
from deeptaxi.errors import UsageError
from deeptaxi.learning.choice import not_compiled
from deeptaxi.learning.defaults import table_settings
from deeptaxi.learning.size import check_size
from deeptaxi.mdp.environment import Environment
from deeptaxi.presets import NONE, TABLE, Preset, fitting, named


@dataclass(frozen=True)
class Configured:
    """A configuration, and the name of the preset that had a say in it: ``none`` where the user set everything."""

    config: TrainConfig
    preset: str

    @property
    def explanation(self) -> str:
        """Say in a line what the settings rest on."""
        objective = self.config.evaluation.objective_discount
        slower = f"; it learns at discount {self.config.discount:g}, where values travel faster than at {objective:g}"
        told = {
            NONE: "none: plain defaults and what was given",
            TABLE: "table: settings from the numbers of the transition table"
            + (slower if self.config.discount < objective else ""),
        }
        return told.get(self.preset) or f"{self.preset} (`deeptaxi presets` lists them, --preset chooses)"


def choose(values: Mapping[str, Any], name: str | None) -> Preset | None:
    """Return the preset that `name` stands for; None where nothing is named.

    Raises:
        UsageError: it does not exist, or what it is made for and `values` exclude each other.
    """
    if name is None:
        return None
    network = values.get("network", {})
    preset = named(name, kind_of(values))
    clash = next((key for key in ("hidden", "dueling") if network.get(key)), None)
    if preset.network == "q-table" and clash:
        raise UsageError(
            f"--preset {preset.name} is for the Q table, which has neither hidden layers nor a head: "
            f"leave out --{clash}, or take --preset {preset.name.removesuffix('.q-table')}"
        )
    return preset


def with_environment(values: Mapping[str, Any], preset: Preset | None) -> dict[str, Any]:
    """Return `values` on the preset's own environment, where the user names none."""
    asked = values.get("environment", {})
    if preset is None or asked.get("id"):
        return dict(values)
    place = merge(preset.environment, asked)
    if preset.environment:
        place["kwargs"] = {**preset.environment["kwargs"], **asked.get("kwargs", {})}
    return merge(values, {"environment": place})


def preset_for(environment: Environment, values: Mapping[str, Any], preset: Preset | None) -> Preset:
    """Return the preset that was named, else the one that was tuned for this, else what the table gives, else none.

    Raises:
        UsageError: ``table`` is asked for where there is none.
    """
    kind = kind_of(values)
    if preset is None:
        preset = fitting(environment.config.id, environment.config.kwargs, kind, encoding_of(values))
    table = environment.table
    if preset is None and table is not None:
        preset = Preset(TABLE)
    if preset is None or preset.name != TABLE:
        return preset or Preset(NONE)
    if table is None:
        raise UsageError(f"--preset table: {environment.config.id} has no true table: {environment.table_missing}")
    table = replace(table, time_limit=environment.time_limit)
    return Preset(TABLE, settings=table_settings(table, kind, values["loop"] == "compiled"))


def configure(environment: Environment, values: Mapping[str, Any], preset: Preset | None = None) -> Configured:
    """Complete `values` for an open environment.

    Args:
        environment: what they name.
        values: nested settings of the user.
        preset: that was named, or None.

    Raises:
        UsageError: the settings contradict each other or the environment, or take more memory than there is.
    """
    # With the version that was chosen.
    named_values = merge(values, {"environment": {"id": environment.config.id}})
    asked = environment.asked_settings()
    starts = values.get("exploration", {}).get("exploring_starts")
    if starts or "loop" not in values:
        unable = not_compiled(resolve({**named_values, "loop": "compiled"}, asked, preset), environment)
        if starts and unable:
            raise UsageError(
                f"--exploring-starts needs the compiled loop, which cannot run here: {unable}; "
                "leave out --exploring-starts"
            )
        named_values.setdefault("loop", "gymnasium" if unable else "compiled")
    chosen = preset_for(environment, named_values, preset)
    if chosen.name == TABLE:  # they come from the same table, and may ask for less than its discount to learn with
        asked = merge(asked, chosen.settings)
    config = resolve(named_values, asked, chosen)
    check_size(config, environment.states, environment.actions)
    masked = environment.table is not None and environment.table.action_mask is not None
    if masked and not config.exploration.action_mask:
        raise UsageError("the table excludes actions, so its mask cannot be left out: leave out --no-action-mask")
    silent = config == without_preset(named_values, environment)
    return Configured(config, NONE if silent else chosen.name)


def without_preset(values: Mapping[str, Any], environment: Environment) -> TrainConfig | None:
    """Return the configuration that no preset has a say in; None where `values` mean something only with one."""
    try:
        return resolve(values, environment.asked_settings(), Preset(NONE))
    except UsageError:
        return None
