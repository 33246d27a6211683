from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv

from deeptaxi import arguments
from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import UsageError
from deeptaxi.mdp.constructor import check_arguments, check_lake
from deeptaxi.mdp.environment import open_environment
from deeptaxi.mdp.simulate import TableEnv
from tests.problems import chain, registered


class Annotated(TableEnv):
    """Declares its arguments by annotations, and by defaults where there are none."""

    def __init__(
        self, render_mode=None, *, slippery=True, size=3, rate: float | None = 0.5, sure: bool | None = True,
        rows: Sequence[str] = (), name="x", odd: Missing = 1, anything=None, goal: tuple[int, int] = (0, 0),  # noqa: F821
    ):  # fmt: skip
        super().__init__(chain(), render_mode)


class Forwarding(Annotated):
    """Forwards the arguments that it does not know."""

    def __init__(self, wind=0.5, **others):
        super().__init__(**others)


def made(**arguments):
    """Make it by a function that declares no arguments."""
    return Annotated(**arguments)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("FrozenLake-v1", {"is_slippery": "no"}, "is_slippery=no: FrozenLake-v1 expects true or false"),
        ("FrozenLake-v1", {"is_slippery": "False"}, 'is_slippery="False": FrozenLake-v1 expects true or false'),
        ("FrozenLake-v1", {"is_slippery": None}, "is_slippery=None: FrozenLake-v1 expects true or false"),
        ("FrozenLake-v1", {"is_slippery": 2}, "is_slippery=2: FrozenLake-v1 expects true or false"),
        ("FrozenLake", {"is_slippery": "no"}, "is_slippery=no: FrozenLake expects true or false"),
        ("FrozenLake-v1", {"success_rate": "high"}, "success_rate=high: FrozenLake-v1 expects a number"),
        ("FrozenLake-v1", {"success_rate": True}, "success_rate=true: FrozenLake-v1 expects a number"),
        ("FrozenLake-v1", {"map_name": None}, "map_name=None: FrozenLake-v1 expects a string"),
        ("FrozenLake-v1", {"desc": "SF,HG"}, 'desc=SF,HG: FrozenLake-v1 expects a list or None, such as ["AB", "CD"]'),
        ("FrozenLake-v1", {"map_name": "16x16"}, "map_name=16x16: FrozenLake-v1 knows 4x4 and 8x8; give a map"),
        ("FrozenLake-v1", {"desc": ["SF", "HGF"]}, "row 2 has 3 cells and row 1 has 2; give all rows the same length"),
        ("FrozenLake-v1", {"desc": ["FF", "HG"]}, "the map has no start; write S in the cell where episodes begin"),
        ("FrozenLake-v1", {"desc": []}, "desc=[]: expected rows of letters"),
        ("Taxi-v4", {"is_rainy": "yes"}, "is_rainy=yes: Taxi-v4 expects true or false"),
        ("CliffWalkingSlippery-v1", {"is_slippery": "x"}, "is_slippery=x: CliffWalkingSlippery-v1 expects true"),
        ("Blackjack-v1", {"sab": "no"}, "sab=no: Blackjack-v1 expects true or false"),
        ("Annotated-v0", {"slippery": "no"}, "expects true or false"),
        ("Annotated-v0", {"size": "large"}, "expects a number"),
        ("Annotated-v0", {"rate": "high"}, "expects a number or None"),
        ("Annotated-v0", {"odd": "x"}, "expects a number"),
        ("Annotated-v0", {"goal": 3}, "expects a list"),
        ("Forwarding-v0", {"slippery": "no"}, "expects true or false"),
        ("Forwarding-v0", {"wind": "strong"}, "expects a number"),
    ],
)
def test_arguments_of_the_wrong_type_are_refused_with_what_is_expected(name, kwargs, message):
    with (
        registered("Annotated-v0", Annotated),
        registered("Forwarding-v0", Forwarding),
        pytest.raises(UsageError, match=re.escape(message)) as caught,
    ):
        open_environment(EnvironmentConfig(name, kwargs))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("Annotated-v0", {"slippery": False, "size": 2.5, "rate": None, "sure": None, "rows": ["a"], "name": 3}),
        ("Annotated-v0", {"slippery": 0, "rows": "ab", "odd": 2, "anything": "text", "goal": [1, 2]}),
        ("Annotated-v0", {"anything": np.zeros(2), "slippery": np.bool_(False), "unheard": 1}),
        ("Forwarding-v0", {"sure": None, "wind": 1}),
        ("Made-v0", {"slippery": "no"}),  # nothing says what it takes
        ("no_such_module_here:Walk-v0", {"slippery": "no"}),
        ("Unheard-v7", {"slippery": "no"}),
        ("no id", {"slippery": "no"}),
        ("FrozenLake-v1", {"desc": [["S", "F"], ["H", "G"]], "reward_schedule": [1, 0, 0], "success_rate": 1}),
        ("FrozenLake-v1", {"desc": None, "map_name": "8x8", "is_slippery": 1}),
    ],
)
def test_other_arguments_are_left_to_the_constructor(name, kwargs):
    with registered("Annotated-v0", Annotated), registered("Forwarding-v0", Forwarding), registered("Made-v0", made):
        check_arguments(EnvironmentConfig(name, kwargs))


def test_a_subclass_of_frozen_lake_may_have_other_maps():
    class Wide(FrozenLakeEnv):
        def __init__(self, render_mode=None, desc=None):
            super().__init__(render_mode, [row.replace("s", "S") for row in desc])

    with registered("Wide-v0", Wide):
        assert open_environment(EnvironmentConfig("Wide-v0", {"desc": ["sF", "HG"]})).states == 4
    with pytest.raises(UsageError, match="no start"):
        check_lake(EnvironmentConfig("Wide-v0", {"desc": ["sF", "HG"]}))


@pytest.mark.parametrize("value", ["(nan, 0, 0)", "[1, 0, inf]"])
def test_numbers_of_frozen_lake_must_be_finite(value):
    kwargs = {"reward_schedule": arguments.parse(value)}
    with pytest.raises(UsageError, match=r"reward_schedule=.*: FrozenLake-v1 expects finite numbers"):
        open_environment(EnvironmentConfig("FrozenLake-v1", kwargs))
