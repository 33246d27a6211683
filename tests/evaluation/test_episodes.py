from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.config import EnvironmentConfig
from deeptaxi.evaluation import episodes
from deeptaxi.evaluation.episodes import Endless, bootstrap, play
from deeptaxi.mdp.environment import open_environment
from deeptaxi.mdp.table import save_table
from tests.problems import (
    Numbered,
    bandit,
    build,
    chain,
    geometric,
    loop,
    opened,
    registered,
    river_swim,
    surely,
    two_lengths,
)

COIN = np.array([1])  # the bandit's second arm: 3 or nothing


@pytest.fixture
def opened_table(tmp_path):
    """Open a table as an environment."""

    def from_table(table, time_limit=None):
        save_table(table, tmp_path / "own.npz")
        return open_environment(EnvironmentConfig(str(tmp_path / "own.npz"), time_limit=time_limit))

    return from_table


@pytest.mark.parametrize("count", [1, 2, episodes.COPIES - 1, episodes.COPIES, 3 * episodes.COPIES + 1])
def test_exactly_the_requested_number_of_episodes_is_played(opened_table, count):
    # Each pays 3 or nothing, so count · mean / 3 is the number of episodes that paid: whole, between 0 and count.
    played = play(opened_table(bandit()), COIN, count, seed=0)
    paid = played.mean_return * count / 3
    assert played.count == count
    assert paid == pytest.approx(round(paid))
    assert (played.mean_length, played.terminated_fraction) == (1, 1)


@pytest.mark.parametrize("copies", [1, 2, 5])
def test_each_copy_plays_its_share(opened_table, copies):
    share = np.arange(1, copies + 1)
    ended = episodes.run_copies(opened_table(chain()), np.zeros(3, int), share, list(range(copies)))
    assert ended == [(1, 3, True, None)] * share.sum()


def test_a_policy_that_never_ends_is_cut_at_the_time_limit(opened_table):
    played = play(opened_table(loop(2), time_limit=10), np.array([0]), 5, seed=0)
    assert (played.mean_return, played.mean_length, played.terminated_fraction) == (20, 10, 0)
    assert played.ci95 == (20, 20)


def test_without_a_time_limit_it_is_cut_at_the_horizon(opened_table):
    environment = opened_table(loop(2))
    played = play(environment, np.array([0]), 1, seed=0)
    assert (played.mean_return, played.mean_length, played.terminated_fraction) == (10_000, 5_000, 0)
    assert played.standard_error == 0  # of one episode nothing is known


def cut_by_the_table(played, count, state):
    """Whether all of `count` episodes were cut in a state from which the policy never ends one."""
    assert (played.count, played.asked, played.endless, played.endless_state) == (count, count, count, state)
    assert (played.cut, played.cut_steps, played.terminated_fraction) == (0, None, 0)
    return True


def test_a_policy_that_never_ends_is_cut_and_its_return_is_still_that_of_the_horizon(opened_table):
    played = play(opened_table(loop(2)), np.array([0]), 200, seed=0)
    assert cut_by_the_table(played, 200, 0)
    assert (played.mean_return, played.mean_length, played.ci95) == (10_000, 5_000, (10_000, 10_000))


def test_where_only_some_episodes_never_end_only_those_are_cut(opened_table):
    # Half of the starts end with 7 at once, the others earn 1 forever: 5,000 in the horizon.
    played = play(opened_table(build([[surely(0, 7, True)], [surely(1, 1)]], [0.5, 0.5])), np.zeros(2, int), 40, seed=1)
    ended = round(played.terminated_fraction * 40)
    assert (played.count, played.endless, played.endless_state, played.cut) == (40, 40 - ended, 1, 0)
    assert played.mean_return == pytest.approx((7 * ended + 5_000 * (40 - ended)) / 40)


def test_the_rest_of_the_return_is_drawn_from_the_table_where_it_is_left_to_chance(opened_table):
    # 3 or nothing forever by a fair coin: 1.5 · 5,000 in the mean, with a standard deviation of 1.5 · √5,000 = 106.
    table = build([[[(0.5, 0, 3, False), (0.5, 0, 0, False)]]])
    played = play(opened_table(table), np.array([0]), 200, seed=0)
    assert cut_by_the_table(played, 200, 0)
    assert abs(played.mean_return - 7_500) <= 4 * 106 / np.sqrt(200)
    assert played.standard_error == pytest.approx(106 / np.sqrt(200), rel=0.2)


def test_a_time_limit_of_many_steps_is_not_played_out_either(opened_table):
    played = play(opened_table(loop(1), time_limit=20_000), np.array([0]), 100, seed=0)
    assert cut_by_the_table(played, 100, 0)
    assert (played.mean_return, played.mean_length) == (20_000, 20_000)


def test_the_states_from_which_a_policy_never_ends_an_episode():
    policy = np.array([0, 1, 0])  # on, stay, on
    never = Endless(chain(), policy)
    assert [state in never for state in (2, 0, 1, 0, 2)] == [False, True, True, True, False]
    assert 0 not in Endless(geometric(1e-9), np.array([0]))
    assert all(state in Endless(river_swim(), np.ones(6, int)) for state in range(6))


def test_fewer_episodes_are_played_where_they_rarely_end(opened_table):
    # Ends once in a million steps, so nearly all episodes take 5,000: two rounds of 4 copies in 40,000 steps.
    played = play(opened_table(geometric(1e-6)), np.array([0]), 1_000, seed=0, steps=20_000)
    assert (played.count, played.asked, played.endless, played.cut) == (4, 1_000, 0, 0)
    assert played.mean_return == 5_000


def test_an_episode_longer_than_the_step_budget_is_cut_and_reported(opened_table):
    played = play(opened_table(geometric(1e-9), time_limit=10**9), np.array([0]), 5, seed=0, steps=3_000)
    assert (played.count, played.asked, played.cut, played.cut_steps) == (1, 5, 1, 3_000)
    assert (played.mean_return, played.terminated_fraction) == (3_000, 0)


def test_short_episodes_are_not_favored_when_the_step_budget_runs_out(opened_table):
    # As below, but the steps end on the way. Without those under way, 1-step episodes would be all that is left.
    environment = opened_table(two_lengths())
    returns = [play(environment, np.zeros(101, int), 640, seed, steps=4_000) for seed in range(6)]
    assert all(40 <= played.count < 640 for played in returns)
    assert abs(np.mean([played.mean_return for played in returns]) - 0.5) <= 4 * 0.5 / np.sqrt(6 * 80)


def test_short_episodes_are_not_favored(opened_table):
    # Half of the episodes take 1 step and return 0, half take 100 and return 1. The first 64 of 64 copies to end
    # would nearly all be short.
    environment = opened_table(two_lengths())
    returns = [play(environment, np.zeros(101, int), 64, seed).mean_return for seed in range(10)]
    assert abs(np.mean(returns) - 0.5) <= 4 * 0.5 / np.sqrt(640)  # 4 standard errors of 640 coins
    assert min(returns) > 0.25


def test_a_seed_fixes_the_episodes(opened_table):
    environment = opened_table(geometric(0.3))
    one, same, other = (play(environment, np.array([0]), 200, seed) for seed in (3, 3, 4))
    assert one == same
    assert one.mean_return != other.mean_return


def test_the_interval_holds_the_mean_and_about_the_true_one(opened_table):
    environment = opened_table(bandit())
    held = 0
    for seed in range(50):
        played = play(environment, COIN, 100, seed)
        low, high = played.ci95
        assert low < played.mean_return < high
        held += low <= 1.5 <= high
    assert held >= 42  # of 50 intervals of 95 %, fewer than 42 hold it once in 1,000 tries


def test_the_standard_error_and_the_interval_of_a_coin():
    values = np.repeat([0.0, 3.0], 200)
    low, high = bootstrap(values, np.random.default_rng(0))
    # 1.96 standard errors of 1.5/√400 = 0.075 on both sides of 1.5.
    assert (low, high) == pytest.approx((1.5 - 0.147, 1.5 + 0.147), abs=0.015)


def test_resampling_in_blocks_changes_only_the_memory_used(monkeypatch):
    values = np.random.default_rng(1).normal(size=50)
    whole = bootstrap(values, np.random.default_rng(2))
    monkeypatch.setattr(episodes, "BLOCK", 50 * 7)  # seven resamples at a time, the last block shorter
    assert bootstrap(values, np.random.default_rng(2)) == whole


def test_observations_of_several_parts_are_played():
    # Blackjack, always sticking: an episode is one step and returns −1, 0 or 1.
    environment = opened("Blackjack-v1")
    played = play(environment, np.zeros(704, int), 100, seed=0)
    assert (played.mean_length, played.terminated_fraction) == (1, 1)
    assert -1 < played.mean_return < 1


def test_the_environments_own_numbers_of_its_actions_are_used():
    with registered("Numbered-v0", Numbered) as name:
        played = play(open_environment(EnvironmentConfig(name, time_limit=9)), np.zeros(3, int), 2, seed=0)
    assert (played.mean_return, played.mean_length) == (1, 3)  # the environment's action 2 goes on


def test_the_json_holds_plain_values(opened_table):
    document = play(opened_table(bandit()), COIN, 3, seed=0).to_dict()
    assert {type(value) for value in document.values()} == {int, float, list, type(None)}
    assert {"count", "mean_return", "ci95", "mean_length", "terminated_fraction"} <= set(document)
    assert {"asked", "endless", "endless_state", "cut", "cut_steps"} <= set(document)
