from __future__ import annotations

import doctest

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from deeptaxi import recipe
from deeptaxi.backend import keras_backend
from deeptaxi.config import SCHEDULES
from deeptaxi.learning.schedules import Span, anneal
from deeptaxi.recipe import (
    clip_by_global_norm,
    epsilon_greedy,
    is_greedy,
    learning_rate_of,
    loss_of,
    n_step,
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


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8", "uint16"])
def test_overwrite_takes_actions_of_any_type_of_integers(dtype):
    targets = overwrite(floats([1, 2], [3, 4]), np.array([1, 0], dtype), floats(8, 9))
    np.testing.assert_array_equal(numbers(targets), [[1, 8], [9, 4]])
    assert numbers(is_greedy(floats([1, 2], [3, 4]), np.array([1, 0], dtype))).tolist() == [True, False]


def test_lists_of_python_are_arrays_too():
    assert numbers(td_targets([1, 1], [0.5, 0], [[2, 8], [2, 8]])).tolist() == [5, 1]
    assert numbers(overwrite([[5.0, 7.0]], [1], [9.0])).tolist() == [[5, 9]]
    assert [numbers(x).tolist() for x in n_step([[1, 2]], [[False, False]], [[False, True]], 0.5)] == [[2], [1], [0.25]]


TWO = [[2.0, 8.0], [2.0, 8.0]]
TD = r"expected rewards \[B\], discounts \[B\], next_q \[B, A\]; received "
OVER = r"expected q_values \[B, A\], actions \[B\], targets \[B\]; received "


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: td_targets([[1.0], [1.0]], [0.0, 1.0], TWO), TD + r"\[2, 1\], \[2\], \[2, 2\]"),
        (lambda: td_targets([1.0, 1.0], 0.5, TWO), TD + r"\[2\], \[\], \[2, 2\]"),
        (lambda: td_targets([1.0, 1.0], [0.0, 1.0], TWO[0]), TD + r"\[2\], \[2\], \[2\]"),
        (lambda: td_targets([1.0, 1.0], [0.0, 1.0], TWO[:1]), TD + r"\[2\], \[2\], \[1, 2\]"),
        (lambda: td_targets([1.0, 1.0], TWO, TWO), r"discounts \[B, K\], next_q \[B, K, A\]; received"),
        (lambda: overwrite(TWO[:1], [[1]], [9.0]), OVER + r"\[1, 2\], \[1, 1\], \[1\]"),
        (lambda: overwrite(TWO, [1], [9.0]), OVER + r"\[2, 2\], \[1\], \[1\]"),
        (lambda: n_step([1.0], [0], [0], 0.5), r"rewards \[B, n\], .*received \[1\], \[1\], \[1\]"),
    ],
)
def test_shapes_that_a_backend_would_broadcast_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_examples_of_the_docstrings_are_right():
    assert doctest.testmod(recipe, extraglobs={"np": np}).failed == 0


def floats(*values):
    return np.array(values, np.float32)


def test_a_terminated_transition_does_not_bootstrap_and_any_other_does():
    # r = 1 and γ = ½; the best next action is worth 8: 1 + ½·8 = 5. A truncated transition is not terminated.
    targets = td_targets(floats(1, 1), floats(0, 0.5), floats([2, 8], [2, 8]))
    np.testing.assert_array_equal(numbers(targets), [1.0, 5.0])


ALLOWED = np.array([[True, False], [False, True], [True, True]])


def test_the_mask_limits_the_best_next_action():
    # 1 + ½·2, 1 + ½·8, 1 + ½·8
    targets = td_targets(floats(1, 1, 1), floats(0.5, 0.5, 0.5), floats(*[[2, 8]] * 3), ALLOWED)
    np.testing.assert_array_equal(numbers(targets), [2.0, 5.0, 5.0])


def test_double_dqn_chooses_with_one_network_and_evaluates_with_the_other():
    # The first prefers action 0, the second rates it 2: 1 + ½·2, though the second's best is 8.
    targets = td_targets(floats(1), floats(0.5), floats([2, 8]), choosing_q=floats([7, 6]))
    np.testing.assert_array_equal(numbers(targets), [2.0])


def test_the_mask_limits_the_choice_of_double_dqn():
    # Action 0 is preferred, and taken where it is allowed: 1 + ½·2, 1 + ½·8, 1 + ½·2.
    targets = td_targets(floats(1, 1, 1), floats(0.5, 0.5, 0.5), floats(*[[2, 8]] * 3), ALLOWED, floats(*[[7, 6]] * 3))
    np.testing.assert_array_equal(numbers(targets), [2.0, 5.0, 2.0])


@pytest.mark.parametrize("double", [False, True])
def test_the_end_of_an_episode_counts_nothing_even_where_nothing_is_allowed(double):
    choosing = floats([7, 6]) if double else None
    targets = td_targets(floats(1), floats(0), floats([2, 8]), np.array([[False, False]]), choosing)
    np.testing.assert_array_equal(numbers(targets), [1.0])


# Rewards 1, 2, 4 and γ = ½: 1, 1 + ½·2 = 2 and 2 + ¼·4 = 3.
STEPS = {
    "no-end": ("...", 3.0, 2, 0.125),
    "terminated-at-1": ("T..", 1.0, 0, 0.0),
    "terminated-at-2": (".T.", 2.0, 1, 0.0),
    "terminated-at-n": ("..T", 3.0, 2, 0.0),
    "truncated-at-1": ("L..", 1.0, 0, 0.5),
    "truncated-at-2": (".L.", 2.0, 1, 0.25),
    "truncated-at-n": ("..L", 3.0, 2, 0.125),
    "both-at-once": (".B.", 2.0, 1, 0.0),
    "truncated-and-the-next-episode-terminated": ("LT.", 1.0, 0, 0.5),
    "terminated-and-the-next-episode-truncated": (".TL", 2.0, 1, 0.0),
}


def ends(story):
    """Return terminated and truncated of a story such as ``.TL``: T terminated, L cut by a time limit, B both."""
    letters = np.array([list(story)])
    return np.isin(letters, ["T", "B"]), np.isin(letters, ["L", "B"])


@pytest.mark.parametrize(("story", "total", "last", "factor"), STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("convert", [np.asarray, ops.convert_to_tensor], ids=["numpy", "backend"])
def test_n_steps_end_with_the_episode_and_bootstrap_unless_it_terminated(story, total, last, factor, convert):
    terminated, truncated = ends(story)
    arrays = (convert(x) for x in (floats([1, 2, 4]), terminated, truncated))
    returns, index, discounts = (numbers(x) for x in n_step(*arrays, 0.5))
    assert (returns.tolist(), index.tolist(), discounts.tolist()) == ([total], [last], [factor])
    assert (returns.dtype, index.dtype, discounts.dtype) == (np.float32, np.int32, np.float32)


@given(shape=shapes, n=st.integers(1, 6), discount=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_n_steps_agree_with_a_loop_for_numpy_and_backend_arrays(shape, n, discount):
    rows, _, seed = shape
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=(rows, n)).astype(np.float32)
    terminated, truncated = rng.random((2, rows, n)) < 0.2
    expected = []
    for row in range(rows):
        total = 0.0
        for step in range(n):
            total += discount**step * rewards[row, step]
            if terminated[row, step] or truncated[row, step]:
                break
        expected.append((total, step, discount ** (step + 1) * (not terminated[row, step])))
    plain = n_step(rewards, terminated, truncated, discount)
    compiled = n_step(*(ops.convert_to_tensor(x) for x in (rewards, terminated, truncated)), discount)
    assert all(isinstance(x, np.ndarray) for x in plain)
    for found, other, column in zip(plain, compiled, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(found, column, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(numbers(other), column, rtol=1e-5, atol=1e-6)


# As above; of the second and the third action, those with an x are not greedy.
CUTS = {
    "all-greedy": ("...", "..", 3.0, 2, 0.125),
    "before-the-second": ("...", "x.", 1.0, 0, 0.5),
    "before-the-third": ("...", ".x", 2.0, 1, 0.25),
    "the-first-counts": ("...", "xx", 1.0, 0, 0.5),
    "terminated-before": ("T..", "x.", 1.0, 0, 0.0),
    "terminated-after": (".T.", "x.", 1.0, 0, 0.5),
    "truncated-at-the-same-step": (".L.", ".x", 2.0, 1, 0.25),
    "of-the-next-episode": (".T.", ".x", 2.0, 1, 0.0),
    "terminated-at-n": ("..T", "..", 3.0, 2, 0.0),
}


@pytest.mark.parametrize(("story", "taken", "total", "last", "factor"), CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("convert", [np.asarray, ops.convert_to_tensor], ids=["numpy", "backend"])
def test_n_steps_end_before_an_action_that_is_not_greedy(story, taken, total, last, factor, convert):
    greedy = np.array([list(taken)]) == "."
    arrays = (convert(x) for x in (floats([1, 2, 4]), *ends(story)))
    returns, index, discounts = (numbers(x) for x in n_step(*arrays, 0.5, convert(greedy)))
    assert (returns.tolist(), index.tolist(), discounts.tolist()) == ([total], [last], [factor])
    assert (returns.dtype, index.dtype, discounts.dtype) == (np.float32, np.int32, np.float32)


@given(shape=shapes, n=st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_an_action_that_is_not_greedy_ends_the_sum_as_a_time_limit_before_it_does(shape, n):
    rows, _, seed = shape
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=(rows, n)).astype(np.float32)
    terminated, truncated, greedy = rng.random((3, rows, n)) < 0.3
    cut = truncated.copy()
    cut[:, :-1] |= ~greedy[:, 1:]
    found = n_step(rewards, terminated, truncated, 0.9, greedy[:, 1:])
    for one, other in zip(found, n_step(rewards, terminated, cut, 0.9), strict=True):
        np.testing.assert_array_equal(one, other)


def test_greedy_are_all_actions_that_tie_for_the_best_of_those_allowed():
    q_values = floats([1, 3, 3], [2, 1, 0], [2, 1, 0], [2, 1, 1])
    allowed = np.array([[True] * 3, [True] * 3, [False, True, True], [False, True, True]])

    def greedy(*mask):
        columns = [is_greedy(q_values, np.full(4, action, np.int32), *mask) for action in range(3)]
        return np.transpose([numbers(column) for column in columns]).astype(int).tolist()

    assert greedy() == [[0, 1, 1], [1, 0, 0], [1, 0, 0], [1, 0, 0]]
    assert greedy(allowed) == [[0, 1, 1], [1, 0, 0], [0, 1, 0], [0, 1, 1]]
    several = is_greedy(q_values.reshape(2, 2, 3), np.array([[1, 0], [1, 2]], np.int32), allowed.reshape(2, 2, 3))
    assert numbers(several).tolist() == [[True, True], [True, True]]


def test_one_step_is_the_transition_itself():
    terminated, truncated = np.array([[True], [False], [False]]), np.array([[False], [True], [False]])
    returns, last, discounts = n_step(floats([1], [2], [3]), terminated, truncated, 0.9)
    assert (returns.tolist(), last.tolist()) == ([1, 2, 3], [0, 0, 0])
    np.testing.assert_allclose(discounts, [0, 0.9, 0.9], rtol=1e-6)


@pytest.mark.parametrize(("name", "measure"), [("mse", keras.losses.MeanSquaredError), ("huber", keras.losses.Huber)])
@given(shape=shapes)
@settings(max_examples=30, deadline=None)
def test_the_losses_are_those_of_keras_with_sample_weights(name, measure, shape):
    rows, actions, seed = shape
    rng = np.random.default_rng(seed)
    q_values, target = rng.normal(0, 2, (2, rows, actions)).astype(np.float32)
    weights = rng.random(rows).astype(np.float32)
    expected = float(measure()(target, q_values, sample_weight=weights))
    assert float(loss_of(name, q_values, target, weights)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("norm", [0.5, 13.0, 20.0])
def test_gradients_are_clipped_by_their_common_norm_as_keras_does(norm):
    gradients = [floats([3, 0], [0, 4]), floats(12)]  # √(3² + 4² + 12²) = 13
    clipped = [numbers(gradient) for gradient in clip_by_global_norm(gradients, norm)]
    assert np.sqrt(sum((gradient**2).sum() for gradient in clipped)) == pytest.approx(min(norm, 13))
    variables = [keras.Variable(np.zeros((2, 2))), keras.Variable(np.zeros(1))]
    optimizer = keras.optimizers.SGD(learning_rate=1.0, global_clipnorm=norm)
    optimizer.apply([ops.convert_to_tensor(gradient) for gradient in gradients], variables)
    for gradient, variable in zip(clipped, variables, strict=True):
        np.testing.assert_allclose(gradient, -numbers(variable), rtol=1e-6)


def test_gradients_of_zero_stay_zero():
    (clipped,) = clip_by_global_norm([floats(0, 0)], 1.0)
    assert numbers(clipped).tolist() == [0, 0]


@pytest.mark.parametrize("loss", [keras.losses.MeanSquaredError, keras.losses.Huber])
@given(shape=shapes)
@settings(max_examples=30, deadline=None)
def test_fitting_the_overwritten_targets_is_the_masked_gradient(loss, shape):
    batch, actions, seed = shape
    rng = np.random.default_rng(seed)
    q_values, td_target = rng.normal(0, 3, (batch, actions)), rng.normal(0, 3, batch)
    taken = rng.integers(0, actions, batch)
    target = numbers(overwrite(q_values, taken, td_target))
    measure = loss(dtype="float64")

    def fitted(q):
        return measure(target, q)

    def masked(q):  # the errors of the taken actions alone; Keras averages over all A
        return measure(td_target, ops.sum(ops.multiply(np.eye(actions)[taken], q), axis=1)) / actions

    np.testing.assert_allclose(numbers(fitted(q_values)), numbers(masked(q_values)), rtol=1e-6, atol=1e-6)
    (gradient,), (expected,) = (keras_backend.input_gradient(error, [q_values]) for error in (fitted, masked))
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6)
    assert not gradient[np.arange(actions) != taken[:, None]].any()


def check_compiled():
    """Compile on this backend what no agent compiles by itself; the results must be those of the plain functions."""
    rng = np.random.default_rng(0)
    rewards, (terminated, truncated) = rng.normal(size=(8, 3)).astype(np.float32), rng.random((2, 8, 3)) < 0.3

    def step(rewards, terminated, truncated, progress):
        sums = n_step(rewards, terminated, truncated, 0.9)
        greedy = is_greedy(ops.stack([rewards, -rewards], axis=-1), ops.cast(terminated, "int32"))
        return (
            *sums,
            *n_step(rewards, terminated, truncated, 0.9, greedy[:, 1:]),
            *clip_by_global_norm([rewards], 0.5),
            *(anneal(kind, Span.of(1.0, 0.1), 0.5, progress) for kind in SCHEDULES),
        )

    arguments = (rewards, terminated, truncated, np.float32(0.2))
    found, expected = keras_backend.compiled(step, [])(*arguments), step(*arguments)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(numbers(one), numbers(other), rtol=1e-5)


def test_compiled_n_steps_clipping_and_schedules_agree():
    check_compiled()


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
def test_actions_have_the_frequencies_given_by_epsilon(q_values, chance, allowed, expected):
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
