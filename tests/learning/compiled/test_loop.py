"""The compiled loop, step by step: what is played, what is stored, what is learned, what is reported."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from deeptaxi.config import merge, resolve
from deeptaxi.learning.compiled.loop import ANYWHERE, AT_START, REPORTS, prefill_steps
from deeptaxi.mdp.planning import reachable
from tests.learning.driven import SETTINGS, Loop
from tests.learning.helpers import numbers, rows_of, summed
from tests.problems import build, chain, random_table, surely

RANDOM = {"start": 1.0, "end": 1.0}


# ---- The tape: everything that one update after another does, by hand. ----


def new_tape():
    """0 → 1 → 2 → end and again, by the action that looks best; the memory holds the newest step alone.

    Reports sum up four updates each. Rewards are learned in units of ½, so the last step earns ½ of them.
    """
    return Loop(chain(), [[2.0, 0.0]] * 3, updates=2_000, target={"reward_scale": 2.0})


@pytest.fixture(scope="module")
def tape():
    return new_tape()


def check_tape(tape):
    """Follow the first updates by hand."""
    # The step before the first update is (0, 0); then each update steps, stores, and learns from what it stored:
    # Q(1) ← 0.8·2 = 1.6 and Q(2) ← ½; and Q(0) ← 0.8·1.6; Q(1) ← 0.8·½; Q(2) stays; Q(0) ← 0.8·0.4.
    assert prefill_steps(tape.config) == 1
    tape.again().do("prefill", 1)
    assert tape.store() == [[(0, 0, 0.0, 1, False, False)]]
    assert numbers(tape.state.envs.times).tolist() == [1]
    steps = [(1, 1.6, 2), (2, 0.5, AT_START), (0, 1.28, 1), (1, 0.4, 2), (2, 0.5, AT_START), (0, 0.32, 1)]
    expected = np.array([[2.0, 0.0]] * 3)
    for update, (state, value, time) in enumerate(steps):
        tape.do("run", update, update + 1)
        expected[state, 0] = value
        np.testing.assert_allclose(tape.q_values, expected, rtol=1e-6, err_msg=f"update {update}")
        assert tape.store() == [[(state, 0, 0.5 * (state == 2), min(state + 1, 2), state == 2, False)]]
        assert numbers(tape.state.envs.times).tolist() == [time]


def test_the_first_updates_can_be_followed_by_hand(tape):
    check_tape(tape)


def test_a_step_is_chosen_by_what_the_update_before_has_learned(tape):
    # In state 1 to stay looks better, until that is learned: 0.8·1 is less than the 0.9 of going on.
    tape.again(agent=tape.agent([[2.0, 0.0], [0.9, 1.0], [0.0, 0.0]])).do("prefill", 1)
    chosen = [tape.do("run", update, update + 1).store()[0][0][:2] for update in range(3)]
    assert chosen == [(1, 1), (1, 0), (2, 0)]


def test_reports_sum_up_losses_errors_and_returns_in_full(tape):
    # By the test above: errors −0.4, −1.5, −0.72, −1.2 | 0, −0.96, …; the loss halves their squares, over A = 2.
    # Episodes end with updates 1 and 4, and return 1 each in full.
    reports = numbers(tape.again().do("prefill", 1).do("run", 0, 6).state.reports)
    errors = np.array([0.4, 1.5, 0.72, 1.2])
    np.testing.assert_allclose(reports[0], [(errors**2).sum() / 2, errors.sum(), 1, 1], rtol=1e-5)
    np.testing.assert_allclose(reports[1], [0.96**2 / 2, 0.96, 1, 1], rtol=1e-5)
    assert not reports[2:].any()


def test_a_row_of_the_reports_is_cleared_when_it_is_used_again(tape):
    # After 64 reports of four updates the first row begins anew. By then nothing is left to learn; episodes end with
    # the updates 1, 4, 7, …: of the last four before that with 253, of the four from 256 on with 256 and 259.
    before = numbers(tape.again().do("prefill", 1).do("run", 0, 4 * REPORTS).state.reports)
    assert before[0, 0] > 1
    np.testing.assert_allclose(before[REPORTS - 1], [0, 0, 1, 1], atol=1e-6)
    after = numbers(tape.do("run", 4 * REPORTS, 4 * REPORTS + 3).state.reports)
    np.testing.assert_allclose(after[0], [0, 0, 1, 1], atol=1e-6)
    tape.do("run", 4 * REPORTS + 3, 4 * REPORTS + 4)
    np.testing.assert_allclose(numbers(tape.state.reports)[0], [0, 0, 2, 2], atol=1e-6)
    np.testing.assert_array_equal(numbers(tape.state.reports)[1:], before[1:])


def test_what_is_learned_does_not_depend_on_where_it_is_cut(tape):
    whole = snapshot(tape.again().do("prefill", 1).do("run", 0, 250))
    tape.again().do("prefill", 1)
    for cut in ((0, 1), (1, 137), (137, 250)):
        tape.do("run", *cut)
    assert_same(snapshot(tape), whole)


def snapshot(loop):
    """Return every array of the state."""
    return [numbers(array).copy() for array in keras.tree.flatten(loop.state) if array is not None]


def assert_same(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"replay": {"start": 10, "capacity": 100}, "interaction": {"environments": 4}}, 3),
        ({"replay": {"start": 50, "capacity": 9}, "interaction": {"environments": 4}}, 2),
        ({"replay": {"start": 0, "capacity": 9}}, 1),
        ({"replay": {"start": 0, "capacity": 9}, "target": {"n_step": 3}}, 2),  # the update makes the third
        ({"replay": {"start": 0, "capacity": 90}, "target": {"n_step": 5}, "interaction": {"steps_per_update": 2}}, 3),
    ],
)
def test_before_the_first_update_there_is_as_much_as_it_needs(settings, steps):
    config = resolve(merge(SETTINGS, settings))
    assert prefill_steps(config) == steps


# ---- What is played. ----


@pytest.fixture(scope="module")
def played():
    """Two hundred steps of eight copies by a restless policy: the stored rows, and what each step told.

    Episodes end by chance, by a limit of five steps, and at one step in five by an exploring start. The policy
    prefers action 0; with ε = ½ it takes one of the others in a third of the steps.
    """
    table = random_table(5, states=6, actions=3, outcomes=3, time_limit=5)
    table = replace(table, start=np.array([0.5, 0.0, 0.5, 0.0, 0.0, 0.0]))
    loop = Loop(
        table,
        [[1.0, 0.0, 0.0]] * 6,
        exploration={"start": 0.5, "end": 0.5, "exploring_starts": 0.2},
        replay={"capacity": 1_600},
        target={"n_step": 2, "n_step_correction": "none", "reward_scale": 4.0},
        interaction={"environments": 8},
    )
    told = []
    for number in range(200):
        loop.do("step", number)
        environments = loop.state.envs
        told.append((numbers(environments.times).tolist(), numbers(environments.totals).tolist(), loop.ended))
    return loop, told


def test_every_step_goes_on_where_the_one_before_led(played):
    loop, told = played
    starts, anywhere = set(), set()
    for copy, rows in enumerate(loop.store()):
        before, time, following = AT_START, 0, None
        for step, (state, _, _, reached, terminated, truncated) in enumerate(rows):
            if before >= 0:
                assert state == following
            elif before == AT_START:
                starts.add(state)
            else:
                anywhere.add(state)
            time = 1 if before < 0 else time + 1
            before, following = told[step][0][copy], reached
            over = terminated or time == 5
            assert before in ((AT_START, ANYWHERE) if over else (time, ANYWHERE))
            assert truncated == (not terminated and (time == 5 or before == ANYWHERE))
    assert starts == {0, 2}
    assert anywhere == set(np.flatnonzero(reachable(loop.table)).tolist())
    assert not anywhere <= starts


def test_episodes_are_reported_once_and_in_full_and_never_those_that_began_anywhere(played):
    # Float32 sums of at most five rewards of about ¼ each: exact to 1e−6.
    loop, told = played
    totals, ended_in_all = [0.0] * 8, 0
    for step, rows in enumerate(zip(*loop.store(), strict=True)):
        ended, returns = 0, 0.0
        times = told[step][0]
        for copy, (_, _, reward, _, terminated, _) in enumerate(rows):
            before = told[step - 1][0][copy] if step else AT_START
            totals[copy] = float("nan") if before == ANYWHERE else reward + (totals[copy] if before >= 0 else 0.0)
            time = 1 if before < 0 else before + 1
            if (terminated or time == 5) and totals[copy] == totals[copy]:
                ended, returns = ended + 1, returns + 4.0 * totals[copy]
            np.testing.assert_allclose(told[step][1][copy], totals[copy], atol=1e-5)
            assert times[copy] < 0 or times[copy] == time
        assert told[step][2] == (ended, pytest.approx(returns, abs=1e-4))
        ended_in_all += ended
    assert ended_in_all > 50


def test_copies_restart_as_often_as_asked_and_explore_as_often(played):
    # Of 1,600 steps; by Hoeffding's inequality a share is off by √(ln(2/1e−9)/3200) = 0.082 once in 1e9 seeds.
    loop, told = played
    times = np.array([times for times, _, _ in told])
    assert (times == ANYWHERE).mean() == pytest.approx(0.2, abs=0.082)
    actions = np.array([action for rows in loop.store() for _, action, *_ in rows])
    np.testing.assert_allclose(np.bincount(actions) / len(actions), [2 / 3, 1 / 6, 1 / 6], atol=0.082)


def test_what_is_drawn_are_the_steps_that_were_played(played):
    loop, _ = played
    places, *batch = loop.drawn(3_000)
    rows = loop.store()
    expected = {}
    for copy, steps in enumerate(rows):
        for step in range(len(steps) - 1):
            expected[8 * step + copy] = (*steps[step][:2], *summed(steps[step : step + 2], 0.8))
    for place, row in zip(places.tolist(), rows_of(batch), strict=True):
        assert row == pytest.approx(expected[place], rel=1e-5, abs=1e-6)
    assert len(set(places.tolist())) > 1_200  # 1,592·(1 − e^(−3000/1592)) ≈ 1,350 of those that can be drawn


def test_without_exploring_starts_a_policy_that_stays_sees_one_state():
    stays = {"table": chain(), "q_values": [[0.0, 1.0]] * 3, "replay": {"capacity": 300}}
    assert {row[0] for row in Loop(**stays).do("prefill", 300).store()[0]} == {0}
    loop = Loop(**stays, exploration={"start": 0.0, "end": 0.0, "exploring_starts": 0.1}).do("prefill", 300)
    assert {row[0] for row in loop.store()[0]} == {0, 1, 2}


def test_the_starts_of_a_table_come_as_often_as_it_says():
    # Every episode is one step. 6,400 of them: off by 0.041 once in 1e9 seeds.
    start = [0.1, 0.0, 0.6, 0.3]
    loop = Loop(build([[surely(0, 1, True)]] * 4, start), replay={"capacity": 6_400}, interaction={"environments": 64})
    loop.do("prefill", 100)
    found = np.bincount([row[0] for rows in loop.store() for row in rows], minlength=4) / 6_400
    np.testing.assert_allclose(found, start, atol=0.041)
    assert found[1] == 0


# ---- What is learned. ----


def masked_pair():
    """0 and 1 lead to each other and earn 1 and 2, in episodes of three steps; action 1, worth 100, is excluded.

    By γ = ½: Q(0) = 1 + ½·Q(1) and Q(1) = 2 + ½·Q(0), so Q(0) = 8/3 and Q(1) = 10/3. Were the limit an end, the value
    of a step would depend on its time and lie below: three steps earn 1 + ½·2 + ¼·1 at most from 0.
    """
    mask = np.array([[True, False], [True, False]])
    rows = [[surely(1, 1), surely(0, 100)], [surely(0, 2), surely(1, 100)]]
    return build(rows, [0.5, 0.5], time_limit=3, action_mask=mask)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_limit_bootstraps_and_a_mask_holds_in_acting_and_in_the_target(steps):
    loop = Loop(
        masked_pair(),
        [[0.0, 50.0], [0.0, 70.0]],
        updates=300,
        discount=0.5,
        optimizer={"tabular_step": 0.5},
        exploration=RANDOM,
        replay={"capacity": 64, "batch_size": 4},
        target={"n_step": steps},
        interaction={"environments": 4},
    )
    loop.do("prefill", prefill_steps(loop.config)).do("run", 0, 300)
    np.testing.assert_allclose(loop.q_values, [[8 / 3, 50], [10 / 3, 70]], rtol=1e-4)
    store = [row for rows in loop.store() for row in rows]
    assert {row[1] for row in store} == {0}
    assert any(row[5] for row in store) == (steps > 1)
