"""The compiled loop, step by step: what is played, what is stored, what is drawn, what is reported."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

from deeptaxi import backend, xla
from deeptaxi.config import merge, resolve
from deeptaxi.learning.loops.compiled import ANYWHERE, AT_START, REPORTS, CompiledLoop
from deeptaxi.learning.ring import Ring
from deeptaxi.learning.weights import Updater
from deeptaxi.learning.world import Sizes, build_world
from deeptaxi.mdp.planning import reachable
from deeptaxi.network.functional import Weights
from deeptaxi.program import Program
from tests.learning.helpers import numbers, rows_of, summed
from tests.problems import build, chain, random_table, surely

# A Q table that is learnt by plain SGD; with minibatches of one and a step of 1 an entry becomes its target.
SETTINGS = {
    "loop": "compiled",
    "updates": 400,
    "discount": 0.8,
    "network": {"hidden": [], "dueling": False},
    "optimizer": {"name": "sgd", "tabular_step": 1.0, "schedule": "constant"},
    "exploration": {"start": 0.0, "end": 0.0},
    "replay": {"capacity": 1, "batch_size": 1, "start": 0},
    "target": {"polyak": 1.0},
    "interaction": {"environments": 1},
}
STANDSTILL = {"tabular_step": 1e-30}
RANDOM = {"start": 1.0, "end": 1.0}


class Loop:
    """The compiled loop on a table, from the Q values `q_values` `[S, A]` on."""

    def __init__(self, table, q_values=None, **settings):
        self.table, self.config = table, resolve(merge(SETTINGS, settings))
        allowed = table.action_mask
        updater = Updater(self.config, table.actions, None, sparse=False)
        self.loop = CompiledLoop(self.config, updater, Sizes(*table.probability.shape, table.time_limit))
        self.world = build_world(table, self.config.target.reward_scale, allowed, reachable(table, allowed), 11)
        q_values = np.zeros((table.states, table.actions)) if q_values is None else q_values
        self.start = (self.loop.initial(self.learnt(q_values)), *np.zeros(2, np.float32))
        functions = {"warm": self._warm, "run": self._run, "step": self._step, "reset": lambda _, state: state}
        self._program = Program(functions, self.start)
        self._world = self._program.arguments(self.world)

    def _warm(self, state, world, steps):
        return self.loop.warm(state[0], world, steps), *state[1:]

    def _run(self, state, world, first, last):
        return self.loop.run(state[0], world, first, last), *state[1:]

    def _step(self, state, world, number):
        bits = xla.random_bits(3, number, (self.loop.width,))
        return self.loop.play(state[0], world, bits, self.config.exploration.start)

    def do(self, function, *arguments):
        """Call one of the compiled functions: "warm", "run" or "step"; return the loop."""
        arguments = self._program.arguments(tuple(np.int32(argument) for argument in arguments))
        self._program(function, self._world, *arguments)
        return self

    def again(self, **changes):
        """Go back to the beginning, with some parts of the state changed."""
        state = (self.start[0]._replace(**changes), *self.start[1:])
        self._program("reset", self._program.arguments(state))
        return self

    def learnt(self, q_values):
        """Return the part of the state that has these Q values."""
        weights = Weights(np.array(q_values, np.float32), np.zeros(0, np.float32))
        return self.loop.updater.initial(weights)

    @property
    def state(self):
        return self._program.state[0]

    @property
    def ended(self):
        """How many episodes the last "step" ended, and the sum of their returns."""
        return tuple(float(numbers(value)) for value in self._program.state[1:])

    @property
    def q_values(self):
        return numbers(self.loop.updater.online(self.state.learnt).kernel)

    def stored(self):
        """Return the ring's transitions in the order of time, those of each copy in a list of rows."""
        ring, copies = self.state.ring, self.loop.copies
        size, position = int(ring.size), int(ring.position)
        order = (position - size + np.arange(size)) % self.loop.replay.capacity
        rows = [self.row(entry) for entry in numbers(ring.entries)[order].tolist()]
        return [rows[copy::copies] for copy in range(copies)]

    def row(self, entry):
        """Return (state, action, reward, next state, terminated, truncated) of an entry."""
        o = entry if entry >= 0 else -1 - entry
        w = self.world
        return (
            int(w.state[o]),
            int(w.action[o]),
            float(w.reward[o]),
            int(w.next_state[o]),
            bool(w.terminated[o]),
            (entry < 0),
        )

    def drawn(self, count, exponent=0.5, seed=0):
        """Draw a minibatch of `count` from the ring as it is; return the places too."""
        ring, world = self.state.ring, self.world
        world = type(world)(*(None if array is None else ops.convert_to_tensor(array) for array in world))

        def draw(index):
            places, batch = self.loop.replay.draw(ring, world, xla.random_bits(seed, index, (count,)), exponent)
            return places, *batch[: 6 if batch.weights is not None else 5]

        return [numbers(array) for array in backend.compiled(draw, [])(np.int32(0))]


# ---- The tape: everything that one update after another does, by hand. ----


def new_tape():
    """0 → 1 → 2 → end and again, by the action that looks best; the memory holds the newest step alone.

    Reports sum up four updates each. Rewards are learnt in units of ½, so the last step earns ½ of them.
    """
    return Loop(chain(), [[2.0, 0.0]] * 3, updates=2_000, target={"reward_scale": 2.0})


@pytest.fixture(scope="module")
def tape():
    return new_tape()


def check_tape(tape):
    """Follow the first updates by hand."""
    # The step before the first update is (0, 0); then each update steps, stores, and learns from what it stored:
    # Q(1) ← 0.8·2 = 1.6 and Q(2) ← ½; and Q(0) ← 0.8·1.6; Q(1) ← 0.8·½; Q(2) stays; Q(0) ← 0.8·0.4.
    assert tape.loop.warm_steps == 1
    tape.again().do("warm", 1)
    assert tape.stored() == [[(0, 0, 0.0, 1, False, False)]]
    assert numbers(tape.state.copies.times).tolist() == [1]
    steps = [(1, 1.6, 2), (2, 0.5, AT_START), (0, 1.28, 1), (1, 0.4, 2), (2, 0.5, AT_START), (0, 0.32, 1)]
    expected = np.array([[2.0, 0.0]] * 3)
    for update, (state, value, time) in enumerate(steps):
        tape.do("run", update, update + 1)
        expected[state, 0] = value
        np.testing.assert_allclose(tape.q_values, expected, rtol=1e-6, err_msg=f"update {update}")
        assert tape.stored() == [[(state, 0, 0.5 * (state == 2), min(state + 1, 2), state == 2, False)]]
        assert numbers(tape.state.copies.times).tolist() == [time]


def test_the_first_updates_can_be_followed_by_hand(tape):
    check_tape(tape)


def test_a_step_is_chosen_by_what_the_update_before_has_learnt(tape):
    # In state 1 to stay looks better, until that is learnt: 0.8·1 is less than the 0.9 of going on.
    tape.again(learnt=tape.learnt([[2.0, 0.0], [0.9, 1.0], [0.0, 0.0]])).do("warm", 1)
    chosen = [tape.do("run", update, update + 1).stored()[0][0][:2] for update in range(3)]
    assert chosen == [(1, 1), (1, 0), (2, 0)]


def test_reports_sum_up_losses_errors_and_returns_in_full(tape):
    # By the test above: errors −0.4, −1.5, −0.72, −1.2 | 0, −0.96, …; the loss halves their squares, over A = 2.
    # Episodes end with updates 1 and 4, and return 1 each in full.
    reports = numbers(tape.again().do("warm", 1).do("run", 0, 6).state.reports)
    errors = np.array([0.4, 1.5, 0.72, 1.2])
    np.testing.assert_allclose(reports[0], [(errors**2).sum() / 2, errors.sum(), 1, 1], rtol=1e-5)
    np.testing.assert_allclose(reports[1], [0.96**2 / 2, 0.96, 1, 1], rtol=1e-5)
    assert not reports[2:].any()


def test_a_row_of_the_reports_is_cleared_when_it_is_used_again(tape):
    # After 64 reports of four updates the first row begins anew. By then nothing is left to learn; episodes end with
    # the updates 1, 4, 7, …: of the last four before that with 253, of the four from 256 on with 256 and 259.
    before = numbers(tape.again().do("warm", 1).do("run", 0, 4 * REPORTS).state.reports)
    assert before[0, 0] > 1
    np.testing.assert_allclose(before[REPORTS - 1], [0, 0, 1, 1], atol=1e-6)
    after = numbers(tape.do("run", 4 * REPORTS, 4 * REPORTS + 3).state.reports)
    np.testing.assert_allclose(after[0], [0, 0, 1, 1], atol=1e-6)
    tape.do("run", 4 * REPORTS + 3, 4 * REPORTS + 4)
    np.testing.assert_allclose(numbers(tape.state.reports)[0], [0, 0, 2, 2], atol=1e-6)
    np.testing.assert_array_equal(numbers(tape.state.reports)[1:], before[1:])


def test_what_is_learnt_does_not_depend_on_where_it_is_cut(tape):
    whole = snapshot(tape.again().do("warm", 1).do("run", 0, 250))
    tape.again().do("warm", 1)
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


# ---- The ring. ----


def test_the_ring_is_overwritten_oldest_first():
    # Two copies step in line: outcomes 0, 2, 4 of action 0 in states 0, 1, 2. Of 7 places 6 are used.
    loop = Loop(chain(), [[1.0, 0.0]] * 3, replay={"capacity": 7}, interaction={"environments": 2})
    seen = []
    for _ in range(5):
        ring = loop.do("warm", 1).state.ring
        seen.append((numbers(ring.entries).tolist(), int(ring.position), int(ring.size)))
    assert seen == [
        ([0, 0, 0, 0, 0, 0], 2, 2),
        ([0, 0, 2, 2, 0, 0], 4, 4),
        ([0, 0, 2, 2, 4, 4], 0, 6),
        ([0, 0, 2, 2, 4, 4], 2, 6),
        ([0, 0, 2, 2, 4, 4], 4, 6),
    ]


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
    loop = CompiledLoop(config, Updater(config, 2, None, False), Sizes(3, 2, 1, None))
    assert loop.warm_steps == steps


def ring_of(*entries, position):
    """Make a full ring of these entries, the oldest of which is at `position`."""
    return Ring(np.roll(np.array(entries, np.int32), position), np.int32(position), np.int32(len(entries)), None, None)


@pytest.mark.parametrize("position", [0, 2, 5])
def test_sequences_of_three_steps_end_where_an_episode_does(position):
    # Oldest first: 0 → 1, then 1 → 2 where a limit cuts; then 0 → 1 → 2 → end, earning 1; then 0 → 1. γ = ½.
    loop = Loop(chain(), discount=0.5, target={"n_step": 3}, replay={"capacity": 6, "batch_size": 4})
    loop.again(ring=ring_of(0, -1 - 2, 0, 2, 4, 0, position=position))
    places, *batch = loop.drawn(400)
    expected = {
        0: (0, 0, 0.0, 2, 0.25),  # two steps, then cut: bootstraps from 2
        1: (1, 0, 0.0, 2, 0.5),  # cut at once
        2: (0, 0, 0.25, 2, 0.0),  # 1 after three steps, ¼ of it, and the end
        3: (1, 0, 0.5, 2, 0.0),
    }  # the newest two have no successors yet
    found = {(place - position) % 6: row for place, row in zip(places.tolist(), rows_of(batch), strict=True)}
    assert found == expected


def test_one_step_of_the_ring_bootstraps_where_a_limit_cut_it():
    # By one-step targets an entry need not say that it was cut: it is an outcome like any other.
    loop = Loop(chain(time_limit=2), [[1.0, 0.0]] * 3, replay={"capacity": 4}).do("warm", 4)
    assert numbers(loop.state.ring.entries).tolist() == [0, 2, 0, 2]
    _, *batch = loop.drawn(50)
    discount = float(np.float32(0.8))
    assert set(rows_of(batch)) == {(0, 0, 0.0, 1, discount), (1, 0, 0.0, 2, discount)}


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
        target={"n_step": 2, "reward_scale": 4.0},
        interaction={"environments": 8},
    )
    told = []
    for number in range(200):
        loop.do("step", number)
        copies = loop.state.copies
        told.append((numbers(copies.times).tolist(), numbers(copies.totals).tolist(), loop.ended))
    return loop, told


def test_every_step_goes_on_where_the_one_before_led(played):
    loop, told = played
    starts, anywhere = set(), set()
    for copy, rows in enumerate(loop.stored()):
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
    for step, rows in enumerate(zip(*loop.stored(), strict=True)):
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
    actions = np.array([action for rows in loop.stored() for _, action, *_ in rows])
    np.testing.assert_allclose(np.bincount(actions) / len(actions), [2 / 3, 1 / 6, 1 / 6], atol=0.082)


def test_what_is_drawn_are_the_steps_that_were_played(played):
    loop, _ = played
    places, *batch = loop.drawn(3_000)
    rows = loop.stored()
    expected = {}
    for copy, steps in enumerate(rows):
        for step in range(len(steps) - 1):
            expected[8 * step + copy] = (*steps[step][:2], *summed(steps[step : step + 2], 0.8))
    for place, row in zip(places.tolist(), rows_of(batch), strict=True):
        assert row == pytest.approx(expected[place], rel=1e-5, abs=1e-6)
    assert len(set(places.tolist())) > 1_200  # 1,592·(1 − e^(−3000/1592)) ≈ 1,350 of those that can be drawn


def test_without_exploring_starts_a_policy_that_stays_sees_one_state():
    stays = {"table": chain(), "q_values": [[0.0, 1.0]] * 3, "replay": {"capacity": 300}}
    assert {row[0] for row in Loop(**stays).do("warm", 300).stored()[0]} == {0}
    loop = Loop(**stays, exploration={"start": 0.0, "end": 0.0, "exploring_starts": 0.1}).do("warm", 300)
    assert {row[0] for row in loop.stored()[0]} == {0, 1, 2}


def test_the_starts_of_a_table_come_as_often_as_it_says():
    # Every episode is one step. 6,400 of them: off by 0.041 once in 1e9 seeds.
    start = [0.1, 0.0, 0.6, 0.3]
    loop = Loop(build([[surely(0, 1, True)]] * 4, start), replay={"capacity": 6_400}, interaction={"environments": 64})
    loop.do("warm", 100)
    found = np.bincount([row[0] for rows in loop.stored() for row in rows], minlength=4) / 6_400
    np.testing.assert_allclose(found, start, atol=0.041)
    assert found[1] == 0


# ---- What is learnt. ----


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
    loop.do("warm", loop.loop.warm_steps).do("run", 0, 300)
    np.testing.assert_allclose(loop.q_values, [[8 / 3, 50], [10 / 3, 70]], rtol=1e-4)
    stored = [row for rows in loop.stored() for row in rows]
    assert {row[1] for row in stored} == {0}
    assert any(row[5] for row in stored) == (steps > 1)


# ---- Prioritised replay. ----

ERRORS = {0: 0.08, 1: 0.2, 2: 2.0}  # |td_error| by the state, see below


@pytest.fixture(scope="module")
def prioritised():
    """The chain by two-step targets, from weights that stand still.

    Q = (2, 1, 3): 0.64·3 − 2 = −0.08 from 0; 0.8·1 − 1 = −0.2 from 1, as the second step ends; 1 − 3 = −2 from 2.
    """
    loop = Loop(
        chain(),
        [[2.0, 0.0], [1.0, 0.0], [3.0, 0.0]],
        optimizer=STANDSTILL,
        target={"n_step": 2},
        replay={"prioritised": True, "capacity": 6, "batch_size": 8, "priority_exponent": 0.6},
    )
    return loop.do("warm", 1).do("run", 0, 50)


def test_priorities_are_those_of_the_errors_last_learnt_from(prioritised):
    ring = prioritised.state.ring
    assert int(ring.position) == 51 % 6
    leaves = numbers(ring.tree[0])
    newest = (int(ring.position) - 1) % 6
    assert leaves[newest] == 0  # it waits for its successor
    assert not leaves[6:].any()
    assert float(numbers(ring.largest)) == pytest.approx(2.0**0.6, rel=1e-4)
    rated = 0
    for place in set(range(6)) - {newest}:
        state = prioritised.row(int(numbers(ring.entries)[place]))[0]
        expected = (ERRORS[state] + 1e-6) ** 0.6
        rated += leaves[place] == pytest.approx(expected, rel=1e-3)
        # What was not drawn yet has the largest priority there has been.
        assert leaves[place] in (pytest.approx(expected, rel=1e-3), pytest.approx(2.0**0.6, rel=1e-4))
    assert rated >= 3
    for level, above in zip(ring.tree, ring.tree[1:], strict=False):
        np.testing.assert_allclose(numbers(above).sum(), numbers(level).sum(), rtol=1e-6)


def test_draws_follow_the_priorities(prioritised):
    leaves = numbers(prioritised.state.ring.tree[0])[:6]
    places, *_, weights = prioritised.drawn(8_000, exponent=0.5)
    probability = leaves / leaves.sum()
    # Stratified: a share is off by the strata at its borders, 2 of 8,000.
    np.testing.assert_allclose(np.bincount(places, minlength=6) / 8_000, probability, atol=1e-3)
    assert (probability == 0).sum() == 1
    expected = (5 * probability[places]) ** -0.5
    np.testing.assert_allclose(weights, expected / expected.max(), rtol=1e-3)


def test_what_is_new_gets_the_largest_priority_and_what_waits_none():
    loop = Loop(
        chain(),
        [[1.0, 0.0]] * 3,
        target={"n_step": 3},
        replay={"prioritised": True, "capacity": 8},
        interaction={"environments": 2},
    )
    seen = []
    for _ in range(6):
        loop.do("warm", 1)
        seen.append(numbers(loop.state.ring.tree[0])[:8].tolist())
    # Rounds of two; a round can be drawn once two more have followed. The fifth takes the place of the first.
    assert seen == [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 1, 1, 1],
    ]


@pytest.mark.parametrize(("rounds", "drawable"), [(10, range(2, 18)), (4, range(6))])
def test_uniform_draws_are_uniform_over_what_has_its_successors(rounds, drawable):
    # Rounds of two in a ring of nine: of ten all but the newest, which is where the first was, of four the first three.
    # A share of 24,000 is off by 0.021 once in 1e9 seeds.
    loop = Loop(
        chain(), [[1.0, 0.0]] * 3, target={"n_step": 2}, replay={"capacity": 18}, interaction={"environments": 2}
    )
    loop.do("warm", rounds)
    places, *_ = loop.drawn(24_000)
    assert set(places.tolist()) == set(drawable)
    shares = np.bincount(places, minlength=18)[list(drawable)] / 24_000
    np.testing.assert_allclose(shares, 1 / len(drawable), atol=0.021)
