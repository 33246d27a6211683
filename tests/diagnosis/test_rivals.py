"""Fixed points of wrong rules that a person can check, and each of them recognized in the values it leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deeptaxi.diagnosis import diagnose, rivals
from deeptaxi.diagnosis.case import Unchecked
from deeptaxi.mdp.planning import value_iteration
from tests.diagnosis.cases import case_on, checked, config
from tests.problems import build, chain, random_table, surely

ALL = np.ones((3, 2), bool)


def grid(side: int = 5):
    """A square grid with a cost in every cell, three pits and 10 in the last corner; up, right, down, left."""
    cost = np.random.default_rng(3).uniform(0.05, 0.5, side * side)
    pits = {1, side + 3, 3 * side + 2}
    rows = []
    for s in range(side * side):
        row, column = divmod(s, side)
        there = [(max(row - 1, 0), column), (row, min(column + 1, side - 1)), (min(row + 1, side - 1), column),
                 (row, max(column - 1, 0))]  # fmt: skip
        reached = [r * side + c for r, c in there]
        last = side * side - 1
        pay = {last: 10.0, **dict.fromkeys(pits, -10.0)}
        rows.append([surely(t, pay.get(t, -cost[t]), t in pay) for t in reached])
    return build(rows, np.eye(side * side)[0])


def named(table, q, **known):
    """Return the rivals that are named for a model from elsewhere."""
    case = case_on(table, q, **known)
    return [check.name for check in rivals.CHECKS if check(case) is not None and not isinstance(check(case), Unchecked)]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("no-bootstrap", [[0, 0], [0, 0], [1, 0]]),
        # Going on is worth what the mean of going on and staying is worth next: m = (1 + 0.9 m) / 2 in the last state.
        ("mean-in-place-of-max", None),
        ("min-in-place-of-max", [[0, 0], [0, 0], [1, 0]]),  # to stay is always the least
        ("own-state-bootstrapped", [[0, 0], [0, 0], [1, 0.9]]),  # only the last state has a value of its own
        ("done-inverted", [[0, 0], [0, 0], [10, 0]]),  # the end continues, and pays again
    ],
)
def test_fixed_points_are_those_of_their_rules(rule, expected):
    q = rivals.rule_values(rule, chain(), 0.9, ALL)
    if expected is None:
        last = 1 / 2 / (1 - 0.9 / 2)
        assert q[2] == pytest.approx([1, 0.9 * last], abs=1e-5)
        assert q[1, 0] == pytest.approx(0.9 * last, abs=1e-5)
    else:
        assert q == pytest.approx(np.array(expected, float), abs=1e-5)


def test_n_steps_lie_between_the_optimum_and_random_play():
    optimum = value_iteration(chain(), 0.9).q
    random = rivals.rule_values("mean-in-place-of-max", chain(), 0.9, ALL)
    one, many = (rivals.n_step_values(chain(), 0.9, n, 1.0, ALL) for n in (1, 60))
    assert one == pytest.approx(optimum, abs=1e-5)
    assert many == pytest.approx(random, abs=1e-3)
    assert rivals.n_step_values(chain(), 0.9, 5, 0.0, ALL) == pytest.approx(optimum, abs=1e-5)  # greedy behavior


@pytest.mark.parametrize("very_many", [rivals.VERY_MANY, 0])  # with 0, as on a large table
@pytest.mark.parametrize("rule", [rule for rule in rivals.RULES if rule != "rewards-clipped"])
def test_every_rule_is_recognized_by_its_values_at_an_unknown_discount(rule, very_many, monkeypatch):
    monkeypatch.setattr(rivals, "VERY_MANY", very_many)
    table = grid()
    q = rivals.rule_values(rule, table, 0.95, np.ones((25, 4), bool), 5 if rule == "n-step-off-policy" else 1)
    q = q + np.random.default_rng(0).normal(0, 1e-3, q.shape)
    case = case_on(table, q, training_discount=None)
    assert named(table, q, training_discount=None) == ([rule] if case.harmful else [])
    assert case.harmful or rule == "n-step-off-policy"


def test_on_a_large_table_fixed_points_of_the_likeliest_rules_alone_are_computed(monkeypatch):
    monkeypatch.setattr(rivals, "VERY_MANY", 0)
    monkeypatch.setattr(rivals, "rule_values", computing := Recorder(rivals.rule_values))
    table = grid()
    assert named(table, value_iteration(table, 0.9).q[:, ::-1], training_discount=None) == ["actions-permuted"]
    assert len(computing.calls) == rivals.LIKELIEST


class Recorder:
    """Calls a function, and keeps its arguments."""

    def __init__(self, function):
        self.function, self.calls = function, []

    def __call__(self, *arguments):
        self.calls.append(arguments)
        return self.function(*arguments)


def test_clipped_rewards_are_recognized():
    rows = [[surely(1, 0, False), surely(0, 1, True)], [surely(1, 5, True), surely(0, -3, False)]]
    table = build(rows, [1.0, 0.0])
    clipped = value_iteration(replace(table, reward=np.clip(table.reward, -1, 1)), 0.9).q
    assert named(table, clipped) == ["rewards-clipped"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("discount", [0.9, None])
def test_the_right_values_and_those_on_their_way_have_no_rival(seed, discount):
    table, rng = random_table(seed), np.random.default_rng(seed)
    right = value_iteration(table, 0.9).q
    assert named(table, right, training_discount=discount) == []
    for blend in (0.3, 0.7):
        assert named(table, blend * right + rng.normal(0, 0.02, right.shape), training_discount=discount) == []


def test_columns_rows_and_sign_are_put_in_order():
    table = grid()
    right = value_iteration(table, 0.9).q
    assert named(table, right[:, [1, 2, 3, 0]]) == ["actions-permuted"]
    assert "output 0 is action 1" in checked("actions-permuted", case_on(table, right[:, [1, 2, 3, 0]])).cure
    assert named(table, np.roll(right, 1, axis=0)) == ["states-shifted"]
    assert named(table, -right) == ["values-negated"]
    turned = right.reshape(5, 5, 4).swapaxes(0, 1).reshape(25, 4)
    assert named(table, turned) == ["states-transposed"]


def test_a_policy_alone_tells_the_order_of_actions_and_states():
    table = grid(6)
    case = case_on(table, value_iteration(table, 0.9).q)
    policy = case.optimal.argmax(axis=1)
    for given, name in ((np.array([3, 0, 1, 2])[policy], "actions-permuted"), (np.roll(policy, 1), "states-shifted")):
        q = np.eye(4)[given]
        assert rivals.reordered_policy(case_on(table, q))[0] == name


def test_luck_is_no_order():
    rng = np.random.default_rng(0)
    table = grid()
    for _ in range(20):
        assert rivals.reordered_policy(case_on(table, rng.normal(size=(25, 4)))) is None
    assert rivals.at_least(0, 5, 0.5) == 1
    assert rivals.at_least(5, 5, 0.5) == pytest.approx(1 / 32)


def test_our_own_training_on_this_table_has_no_rival():
    table = grid()
    q = rivals.rule_values("mean-in-place-of-max", table, 0.9, np.ones((25, 4), bool))
    assert named(table, q, config=config()) == []


def test_two_rules_that_give_the_same_values_are_both_said():
    table = build([[surely(0, 0.1, True), surely(1, 0, False)], [surely(1, 1, True), surely(1, 1, True)]], [1.0, 0.0])
    found = checked(
        "no-bootstrap", case_on(table, rivals.rule_values("no-bootstrap", table, 0.9, np.ones((2, 2), bool)))
    )
    assert found is not None
    assert "which gives the same values here" not in found.cause  # the mean of two equal values is the right one
    assert found.evidence["distance"] == pytest.approx(0, abs=1e-9)
    assert found.evidence["times_nearer"] > 10


def test_a_model_that_was_never_trained_is_named():
    table = grid(6)
    rng = np.random.default_rng(1)
    for q in (rng.uniform(-0.05, 0.05, (36, 4)), np.zeros((36, 4))):
        found = diagnose(case_on(table, q))
        assert found.named("model-not-trained").severity == "severe"
    trained = value_iteration(table, 0.9).q
    assert diagnose(case_on(table, trained[:, ::-1])).named("model-not-trained") is None
