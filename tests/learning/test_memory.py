from __future__ import annotations

import math

import pytest

from deeptaxi.config import EnvironmentConfig, resolve
from deeptaxi.errors import UsageError
from deeptaxi.learning.memory import LARGEST_INDEX, check_size, memory_parts, too_large
from deeptaxi.learning.resolve import configure
from deeptaxi.machine import physical_memory
from deeptaxi.mdp.environment import open_environment

HUGE = 10**9
KNOWS = pytest.mark.skipif(physical_memory() == math.inf, reason="the system does not tell how much memory it has")


def config(**settings):
    return resolve({"environment": {"id": "FrozenLake-v1"}, **settings})


def test_the_memory_of_a_training_can_be_counted_by_hand():
    taxi = config(
        loop="gymnasium",
        network={"hidden": [8, 4], "dueling": False},
        replay={"capacity": 1_000, "batch_size": 32},
        interaction={"environments": 2},
    )
    assert memory_parts(taxi, 500, 6) == {
        "--hidden": 12 * (500 * 8 + 8 * 4 + 4 * 6),
        "--replay-capacity": 20_000,
        "--environments": 4_000,
        "--batch-size": 4 * 32 * 8,
    }


@KNOWS
@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({"network": {"hidden": [HUGE, 8]}}, "--hidden"),
        ({"network": {"hidden": [128, 10**6, 10**6]}}, "--hidden"),
        ({"interaction": {"environments": HUGE}, "replay": {"capacity": HUGE}, "loop": "gymnasium"}, "--environments"),
        ({"replay": {"batch_size": HUGE}}, "--batch-size"),
    ],
)
def test_a_training_too_large_for_any_machine_is_refused_before_it_is_built(settings, option):
    with pytest.raises(UsageError, match=rf"GiB or more, most of it for {option}, and this machine has [\d,.]+ GiB"):
        check_size(config(**settings), 10_000, 1_000)


@KNOWS
def test_a_training_too_large_is_refused_while_resolving_settings():
    lake = open_environment(EnvironmentConfig("FrozenLake-v1"))
    with pytest.raises(UsageError, match="most of it for --hidden"):
        configure(lake, {"environment": {"id": "FrozenLake-v1"}, "network": {"hidden": [HUGE, HUGE]}})


@pytest.mark.parametrize(
    ("sizes", "large"),
    [
        ((500, 6, 1), False),
        ((LARGEST_INDEX // 25, 1, 1), False),
        ((20_000, 1_000, 20), True),  # 10 GB
        ((1, 1, 8 * 2**30 // 25), False),
        ((1, 1, 8 * 2**30 // 25 + 1), True),
    ],
)
def test_a_table_must_fit_into_memory(sizes, large):
    assert (too_large(*sizes) is not None) == large


def test_a_training_too_large_is_reported_with_its_sizes():
    # 20,000 · 1,000 · 20 entries of 25 bytes are 10¹⁰ bytes, 9.3 GiB.
    reason = too_large(20_000, 1_000, 20)
    assert reason.startswith("the table has 20,000 states × 1,000 actions × 20 outcomes, 9.3 GiB when expanded")
    assert reason.endswith("more than 8 GiB")
