from __future__ import annotations

import numpy as np
import pytest

import deeptaxi
from deeptaxi.errors import UsageError
from deeptaxi.learning.expected import expect, expected_outcomes
from deeptaxi.learning.replay_buffer import Batch
from deeptaxi.mdp.simulate import TableEnv
from deeptaxi.mdp.table import from_arrays
from deeptaxi.recipe import td_targets
from tests.learning.driven import Loop
from tests.problems import SOUND, bandit, build, random_table, surely

# State 0: a quarter ends with 8, three quarters earn 4 and go to state 1; state 1 ends with −1.
Q = np.array([[0.0], [10.0]], np.float32)


def batch_of(states, actions):
    states = np.array(states, np.int32)
    return Batch(states, np.array(actions, np.int32), *[None] * 4)


def test_a_pair_is_worth_the_mean_of_its_outcomes_by_hand():
    outcomes = expected_outcomes(from_arrays(**SOUND), discount=0.5, reward_scale=2.0)
    np.testing.assert_allclose(outcomes.rewards, [(8 / 4 + 3 * 4 / 4) / 2, -1 / 2])
    np.testing.assert_allclose(outcomes.discounts, [[0, 0.5 * 0.75], [0, 0]])
    batch = expect(batch_of([0, 1, 0], [0, 0, 0]), outcomes, actions=1)
    assert batch.next_states.shape == (3, 2)
    targets = np.asarray(td_targets(batch.rewards, batch.discounts, Q[batch.next_states]))
    np.testing.assert_allclose(targets, [2.5 + 0.375 * 10, -0.5, 2.5 + 0.375 * 10])


@pytest.mark.parametrize("double", [False, True])
def test_the_expected_target_is_the_mean_of_the_sampled_ones(double):
    rng = np.random.default_rng(1)
    table = random_table(rng, 6, 3)
    next_q, choosing = rng.normal(size=(2, 6, 3)).astype(np.float32)
    allowed = rng.random((6, 3)) < 0.7
    allowed[:, 0] = True
    outcomes = expected_outcomes(table, 0.9, 1.0)
    for state, action in [(0, 0), (3, 2), (5, 1)]:
        batch = expect(batch_of([state], [action]), outcomes, 3)
        reached = batch.next_states
        chosen = choosing[reached] if double else None
        (expected,) = np.asarray(td_targets(batch.rewards, batch.discounts, next_q[reached], allowed[reached], chosen))
        drawn = rng.choice(table.probability.shape[2], 40_000, p=table.probability[state, action])
        row = (state, action, drawn)
        sampled = np.asarray(
            td_targets(
                table.reward[row].astype(np.float32),
                (0.9 * ~table.terminated[row]).astype(np.float32),
                next_q[table.next_state[row]],
                allowed[table.next_state[row]],
                choosing[table.next_state[row]] if double else None,
            )
        )
        assert abs(sampled.mean() - expected) < 4 * sampled.std() / np.sqrt(len(sampled)) + 1e-5


def test_the_compiled_loop_learns_the_mean_in_one_update_of_a_pair():
    # One choice: arm 0 pays 1, arm 1 pays 3 or nothing by a fair coin. An entry becomes its target at once.
    found = Loop(bandit(), exploration={"start": 1.0, "end": 1.0}, target={"backup": "expected", "polyak": 1.0})
    found.do("prefill", 1).do("run", 0, 200)
    np.testing.assert_allclose(found.q_values[0], [1.0, 1.5])


def test_where_no_action_is_allowed_after_the_end_nothing_is_bootstrapped():
    table = build([[surely(1, 1.0, terminated=True)], [surely(1, 0.0)]])
    batch = expect(batch_of([0], [0]), expected_outcomes(table, 0.9, 1.0), 1)
    allowed = np.array([[True], [False]])[batch.next_states]
    assert np.asarray(td_targets(batch.rewards, batch.discounts, Q[batch.next_states], allowed)).tolist() == [1.0]


# Of 16 samples of state 0 or 1 with a step of 0.05 each, an entry moves by a third of its error or more.
COIN = {
    "optimizer": "sgd",
    "tabular_step": 0.05,
    "learning_rate_schedule": "constant",
    "environments": 4,
    "batch_size": 16,
    "replay_start": 16,
    "polyak": 1.0,
    "discount": 0.5,
    "reward_scale": 1.0,
    "exploring_starts": 0.0,
}


@pytest.mark.parametrize("loop", ["compiled", "gymnasium"])
def test_both_loops_learn_the_same_exact_values(loop):
    table = build([[[(0.5, 1, 0.0, False), (0.5, 0, 4.0, True)]], [surely(1, 1.0, terminated=True)]])
    run = deeptaxi.train(table, q_table=True, loop=loop, updates=40, backup="expected", **COIN)
    assert run.q_values[0, 0] == pytest.approx(0.5 * 0.5 * 1.0 + 0.5 * 4.0, abs=1e-3)  # samples are 0.25 and 4


def test_it_needs_a_table_and_single_steps():
    table = bandit()
    with pytest.raises(UsageError, match="--backup expected needs a transition table, and in-memory"):
        deeptaxi.train(TableEnv(table), q_table=True, backup="expected", discover=False)
    with pytest.raises(UsageError, match="looks one step ahead: it cannot be used with --n-step 3"):
        deeptaxi.train(table, q_table=True, backup="expected", n_step=3)
