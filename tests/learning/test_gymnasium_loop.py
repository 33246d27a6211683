from __future__ import annotations

from contextlib import closing

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete

from deeptaxi.config import EnvironmentConfig, resolve
from deeptaxi.learning.action_mask import ActionMaskTable
from deeptaxi.learning.agent import FitAgent, UpdateResult
from deeptaxi.learning.gymnasium_loop import VectorEnvRunner
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.spaces import StateCodec
from deeptaxi.mdp.workers import open_copies
from tests.learning.helpers import TABLE, build_pair, recipe_loop, rows_of, summed

STATES, FIRST_STATE, FIRST_ACTION = 1_000, 3, 5
ENDS = {"terminated": (True, False), "truncated": (False, True), "both": (True, True)}


class Tape(gymnasium.Env):
    """Counts on from `first`, so that it never gives an observation twice, and writes down what it did.

    An episode has `length` steps; the ends of the episodes come by turns.
    """

    def __init__(self, first, length, events):
        self.observation_space = Discrete(STATES, start=FIRST_STATE)
        self.action_space = Discrete(2, start=FIRST_ACTION)
        self.state, self.length, self.events = first, length, events
        self.seeds, self.resets, self.steps, self.ends = [], [], [], []
        self.closed = False

    def move(self):
        self.state += 1
        return self.state + FIRST_STATE

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.events.append("reset")
        self.seeds.append(seed)
        self.time = 0
        observation = self.move()
        self.resets.append(self.state)
        return observation, {}

    def step(self, action):
        self.events.append("step")
        before, observation = self.state, self.move()
        self.time += 1
        terminated, truncated = False, False
        if self.time == self.length:
            self.ends.append(list(ENDS)[len(self.ends) % len(ENDS)])
            terminated, truncated = ENDS[self.ends[-1]]
        self.steps.append((before, int(action) - FIRST_ACTION, before / 2, self.state, terminated, truncated))
        return observation, before / 2, terminated, truncated, {}

    def close(self):
        self.closed = True


class Studio:
    """An environment whose copies are tapes with episodes of these lengths; they share a list of events."""

    def __init__(self, *lengths):
        self.lengths, self.tapes, self.events = lengths, [], []
        config = EnvironmentConfig("Tape")
        codec = StateCodec(Discrete(STATES, start=FIRST_STATE))
        self.environment = Environment(config, codec, 2, FIRST_ACTION, None, None, "a tape", None, self.make)

    def make(self, render_mode=None):
        count = len(self.tapes)
        self.tapes.append(Tape(STATES // len(self.lengths) * count, self.lengths[count], self.events))
        return self.tapes[-1]

    def steps(self):
        return [step for tape in self.tapes for step in tape.steps]


PLAIN = {"n_step": 3, "n_step_correction": "none"}


class Recorder(FitAgent):
    """Acts by the noise, learns nothing, and keeps what it is given."""

    def __init__(self, online, target, config):
        super().__init__(online, target, config)
        self.batches, self.epsilons, self.events = [], [], []

    def act(self, states, epsilon, draws, noise, allowed):
        self.events.append("act")
        self.epsilons.append(epsilon)
        return noise.argmax(axis=1)

    def update(self, batch, next_allowed):
        self.events.append("update")
        assert next_allowed.shape == (len(batch.states), 2)
        self.batches.append(batch)
        return UpdateResult(0.0, 0.0, np.zeros(len(batch.states), np.float32))


def recorded(studio, cls=None, **settings):
    """Run the loop to its end with a recorder; return the ticks and the recorder."""
    config = resolve({**TABLE, "interaction": {"environments": len(studio.lengths)}, **settings})
    recorder = (cls or Recorder)(*build_pair(STATES, 2, config), config)
    recorder.events = studio.events
    return list(recipe_loop(config, studio.environment, recorder).run(config.updates)), recorder


@pytest.mark.parametrize("lengths", [(3,), (1,), (1, 2, 4), (5, 5)])
def test_every_stored_transition_is_what_the_environment_did(lengths):
    studio = Studio(*lengths)
    stored = [[] for _ in lengths]
    rng = np.random.default_rng(0)
    with closing(open_copies(studio.environment, len(lengths), True, None)) as vector:
        masks = ActionMaskTable(studio.environment, active=False)
        players = VectorEnvRunner(studio.environment, vector, [7 + i for i in range(len(lengths))], masks)
        batches = [players.step(rng.integers(0, 2, len(lengths)))[0] for _ in range(20)]
        assert players.states.tolist() == [tape.state for tape in studio.tapes]
    for batch in batches:  # only now: later steps must not have changed earlier transitions
        for copy, row in enumerate(rows_of(batch)):
            stored[copy].append(row)

    for copy, tape in enumerate(studio.tapes):
        assert stored[copy] == tape.steps  # all 20 of them: no step went into a reset
        assert tape.seeds == [7 + copy] + [None] * len(tape.ends)
        assert not {row[3] for row in stored[copy]} & set(tape.resets)
        # The last step of an episode is stored with its true next state, and with what ended it.
        last = stored[copy][tape.length - 1 :: tape.length]
        assert [row[3] for row in last] == [row[0] + 1 for row in last]
        assert [row[4:] for row in last] == [ENDS[end] for end in tape.ends]


def test_one_update_after_another_follows_the_same_order():
    studio = Studio(2)  # episodes of two steps
    recorded(studio, updates=3, replay={"start": 1, "batch_size": 4})
    assert studio.events == [
        "reset",
        *("act", "step"),  # gathered before the first update
        *("act", "step", "reset", "update"),
        *("act", "step", "update"),
        *("act", "step", "reset", "update"),
        "act",  # for a step that a longer training would take
    ]


def test_a_minibatch_holds_nothing_but_what_the_environments_did():
    studio = Studio(1, 3)
    _, recorder = recorded(studio, updates=20, replay={"start": 4, "batch_size": 32})
    drawn = {row for batch in recorder.batches for row in rows_of(batch)}
    done = {one_step(*step) for step in studio.steps()}
    assert len(drawn) > len(done) / 2
    assert drawn <= done


def one_step(state, action, reward, reached, terminated, truncated, discount=0.99):
    """Return the row of a minibatch that one step makes: a time limit does not touch the bootstrap."""
    return state, action, reward, reached, 0.0 if terminated else float(np.float32(discount)), 1.0


@pytest.mark.parametrize("prioritized", [False, True])
def test_n_steps_are_summed_up_within_an_episode_and_a_time_limit_bootstraps(prioritized):
    # Episodes of two steps and three-step targets with γ = ½: each ends by what the tape ended it with. The ring of
    # 12 goes round several times.
    studio = Studio(2, 5)
    settings = {"interaction": {"environments": 2}, "discount": 0.5, "target": PLAIN}
    replay = {"start": 0, "capacity": 13, "batch_size": 16, "prioritized": prioritized}
    _, recorder = recorded(studio, updates=30, replay=replay, **settings)
    expected = {}
    for tape in studio.tapes:
        for i, (state, action, *_) in enumerate(tape.steps):
            expected[state] = (state, action, *summed(tape.steps[i : i + 3], 0.5))
    drawn = [row for batch in recorder.batches for row in rows_of(batch)]
    assert len({row[0] for row in drawn}) > 40
    assert [row[:5] for row in drawn] == [expected[row[0]] for row in drawn]
    ends = {tape.ends[0] for tape in studio.tapes} | {end for tape in studio.tapes for end in tape.ends}
    assert ends == set(ENDS)


def test_sums_end_before_the_actions_that_the_agent_calls_exploratory():
    # This agent calls action 1 so, and is asked for every sequence, with the mask of its states.
    studio, asked = Studio(2, 5), []

    class Choosy(Recorder):
        def greedy(self, states, actions, allowed):
            asked.append((states.shape, allowed.shape))
            return actions == 0

    settings = {"interaction": {"environments": 2}, "discount": 0.5, "target": {"n_step": 3}, "updates": 30}
    _, recorder = recorded(studio, Choosy, replay={"start": 0, "capacity": 13, "batch_size": 16}, **settings)
    expected = {}
    for tape in studio.tapes:
        for i, (state, action, *_) in enumerate(tape.steps):
            steps = tape.steps[i : i + 3]
            cut = next((k for k in range(1, len(steps)) if steps[k][1] == 1), 3)
            expected[state] = (state, action, *summed(steps[:cut], 0.5))
    drawn = [row for batch in recorder.batches for row in rows_of(batch)]
    assert [row[:5] for row in drawn] == [expected[row[0]] for row in drawn]
    assert asked == [((16, 2), (16, 2, 2))] * 30


def test_the_first_update_waits_until_there_is_a_sequence_of_n_steps():
    studio = Studio(9)
    ticks, recorder = recorded(studio, updates=2, replay={"start": 0, "batch_size": 2}, target=PLAIN)
    assert [tick.environment_steps for tick in ticks] == [3, 4]
    assert set(recorder.batches[0].states.tolist()) == {studio.steps()[0][0]}


def test_rewards_are_stored_in_units_of_the_scale_and_reported_in_full():
    plain, scaled = Studio(3), Studio(3)
    settings = {"updates": 6, "replay": {"start": 2, "batch_size": 4}}
    ticks, recorder = recorded(plain, **settings)
    scaled_ticks, scaled_recorder = recorded(scaled, target={"reward_scale": 4.0}, **settings)
    assert [tick.returns for tick in ticks] == [tick.returns for tick in scaled_ticks]
    for one, other in zip(recorder.batches, scaled_recorder.batches, strict=True):
        np.testing.assert_array_equal(one.rewards, 4 * other.rewards)
        np.testing.assert_array_equal(one.states, other.states)


@pytest.mark.parametrize(("schedule", "expected"), [("constant", [0.8, 0.8, 0.8]), ("exponential", [0.8, 0.4, 0.2])])
def test_epsilon_takes_the_course_of_its_schedule(schedule, expected):
    exploration = {"start": 0.8, "end": 0.2, "fraction": 1.0, "schedule": schedule}
    ticks, _ = recorded(Studio(3), updates=4, replay={"start": 2, "batch_size": 2}, exploration=exploration)
    assert [tick.epsilon for tick in ticks][::2] == pytest.approx(expected[:2])


def test_a_minibatch_may_hold_the_newest_transition():
    studio = Studio(4)
    _, recorder = recorded(studio, updates=5, replay={"start": 0, "capacity": 1, "batch_size": 1})
    assert [rows_of(batch) for batch in recorder.batches] == [[one_step(*step)] for step in studio.steps()]


@pytest.mark.parametrize(
    ("start", "capacity", "gathered"),
    [
        pytest.param(10, 100, 10, id="as-many-as-asked-for"),
        pytest.param(11, 100, 12, id="in-whole-rounds"),
        pytest.param(0, 100, 0, id="none"),
        pytest.param(50, 8, 8, id="no-more-than-are-kept"),
    ],
)
def test_environment_steps_count_every_step_of_every_copy(start, capacity, gathered):
    studio = Studio(3, 4)  # 2 copies
    settings = {"replay": {"start": start, "capacity": capacity, "batch_size": 2}}
    ticks, _ = recorded(studio, updates=3, interaction={"environments": 2, "steps_per_update": 3}, **settings)
    assert [tick.update for tick in ticks] == [1, 2, 3]
    assert [tick.environment_steps for tick in ticks] == [gathered + 6, gathered + 12, gathered + 18]
    assert len(studio.steps()) == gathered + 18


def test_the_returns_of_all_episodes_are_reported_once():
    studio = Studio(2, 3)
    ticks, _ = recorded(studio, updates=12, replay={"start": 4, "batch_size": 2})
    ended, returns = 0, 0.0
    for tape in studio.tapes:
        over = tape.length * len(tape.ends)
        ended, returns = ended + len(tape.ends), returns + sum(step[2] for step in tape.steps[:over])
    assert sum(tick.episodes for tick in ticks) == ended
    assert sum(tick.returns for tick in ticks) == pytest.approx(returns)
    assert {tick.count for tick in ticks} == {1}


def test_epsilon_is_at_its_start_while_gathering_and_then_falls():
    studio = Studio(3)
    exploration = {"start": 0.8, "end": 0.4, "fraction": 0.5}
    settings = {"replay": {"start": 2, "batch_size": 2}, "exploration": exploration}
    ticks, recorder = recorded(studio, updates=8, **settings)
    expected = [0.8, 0.7, 0.6, 0.5, 0.4, 0.4, 0.4, 0.4]  # by 0.1 over the first four of eight updates
    assert recorder.epsilons[:-1] == pytest.approx([0.8, 0.8, *expected])
    assert [tick.epsilon for tick in ticks] == pytest.approx(expected)


def test_ending_the_loop_early_closes_the_environments():
    studio = Studio(3, 3)
    config = resolve({**TABLE, "interaction": {"environments": 2}, "replay": {"start": 2, "batch_size": 2}})
    recorder = Recorder(*build_pair(STATES, 2, config), config)
    ticks = recipe_loop(config, studio.environment, recorder).run(config.updates)
    next(ticks)
    assert not any(tape.closed for tape in studio.tapes)
    ticks.close()
    assert all(tape.closed for tape in studio.tapes)
