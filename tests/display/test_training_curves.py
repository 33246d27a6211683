from __future__ import annotations

import pytest

from deeptaxi.display.training import length


@pytest.mark.parametrize(("seconds", "text"), [(0.43, "0.4 s"), (9.94, "9.9 s"), (12.6, "13 s"), (125, "2:05 min")])
def test_a_short_training_is_told_to_the_tenth(seconds, text):
    assert length(seconds) == text
