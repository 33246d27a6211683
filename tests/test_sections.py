"""What the sections check is tested through whole configurations, in `test_config`."""

from __future__ import annotations

import pytest

from deeptaxi.sections import NetworkConfig


@pytest.mark.parametrize(
    ("hidden", "dueling", "kind"),
    [((128,), True, "dueling"), ((128,), False, "mlp"), ((), False, "q-table"), ((), True, "dueling")],
)
def test_the_network_has_a_kind(hidden, dueling, kind):
    assert NetworkConfig(hidden=hidden, dueling=dueling).kind == kind


def test_by_itself_the_network_is_dueling():
    assert NetworkConfig().kind == "dueling"
