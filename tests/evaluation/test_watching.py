from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.evaluation.watching import Show, certain, render_modes, watch
from deeptaxi.mdp.environment import open_environment
from deeptaxi.mdp.planning import optimal_actions, value_iteration
from deeptaxi.mdp.table import save_table
from tests.problems import bandit, build, chain, surely

ON = np.tile(np.float32([1, 0]), (3, 1))  # the chain's action 0 goes on
STAY = np.tile(np.float32([0, 1]), (3, 1))


def opened(name):
    return open_environment(EnvironmentConfig(str(name)))


@pytest.fixture
def played(tmp_path):
    """Play a table; return the steps."""

    def play(table, q_values, **show):
        save_table(table, tmp_path / "own.npz")
        return list(watch(opened(tmp_path / "own.npz"), q_values, Show(**show)))

    return play


def facts(episode_steps):
    return [(step.step, step.state, step.reward, step.total, step.ending) for step in episode_steps]


def test_an_episode_is_recorded_from_start_to_end(played):
    episode_steps = played(chain(), ON)
    assert facts(episode_steps) == [
        (0, 0, None, 0.0, None),
        (1, 1, 0.0, 0.0, None),
        (2, 2, 0.0, 0.0, None),
        (3, 2, 1.0, 1.0, "terminated"),
    ]
    assert [step.loop for step in episode_steps] == [None] * 4  # the end is not a state where it goes on
    assert [step.action for step in episode_steps] == [0] * 4
    assert episode_steps[0].q_values.tolist() == [1, 0]


def test_without_a_time_limit_a_loop_ends_the_episode_as_soon_as_it_is_certain(played):
    episode_steps = played(chain(), STAY)
    assert facts(episode_steps) == [(0, 0, None, 0.0, None), (1, 0, 0.0, 0.0, "loop")]
    assert episode_steps[-1].loop == 0


def test_a_time_limit_ends_a_loop_and_the_loop_is_reported(played):
    episode_steps = played(chain(time_limit=5), STAY)
    assert (episode_steps[-1].step, episode_steps[-1].ending, episode_steps[-1].loop) == (5, "truncated", 0)


def test_a_state_revisited_by_chance_is_no_loop(played):
    # It comes back to where it was again and again, but may leave at any time.
    trap = build([[[(1 - 1e-12, 0, 0, False), (1e-12, 0, 1, True)]]])
    episode_steps = played(trap, np.zeros((1, 1), np.float32), max_steps=30)
    assert (episode_steps[-1].step, episode_steps[-1].ending, episode_steps[-1].loop) == (30, "steps", None)


def test_a_loop_that_is_entered_by_chance_is_one_from_there_on(played):
    table = build([[[(0.5, 1, 0, False), (0.5, 1, 1, False)]], [surely(2, 0)], [surely(1, 0)]])
    episode_steps = played(table, np.zeros((3, 1), np.float32))
    assert [step.state for step in episode_steps] == [0, 1, 2, 1]
    assert (episode_steps[-1].ending, episode_steps[-1].loop) == ("loop", 1)


def test_which_outcomes_are_certain():
    assert certain(bandit(), 0, 0)
    assert not certain(bandit(), 0, 1)
    assert not certain(None, 0, 0)


def test_every_episode_starts_in_the_requested_state(played):
    episode_steps = played(chain(), ON, start=1, episodes=3)
    assert [step.state for step in episode_steps if step.reward is None] == [1, 1, 1]
    assert [step.episode for step in episode_steps] == [1, 1, 1, 2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize("state", [-1, 3])
def test_a_state_that_does_not_exist_is_refused(played, state):
    with pytest.raises(UsageError, match=f"--state {state}: expected a state from 0 to 2"):
        played(chain(), ON, start=state)


def test_the_seed_decides_the_episodes():
    environment = opened("FrozenLake-v1")
    first, again, other = (
        facts(watch(environment, np.eye(4, dtype=np.float32)[[2] * 16], Show(episodes=3, seed=seed)))
        for seed in (5, 5, 6)
    )
    assert first == again != other


@pytest.mark.parametrize(("name", "state"), [("Taxi-v4", 328), ("FrozenLake-v1", 9), ("CliffWalking-v1", 30)])
def test_toy_text_can_be_put_into_a_state_and_draws_it(name, state):
    environment = opened(name)
    q_values = np.zeros((environment.states, environment.actions), np.float32)
    show = Show(start=state, max_steps=1, render_mode="ansi")
    first, second = list(watch(environment, q_values, show))[:2]
    assert first.state == state
    assert isinstance(first.frame, str)
    possible = environment.table.next_state[state, 0][environment.table.probability[state, 0] > 0]
    assert second.state in possible


def test_an_environment_whose_state_cannot_be_set_says_so():
    environment = opened("Blackjack-v1")
    with pytest.raises(UsageError, match="--state: Blackjack-v1 cannot be put into a state"):
        list(watch(environment, np.zeros((704, 2), np.float32), Show(start=3)))


def test_optimal_actions_are_marked():
    environment = opened("Taxi-v4")
    optimal = np.zeros((500, 6), bool)
    optimal[:, 2] = True
    step = next(watch(environment, np.zeros((500, 6), np.float32), Show(), optimal))
    assert step.optimal.tolist() == [False, False, True, False, False, False]


def test_render_modes_are_those_of_gymnasium():
    assert render_modes(opened("Taxi-v4")) == ("human", "ansi", "rgb_array")
    assert render_modes(opened("Blackjack-v1")) == ("human", "rgb_array")


def test_pictures_are_pictures():
    step = next(watch(opened("Taxi-v4"), np.zeros((500, 6), np.float32), Show(render_mode="rgb_array")))
    assert (step.frame.dtype, step.frame.ndim, step.frame.shape[2]) == (np.uint8, 3, 3)


def test_broken_q_values_are_refused(played):
    with pytest.raises(DeepTaxiError, match="NaN"):
        played(chain(), ON * np.nan)


def test_optimal_play_of_taxi_from_a_known_state():
    environment = opened("Taxi-v4")
    q_star = value_iteration(environment.table, 0.99).q
    episode_steps = list(watch(environment, q_star.astype(np.float32), Show(start=328), optimal_actions(q_star)))
    assert episode_steps[-1].ending == "terminated"
    assert all(step.optimal[step.action] for step in episode_steps[:-1])
    assert episode_steps[-1].total == 20 - (episode_steps[-1].step - 1)
