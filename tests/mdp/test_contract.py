from __future__ import annotations

import re
from fractions import Fraction

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Tuple

from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.mdp.contract import ContractError
from deeptaxi.mdp.environment import known_mask, open_environment
from tests.problems import registered

PLACE = Tuple((Discrete(4), Discrete(3)))


class Walk(gymnasium.Env):
    """Walks right over six places, and says where it is; what it returns can be spoiled."""

    observation_space, action_space = Discrete(6), Discrete(2)

    def __init__(self, first=None, later=None, reset=None):
        self.first, self.later, self.answer = first or (lambda where: where), later or (lambda step: step), reset

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.where = 0
        return self.answer if self.answer is not None else (self.first(0), {})

    def step(self, action):
        self.where += 1
        return self.later((self.first(self.where), 0.5, self.where == 5, False, {}))


class NoSeed(Walk):
    def reset(self):
        self.where = 0
        return 0


class NoOptions(Walk):
    def reset(self, seed=None):
        return super().reset(seed=seed)


class Place(Walk):
    """Observes two parts; its bare observation has as many values as `reset` returns."""

    observation_space = PLACE


class Continuous(Walk):
    action_space = Box(-1, 1, (1,))


class Unspaced(gymnasium.Env):
    action_space = Discrete(2)


def opened(entry_point, **settings):
    with registered("Walk-v0", entry_point) as name:
        environment = open_environment(EnvironmentConfig(name, **settings))
        return environment, environment.make(), environment.make_vector(2)


def spoiled(index, value):
    """Return an environment whose `step` returns another value at a place."""
    return lambda: Walk(later=lambda step: (*step[:index], value, *step[index + 1 :]))


STEPPED = "(observation, reward, terminated, truncated, info)"
OLD = "this is the old Gym API: "


@pytest.mark.parametrize("limit", [None, 30])  # with a time limit Gymnasium unpacks what `step` returns itself
@pytest.mark.parametrize(
    ("entry_point", "said"),
    [
        (NoSeed, f"{OLD}reset() does not take 'seed'; return (observation, info) from reset(self, *, seed=None, opt"),
        (NoOptions, "reset() does not take 'options'; define reset(self, *, seed=None, options=None)"),
        (
            lambda: Walk(reset=0),
            f"{OLD}reset() returned the observation 0 alone; return (observation, info), here (0, {{}})",
        ),
        (
            lambda: Place(reset=(3, 0)),
            f"{OLD}reset() returned the observation (3, 0) alone; return (observation, info)",
        ),
        (lambda: Walk(reset=(0, None)), "reset() returned the info None: expected a dict"),
        (lambda: Walk(reset="here"), "reset() returned 'here': expected (observation, info)"),
        (lambda: Walk(reset=(0, {}, 1)), "reset() returned (0, {}, 1): expected (observation, info)"),
        (
            lambda: Walk(later=lambda step: (*step[:2], step[2], {})),
            f"{OLD}step(0) returned the 4 values (1, 0.5, False, {{}}); return 5, {STEPPED}",
        ),
        (lambda: Walk(later=lambda _: None), f"step(0) returned None: expected the 5 values {STEPPED}"),
        (lambda: Walk(first=float), "reset() returned the observation 0.0: expected an integer from 0 to 5"),
        (
            lambda: Walk(first=lambda where: np.array([where])),
            "reset() returned the observation array([0]): expected an in",
        ),
        (
            lambda: Place(first=lambda where: (float(where), 0)),
            "(0.0, 0), whose part [0] is 0.0: expected an integer from",
        ),
        (
            lambda: Walk(first=lambda where: 6 * where),
            "step(0) returned the observation 6: expected an integer from 0 to 5",
        ),
        (spoiled(1, None), "step(0) returned the reward None: expected a finite number"),
        (spoiled(1, np.array([1.0])), "step(0) returned the reward array([1.]): expected a finite number"),
        (spoiled(1, float("nan")), "step(0) returned the reward nan: expected a finite number"),
        (spoiled(1, 10**400), "expected a finite number"),
        (
            spoiled(1, -1e31),
            "step(0) returned the reward -1e+31: expected a finite number of at most 1e+30 in magnitude",
        ),
        (spoiled(1, 1j), "step(0) returned the reward 1j: expected a finite number"),
        (spoiled(2, None), "step(0) returned terminated = None: expected True or False"),
        (spoiled(3, "False"), "step(0) returned truncated = 'False': expected True or False"),
        (spoiled(3, 2), "step(0) returned truncated = 2: expected True or False"),
        (spoiled(4, None), "step(0) returned the info None: expected a dict"),
    ],
)
def test_violations_are_reported_on_opening_with_the_method_and_the_value(entry_point, said, limit):
    with pytest.raises(ContractError) as caught:
        opened(entry_point, time_limit=limit)
    assert str(caught.value).startswith("the environment Walk-v0 failed: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value", "passed"),
    [
        (1, 3, 3.0),
        (1, np.float32(0.5), 0.5),
        (1, np.int64(-1), -1.0),
        (1, np.array(2.0), 2.0),
        (1, np.True_, 1.0),
        (1, Fraction(1, 4), 0.25),
        (2, np.True_, True),
        (2, 1, True),
        (3, np.int8(0), False),
        (3, np.array(True), True),
    ],
)
def test_unambiguous_deviations_are_accepted(place, value, passed):
    _, env, vector = opened(spoiled(place, value))
    env.reset(seed=0)
    assert env.step(0)[place] == passed
    vector.reset(seed=0)
    assert vector.step(np.zeros(2, int))[place].tolist() == [passed] * 2


@pytest.mark.parametrize(
    ("space", "seen", "state"),
    [
        (Discrete(6), lambda where: np.int8(where), 2),
        (Tuple((Discrete(6), Discrete(2))), lambda where: (where, where > 1), 5),
        (Tuple((Discrete(6), Discrete(2))), lambda where: [np.int32(where), 1], 5),
        (MultiDiscrete([6, 2]), lambda where: [where, True], 5),
        (MultiDiscrete([6, 2]), lambda where: (where, 0), 4),
    ],
)
def test_every_observation_is_the_same_state_singly_and_in_vectors(space, seen, state):
    entry_point = type(
        "Seen", (Walk,), {"observation_space": space, "__init__": lambda self: Walk.__init__(self, seen)}
    )
    environment, env, vector = opened(entry_point)
    env.reset(seed=0), vector.reset(seed=0)
    env.step(0), vector.step(np.zeros(2, int))
    assert environment.codec.encode(env.step(0)[0]) == state
    assert vector.step(np.zeros(2, int))[0].tolist() == [state] * 2


@pytest.mark.parametrize(
    ("space", "wrong"),
    [
        (Discrete(6), 3.5),  # Gymnasium's batching makes 3 of it
        (Discrete(6), np.array([3])),
        (Tuple((Discrete(6), Discrete(2))), (3, 0.5)),
        (MultiDiscrete([6, 2]), np.array([3.5, 1])),
        (MultiDiscrete([6, 2]), [3, 2]),
    ],
)
def test_a_wrong_observation_during_an_episode_is_refused_and_not_cast(space, wrong):
    right = space.sample()

    def seen(where):
        return right if where < 2 else wrong

    entry_point = type(
        "Late", (Walk,), {"observation_space": space, "__init__": lambda self: Walk.__init__(self, seen)}
    )
    _, env, vector = opened(entry_point)
    for copies, action in ((env, 0), (vector, np.zeros(2, int))):
        copies.reset(seed=0)
        copies.step(action)
        with pytest.raises(ContractError, match=re.escape("step(0) returned the observation ")):
            copies.step(action)


def test_a_violation_in_the_last_step_is_reported_then():
    _, env, _ = opened(lambda: Walk(later=lambda step: step if not step[2] else step[:4]), time_limit=30)
    env.reset(seed=0)
    for _ in range(4):
        env.step(1)
    with pytest.raises(ContractError, match=re.escape("step(1) returned the 4 values (5, 0.5, True, False)")):
        env.step(1)


def test_an_environment_without_spaces_is_refused_in_one_line():
    with pytest.raises(DeepTaxiError, match="the environment Walk-v0 failed: AttributeError"):
        opened(Unspaced)


def test_custom_wrappers_still_reach_the_inner_environment():
    class Mine(gymnasium.Wrapper):
        def step(self, action):
            self.env.where += 1  # two places a step
            return self.env.step(action)

    _, env, _ = opened(lambda: Mine(Walk()), time_limit=30)
    env.reset(seed=0)
    assert env.step(0)[0] == 2


def test_a_reset_after_the_first_gets_no_options_either():
    seen = []

    class Choosy(Walk):
        def reset(self, *, seed=None, options=None):
            seen.append(options)
            return super().reset(seed=seed)

    _, _, vector = opened(Choosy)
    vector.reset(seed=0)
    vector.reset(over=np.array([True, False]))
    assert set(seen) == {None}


@pytest.mark.parametrize("mask", [lambda _: [1], lambda _: [0, 2], lambda _: "ab", lambda state: [1] * (1 + state % 2)])
def test_a_mask_method_that_returns_no_mask_is_refused(mask):
    entry_point = type("Masked", (Walk,), {"action_mask": lambda _, state: mask(state)})
    environment, _, _ = opened(entry_point)
    with (
        registered("Walk-v0", entry_point),
        pytest.raises(DeepTaxiError, match=r"the environment Walk-v0 failed: (action_mask|ValueError)"),
    ):
        known_mask(environment)


class Clumsy(Walk):
    def __init__(self):
        len(5)


def test_a_type_error_inside_the_environment_is_not_blamed_on_arguments():
    with pytest.raises(UsageError, match=r"could not be created: TypeError: object of type .int. has no len"):
        opened(Clumsy)


def test_a_module_of_the_old_gym_is_named(tmp_path, monkeypatch):
    (tmp_path / "module_of_old_gym.py").write_text("import gym\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="this is the old Gym API: it imports 'gym'; import gymnasium instead"):
        open_environment(EnvironmentConfig("module_of_old_gym:Old-v0"))
