from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from deeptaxi import backend
from deeptaxi.learning.targets import (
    epsilon,
    epsilon_greedy,
    learning_rate_of,
    overwrite,
    tabular_step,
    td_targets,
)
from tests.learning.helpers import numbers

shapes = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**32 - 1))  # B, A, seed


@pytest.mark.parametrize(("action", "expected"), [(0, [9.0, 7.0]), (1, [5.0, 9.0])])
def test_overwrite_replaces_the_taken_action_and_no_other(action, expected):
    q_values = np.array([[5.0, 7.0]], np.float32)
    targets = overwrite(q_values, np.array([action], np.int32), np.array([9.0], np.float32))
    np.testing.assert_array_equal(numbers(targets), [expected])
    np.testing.assert_array_equal(q_values, [[5.0, 7.0]])


def test_overwrite_takes_each_row_by_itself():
    q_values = np.arange(6, dtype=np.float32).reshape(3, 2)
    targets = overwrite(q_values, np.array([1, 0, 1], np.int32), np.array([-1.0, -2.0, -3.0], np.float32))
    np.testing.assert_array_equal(numbers(targets), [[0, -1], [-2, 3], [4, -3]])


def test_a_terminated_transition_does_not_bootstrap_and_any_other_does():
    # r = 1 and γ = ½; the best next action is worth 8: 1 + ½·8 = 5. A truncated transition is not terminated.
    targets = td_targets(
        np.array([1.0, 1.0], np.float32), np.array([True, False]), np.array([[2.0, 8.0]] * 2, np.float32), 0.5
    )
    np.testing.assert_array_equal(numbers(targets), [1.0, 5.0])


def test_the_mask_limits_the_best_next_action():
    allowed = np.array([[True, False], [False, True], [True, True]])  # 1 + ½·2, 1 + ½·8, 1 + ½·8
    targets = td_targets(
        np.ones(3, np.float32), np.zeros(3, np.bool_), np.array([[2.0, 8.0]] * 3, np.float32), 0.5, allowed
    )
    np.testing.assert_array_equal(numbers(targets), [2.0, 5.0, 5.0])


@pytest.mark.parametrize("loss", [keras.losses.MeanSquaredError, keras.losses.Huber])
@given(shape=shapes)
@settings(max_examples=30, deadline=None)
def test_fitting_the_overwritten_targets_is_the_masked_gradient(loss, shape):
    batch, actions, seed = shape
    rng = np.random.default_rng(seed)
    q_values, td_target = rng.normal(0, 3, (batch, actions)), rng.normal(0, 3, batch)
    taken = rng.integers(0, actions, batch)
    goal = numbers(overwrite(q_values, taken, td_target))
    measure = loss(dtype="float64")

    def fitted(q):
        return measure(goal, q)

    def masked(q):  # the errors of the taken actions alone; Keras averages over all A
        return measure(td_target, ops.sum(ops.multiply(np.eye(actions)[taken], q), axis=1)) / actions

    np.testing.assert_allclose(numbers(fitted(q_values)), numbers(masked(q_values)), rtol=1e-6, atol=1e-6)
    (gradient,), (expected,) = (backend.input_gradient(error, [q_values]) for error in (fitted, masked))
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)
    assert not gradient[np.arange(actions) != taken[:, None]].any()


@pytest.mark.parametrize(
    ("update", "expected"),
    [(0, 1.0), (25, 0.8), (50, 0.6), (75, 0.6), (99, 0.6)],  # from 1 to 0.6 over the first half of 100 updates
)
def test_epsilon_falls_linearly_and_then_stays(update, expected):
    assert epsilon(update, updates=100, start=1.0, end=0.6, fraction=0.5) == pytest.approx(expected)


def choose(q_values, chance, allowed=None, rows=4_000):
    """Return how often each action is chosen in `rows` draws."""
    rng = np.random.default_rng(0)
    q_values = np.tile(np.array(q_values, np.float32), (rows, 1))
    allowed = np.tile(np.array([True] * q_values.shape[1] if allowed is None else allowed), (rows, 1))
    draws, noise = rng.random(rows, np.float32), rng.random(q_values.shape, np.float32)
    chosen = numbers(epsilon_greedy(q_values, np.float32(chance), draws, noise, allowed))
    return np.bincount(chosen, minlength=q_values.shape[1])


# Of 4,000 draws, a count with probability p has a standard deviation of at most √(4000·¼) = 32; 130 is four of them.
@pytest.mark.parametrize(
    ("q_values", "chance", "allowed", "expected"),
    [
        pytest.param([1, 3, 2], 0.0, None, [0, 4_000, 0], id="greedy"),
        pytest.param([1, 3, 3, 3], 0.0, None, [0, 4_000 / 3, 4_000 / 3, 4_000 / 3], id="ties"),
        pytest.param([1, 3, 2, 0], 1.0, None, [1_000, 1_000, 1_000, 1_000], id="random"),
        pytest.param([1, 3, 2], 0.3, None, [400, 3_200, 400], id="three-tenths"),
        pytest.param([1, 3, 2], 0.0, [True, False, True], [0, 0, 4_000], id="masked-greedy"),
        pytest.param([1, 3, 2], 1.0, [True, False, True], [2_000, 0, 2_000], id="masked-random"),
        pytest.param([3, 3, 3], 0.0, [True, False, True], [2_000, 0, 2_000], id="masked-ties"),
    ],
)
def test_actions_are_chosen_as_often_as_epsilon_says(q_values, chance, allowed, expected):
    counts = choose(q_values, chance, allowed)
    np.testing.assert_allclose(counts, expected, atol=130)
    assert not counts[np.array(expected) == 0].any()


@given(shape=shapes, chance=st.floats(0, 1), spread=st.sampled_from([0.0, 1.0, 1e30]))
@settings(max_examples=50, deadline=None)
def test_no_action_is_chosen_that_the_mask_excludes(shape, chance, spread):
    rows, actions, seed = shape
    rng = np.random.default_rng(seed)
    q_values = (spread * rng.normal(size=(rows, actions))).astype(np.float32)
    allowed = rng.random((rows, actions)) < 0.5
    allowed[np.arange(rows), rng.integers(0, actions, rows)] = True
    noise = rng.random((rows, actions), np.float32) * rng.integers(0, 2, (rows, actions), np.int32)  # 0 is possible
    chosen = numbers(
        epsilon_greedy(q_values, np.float32(chance), rng.random(rows, np.float32), noise.astype(np.float32), allowed)
    )
    assert allowed[np.arange(rows), chosen].all()


def test_the_learning_rate_of_a_tabular_step_is_known():
    # α = 2·lr/(A·B): with 6 actions and minibatches of 256, a step of ½ needs lr = ½·6·256/2 = 384.
    assert learning_rate_of(0.5, actions=6, batch_size=256) == 384
    assert tabular_step(384, actions=6, batch_size=256) == 0.5


@given(step=st.floats(1e-6, 10), actions=st.integers(1, 100), batch=st.integers(1, 4096))
@settings(deadline=None)
def test_step_and_learning_rate_are_inverses(step, actions, batch):
    assert tabular_step(learning_rate_of(step, actions, batch), actions, batch) == pytest.approx(step)
