from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.spaces import Discrete

from deeptaxi.mdp.spaces import state_codec
from deeptaxi.mdp.table import ARRAYS, from_rows
from deeptaxi.mdp.verify import CHECK_STEPS, START_RESETS, contradiction, find_table
from tests.problems import Numbered, ToldEnv, build, chain, loop, opened, random_table, rows_of, surely

# What is played: action 0 leads from 0 to 1 or back to 0, by a coin; from 1, all ends. It starts in 0 or 1.
PLAYED = [[[(0.5, 0, -1, False), (0.5, 1, -1, False)]], [surely(1, 9, True)]]
START = np.array([0.5, 0.5])


def find(env):
    return find_table(env, state_codec(env.observation_space, "Some-v0"))


def find_told(p, start=START):
    """Return what is found of an environment that plays `PLAYED` and tells `p`."""
    return find(ToldEnv(build(PLAYED, START), p, start))


@pytest.mark.parametrize("seed", range(3))
def test_a_true_table_is_accepted(seed):
    table = random_table(seed)
    finding = find(ToldEnv(table, rows_of(table), table.start))
    assert (finding.reason, finding.resets) == (None, None)
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(finding.table, name), getattr(table, name), atol=1e-15)


@pytest.mark.parametrize(
    ("p", "start", "reason"),
    [
        ([PLAYED[0], [surely(1, 8, True)]], START, "state 1, action 0 gave state 1, reward 9, terminated True"),
        ([PLAYED[0], [surely(0, 9, True)]], START, "state 1, action 0 gave state 1, reward 9, terminated True"),
        ([PLAYED[0], [surely(1, 9, False)]], START, "state 1, action 0 gave state 1, reward 9, terminated True"),
        ([[surely(0, -1)], PLAYED[1]], START, "state 0, action 0 gave state 1, reward -1, terminated False"),
        (PLAYED, [1, 0], "an episode started in state 1, which its start distribution excludes"),
        ([*PLAYED, PLAYED[1]], [0.5, 0.5, 0], "its P has 3 states and 1 actions, its spaces 2 and 1"),
        ([row * 2 for row in PLAYED], START, "its P has 2 states and 2 actions, its spaces 2 and 1"),
    ],
    ids=["reward", "next state", "termination", "an outcome too few", "start", "states", "actions"],
)
def test_a_false_table_is_detected(p, start, reason):
    finding = find_told(p, start)
    assert finding.table is None
    assert finding.reason.endswith(reason)


def test_the_padding_of_a_short_row_is_no_outcome():
    # Where actions have fewer outcomes than others, the arrays are filled up with state 0, reward 0, terminated.
    played = [PLAYED[0], [[(0.5, 1, 9, True), (0.5, 0, 0, True)]]]
    finding = find(ToldEnv(build(played, START), PLAYED, START))
    assert "state 1, action 0 gave state 0, reward 0, terminated True" in finding.reason


def test_an_episode_that_never_ends_does_not_hide_the_other_starts():
    # Two states that are never left. The lie is about the second one.
    played, claimed = ([[surely(0, 0)], [surely(1, reward)]] for reward in (1, 2))
    finding = find(ToldEnv(build(played, START), claimed, START))
    assert "state 1, action 0 gave state 1, reward 1" in finding.reason


def test_unknown_start_distributions_are_estimated():
    finding = find(ToldEnv(chain([0.2, 0.0, 0.8]), rows_of(chain())))
    assert finding.resets == START_RESETS
    assert finding.table.start[1] == 0
    assert abs(finding.table.start[0] - 0.2) <= 4 * np.sqrt(0.2 * 0.8 / START_RESETS)  # 4 standard errors


@pytest.mark.parametrize(
    ("p", "start", "reason"),
    [
        ([[[(0.5, 0, 0, False)]], PLAYED[1]], START, "probability of state 0, action 0 sums to 0.5, not to 1"),
        ([[[(2, 0, 0, False), (-1, 1, 0, False)]], PLAYED[1]], START, "probabilities are at least 0"),
        ([[surely(0, np.nan)], PLAYED[1]], START, "reward holds nan at [0, 0, 0]"),
        ([[surely(5, 0)], PLAYED[1]], START, "next_state holds 5 at [0, 0, 0]: expected 0 to 1"),
        ({0: {}, 1: {}}, START, "it is an empty dict at [0]"),
        ({7: PLAYED[0], 8: PLAYED[1]}, START, "P is not of the form"),
        (np.eye(2), START, "P is not of the form"),
        (0.5, START, "P is not of the form"),
        (PLAYED, [1.0], "start: expected shape [2], received [1]"),
        (PLAYED, [1.0, 1.0], "start sums to 2, not to 1"),
    ],
)
def test_a_broken_table_is_a_reason_and_not_an_error(p, start, reason):
    finding = find_told(p, start)
    assert finding.table is None
    assert finding.reason.startswith("its transition table P is not valid: ")
    assert reason in finding.reason


class FromOne(ToldEnv):
    """Observes its states as 1, 2, …."""

    def __init__(self, table, p, start=None):
        super().__init__(table, p, start)
        self.observation_space = Discrete(table.states, start=1)

    def reset(self, **arguments):
        state, info = super().reset(**arguments)
        return state + 1, info

    def step(self, action):
        state, *rest = super().step(action)
        return state + 1, *rest


def test_a_table_keyed_by_observations_is_renumbered():
    keyed = {1: {0: [(0.5, 1, -1, False), (0.5, 2, -1, False)]}, 2: {0: surely(2, 9, True)}}
    table = find(FromOne(build(PLAYED, START), keyed, START)).table
    assert table.next_state.tolist() == [[[0, 1]], [[1, 0]]]


@pytest.mark.parametrize("p", [PLAYED, dict(enumerate(PLAYED))])
def test_a_table_keyed_from_zero_is_left_as_it_is(p):
    assert find(FromOne(build(PLAYED, START), p, START)).reason is None


@pytest.mark.parametrize("p", [{1: PLAYED[0], 2: PLAYED[1]}, {1: {0: [(1.0, 1, -1)]}, 2: 3}])
def test_keys_from_observations_with_rows_of_another_form_are_a_reason(p):
    finding = find(FromOne(build(PLAYED, START), p, START))
    assert finding.table is None
    assert finding.reason


def test_an_environment_without_a_table_says_so():
    finding = find(opened("Blackjack-v1").make())
    assert finding.table is None
    assert finding.reason == "the environment has no transition table (env.unwrapped.P)"


def test_the_fickle_passenger_of_taxi_is_refused_by_name():
    environment = opened("Taxi-v4", fickle_passenger=True)
    assert environment.table is None
    assert "fickle_passenger changes the destination by a hidden flag" in environment.table_missing


def test_the_fickle_passenger_of_taxi_is_detected_by_steps_too():
    environment = opened("Taxi-v4", fickle_passenger=True)
    env = environment.make()
    table = from_rows(env.unwrapped.P, env.unwrapped.initial_state_distrib)
    assert "its P calls impossible what it did" in contradiction(env, environment.codec, table)


def test_a_table_that_differs_by_rounding_is_true():
    assert find(ToldEnv(loop(0.1 + 0.2), [[surely(0, 0.3)]], [1.0])).reason is None


def test_a_table_keyed_by_actions_that_start_elsewhere_is_renumbered():
    env = Numbered()
    env.P = {s: {a + 2: rows for a, rows in actions.items()} for s, actions in env.P.items()}
    finding = find(env)
    assert finding.reason is None
    assert finding.table.next_state.tolist() == chain().next_state.tolist()


def test_estimated_starts_are_not_held_against_the_environment():
    # 20,000 equally likely starts: 10,000 resets cannot see them all.
    many = build([[surely(0, 0, True)]] * 20_000, np.full(20_000, 1 / 20_000))
    assert find(ToldEnv(many, rows_of(many))).reason is None


def test_wrong_probabilities_are_detected_by_frequencies():
    # It tells a fair coin, and plays one that lands on 1 in 19 of 20 cases.
    def coin(heads):
        return [[[(1 - heads, 0, 0, True), (heads, 0, 1, True)]]]

    finding = find(ToldEnv(build(coin(0.95), [1.0]), dict(enumerate(coin(0.5))), [1.0]))
    assert finding.table is None
    assert "the probability 0.5, but it came" in finding.reason


@pytest.mark.parametrize("seed", range(20))
def test_true_probabilities_are_never_taken_for_wrong(seed):
    table = random_table(seed, states=3, actions=2, outcomes=5)
    assert find(ToldEnv(table, rows_of(table), table.start)).reason is None


def test_an_environment_made_again_is_not_stepped_again():
    stepped = []

    class Counting(FrozenLakeEnv):
        def step(self, action):
            stepped.append(action)
            return super().step(action)

    def look(cls=Counting, **kwargs):
        """Find the table; return how many steps it took."""
        stepped.clear()
        gymnasium.register("Counting-v0", cls, max_episode_steps=50)
        assert find(gymnasium.make("Counting-v0", disable_env_checker=True, **kwargs)).table is not None
        gymnasium.registry.pop("Counting-v0")
        return len(stepped)

    assert [look(), look()] == [CHECK_STEPS, 0]
    assert [look(is_slippery=False), look(is_slippery=False)] == [CHECK_STEPS, 0]
    assert look(type("Reloaded", (Counting,), {})) == CHECK_STEPS
