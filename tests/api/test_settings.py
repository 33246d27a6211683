from __future__ import annotations

import pytest

import deeptaxi
from deeptaxi.api.settings import TrainSettings, merge_settings, nested, paths
from deeptaxi.config import TrainConfig
from deeptaxi.schema import leaf_settings


def test_the_settings_are_exactly_the_options_of_a_training() -> None:
    options = [item.metadata["option"] for _, item, _ in leaf_settings(TrainConfig) if item.metadata["option"]]
    assert len(options) == len(TrainSettings.__annotations__)
    assert set(paths()) == set(TrainSettings.__annotations__)
    for option in options:
        assert option.split("/")[0][2:].replace("-", "_") in paths()
    assert nested({"hidden": (64,), "learning_rate": 0.01, "early_stop": False, "double": None}) == {
        "network": {"hidden": (64,)},
        "optimizer": {"learning_rate": 0.01},
        "evaluation": {"early_stop": False},
    }
    with pytest.raises(deeptaxi.DeepTaxiError, match="unknown setting 'learning_rat'; did you mean 'learning_rate'"):
        nested({"learning_rat": 1})


def test_environment_arguments_override_those_of_the_configuration() -> None:
    config = {"environment": {"id": "FrozenLake-v1", "kwargs": {"is_slippery": False}}}
    values = merge_settings(None, {"map_name": "8x8"}, config, False, {})
    assert values["environment"]["kwargs"] == {"is_slippery": False, "map_name": "8x8"}
    assert merge_settings("Taxi-v4", {"is_rainy": True}, config, False, {})["environment"]["kwargs"] == {
        "is_rainy": True
    }
