"""What the sections check is tested through whole configurations, in `test_config`."""

from __future__ import annotations

import math

import pytest

from deeptaxi.config import NetworkConfig, OptimizerConfig
from deeptaxi.errors import UsageError


@pytest.mark.parametrize(
    ("hidden", "dueling", "kind"),
    [((128,), True, "dueling"), ((128,), False, "mlp"), ((), False, "q-table"), ((), True, "dueling")],
)
def test_the_network_has_a_kind(hidden, dueling, kind):
    assert NetworkConfig(hidden=hidden, dueling=dueling).kind == kind


def test_by_itself_the_network_is_dueling():
    assert NetworkConfig().kind == "dueling"


@pytest.mark.parametrize("value", [math.nan, math.inf, "x", [0.1], {"a": 1}, None])
def test_options_of_the_optimizer_are_numbers_and_truth_values(value):
    with pytest.raises(UsageError, match=r"options.beta_1 = .*: expected a finite number, or true or false"):
        OptimizerConfig(options={"beta_1": value})
