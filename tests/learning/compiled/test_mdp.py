from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptaxi.learning.compiled.mdp import alias_table, value_of
from tests.learning.helpers import alias_shares, numbers


def test_an_alias_table_can_be_made_by_hand():
    # Means of 1: masses 2, 0.5, 0.5. Value 0 fills both others up and is left with 1.
    share, alias = alias_table(np.array([[2 / 3, 1 / 6, 1 / 6]]))
    np.testing.assert_allclose(share, [[1, 0.5, 0.5]])
    assert alias[0, 1:].tolist() == [0, 0]


@pytest.mark.parametrize(
    "eighths", [[8, 0, 0, 0], [0, 0, 0, 8], [2, 2, 2, 2], [1, 3, 3, 1], [5, 0, 3, 0], [0, 7, 0, 1], [8], [4, 4], [1, 7]]
)
def test_an_alias_table_draws_by_the_probabilities_to_the_last_bit(eighths):
    share, alias = alias_table(np.array([eighths]) / 8)
    assert alias_shares(share[0], alias[0]) == [Fraction(value, 8) for value in eighths]


@given(
    rows=st.integers(1, 9).flatmap(
        lambda count: st.lists(
            st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1), st.just(1.0)), min_size=count, max_size=count).filter(
                any
            ),
            min_size=1,
            max_size=4,
        )
    )
)
@settings(max_examples=300, deadline=None)
def test_any_alias_tables_draw_by_the_probabilities_and_never_what_has_none(rows):
    weights = np.array(rows)
    weights /= weights.sum(axis=1, keepdims=True)
    share, alias = alias_table(weights)
    for row in range(len(rows)):
        found = alias_shares(share[row], alias[row])
        assert sum(found) == 1
        np.testing.assert_allclose([float(x) for x in found], weights[row], atol=2**-23)
        assert all(x == 0 for x, probability in zip(found, weights[row], strict=True) if probability == 0)


def test_a_slot_is_kept_below_its_share_and_stands_for_its_alias_from_there_on():
    # Two distributions over three values, end to end.
    share = np.array([1.0, 0.5, 0.5, 0.25, 1.0, 1.0], np.float32)
    alias = np.array([0, 0, 2, 1, 1, 2], np.int32)
    slot = np.array([0, 1, 1, 2, 0, 0, 2], np.int32)
    uniform = np.array([0.99, 0.49, 0.5, 0.75, 0.2, 0.25, 0.0], np.float32)
    first = np.array([0, 0, 0, 0, 3, 3, 3], np.int32)
    assert numbers(value_of(share, alias, slot, uniform, first)).tolist() == [0, 1, 0, 2, 0, 1, 2]
    assert numbers(value_of(share[:3], alias[:3], slot[:4], uniform[:4])).tolist() == [0, 1, 0, 2]
