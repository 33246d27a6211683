from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptaxi.backend import keras_backend
from deeptaxi.learning import sum_tree
from tests.learning.helpers import numbers


def tree_of(values):
    """Build a tree with these priorities by one assignment."""
    index = np.arange(len(values), dtype=np.int32)
    return assigned(sum_tree.levels(len(values)), index, np.array(values, np.float32))


def assigned(tree, index, values):
    return [numbers(level) for level in sum_tree.assign(tree, np.array(index, np.int32), np.array(values, np.float32))]


def stratified(count, rng):
    return ((np.arange(count) + rng.random(count)) / count).astype(np.float32)


def consistent(tree):
    """Whether every parent is to the bit the sum of its 16 children, and what is left of a level is zero."""
    for below, level in itertools.pairwise(tree):
        sums = numbers(sum_tree.total(below.reshape(-1, 16)))
        if not (np.array_equal(level[: len(sums)], sums) and not level[len(sums) :].any()):
            return False
    return len(tree[-1]) == 16


@pytest.mark.parametrize(
    ("capacity", "sizes"),
    [(1, [16]), (16, [16]), (17, [32, 16]), (256, [256, 16]), (257, [272, 32, 16]), (500_000, None)],
)
def test_each_level_holds_a_sum_of_sixteen_of_the_one_below(capacity, sizes):
    found = [len(level) for level in sum_tree.levels(capacity)]
    assert found == (sizes or [500_000, 31_264, 1_968, 128, 16])


def test_a_tree_can_be_checked_by_hand():
    tree = assigned(sum_tree.levels(40), [0, 1, 17, 39], [1, 2, 4, 8])
    assert [numbers(level).nonzero()[0].tolist() for level in tree] == [[0, 1, 17, 39], [0, 1, 2]]
    assert tree[1][:4].tolist() == [3, 4, 8, 0]
    # Of 15 in all: [0, 1) is entry 0, [1, 3) entry 1, [3, 7) entry 17, [7, 15) entry 39.
    uniforms = np.array([0, 0.9, 1.1, 2.9, 3.1, 6.9, 7.1, 14.9], np.float32) / 15
    index, probability = sum_tree.draw(tree, uniforms)
    assert numbers(index).tolist() == [0, 0, 1, 1, 17, 17, 39, 39]
    np.testing.assert_allclose(numbers(probability) * 15, [1, 1, 2, 2, 4, 4, 8, 8], rtol=1e-6)


def test_an_entry_that_is_assigned_twice_at_once_counts_once():
    new = assigned(tree_of([1.0] * 20), [17, 17, 4], [5, 5, 2])
    assert (new[0][17], new[0][4], new[1][1], new[1][0]) == (5, 2, 8, 17)


def test_the_given_arrays_are_not_changed():
    tree = sum_tree.levels(20)
    assigned(tree, [3], [1])
    assert not any(level.any() for level in tree)


def test_entries_are_drawn_in_proportion_to_their_priorities():
    # 100,000 draws: a frequency has a standard deviation of at most √(p/100000), and four of them are allowed.
    rng = np.random.default_rng(0)
    values = (rng.random(300) * (rng.random(300) < 0.5)).astype(np.float32)
    index, probability = sum_tree.draw(tree_of(values), rng.random(100_000, np.float32))
    expected = values / values.sum(dtype=np.float64)
    found = np.bincount(numbers(index), minlength=300) / 100_000
    assert (np.abs(found - expected) <= 4 * np.sqrt(expected / 100_000)).all()
    np.testing.assert_allclose(numbers(probability), expected[numbers(index)], rtol=1e-5)


def test_stratified_draws_take_one_entry_of_each_stratum():
    # Equal priorities, as many strata as entries: every entry once.
    index, _ = sum_tree.draw(tree_of([0.7] * 256), stratified(256, np.random.default_rng(0)))
    assert numbers(index).tolist() == list(range(256))


leaf_values = st.one_of(st.just(0.0), st.floats(2.0**-20, 2.0**20, width=32))
assignments = st.lists(st.lists(st.tuples(st.integers(0, 299), leaf_values), min_size=4, max_size=4), max_size=6)


@given(rounds=assignments, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_after_any_assignments_every_parent_is_the_sum_of_its_children(rounds, seed):
    tree, leaves = sum_tree.levels(300), np.zeros(300, np.float32)
    for pairs in rounds:
        values = dict(pairs)  # an entry that comes twice comes with one value
        index = [entry for entry, _ in pairs]
        tree = assigned(tree, index, [values[entry] for entry in index])
        leaves[list(values)] = list(values.values())
    np.testing.assert_array_equal(tree[0][:300], leaves)
    assert consistent(tree)
    if leaves.any():
        uniforms = np.append(stratified(62, np.random.default_rng(seed)), [0, 1]).astype(np.float32)
        index, probability = (numbers(x) for x in sum_tree.draw(tree, uniforms))
        assert (leaves[index] > 0).all()
        np.testing.assert_allclose(probability, leaves[index] / leaves.sum(dtype=np.float64), rtol=1e-5)
        # The running sums up to the entry hold the number that was drawn, but for rounding.
        ends = np.cumsum(leaves, dtype=np.float64) / leaves.sum(dtype=np.float64)
        assert (uniforms <= ends[index] + 1e-5).all()
        assert (uniforms >= ends[index] - probability - 1e-5).all()


def test_an_entry_of_priority_zero_is_never_drawn_even_by_rounding():
    # Sums of numbers like 0.1 are rounded at every level; entry 271 and all that pads the levels are zero.
    values = np.append(np.full(271, 0.1, np.float32), 0)
    near_one = 1 - np.arange(64, dtype=np.float32) * 2.0**-24
    index, _ = sum_tree.draw(tree_of(values), near_one.astype(np.float32))
    assert (numbers(index) <= 270).all()


def test_priorities_and_importance_weights_follow_the_definition():
    np.testing.assert_allclose(numbers(sum_tree.priorities(np.array([-4.0, 0.0], np.float32), 0.5)), [2, 1e-3], 1e-5)
    # N·P = 4·(½, ⅛, ⅛) = (2, ½, ½); by β = 1 that is (½, 2, 2), by β = ½ its root; divided by the largest.
    probability = np.array([0.5, 0.125, 0.125], np.float32)
    for exponent, least in ((0.0, 1.0), (0.5, 0.5), (1.0, 0.25)):
        weights = numbers(sum_tree.importance_weights(probability, 4, exponent))
        np.testing.assert_allclose(weights, [least, 1, 1], rtol=1e-6)


def test_with_the_weights_at_full_strength_the_expectation_is_the_uniform_one():
    # Σ P(i)·(N·P(i))⁻¹·x_i is the mean of x, whatever the priorities: what importance weights are for.
    rng = np.random.default_rng(0)
    probability = rng.random(50).astype(np.float32)
    probability /= probability.sum()
    x = rng.normal(size=50)
    weights = numbers(sum_tree.importance_weights(probability, 50, 1.0)) / (50 * probability.min())
    assert (probability * weights * x).sum() == pytest.approx(x.mean(), rel=1e-4)


def check_compiled():
    """Compile and run on this backend what the tests above ran as it is; the results must be the same."""
    rng = np.random.default_rng(0)
    start = tree_of(rng.random(300))
    tree = [keras.Variable(level, trainable=False) for level in start]

    def step(index, values, uniforms):
        new = sum_tree.assign([level.value for level in tree], index, sum_tree.priorities(values, 0.6))
        for old, level in zip(tree, new, strict=True):
            old.assign(level)
        drawn, probability = sum_tree.draw(new, uniforms)
        return drawn, sum_tree.importance_weights(probability, 300, 0.4)

    compiled = keras_backend.compiled(step, tree)
    for _ in range(5):
        index = rng.integers(0, 300, 64, np.int32)
        errors = rng.normal(size=300).astype(np.float32)[index]
        before, uniforms = [numbers(level) for level in tree], stratified(64, rng)
        drawn, weights = (numbers(x) for x in compiled(index, errors, uniforms))
        after = [numbers(level) for level in tree]
        assert consistent(after)
        expected = assigned(before, index, numbers(sum_tree.priorities(errors, 0.6)))
        np.testing.assert_allclose(after[0], expected[0], rtol=1e-5)
        again, probability = sum_tree.draw(after, uniforms)
        np.testing.assert_array_equal(drawn, numbers(again))
        np.testing.assert_allclose(weights, numbers(sum_tree.importance_weights(probability, 300, 0.4)), rtol=1e-4)


def test_the_compiled_sum_tree_does_the_same():
    check_compiled()
