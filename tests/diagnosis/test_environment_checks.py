"""Small environments that are wrong in one way each, and sound ones, by random play."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete

import deeptaxi
from deeptaxi.api.environments import EnvSpec
from deeptaxi.diagnosis.case import Finding, Unchecked, play_random_sample
from deeptaxi.diagnosis.environment_checks import CHECKS, conditional_entropy, deviation, information, terminating_limit
from deeptaxi.diagnosis.run_checks import without_weaker
from deeptaxi.mdp.discovery import AT_A_PLACE, TRUNCATES
from tests.diagnosis.cases import checked, history, progress, unseen

SIDE, LIMIT = 4, 60
GOAL = SIDE * SIDE - 1
MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))


class Field(gymnasium.Env):
    """A field of 4 × 4 from one corner to the other: 1 at the goal, −0.1 in every other column, and −0.01 for turning.

    `slip` is the probability that another action is taken than was chosen.
    """

    def __init__(self, slip=0.0):
        self.observation_space, self.action_space = Discrete(SIDE * SIDE), Discrete(4)
        self.slip = slip

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.steps = 0, 0
        return 0, {}

    def step(self, action):
        chosen = self.np_random.integers(4) if self.slip and self.np_random.random() < self.slip else action
        row, column = (
            int(np.clip(x + d, 0, SIDE - 1)) for x, d in zip(divmod(self.at, SIDE), MOVES[chosen], strict=True)
        )
        self.at, self.steps = row * SIDE + column, self.steps + 1
        reward = 1.0 if self.at == GOAL else -0.1 * (column % 2) - 0.01 * action
        return self.at, reward, self.at == GOAL, self.steps >= LIMIT, {}


class GoalTruncates(Field):
    """The goal truncates."""

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, False, terminated or truncated, info


class OutOfBounds(Field):
    """Cells that truncate an episode without a reward, as a robot that falls off the table; the goal terminates."""

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated or observation in (3, 12), info


class DrawnLimit(Field):
    """Each episode terminates after a number of steps that is drawn."""

    def reset(self, *, seed=None, options=None):
        answer = super().reset(seed=seed)
        self.limit = int(self.np_random.integers(5, 26))
        return answer

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or self.steps >= self.limit, truncated, info


class DrawnTruncation(DrawnLimit):
    """The same, by `truncated`."""

    def step(self, action):
        observation, reward, terminated, truncated, info = Field.step(self, action)
        return observation, reward, terminated, truncated or self.steps >= self.limit, info


class FixedLimit(Field):
    """Each episode terminates after 15 steps."""

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or self.steps >= 15, truncated, info


class Mines(Field):
    """Any step in the middle ends the episode with the same probability, however long it has lasted."""

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return (
            observation,
            reward,
            terminated or (observation in (5, 6) and self.np_random.random() < 0.2),
            truncated,
            info,
        )


class Lag(Field):
    """The observation is that of the state before the step."""

    def step(self, action):
        before = self.at
        return before, *super().step(action)[1:]


class ActionsLag(Field):
    """Each action takes effect one step late."""

    def reset(self, **given):
        self.pending = 2
        return super().reset(**given)

    def step(self, action):
        now, self.pending = self.pending, action
        return super().step(now)


class Late(Field):
    """The reward is that of the step before."""

    def reset(self, *, seed=None, options=None):
        self.owed = 0.0
        return super().reset(seed=seed)

    def step(self, action):
        observation, reward, *rest = super().step(action)
        reward, self.owed = self.owed, self.reward(reward)
        return observation, reward, *rest

    def reward(self, reward):
        return reward


class LateCosts(Late):
    """Every step costs 1, one step late, so that no action or place shows it."""

    def reward(self, reward):
        return -1.0


class GoalAlone(Late):
    """Only the goal pays, one step late, which is never."""

    def reward(self, reward):
        return float(reward == 1)


class NoisyRewards(Field):
    """Rewards that scatter, and rewards for being somewhere."""

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, reward + self.np_random.normal(0, 0.2), *rest


def played(env, seed=0, kwargs=None, bins=None):
    """Return a case without a table, with random play of an environment."""
    view = None if bins is None else {"bins": bins}
    environment = EnvSpec(env, kwargs or {}, discover=False).open(view)
    sample = play_random_sample(environment, None, seed)
    return unseen(environment.states, environment.actions, random_play=sample, binned=environment.binned)


@cache
def played_once(kind):
    """The same, of a field without slips; tests share it."""
    return played(kind())


def named(case):
    """Return the findings of all checks by name."""
    found = [check(case) for check in CHECKS]
    return {one.name: one for one in found if isinstance(one, Finding)}


@pytest.mark.parametrize("slip", [0.0, 0.3])
@pytest.mark.parametrize(
    ("kind", "name", "severity"),
    [
        (GoalTruncates, "termination-as-truncation", "severe"),
        (OutOfBounds, "termination-as-truncation", "note"),
        (DrawnLimit, "hidden-time-limit", "severe"),
        (DrawnTruncation, "hidden-time-limit", "warning"),
        (Lag, "observations-lag", "severe"),
        (Late, "rewards-late", "severe"),
        (LateCosts, "rewards-late", "severe"),
    ],
)
def test_each_fault_is_the_only_one_that_is_named(kind, name, severity, slip):
    found = named(played(kind(slip), seed=1))
    assert {one: finding.severity for one, finding in found.items()} == {name: severity}
    assert found[name].source == "episodes"
    assert found[name].cause
    assert found[name].cure


@pytest.mark.parametrize("kind", [Field, FixedLimit, Mines, NoisyRewards])
@pytest.mark.parametrize("slip", [0.0, 0.3])
def test_sound_environments_have_none(kind, slip):
    assert named(played(kind(slip), seed=2)) == {}


@pytest.mark.parametrize("slip", [0.0, 0.3])
def test_a_limit_that_terminates_is_distinguished_from_other_ends(slip):
    def found(kind):
        case = played(kind(slip), seed=3)
        return terminating_limit(case, case.random_play)

    limit = found(FixedLimit)
    assert (limit.severity, limit.evidence["step"]) == ("severe", 15)
    assert [found(kind) for kind in (Field, Mines, DrawnLimit, GoalTruncates)] == [None] * 4


def test_where_actions_lag_no_other_cause_is_named():
    kinds = (ActionsLag, DrawnLimit, Late)
    lag, limit, late = (finding for kind in kinds for finding in named(played_once(kind)).values())
    assert lag.name == "observations-lag"
    assert without_weaker([limit, lag, late]) == [lag]
    assert without_weaker([limit, late]) == [limit, late]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Blackjack-v1", {}),
        ("Taxi-v4", {}),
        ("Taxi-v4", {"kwargs": {"fickle_passenger": True}}),
        ("FrozenLake-v1", {}),
        ("CliffWalking-v1", {}),
        ("CartPole-v1", {}),
        ("MountainCar-v0", {"bins": (12,)}),
    ],
)
def test_gymnasiums_own_environments_have_none(name, settings):
    assert named(played(name, **settings)) == {}


TRUNCATED = f"{TRUNCATES}once after 7 steps, once after 9{AT_A_PLACE} is a termination"  # as discovery says it
COLUMNS = ("state", "action", "reward", "next_state", "terminated", "truncated", "time", "greedy", "previous")


def test_a_goal_that_only_the_policy_reaches_is_found_where_others_last_longer():
    case = played_once(GoalTruncates)
    chance = case.random_play
    away = replace(chance, **{name: getattr(chance, name)[chance.next_state != GOAL] for name in COLUMNS})
    six = {name: getattr(away, name)[:6] for name in COLUMNS}
    to_goal = {"next_state": np.full(6, GOAL), "truncated": np.ones(6, bool), "time": np.full(6, 6)}
    reached = replace(away, **{**six, **to_goal, "reward": np.ones(6)})

    def found(random_play, sample):
        return checked("termination-as-truncation", replace(case, random_play=random_play, sample=sample))

    evidence = found(away, reached).evidence
    assert (evidence["state"], evidence["first_step"], evidence["episodes"]) == (GOAL, 6, 6)
    assert found(away, None) is None
    walked = replace(case, random_play=away, why={"table": f"none was discovered: {TRUNCATED}"})
    finding = checked("termination-as-truncation", walked)
    assert (finding.severity, finding.evidence["walk"]) == ("warning", "once after 7 steps, once after 9")
    assert found(reached, reached) is None  # after 6 steps always, as far as is known: a limit


def test_places_and_limits_are_named_with_their_steps():
    place = named(played_once(GoalTruncates))["termination-as-truncation"].evidence
    assert (place["state"], place["reward"], place["episodes_terminated"]) == (GOAL, 1, 0)
    assert 6 <= place["first_step"] < place["last_step"] < LIMIT
    limit = named(played_once(DrawnLimit))["hidden-time-limit"].evidence
    assert (limit["first_step"], limit["last_step"], limit["flag"]) == (5, 25, "terminated")


def test_a_lagging_observation_shows_the_action_before_and_not_the_present_one():
    evidence = named(played_once(Lag))["observations-lag"].evidence
    assert evidence["information_of_action_before"] > 1  # of ln 4
    assert evidence["information_of_action"] == 0
    assert evidence["first_step_changes_nothing"] == 1


def test_late_rewards_are_known_by_the_steps_before_or_by_the_first():
    past = named(played_once(Late))["rewards-late"].evidence
    assert past["variance_given_transition_before"] == pytest.approx(0, abs=1e-12)
    first = named(played_once(LateCosts))["rewards-late"].evidence
    assert (first["first_reward"], first["later_reward"], first["of_which_as_first"]) == (0, -1, 0)


def test_rewards_that_nobody_ever_saw_are_named_where_the_training_saw_none_either():
    case = played_once(GoalAlone)
    log = history(progress(100), updates=200)
    earned = history(*(record_with_return(value) for value in (0.0, 1.0)))
    nothing = history(*(record_with_return(0.0) for _ in range(2)))
    assert named(with_history(case, log)) == {}  # no return is known
    assert named(with_history(case, earned)) == {}
    assert named(with_history(case, nothing))["no-reward-seen"].severity == "severe"
    paid = with_history(played_once(Field), nothing)
    assert named(paid) == {}


def record_with_return(value):
    """A record of the log with the mean return of its episodes."""
    return replace(progress(100), episodes=3, mean_return=value)


def with_history(case, log):
    """The same case with a log."""
    return replace(case, history=log)


def test_bins_and_missing_play_are_said():
    case = unseen(random_play=played_once(Lag).random_play, binned=True)
    assert "bins" in checked("observations-lag", case).why
    assert isinstance(checked("rewards-late", unseen()), Unchecked)


def test_what_is_hidden_is_named_exactly_where_the_states_can_be_walked_through():
    found = deeptaxi.diagnose(np.zeros((SIDE * SIDE, 4)), Lag(), episodes=4)
    finding = found.named("observations-lag")
    assert finding is not None
    assert "(at=0 and at=4)" in finding.evidence["hidden"]
    assert finding.evidence["hidden"] in finding.summary
    assert found.severe
    sound = deeptaxi.diagnose(np.zeros((SIDE * SIDE, 4)), Field(), episodes=4)
    assert sound.optimal is False  # its table was discovered, so that there is an exact verdict
    assert not {finding.name for finding in sound.findings} & {check.name for check in CHECKS}


def test_endings_later_than_chance_deviate():
    times = np.tile([1.0, 2.0, 3.0, 4.0], 25)
    same = np.zeros(100, int)
    assert deviation(times == 4, times, same) == pytest.approx(25 * 1.5 / np.sqrt(25 * 75 / 99 * 1.25))
    by_chance = np.random.default_rng(0).random(100) < 0.25
    assert abs(deviation(by_chance, times, same)) < 3


def test_entropy_and_information_are_those_of_coins():
    one, other = np.tile([0, 1], 50), np.repeat([0, 1], 50)
    nothing = np.zeros(100, int)
    assert conditional_entropy(one, nothing) == pytest.approx(np.log(2))
    assert conditional_entropy(one, one) == 0
    assert information(one, one, nothing) == pytest.approx(np.log(2) - 1 / 200)  # one degree of freedom
    assert information(one, other, nothing) == 0
