from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from deeptaxi.mdp.simulate import TableEnv, inverse_table
from deeptaxi.mdp.table import from_arrays
from tests.problems import bandit, build, chain, random_table, surely

LARGEST_DRAW = 1 - 2**-53  # of NumPy's `random()`
DRAWS = 4_000


def assert_frequencies(counts, probabilities):
    """Each of a few dozen frequencies lies within 4 standard errors of its probability (by chance: 1 in 16,000)."""
    total = sum(counts.values())
    assert set(counts) <= {outcome for outcome, p in probabilities.items() if p > 0}
    for outcome, p in probabilities.items():
        assert abs(counts[outcome] / total - p) <= 4 * np.sqrt(p * (1 - p) / total)


def test_outcomes_have_the_frequencies_of_the_table():
    table = random_table(5, states=3, actions=2, outcomes=3)
    env = TableEnv(table)
    env.reset(seed=5)
    for row in np.ndindex(3, 2):
        counts = Counter()
        for _ in range(DRAWS):
            env.state = row[0]
            state, reward, terminated, truncated, _ = env.step(np.int64(row[1]))
            assert (int(state), truncated) == (env.state, False)
            counts[int(state), reward, terminated] += 1
        outcomes = zip(table.next_state[row], table.reward[row], table.terminated[row], strict=True)
        assert_frequencies(counts, dict(zip(outcomes, table.probability[row], strict=True)))


def test_start_states_have_the_frequencies_of_the_table():
    env = TableEnv(chain([0.2, 0.0, 0.8]))
    counts = Counter([int(env.reset(seed=1)[0]), *(int(env.reset()[0]) for _ in range(DRAWS))])
    assert_frequencies(counts, {0: 0.2, 1: 0.0, 2: 0.8})


def episode(env, seed, length=30):
    """Return what `length` steps of cycling actions give after a reset with `seed`."""
    seen = [env.reset(seed=seed)]
    return seen + [env.step(np.int64(i % 3)) for i in range(length)]


def test_a_seed_fixes_everything_that_follows():
    env = TableEnv(random_table(1))
    assert episode(env, 7) == episode(TableEnv(random_table(1)), 7) == episode(env, 7)
    assert episode(env, 7) != episode(env, 8)


@given(st.lists(st.sampled_from([0.0, 1e-300, 1e-17, 0.1, 0.3, 1.0, 3.0]), min_size=1, max_size=12).filter(any))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_no_draw_finds_an_impossible_outcome(weights):
    probability = np.array(weights) / np.sum(weights)
    cumulative = inverse_table(probability)
    edges = cumulative[cumulative < 1]
    for draw in (0.0, LARGEST_DRAW, *edges, *np.nextafter(edges, 0)):
        assert probability[np.searchsorted(cumulative, draw, side="right")] > 0


class OneDraw:
    """A source of random numbers that knows only one."""

    def __init__(self, draw):
        self.random = lambda: draw


@pytest.mark.parametrize(("draw", "state"), [(0.0, 1), (LARGEST_DRAW, 10)])
def test_probabilities_that_round_below_one_leave_no_gap(draw, state):
    # Twelve outcomes: outcome k leads to state k, and the first and the last are impossible.
    probability = np.array([0.0, *[0.1] * 10, 0.0])
    assert np.cumsum(probability)[-1] < 1
    whole = np.tile(probability, (12, 1, 1))
    table = from_arrays(whole, np.tile(np.arange(12), (12, 1, 1)), 0 * whole, whole < 0, probability)
    env = TableEnv(table)
    env.np_random = OneDraw(draw)
    assert env.reset()[0] == state
    assert env.step(np.int64(0))[0] == state


@pytest.mark.parametrize("optional", [{}, {"action_mask": np.ones((4, 3), bool)}])
def test_the_simulator_passes_gymnasiums_checker(optional):
    check_env(TableEnv(random_table(2, **optional)), skip_render_check=True)


def test_the_mask_of_the_table_comes_with_every_observation():
    mask = np.array([[True, True], [False, True], [True, False]])
    env = TableEnv(chain(action_mask=mask))
    infos = [env.reset(seed=0)[1], env.step(np.int64(0))[4], env.step(np.int64(0))[4]]
    assert [info["action_mask"].tolist() for info in infos] == [[1, 1], [0, 1], [1, 0]]
    assert infos[0]["action_mask"].dtype == np.int8
    assert TableEnv(bandit()).reset(seed=0)[1] == {}


def test_a_state_is_shown_by_its_name_or_number():
    env = TableEnv(chain(state_names=("spring", "stream", "sea")), render_mode="ansi")
    env.reset(seed=0)
    env.step(np.int64(0))
    assert env.render() == "stream"
    unnamed = TableEnv(build([[surely(0, 0)]]), render_mode="ansi")
    unnamed.reset(seed=0)
    assert unnamed.render() == "state 0"
    assert TableEnv(chain()).render() is None


def test_a_large_table_is_sampled_alike_without_cumulative_probabilities(monkeypatch):
    table = random_table(3, states=6)
    small = TableEnv(table)
    monkeypatch.setattr("deeptaxi.mdp.table.LARGE", 1)
    large = TableEnv(table)
    draws = [0.0, LARGEST_DRAW, *np.random.default_rng(0).random(20)]
    for row in np.ndindex(table.probability.shape[:2]):
        edges = np.cumsum(table.probability[row])
        for draw in (*draws, *np.clip([*edges, *np.nextafter(edges, 0), *np.nextafter(edges, 1)], 0, LARGEST_DRAW)):
            assert large._sample(row, draw) == small._sample(row, draw)
