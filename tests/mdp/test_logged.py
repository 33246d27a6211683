from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.mdp.logged import COLUMNS, LoggedData, arrange, draw_weights, width_of
from deeptaxi.mdp.table import TableError, TransitionTable, load_table, save_table

# Three episodes. State 0, action 0: to 1 twice, rewards 1 and 3; an end once, reward 6. State 1, action 1: an end.
ROWS = np.array(
    [
        [0, 0, 0, 1, 1, 0],
        [0, 1, 1, 0, 10, 1],
        [1, 0, 0, 1, 3, 0],
        [1, 1, 1, 0, 20, 1],
        [2, 0, 0, 2, 6, 1],
    ],
    float,
)


def logged(prior=0.0):
    return LoggedData.from_array(ROWS, prior)


def table_of(log):
    found = arrange(log, 3, 2)
    probability, reward, start = found.weighted(np.ones(log.episodes))
    return TransitionTable(
        probability, found.next_state, reward, found.terminated, start, action_mask=found.mask, logged=log
    )


def test_outcomes_are_counted_and_rewards_averaged():
    table = table_of(logged())
    assert table.probability[0, 0] == pytest.approx([2 / 3, 1 / 3])
    assert (table.next_state[0, 0].tolist(), table.terminated[0, 0].tolist()) == ([1, 2], [False, True])
    assert table.reward[0, 0].tolist() == [2, 6]
    assert table.reward[1, 1, 0] == 15
    assert table.action_mask.tolist() == [[True, False], [False, True], [True, True]]  # no action is taken in state 2
    assert table.terminated[2].all()
    assert table.start.tolist() == [1, 0, 0]


def test_a_prior_adds_to_every_state_and_leaves_the_mean_reward():
    table = table_of(logged(prior=0.5))
    # Of three states each gets 0.5: to 1 is 2.5 of 4.5, the end in 2 is 1.5, and 0 gets 0.5.
    columns = zip(table.next_state[0, 0], table.terminated[0, 0], table.probability[0, 0], strict=True)
    outcomes = {(int(target), bool(end)): chance for target, end, chance in columns if chance > 0}
    assert outcomes == pytest.approx({(0, False): 0.5 / 4.5, (1, False): 2.5 / 4.5, (2, True): 1.5 / 4.5})
    assert table.expected_reward[0, 0] == pytest.approx(10 / 3)
    assert width_of(logged(0.5), 3, 2) >= table.probability.shape[2]
    assert width_of(logged(), 3, 2) == 2


def test_weights_of_episodes_weight_all_that_they_hold():
    found = arrange(logged(), 3, 2)
    probability, reward, _ = found.weighted(np.array([2.0, 0.5, 0.5]))
    assert probability[0, 0] == pytest.approx([2.5 / 3, 0.5 / 3])
    assert reward[0, 0, 0] == pytest.approx((2 * 1 + 0.5 * 3) / 2.5)
    assert reward[1, 1, 0] == pytest.approx((2 * 10 + 0.5 * 20) / 2.5)


def test_drawn_weights_are_positive_and_have_mean_1():
    weights = draw_weights(7, 500)
    assert (weights > 0).all()
    assert weights.mean(axis=1) == pytest.approx(1)
    # A weight of M·Dirichlet(1, …, 1) has the variance (M − 1)/(M + 1).
    assert weights.var() == pytest.approx(6 / 8, rel=0.1)
    assert np.array_equal(weights, draw_weights(7, 500))


def test_an_estimated_table_is_read_back_with_its_log(tmp_path):
    for prior in (0.0, 0.5):
        table = table_of(logged(prior))
        save_table(table, tmp_path / "log.npz")
        copy = load_table(tmp_path / "log.npz")
        assert copy.logged.prior == prior
        np.testing.assert_array_equal(copy.logged.to_array(), ROWS)
        np.testing.assert_allclose(copy.probability, table.probability)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logged": ROWS[:-1]}, "logged: these transitions do not estimate this table"),
        ({"logged": ROWS * [1, 1, 1, 1, 2, 1]}, "logged: these transitions do not estimate this table"),
        ({"logged": ROWS[:, :5]}, r"logged: expected finite numbers of shape \[N, 6\], received \[5, 5\]"),
        ({"logged": ROWS + 0.5}, "logged: expected whole numbers from 0"),
        ({"logged": ROWS * [3, 1, 1, 1, 1, 1]}, "logged: expected episodes numbered without gaps"),
        ({"logged": ROWS * [1, 9, 1, 1, 1, 1]}, "logged: expected states below 3"),
        ({"logged": ROWS, "prior": -1.0}, "logged: expected a prior from 0, received -1"),
        ({"logged": ROWS, "prior": 0.5}, "logged: these transitions do not estimate this table"),
    ],
)
def test_a_log_that_does_not_fit_its_table_is_refused(tmp_path, change, message):
    table = table_of(logged())
    arrays = {name: getattr(table, name) for name in ("probability", "next_state", "reward", "terminated", "start")}
    np.savez(tmp_path / "log.npz", **arrays, action_mask=table.action_mask, **change)
    with pytest.raises(TableError, match=message):
        load_table(tmp_path / "log.npz")


def test_the_columns_are_as_documented():
    assert COLUMNS == ("episode", "state", "action", "next_state", "reward", "terminated")
    assert (logged().transitions, logged().episodes, logged().first_states.tolist()) == (5, 3, [0, 0, 0])
