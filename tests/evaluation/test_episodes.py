from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.evaluation import episodes
from deeptaxi.evaluation.episodes import bootstrap, play
from deeptaxi.mdp.environment import open_environment
from deeptaxi.mdp.npz import save
from deeptaxi.sections import EnvironmentConfig
from tests.problems import Numbered, bandit, chain, geometric, loop, opened, registered, two_lengths

COIN = np.array([1])  # the bandit's second arm: 3 or nothing


@pytest.fixture
def opened_table(tmp_path):
    """Open a table as an environment."""

    def from_table(table, time_limit=None):
        save(table, tmp_path / "own.npz")
        return open_environment(EnvironmentConfig(str(tmp_path / "own.npz"), time_limit=time_limit))

    return from_table


@pytest.mark.parametrize("count", [1, 2, episodes.COPIES - 1, episodes.COPIES, 3 * episodes.COPIES + 1])
def test_exactly_the_asked_number_of_episodes_is_played(opened_table, count):
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
    assert ended == [(1, 3, True)] * share.sum()


def test_a_policy_that_never_ends_is_cut_at_the_time_limit(opened_table):
    played = play(opened_table(loop(2), time_limit=10), np.array([0]), 5, seed=0)
    assert (played.mean_return, played.mean_length, played.terminated_fraction) == (20, 10, 0)
    assert played.ci95 == (20, 20)


def test_without_a_time_limit_it_is_cut_at_the_horizon(opened_table):
    environment = opened_table(loop(2))
    played = play(environment, np.array([0]), 1, seed=0)
    assert (played.mean_return, played.mean_length, played.terminated_fraction) == (10_000, 5_000, 0)
    assert played.standard_error == 0  # of one episode nothing is known


def test_short_episodes_are_not_favoured(opened_table):
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


def test_resampling_in_blocks_changes_nothing_but_memory(monkeypatch):
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
    assert {type(value) for value in document.values()} == {int, float, list}
    assert {"count", "mean_return", "ci95", "mean_length", "terminated_fraction"} <= set(document)
