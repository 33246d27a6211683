from __future__ import annotations

import random

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import UsageError
from deeptaxi.mdp import compliance
from deeptaxi.mdp.compliance import check_compliance
from deeptaxi.mdp.sources import Made, Named
from tests.mdp.test_contract import NoOptions, NoSeed, Walk, spoiled


def checked(create, **settings):
    return check_compliance(EnvironmentConfig("Walk-v0", **settings), Made(create))


def messages(found, part=None):
    return [fault.message for fault in found.faults if part in (None, fault.part)]


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(compliance, "CHECK_STEPS", 500)


class Many(Walk):
    """Every answer is wrong somewhere, and it fails at place 3."""

    def reset(self, seed=None):
        super().reset(seed=seed)
        return 0.5, {}

    def step(self, action):
        self.where = random.randrange(5)  # another seed than `reset` sets
        if self.where == 3:
            raise KeyError("no such place")
        return 6, (None if action else np.nan), self.where == 4, None, {"action_mask": [1, 1, 0]}


class Guarded(Walk):
    """Allows only what its mask says, and fails otherwise; at the last place no mask is needed."""

    def step(self, action):
        if action != self.where % 2:
            raise ValueError("not allowed")
        return super().step(action)

    def action_masks(self):
        return np.arange(2) == self.where % 2


class Lucky(Walk):
    """Draws from NumPy's global generator."""

    def step(self, action):
        self.where = int(np.random.randint(6))  # noqa: NPY002
        return self.where, 0.0, self.where == 5, False, {}


class Leftover(Walk):
    """Its rewards depend on how often the class was made."""

    made = 0

    def __init__(self):
        super().__init__()
        Leftover.made += 1
        self.number = Leftover.made

    def step(self, action):
        return (*super().step(action)[:1], float(self.number), self.where == 5, False, {})


class Tabulated(Walk):
    def __init__(self, reward):
        super().__init__()
        self.P = {
            state: {action: [(1.0, min(state + 1, 5), reward, state >= 4)] for action in range(2)} for state in range(6)
        }
        self.initial_state_distrib = np.eye(6)[0]


def test_an_environment_without_a_fault_passes_each_check():
    found = check_compliance(EnvironmentConfig("Taxi-v4"), Named(None))
    assert not found.faults
    assert [line.partition(":")[0] for line in found.passed] == ["spaces", "reset", "step", "seed", "P"]
    assert (found.steps, found.episodes) == (500, 3)  # of 200 steps at most
    assert not found.notes


def test_all_faults_are_listed_at_once_each_where_it_came_first():
    found = checked(Many)
    assert messages(found, "reset") == [
        "reset() does not take 'options'; define reset(self, *, seed=None, options=None)",
        "reset() returned the observation 0.5: expected an integer from 0 to 5",
    ]
    steps = " ".join(messages(found, "step"))
    for said in (
        "returned the observation 6: expected an integer from 0 to 5",
        ": expected a finite number",
        "returned truncated = None: expected True or False",
        "raised KeyError: 'no such place' (test_compliance.py:",
    ):
        assert said in steps
    assert "the action mask is array([1., 1., 0.]): expected 2 zeros and ones" in messages(found, "action_mask")[0]
    observed = next(fault for fault in found.faults if "observation 6" in fault.message)
    assert observed.step >= 1
    assert observed.times > 300
    assert not [line for line in found.passed if not line.startswith("spaces")]


@pytest.mark.parametrize(
    ("create", "said"),
    [
        (NoSeed, "reset() does not take 'seed'"),
        (NoOptions, "reset() does not take 'options'"),
        (lambda: Walk(reset=0), "reset() returned the observation 0 alone"),
        (lambda: Walk(reset=(0, None)), "reset() returned the info None: expected a dict"),
        (lambda: Walk(reset="here"), "reset() returned 'here': expected (observation, info)"),
        (
            lambda: Walk(later=lambda step: (*step[:2], step[2], {})),
            "returned the 4 values (1, 0.5, False, {}); return 5",
        ),
        (lambda: Walk(later=lambda _: None), "returned None: expected the 5 values"),
        (spoiled(2, 0.5), "returned terminated = 0.5: expected True or False"),
        (spoiled(4, None), "returned the info None: expected a dict"),
        (spoiled(1, float("inf")), "returned the reward inf: expected a finite number"),
    ],
)
def test_each_fault_is_found_by_the_words_of_a_training(create, said):
    assert any(said in message for message in messages(checked(create)))


class Composite(Lucky):
    """Takes two numbers as its action."""

    action_space = MultiDiscrete([2, 3])


@pytest.mark.parametrize("create", [Lucky, Leftover, Composite])
def test_the_same_seed_must_give_the_same_episodes(create):
    (fault,) = checked(create).faults
    assert fault.part == "seed"
    assert "with the same seed and actions, step(" in fault.message
    assert "draw all chance from self.np_random" in fault.message


def test_a_mask_is_kept_to():
    assert not checked(Guarded).faults


@pytest.mark.parametrize(("reward", "faults"), [(0.5, 0), (1.0, 1)])
def test_a_table_is_compared_with_the_environment(reward, faults):
    found = checked(lambda: Tabulated(reward))
    assert len(found.faults) == faults
    assert [fault.part for fault in found.faults] == ["P"] * faults
    assert ("P: 500 random steps agree with it" in found.passed) == (not faults)


def test_a_table_waits_until_the_other_faults_are_mended():
    class Both(Tabulated):
        def step(self, action):
            return (*super().step(action)[:3], None, {})

    found = checked(lambda: Both(0.5))
    assert [fault.part for fault in found.faults] == ["step"]
    assert found.notes == ["P was not checked: mend the faults first"]


def test_spaces_are_checked_and_the_play_continues():
    class Real(Walk):
        observation_space = Box(-np.inf, np.inf, (2,))

    class Unspaced(gymnasium.Env):
        action_space = Discrete(2)

        def reset(self, *, seed=None, options=None):
            return 0, {}

        def step(self, action):
            return 0, 0.0, True, False, None

    said = messages(checked(Real), "observation_space")[0]
    assert "returned the observation 0, which has no real number at [0], as its space says" in said
    found = checked(Unspaced)
    assert messages(found, "observation_space") == [
        "it has no observation_space: set self.observation_space in __init__"
    ]
    assert messages(found, "step")[0].endswith("returned the info None: expected a dict")


def test_a_table_that_cannot_be_read_is_a_fault():
    class Failing(Walk):
        @property
        def P(self):  # noqa: N802
            raise RuntimeError("not here")

    (fault,) = checked(Failing).faults
    assert (fault.part, "cannot be read: RuntimeError: not here" in fault.message) == ("P", True)


def test_many_actions_are_sampled_without_a_list_of_them():
    class Wide(Walk):
        action_space = Discrete(10_000)

    assert not checked(Wide).faults


def test_what_never_ends_is_noted():
    class Endless(Walk):
        def step(self, action):
            return 0, 0.0, False, False, {}

    assert "there is no time limit: give --time-limit" in checked(Endless).notes[0]
    assert not [note for note in checked(Endless, time_limit=20).notes if note.startswith("endless")]


def test_what_cannot_be_made_is_wrong_use():
    class Sized(Walk):
        def __init__(self, size):
            super().__init__()

    with pytest.raises(UsageError, match="needs the argument size"):
        checked(Sized)


def test_an_environment_that_always_fails_ends_the_play():
    class Broken(Walk):
        def reset(self, *, seed=None, options=None):
            raise RuntimeError("no board")

    (fault,) = checked(Broken).faults
    assert fault.message.startswith("reset() raised RuntimeError: no board (test_compliance.py:")
    assert fault.times == 3
