"""Search spaces: what a file may say, and what of the usual space matters for a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deeptaxi.config import resolve
from deeptaxi.errors import UsageError
from deeptaxi.experiments.search_space import (
    default_space,
    nested_values,
    parameters_of,
    propose,
    read_space,
    space_of,
    to_space_mapping,
)
from deeptaxi.presets import Preset, listed_presets

FILE = """
[learning_rate]
low = 0.001
high = 0.1
log = true

[network.hidden]
choices = [[64], [128, 64], []]

[replay.batch_size]
low = 32
high = 64

[environment.kwargs.is_slippery]
choices = [true, false]
"""


class Lowest:
    """Proposes the least of each range."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return low

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return low

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        return choices[0]


def test_a_file_names_settings_by_option_or_path(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(FILE, encoding="utf-8")
    space = read_space(path)
    assert [one.name for one in space] == [
        "learning_rate",
        "network.hidden",
        "replay.batch_size",
        "environment.kwargs.is_slippery",
    ]
    assert [one.whole for one in space] == [False, False, True, False]
    values = propose(Lowest(), space)
    assert nested_values(values, space) == {
        "optimizer": {"learning_rate": 0.001},
        "network": {"hidden": [64]},
        "replay": {"batch_size": 32},
        "environment": {"kwargs": {"is_slippery": True}},
    }
    assert space_of(to_space_mapping(space)) == space


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "names at least one setting"),
        ({"learnig_rate": {"low": 0.1, "high": 0.2}}, "learnig_rate: unknown setting; did you mean 'learning_rate'"),
        ({"learning_rate": 0.1}, "'learning_rate': expected a table"),
        ({"learning_rate": {"low": 0.1}}, "the first below the second"),
        ({"learning_rate": {"low": 0.2, "high": 0.1}}, "the first below the second"),
        ({"learning_rate": {"low": 0.1, "high": 0.2, "lag": True}}, "unknown key 'lag'; did you mean 'log'"),
        ({"learning_rate": {"low": 0.1, "high": 0.2, "choices": [1.0]}}, "expected low and high, or choices"),
        ({"learning_rate": {"low": -0.1, "high": 0.2}}, "learning_rate"),
        ({"polyak": {"low": 0.0, "high": 0.2, "log": True}}, "begins above 0"),
        ({"batch_size": {"low": 1.5, "high": 3.5}}, "whole numbers"),
        ({"hidden": {"low": 1, "high": 3}}, "this setting is no number: give 'choices'"),
        ({"hidden": {"choices": []}}, "'choices' is a list of values"),
        ({"hidden": {"choices": [[64], [64]]}}, "given twice"),
        ({"hidden": {"choices": ["wide"]}}, "hidden"),
        ({"seed": {"choices": [0, 1]}}, "--seeds"),
        ({"polyak": {"low": 0.1, "high": 0.2}, "target": {"polyak": {"low": 0.1, "high": 0.2}}}, "is the same setting"),
    ],
)
def test_what_is_wrong_is_named(table: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        space_of(table)
    assert said in str(caught.value)


def names_for(**values: Any) -> list[str]:
    return [one.name for one in default_space(resolve({"loop": "compiled", **values}))]


def test_the_usual_space_has_what_matters_for_the_network_and_the_loop() -> None:
    everything = names_for(environment={"id": "Taxi-v4"})
    assert everything == [
        *("learning_rate", "batch_size", "hidden", "polyak", "epsilon_end", "exploring_starts", "environments"),
        "n_step",
    ]
    table = names_for(environment={"id": "Taxi-v4"}, network={"hidden": [], "dueling": False})
    assert table == ["tabular_step", *(name for name in everything if name not in ("learning_rate", "hidden"))]
    stepped = names_for(environment={"id": "Taxi-v4"}, loop="gymnasium")
    assert stepped == [name for name in everything if name not in ("exploring_starts", "environments")]
    assert "n_step" not in names_for(target={"backup": "expected"})


def test_the_settings_to_begin_with_are_the_first_trial_as_far_as_the_space_has_them() -> None:
    config = resolve({"environment": {"id": "Taxi-v4"}, "loop": "compiled"})
    found = parameters_of(config, default_space(config))
    assert found["learning_rate"] == config.optimizer.learning_rate
    assert found["hidden"] == "64"
    assert found == parameters_of(config, space_of(to_space_mapping(default_space(config))))
    narrow = space_of({"learning_rate": {"low": 1e-5, "high": 1e-4}, "batch_size": {"choices": [512, 1024]}})
    assert parameters_of(config, narrow) == {"batch_size": "512"}


def test_the_usual_space_has_the_settings_to_begin_with() -> None:
    values = {"network": {"hidden": [48]}, "interaction": {"environments": 32}, "target": {"polyak": 1.0}}
    config = resolve({"environment": {"id": "Taxi-v4"}, "loop": "compiled", **values})
    space = {one.name: one for one in default_space(config)}
    assert space["environments"].choices == (16, 32, 64, 256)
    assert space["hidden"].choices == ([32], [64], [128], [64, 64], [48])
    assert (space["polyak"].low, space["polyak"].high) == (0.003, 1.0)
    assert set(parameters_of(config, default_space(config))) == set(space)
    unset = resolve({"environment": {"id": "Taxi-v4"}, "loop": "compiled", "exploration": {"end": 0.0}})
    assert next(one for one in default_space(unset) if one.name == "epsilon_end").low == 0.0


@pytest.mark.parametrize("preset", listed_presets(), ids=lambda preset: preset.name)
def test_a_search_begins_with_the_preset(preset: Preset) -> None:
    config = resolve({"environment": preset.environment, "loop": "compiled", **preset.settings})
    space = default_space(config)
    assert set(parameters_of(config, space)) == {one.name for one in space}
