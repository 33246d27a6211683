"""One frozen configuration of a training: validated on construction, read from and written to TOML.

The layers of a configuration, the later over the earlier: the defaults of the dataclasses (`sections`), the preset
(`catalog`), what the environment's table asks for, the user's ``--config`` file, the options of the command line.
What comes out is complete: written to `config.toml` in the run folder, it reproduces the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from deeptaxi import arguments, reading
from deeptaxi.catalog import Preset, fitting, plain
from deeptaxi.errors import UsageError, nearest
from deeptaxi.renamed import SETTINGS, renamed_in
from deeptaxi.sections import (
    EnvironmentConfig,
    EvaluationConfig,
    ExplorationConfig,
    InteractionConfig,
    NetworkConfig,
    OptimizerConfig,
    ReplayConfig,
    TargetConfig,
)
from deeptaxi.settings import COUNT, FRACTION, NOT_NEGATIVE, Checked, from_mapping, one_of, setting, to_mapping

LOOPS = ("compiled", "gymnasium", "fit")
FACTS = ("log", "preset", "weights_digest", "deeptaxi", "versions", "table")  # of a run: the table [run]
LITERALS = "literals"  # of the environment: arguments that TOML cannot write


@dataclass(frozen=True)
class TrainConfig(Checked):
    """Everything that determines a training."""

    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    seed: int = setting(0, "the seed that rules all randomness", NOT_NEGATIVE, "--seed")
    loop: str = setting("gymnasium", "how environment, replay and updates are driven", one_of(LOOPS), "--loop")
    updates: int = setting(20_000, "optimizer steps in all", COUNT, "--updates")
    schedule_updates: int | None = setting(
        None, "updates over which learning rate and ε take their course", COUNT, "--schedule-updates"
    )
    discount: float = setting(0.99, "discount of the td_target", FRACTION, "--discount")
    network: NetworkConfig = field(default_factory=NetworkConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    interaction: InteractionConfig = field(default_factory=InteractionConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @property
    def schedule_length(self) -> int:
        """Updates after which the schedules are at their end: all of them, where nothing else was set."""
        return self.schedule_updates or self.updates


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the nested mapping `over` on `base`. Of two ways to set the step, the later one wins."""
    merged = dict(base)
    for key, value in over.items():
        nested = (
            isinstance(value, Mapping) and isinstance(merged.get(key), Mapping) and key not in ("kwargs", "options")
        )
        merged[key] = merge(merged[key], value) if nested else value
    for one, other in (("learning_rate", "tabular_step"), ("tabular_step", "learning_rate")):
        if one in over and other not in over:
            merged[other] = None
    return merged


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of settings. The table ``[run]``, which a run folder's file carries, is checked and left out.

    Raises:
        UsageError: the file is missing, is not TOML, or holds a key that does not exist.
    """
    return read_run(path)[0]


def read_run(path: Path) -> tuple[dict[str, Any], Any]:
    """Read a file of settings, and what its table ``[run]`` says, at once; None where it has none."""
    try:
        values = reading.read_toml(path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # not TOML, not UTF-8, or a number with thousands of digits
        raise UsageError(f"{path} is not a TOML file: {error}") from None
    run = values.pop("run", None)
    try:
        known_facts(run)
        values = with_literals(values)
        known_keys(values)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return values, run


def known_keys(values: Mapping[str, Any]) -> None:
    """Check names and types of the given keys alone; what they add up to is checked once all layers are merged."""
    if old := renamed_in(values, SETTINGS):
        raise UsageError(old)
    plain_sgd = {"optimizer": {"name": "sgd", "loss": "mse"}}  # with these both ways to set the step are open
    from_mapping(TrainConfig, merge(merge(to_mapping(TrainConfig()), plain_sgd), values))


def known_facts(about: Any) -> None:
    """Check the keys of the table ``[run]``.

    Raises:
        UsageError: one does not exist.
    """
    for key in about if isinstance(about, Mapping) else ():
        if key not in FACTS:
            raise UsageError(f"unknown key 'run.{key}'{nearest(key, FACTS)}")


def to_toml(config: TrainConfig) -> dict[str, Any]:
    """Return the configuration as a TOML file has it; arguments that TOML cannot write stand in a table of their own.

    Raises:
        UsageError: an argument of the environment has no form as text.
    """
    values = to_mapping(config)
    kwargs, literals = arguments.to_toml(config.environment.kwargs)
    place = {**values["environment"], "kwargs": kwargs, **({LITERALS: literals} if literals else {})}
    return {**values, "environment": place}


def with_literals(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a TOML file says, with the arguments that `to_toml` has written as texts in their place.

    Raises:
        UsageError: the texts are no literals.
    """
    place = values.get("environment")
    if not isinstance(place, Mapping) or LITERALS not in place or not isinstance(place.get("kwargs", {}), Mapping):
        return dict(values)
    rest = {key: value for key, value in place.items() if key != LITERALS}
    kwargs = arguments.from_toml(rest.get("kwargs", {}), place[LITERALS])
    return {**values, "environment": {**rest, "kwargs": kwargs}}


def dump_toml(config: TrainConfig, run: Mapping[str, Any]) -> str:
    """Return the resolved configuration as TOML, with the facts about the run in a table ``[run]``."""
    return tomli_w.dumps({**to_toml(config), "run": dict(run)})


def kind_of(values: Mapping[str, Any]) -> str:
    """Return the kind of network that `values` ask for."""
    return str(from_mapping(NetworkConfig, values.get("network", {}), "network.").kind)


def encoding_of(values: Mapping[str, Any]) -> str:
    """Return the encoding of states that `values` ask for."""
    return str(values.get("network", {}).get("encoding", NetworkConfig.encoding))


def resolve(
    values: Mapping[str, Any], problem: Mapping[str, Any] | None = None, preset: Preset | None = None
) -> TrainConfig:
    """Complete the user's `values`.

    Args:
        values: nested settings of the user.
        problem: settings that the environment itself asks for; they lie over the preset and under `values`.
        preset: None for the packaged one that fits environment and network.

    Raises:
        UsageError: a key, a type or a value is wrong, or two settings exclude each other.
    """
    known_keys(values)
    environment, kind = values.get("environment", {}), kind_of(values)
    if preset is None:
        preset = fitting(environment.get("id", ""), environment.get("kwargs", {}), kind, encoding_of(values))
    base: dict[str, Any] = to_mapping(TrainConfig())
    for layer in (plain(kind).settings, preset.settings if preset else {}, problem or {}):
        base = merge(base, layer)
    if merge(base, values)["loop"] != "compiled":
        base = merge(base, for_other_loops(base))
    config: TrainConfig = from_mapping(TrainConfig, merge(base, values))
    check_together(config)
    return config


def for_other_loops(base: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to take instead of settings of a preset that only the compiled loop has, or can afford.

    There a copy of the environment costs next to nothing; elsewhere each one is stepped by Python.
    """
    copies = min(base["interaction"]["environments"], InteractionConfig().environments)
    return {"exploration": {"exploring_starts": 0.0}, "interaction": {"environments": copies}}


def check_together(config: TrainConfig) -> None:
    """Raise a `UsageError` where settings of different tables exclude each other.

    Not a check of `TrainConfig` on construction: a file may hold one of two settings, and an option the other.
    """
    if config.replay.prioritized and config.loop == "fit":
        raise UsageError("prioritized replay needs importance weights in the loss: use --loop gymnasium")
    if config.exploration.exploring_starts > 0 and config.loop != "compiled":
        raise UsageError(
            f"--exploring-starts sets states, which --loop {config.loop} cannot: use --loop compiled, or leave it out"
        )
    copies, steps = config.interaction.environments, config.target.n_step
    if config.replay.capacity < copies * steps:
        raise UsageError(
            f"--replay-capacity {config.replay.capacity} is too small for {copies} environments and {steps}-step "
            f"targets: set it to {copies * steps} or more"
        )
