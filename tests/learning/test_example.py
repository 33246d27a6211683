from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.errors import UsageError
from deeptaxi.learning.example import Transition, choose, outcome, terminal_states
from deeptaxi.network.build import build_q_network
from tests.learning.helpers import opened_problem
from tests.problems import bandit, build, chain, opened, surely

SLIPPERY = [(0.25, 0, 1, False), (0.75, 1, 2, False)]


def network_of(environment, q_values=None):
    network = build_q_network(environment.states, environment.actions)
    if q_values is not None:
        network.set_weights([np.asarray(q_values, np.float32)])
    return network


def chosen(environment, n=1, q_values=None, allowed=None, **asked):
    everything = np.ones((environment.states, environment.actions), np.bool_)
    return choose(
        environment, network_of(environment, q_values), everything if allowed is None else allowed, n, **asked
    )


@pytest.fixture
def slippery(tmp_path):
    return opened_problem(build([[SLIPPERY, surely(1, 5)], [surely(0, 3, True), surely(0, 4)]]), tmp_path)[1]


def test_the_outcome_is_the_likeliest_one_unless_a_seed_draws_it(slippery):
    found = chosen(slippery, state=0, action=0)
    assert found.transitions == [Transition(0, 0, 2.0, 1, False, probability=0.75)]
    assert "most likely" in found.how
    drawn = [chosen(slippery, state=0, action=0, seed=seed).transitions[0] for seed in range(40)]
    assert {step.next_state for step in drawn} == {0, 1}
    assert drawn[:5] == [chosen(slippery, state=0, action=0, seed=seed).transitions[0] for seed in range(5)]


def test_outcomes_are_drawn_by_their_probabilities():
    rng = np.random.default_rng(0)
    rewards = [outcome(bandit(), 0, 1, rng).reward for _ in range(2_000)]
    assert np.mean(rewards) == pytest.approx(1.5, abs=0.1)


def test_after_the_first_action_the_policy_is_greedy(slippery):
    # In state 1 action 1 is the greedy one; where the mask excludes it, action 0, which ends the episode.
    q_values = [[0, 0], [1, 2]]
    steps = chosen(slippery, n=3, q_values=q_values, state=0, action=0).transitions
    assert [(step.state, step.action) for step in steps] == [(0, 0), (1, 1), (0, 0)]
    allowed = np.array([[True, True], [True, False]])
    steps = chosen(slippery, n=3, q_values=q_values, allowed=allowed, state=0, action=0).transitions
    assert [(step.state, step.action, step.terminated) for step in steps] == [(0, 0, False), (1, 0, True)]


def test_the_default_action_is_the_greedy_one(slippery):
    assert chosen(slippery, q_values=[[0, 9], [0, 0]], state=0).transitions[0].action == 1


def test_a_random_transition_occurs_in_episodes():
    lake = opened("FrozenLake-v1")
    for seed in range(30):
        (step,) = chosen(lake, seed=seed).transitions
        assert not terminal_states(lake.table)[step.state]
        rows = lake.table.next_state[step.state, step.action][lake.table.probability[step.state, step.action] > 0]
        assert step.next_state in rows


def test_terminal_states_are_never_continued_from():
    assert np.flatnonzero(terminal_states(opened("FrozenLake-v1").table)).tolist() == [5, 7, 11, 12, 15]
    assert np.flatnonzero(terminal_states(opened("Taxi-v4").table)).tolist() == [0, 85, 410, 475]
    assert not terminal_states(chain()).any()  # it ends from its last state, and back in it


def test_without_a_table_episodes_are_played():
    blackjack = opened("Blackjack-v1")
    found = chosen(blackjack, n=2, seed=3)
    assert "played" in found.how
    assert 1 <= len(found.transitions) <= 2
    assert found.transitions == chosen(blackjack, n=2, seed=3).transitions
    ends = [chosen(blackjack, n=2, seed=seed).transitions for seed in range(10)]
    assert all(len(steps) == 2 or steps[-1].terminated for steps in ends)


@pytest.mark.parametrize(
    ("n", "asked", "words"),
    [
        (1, {"state": 16}, "state 16 does not exist: FrozenLake-v1 has states 0 to 15"),
        (1, {"state": -1}, "state -1 does not exist"),
        (1, {"state": 0, "action": 4}, "action 4 does not exist: FrozenLake-v1 has actions 0 to 3"),
        (1, {"state": 5}, "state 5 is terminal"),
        (1, {"given": [(0, 4, 0.0, 1, False)]}, "action 4"),
        (1, {"given": [(0, 0, 0.0, 99, False)]}, "state 99"),
        (2, {"given": [(0, 0, 0.0, 1, False)]}, "--transition 2 times"),
        (1, {"given": [(0, 0, 0.0, 1, False)] * 2}, "do not follow each other"),
        (1, {"given": [(0, 0, 0.0, 0, False)] * 2}, "takes one --transition; received 2"),
        (2, {"given": [(0, 0, 0.0, 0, True)] * 2}, "nothing follows"),
    ],
)
def test_impossible_transitions_are_refused(n, asked, words):
    with pytest.raises(UsageError, match=words):
        chosen(opened("FrozenLake-v1"), n=n, **asked)


def test_a_masked_action_is_refused():
    lake = opened("FrozenLake-v1")
    allowed = np.ones((16, 4), np.bool_)
    allowed[2, 1] = False
    with pytest.raises(UsageError, match="excludes action 1 in state 2: allowed there is 0, 2, 3"):
        chosen(lake, allowed=allowed, state=2, action=1)


def test_a_state_without_a_table_is_refused_with_advice():
    with pytest.raises(UsageError, match=r"--transition .* or --random"):
        chosen(opened("Blackjack-v1"), state=300)


def test_a_transition_that_ends_early_is_enough_for_n_steps():
    found = chosen(opened("FrozenLake-v1"), n=3, given=[(14, 2, 1.0, 15, True)])
    assert found.transitions == [Transition(14, 2, 1.0, 15, True)]
