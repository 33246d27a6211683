from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptaxi.config import SCHEDULES
from deeptaxi.learning.schedules import Span, anneal
from tests.learning.helpers import numbers


# From 1 to 0.64 over the first half.
@pytest.mark.parametrize(
    ("kind", "quarter", "end"),
    [
        ("constant", 1.0, 1.0),
        ("linear", 0.82, 0.64),
        ("exponential", 0.8, 0.64),  # √0.64
        ("cosine", 0.82, 0.64),
    ],
)
def test_a_schedule_can_be_checked_by_hand(kind, quarter, end):
    at = [anneal(kind, Span.of(1.0, 0.64), 0.5, progress) for progress in (0, 0.25, 0.5, 0.75, 1.0, 1.5)]
    assert at == pytest.approx([1.0, quarter, end, end, end, end])
    assert all(isinstance(value, float) for value in at)


def test_the_cosine_is_flat_at_both_ends():
    # ½·(1 + cos 30°) = (2 + √3)/4 after a sixth of the way.
    assert anneal("cosine", Span.of(1.0, 0.0), 1.0, 1 / 6) == pytest.approx((2 + 3**0.5) / 4)
    assert anneal("cosine", Span.of(1.0, 0.0), 1.0, 5 / 6) == pytest.approx((2 - 3**0.5) / 4)


def test_linear_and_cosine_schedules_may_end_at_zero_or_rise():
    assert anneal("linear", Span.of(0.0, 1.0), 1.0, 0.25) == 0.25
    assert anneal("cosine", Span.of(0.5, 0.0), 1.0, 1.0) == 0.0


@given(
    kind=st.sampled_from(SCHEDULES),
    start=st.floats(0.01, 10),
    end=st.floats(0.01, 10),
    fraction=st.floats(0.01, 1),
    progress=st.lists(st.floats(0, 2, width=32), min_size=1, max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_a_schedule_stays_between_its_ends_also_for_arrays(kind, start, end, fraction, progress):
    expected = [anneal(kind, Span.of(start, end), fraction, value) for value in progress]
    slack = 1e-9 * max(start, end)
    assert all(min(start, end) - slack <= value <= max(start, end) + slack for value in expected)
    found = numbers(anneal(kind, Span.of(start, end), fraction, np.array(progress, np.float32)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    single = numbers(anneal(kind, Span.of(start, end), fraction, np.float32(progress[0])))
    np.testing.assert_allclose(single, expected[0], rtol=1e-4)
