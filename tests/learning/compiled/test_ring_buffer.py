"""The replay memory of the compiled loop: what is stored where, and what is drawn how often."""

from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.learning.agent import FitAgent
from deeptaxi.learning.compiled.ring_buffer import Ring
from deeptaxi.learning.replay_buffer import ReplayBuffer
from tests.learning.driven import Loop
from tests.learning.helpers import TABLE, new_learner, numbers, rows_of, transitions
from tests.problems import chain, random_table


def test_the_ring_is_overwritten_oldest_first():
    # Two copies step in line: outcomes 0, 2, 4 of action 0 in states 0, 1, 2. Of 7 places 6 are used.
    loop = Loop(chain(), [[1.0, 0.0]] * 3, replay={"capacity": 7}, interaction={"environments": 2})
    seen = []
    for _ in range(5):
        ring = loop.do("prefill", 1).state.ring
        seen.append((numbers(ring.entries).tolist(), int(ring.position), int(ring.size)))
    assert seen == [
        ([0, 0, 0, 0, 0, 0], 2, 2),
        ([0, 0, 2, 2, 0, 0], 4, 4),
        ([0, 0, 2, 2, 4, 4], 0, 6),
        ([0, 0, 2, 2, 4, 4], 2, 6),
        ([0, 0, 2, 2, 4, 4], 4, 6),
    ]


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


MASK = np.array([[True, True], [True, False], [True, True]])  # in state 1 only action 0


@pytest.mark.parametrize(
    ("settings", "mask", "changes"),
    [
        pytest.param({}, None, {}, id="watkins"),
        pytest.param(
            {"n_step_correction": "none"}, None, {0: (0, 0, 0.25, 2, 0.0), 3: (0, 0, 0.0, 2, 0.125)}, id="none"
        ),
        pytest.param({}, MASK, {0: (0, 0, 0.25, 2, 0.0), 3: (0, 0, 0.0, 1, 0.5)}, id="mask"),
    ],
)
def test_sequences_end_before_an_action_that_is_not_greedy(settings, mask, changes):
    # By these weights action 1, which stays, is greedy in state 1; in state 2 both are. Oldest first: 0 → 1 → 2 → end,
    # earning 1; 0 → 1, where the next step stays and the one after goes on.
    table = chain() if mask is None else chain(action_mask=mask)
    loop = Loop(
        table,
        [[2.0, 0.0], [0.0, 1.0], [0.0, 0.0]],
        discount=0.5,
        target={"n_step": 3, **settings},
        replay={"capacity": 6, "batch_size": 4},
    )
    loop.again(ring=ring_of(0, 2, 4, 0, 3, 2, position=0))
    places, *batch = loop.drawn(400)
    expected = {
        0: (0, 0, 0.0, 1, 0.5),  # going on from 1 is not greedy
        1: (1, 0, 0.5, 2, 0.0),  # but as the first action it counts; the next is one of two that tie
        2: (2, 0, 1.0, 2, 0.0),
        3: (0, 0, 0.0, 1, 0.25),  # staying is greedy, going on is not
    }
    found = dict(zip(places.tolist(), rows_of(batch), strict=True))
    assert found == {**expected, **changes}


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("batch", [3, 400], ids=["few", "all-states"])
def test_sequences_are_those_of_the_literal_replay_buffer(double, batch):
    # A restless policy on a random table with masks, ends and a limit; online and target network differ.
    rng = np.random.default_rng(2)
    mask = rng.random((8, 3)) < 0.7
    mask[:, 0] = True
    settings = {"discount": 0.5, "target": {"n_step": 3, "double": double}, "replay": {"capacity": 40}}
    settings["interaction"] = {"environments": 2}
    table = random_table(4, states=8, actions=3, outcomes=2, time_limit=6, action_mask=mask)
    online, target = rng.integers(0, 4, (2, 8, 3)).astype(np.float32)  # some tie
    loop = Loop(table, online, exploration={"start": 0.7, "end": 0.7}, **settings)
    agent = loop.agent(online)
    loop.again(agent=agent._replace(dense=agent.dense._replace(target=(target, agent.dense.target[-1]))))
    loop.do("prefill", 20)

    literal = new_learner({**TABLE, **settings}, states=8, actions=3, q_values=online, cls=FitAgent)
    literal.target.set_weights([target])
    replay = ReplayBuffer(40, 2, 3, 0.5)
    for row in zip(*loop.store(), strict=True):
        replay.add(transitions(*row))

    def greedy(states, actions):
        return literal.greedy(states, actions, mask[states])

    kept = 0
    for seed in range(1 if batch > 100 else 4):
        places, *drawn = loop.drawn(batch, seed=seed)
        expected = replay.at(places.astype(np.int64), np.ones(batch, np.float32), greedy)
        assert rows_of(drawn) == [row[:5] for row in rows_of(expected)]
        kept += (expected.discounts < 0.5).sum()
    plain = replay.at(places.astype(np.int64), np.ones(batch, np.float32))
    assert kept
    assert batch < 100 or (plain.rewards != expected.rewards).any()


def test_one_step_of_the_ring_bootstraps_where_a_limit_cut_it():
    # By one-step targets an entry need not say that it was cut: it is an outcome like any other.
    loop = Loop(chain(time_limit=2), [[1.0, 0.0]] * 3, replay={"capacity": 4}).do("prefill", 4)
    assert numbers(loop.state.ring.entries).tolist() == [0, 2, 0, 2]
    _, *batch = loop.drawn(50)
    discount = float(np.float32(0.8))
    assert set(rows_of(batch)) == {(0, 0, 0.0, 1, discount), (1, 0, 0.0, 2, discount)}


# ---- Prioritized replay. ----

STANDSTILL = {"tabular_step": 1e-30}
ERRORS = {0: 0.08, 1: 0.2, 2: 2.0}  # |td_error| by the state, see below


@pytest.fixture(scope="module")
def prioritized():
    """The chain by two-step targets, from weights that stand still.

    Q = (2, 1, 3): 0.64·3 − 2 = −0.08 from 0; 0.8·1 − 1 = −0.2 from 1, as the second step ends; 1 − 3 = −2 from 2.
    """
    loop = Loop(
        chain(),
        [[2.0, 0.0], [1.0, 0.0], [3.0, 0.0]],
        optimizer=STANDSTILL,
        target={"n_step": 2},
        replay={"prioritized": True, "capacity": 6, "batch_size": 8, "priority_exponent": 0.6},
    )
    return loop.do("prefill", 1).do("run", 0, 50)


def test_priorities_are_those_of_the_errors_last_learned_from(prioritized):
    ring = prioritized.state.ring
    assert int(ring.position) == 51 % 6
    leaves = numbers(ring.tree[0])
    newest = (int(ring.position) - 1) % 6
    assert leaves[newest] == 0  # it waits for its successor
    assert not leaves[6:].any()
    assert float(numbers(ring.largest)) == pytest.approx(2.0**0.6, rel=1e-4)
    update_priorities = 0
    for place in set(range(6)) - {newest}:
        state = prioritized.row(int(numbers(ring.entries)[place]))[0]
        expected = (ERRORS[state] + 1e-6) ** 0.6
        update_priorities += leaves[place] == pytest.approx(expected, rel=1e-3)
        # What was not drawn yet has the largest priority there has been.
        assert leaves[place] in (pytest.approx(expected, rel=1e-3), pytest.approx(2.0**0.6, rel=1e-4))
    assert update_priorities >= 3
    for level, above in zip(ring.tree, ring.tree[1:], strict=False):
        np.testing.assert_allclose(numbers(above).sum(), numbers(level).sum(), rtol=1e-6)


def test_draws_follow_the_priorities(prioritized):
    leaves = numbers(prioritized.state.ring.tree[0])[:6]
    places, *_, weights = prioritized.drawn(8_000, exponent=0.5)
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
        replay={"prioritized": True, "capacity": 8},
        interaction={"environments": 2},
    )
    seen = []
    for _ in range(6):
        loop.do("prefill", 1)
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
    loop.do("prefill", rounds)
    places, *_ = loop.drawn(24_000)
    assert set(places.tolist()) == set(drawable)
    shares = np.bincount(places, minlength=18)[list(drawable)] / 24_000
    np.testing.assert_allclose(shares, 1 / len(drawable), atol=0.021)
