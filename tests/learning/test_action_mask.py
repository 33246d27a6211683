from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete, MultiDiscrete

from deeptaxi.config import EnvironmentConfig, resolve
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.evaluation.exact import evaluate_greedy, reference
from deeptaxi.learning.action_mask import ActionMaskTable
from deeptaxi.learning.gymnasium_loop import VectorEnvRunner
from deeptaxi.learning.trainer import train
from deeptaxi.mdp.contract import ShownMask
from deeptaxi.mdp.environment import open_environment
from deeptaxi.mdp.simulate import TableEnv
from deeptaxi.mdp.spaces import action_codec
from deeptaxi.mdp.workers import open_copies
from deeptaxi.network.tabulate import tabulate
from tests.learning.helpers import SMALL, finished, opened_problem
from tests.problems import build, opened, registered, rows_of, surely

MASK = np.array([[True, False], [True, True], [False, True]])


def two_ways(**optional):
    """0 → 1 → 2 → end, by either action."""
    return build([[surely(1, 0)] * 2, [surely(2, 0)] * 2, [surely(2, 0, True)] * 2], **optional)


@pytest.fixture
def known(tmp_path):
    return opened_problem(two_ways(action_mask=MASK), tmp_path)[1]


@pytest.fixture
def unknown(known):
    """The same environment, its table not known: the mask can only be seen on the way."""
    return dataclasses.replace(known, table=None, table_missing="unknown")


def test_without_masking_every_action_is_allowed(known):
    book = ActionMaskTable(known, active=False)
    book.note(np.array([0]), {})
    assert book.allowed is None
    for states in ([0, 2], [1], [2, 2, 2]):
        np.testing.assert_array_equal(book.of(np.array(states)), np.ones((len(states), 2)))


def test_the_mask_of_a_table_is_known_from_the_start(known):
    book = ActionMaskTable(known, active=True)
    np.testing.assert_array_equal(book.allowed, MASK)
    np.testing.assert_array_equal(book.of(np.array([2, 0, 2])), MASK[[2, 0, 2]])


def test_the_mask_of_taxi_is_known_from_the_start():
    # State ((row·5 + column)·5 + passenger)·4 + destination; actions south, north, east, west, pick up, drop off.
    # 0: top left, the passenger waits there. 16: the same place, the passenger on board, who wants to get off there.
    # 4: the passenger waits elsewhere.
    mask = ActionMaskTable(opened("Taxi-v4"), active=True).allowed
    assert mask.shape == (500, 6)
    expected = {0: [1, 0, 1, 0, 1, 0], 16: [1, 0, 1, 0, 0, 1], 4: [1, 0, 1, 0, 0, 0]}
    for state, row in expected.items():
        np.testing.assert_array_equal(mask[state], row, err_msg=f"state {state}")


def test_a_mask_is_collected_during_episodes(unknown):
    book = ActionMaskTable(unknown, active=True)
    vector = open_copies(unknown, 2, masks=True, workers=None)
    players = VectorEnvRunner(unknown, vector, [0, 1], book)
    np.testing.assert_array_equal(book.allowed, [[1, 0], [1, 1], [1, 1]])  # only state 0 was seen
    players.step(np.array([0, 0]))
    players.step(np.array([1, 0]))
    np.testing.assert_array_equal(book.allowed, MASK)
    players.step(np.array([1, 1]))  # the end: both copies start again, and say the same of state 0
    np.testing.assert_array_equal(book.allowed, MASK)
    vector.close()


def test_only_environments_that_return_a_mask_are_recorded(unknown):
    book = ActionMaskTable(unknown, active=True)
    info = {"action_mask": np.array([[0, 0], [0, 1]]), "_action_mask": np.array([False, True])}
    book.note(np.array([0, 1]), info)
    np.testing.assert_array_equal(book.allowed, [[1, 1], [0, 1], [1, 1]])


def test_a_state_without_allowed_actions_counts_as_unrestricted(unknown):
    book = ActionMaskTable(unknown, active=True)
    book.note(np.array([2]), {"action_mask": np.array([[0, 0]])})
    np.testing.assert_array_equal(book.of(np.array([2])), [[1, 1]])


def test_a_mask_that_is_no_function_of_the_state_is_refused(unknown):
    book = ActionMaskTable(unknown, active=True)
    book.note(np.array([0, 1]), {"action_mask": np.array([[1, 0], [0, 1]])})
    with pytest.raises(DeepTaxiError, match="masks state 1 in more than one way"):
        book.note(np.array([0, 1]), {"action_mask": np.array([[1, 0], [1, 1]])})


def test_an_environment_without_a_mask_is_refused(tmp_path):
    environment = opened_problem(two_ways(), tmp_path)[1]
    with pytest.raises(UsageError, match=r"--action-mask: .*table\.npz has no array 'action_mask'"):
        ActionMaskTable(environment, active=True)


def test_an_environment_that_stops_giving_its_mask_is_refused(unknown):
    book = ActionMaskTable(unknown, active=True)
    with pytest.raises(DeepTaxiError, match="only sometimes"):
        book.note(np.array([0]), {})


class LateMask(TableEnv):
    """Has its table as P, and gives its mask only during episodes."""

    def __init__(self):
        super().__init__(two_ways(action_mask=MASK))
        self.P = rows_of(self.table)
        self.initial_state_distrib = self.table.start


def test_the_verdict_uses_the_final_mask():
    with registered("LateMask-v0", LateMask) as name:
        environment = open_environment(EnvironmentConfig(name, time_limit=10))
        settings = {**SMALL, "network": {"hidden": [], "dueling": False}, "exploration": {"action_mask": True}}
        config = resolve({**settings, "environment": {"id": name}, "updates": 60, "evaluation": {"every": 1}})
        records, network = finished(train(config, environment))
    q_values = tabulate(network)
    np.testing.assert_array_equal(np.isneginf(q_values), ~MASK)
    target = reference(environment.table, environment.horizon, 0.99, config.discount, MASK)
    assert records[-1].exact == evaluate_greedy(target, q_values).to_dict()


class Order(gymnasium.Env):
    """Orders 0 to 2 pieces of two products, where there is room for 3 of each; the mask is shown in many ways."""

    observation_space, action_space = MultiDiscrete([4, 4]), MultiDiscrete([3, 3])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.stock = np.zeros(2, int)
        return self.stock.copy(), self.info()

    def step(self, action):
        self.stock = self.stock + action
        assert (self.stock <= 3).all(), "an order for which there is no room"
        self.stock -= self.np_random.integers(0, 2, 2) * (self.stock > 0)
        return self.stock.copy(), float(self.stock.sum()), False, False, self.info()

    def info(self):
        return {}

    def parts(self):
        return tuple((self.stock[i] + np.arange(3) <= 3).astype(np.int8) for i in range(2))


WAYS = {
    "info, joint": {"info": lambda self: {"action_mask": np.outer(*self.parts()).ravel()}},
    "info, by parts": {"info": lambda self: {"action_mask": self.parts()}},
    "info, another name": {"info": lambda self: {"action_masks": np.concatenate(self.parts())}},
    "method, in a row": {"action_masks": lambda self: np.concatenate(self.parts())},
    "method, joint": {"action_mask": lambda self: np.outer(*self.parts()).ravel().astype(bool)},
    "of a state": {
        "action_mask": lambda _, stock: np.outer(*(stock[:, None] + np.arange(3) <= 3)).ravel(),
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_a_mask_is_found_wherever_it_is_shown(way):
    with registered("Order-v0", type("Shown", (Order,), WAYS[way])) as name:
        environment = open_environment(EnvironmentConfig(name, time_limit=20))
        settings = {**SMALL, "exploration": {"action_mask": True, "start": 1.0, "end": 1.0}, "updates": 40}
        config = resolve({**settings, "loop": "gymnasium", "environment": {"id": name}})
        trained = finished(train(config, environment))
    assert trained is not None


@pytest.mark.parametrize(
    ("sizes", "given", "allowed"),
    [
        ([2, 2], np.array([1, 0, 1, 1]), [1, 0, 1, 1]),  # as many parts in a row as actions: of the actions
        ([2, 2], (np.array([1, 0]), np.array([1, 1])), [1, 1, 0, 0]),
        ([3, 2], np.array([1, 0, 1, 0, 1]), [0, 1, 0, 0, 0, 1]),
        ([3], np.array([True, False, True]), [1, 0, 1]),
        ([3], [1, 0, 1], [1, 0, 1]),
        ([3], None, None),
        ([3], "ab", "ab"),  # for the caller to report
    ],
)
def test_the_masks_of_parts_make_one_of_all_actions(sizes, given, allowed):
    space = MultiDiscrete(sizes) if len(sizes) > 1 else Discrete(sizes[0])
    found = ShownMask(Order(), action_codec(space, "Some-v0"))({"action_mask": given} if given is not None else {})
    assert found.tolist() == allowed if isinstance(found, np.ndarray) else found == allowed
