from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.config import merge, resolve
from deeptaxi.learning.coverage import Snapshots, count_pairs
from deeptaxi.learning.trainer import train
from deeptaxi.metrics import Snapshot
from tests.learning.helpers import SMALL, of_kind, opened_problem, outcome
from tests.problems import build, chain, opened, surely

NO = -np.inf


def test_visits_are_counted_by_pair():
    assert count_pairs(np.array([0, 5, 5, 2]), 3, 2).tolist() == [[1, 0], [1, 0], [0, 2]]


def test_a_snapshot_is_over_visited_states_and_allowed_actions():
    look = Snapshots()
    visits = np.array([[1, 0], [0, 0], [2, 3], [0, 1]])
    first = look(10, np.array([[1, 2], [90, 99], [3, NO], [0, 4]], np.float32), visits)
    # The states 0, 2 and 3: greedy 1, 0, 1. Four of their eight pairs were tried.
    assert first == Snapshot(10, 0.0, 4.0, 2.0, None, None, 1, 2 / 3, 3, 4, policy="1101")
    second = look(20, np.array([[3, 2], [0, 0], [3, NO], [0, 5]], np.float32), visits)
    # |2|, |0|, |0|, |0|, |1| of the five values; one of three greedy actions is another one.
    assert (second.q_change, second.policy_change) == (pytest.approx(3 / 5), pytest.approx(1 / 3))
    assert (second.greedy_action, second.greedy_share) == (0, 2 / 3)
    assert (second.states_reachable, second.pairs_reachable) == (None, None)
    third = look(30, np.array([[3, 2], [0, 0], [3, NO], [0, 5]], np.float32), visits, np.array([1, 1, 1, 0], bool))
    assert (third.states_reachable, third.pairs_reachable) == (3, 5)


def test_a_snapshot_has_the_greedy_action_of_every_state_of_a_small_problem():
    many = np.zeros((2_001, 2), np.float32)
    assert (
        Snapshots()(1, np.eye(36, dtype=np.float32), np.ones((36, 36), int)).policy
        == "0123456789abcdefghijklmnopqrstuvwxyz"
    )
    assert Snapshots()(2, np.zeros((36, 37), np.float32), np.ones((36, 37), int)).policy is None
    assert Snapshots()(1, many, np.ones(many.shape, int)).policy is None
    assert Snapshots()(1, many[1:], np.ones((2_000, 2), int)).policy == "0" * 2_000


LOOPS = {"gymnasium": {"loop": "gymnasium"}, "compiled": {"loop": "compiled"}}
# More steps than the replay buffer holds, two rewards a sample: the compiled one marks where an episode was cut.
SETTINGS = {"updates": 40, "replay": {"capacity": 60, "batch_size": 4, "start": 8}, "target": {"n_step": 2}}


@pytest.mark.parametrize("loop", LOOPS)
def test_every_step_and_every_stored_transition_is_counted(loop, tmp_path):
    settings = merge(merge(SETTINGS, LOOPS[loop]), {"evaluation": {"every": 10, "early_stop": False}})
    table = build([[surely(1, 0), surely(0, 1)], [surely(1, 0), surely(0, 1)]], time_limit=5)
    records, trained = outcome(train(*opened_problem(table, tmp_path, **settings)))
    assert trained.coverage.visits.shape == trained.coverage.replay.shape == (2, 2)
    assert trained.coverage.visits.sum() == records[-1].environment_steps == 4 * 42
    assert trained.coverage.replay.sum() == 60
    assert (trained.coverage.replay <= trained.coverage.visits).all()
    assert trained.coverage.replay[0].sum() > 0 < trained.coverage.replay[1].sum()
    snapshots = of_kind(records, Snapshot)
    assert [record.update for record in snapshots] == [10, 20, 30, 40]
    assert (snapshots[-1].states_covered, snapshots[-1].pairs_covered) == (2, 4)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_small_replay_buffer_holds_the_last_rounds(loop, tmp_path):
    settings = merge(LOOPS[loop], {"updates": 30, "replay": {"capacity": 4, "batch_size": 4, "start": 0}})
    _, trained = outcome(train(*opened_problem(chain(), tmp_path, **settings)))
    assert trained.coverage.replay.sum() == 4
    assert trained.coverage.visits.sum() > 100


def test_the_snapshots_do_not_depend_on_a_table():
    settings = {"updates": 20, "evaluation": {"every": 10}, "environment": {"id": "Blackjack-v1"}}
    records, trained = outcome(train(resolve(merge(SMALL, settings)), opened("Blackjack-v1")))
    first, last = of_kind(records, Snapshot)
    assert (first.q_change, first.policy_change) == (None, None)
    assert last.q_change > 0
    assert last.pairs_covered == (trained.coverage.visits > 0).sum()
    assert last.states_covered == (trained.coverage.visits.sum(axis=1) > 0).sum()
