from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from deeptaxi.diagnosis import learning_curves
from deeptaxi.diagnosis.case import Finding, Unchecked
from deeptaxi.diagnosis.learning_curves import depth, possible_range
from tests.diagnosis.cases import case_on, checked, config, history, progress, snapshot, unseen
from tests.problems import bandit, build, chain, loop, random_table, surely

STAY = [[0.0, 1.0]] * 3
TABLE = {"hidden": [], "dueling": False}  # a Q-table network starts at exactly its initial value
ABOUT_STEPS = ("learning-rate-too-high", "learning-rate-too-low", "overestimation")


def test_the_possible_range_is_from_the_worst_to_the_best_luck():
    assert possible_range(bandit(), 0.9, 0.0) == (0.0, 3.0)
    assert possible_range(loop(1), 0.5, 0.0) == pytest.approx((0.0, 2.0))
    assert possible_range(chain(), 0.5, -7.0) == pytest.approx((-7.0, 1.0))
    masked = build([[surely(0, 1, True), surely(0, 9, True)]], action_mask=np.array([[True, False]]))
    assert possible_range(masked, 0.5, 0.0) == (0.0, 1.0)


@pytest.mark.parametrize("seed", range(3))
def test_updates_that_do_not_overshoot_stay_in_the_range(seed):
    table, rng = random_table(seed), np.random.default_rng(seed)
    low, high = possible_range(table, 0.8, 0.0)
    q = np.zeros((table.states, table.actions))
    for _ in range(3_000):
        s, a, k = (int(rng.integers(n)) for n in table.probability.shape)
        bootstrap = 0 if table.terminated[s, a, k] else q[table.next_state[s, a, k]].max()
        q[s, a] += 0.9 * (table.reward[s, a, k] + 0.8 * bootstrap - q[s, a])
    assert low <= q.min()
    assert q.max() <= high


def test_impossible_values_are_named_exactly():
    log = history(snapshot(10, high=1.0), snapshot(20, high=3.0))
    case = case_on(chain(), STAY, history=log, config=config(network=TABLE))
    finding = checked("learning-rate-too-high", case)
    assert (finding.severity, finding.source) == ("severe", "exact")
    assert finding.evidence["overshoot"] == pytest.approx(2.0)


def test_a_td_error_wider_than_the_possible_range_is_named():
    log = history(progress(1, td_error=4.0), snapshot(10), snapshot(20))
    case = case_on(chain(), STAY, history=log, config=config(network=TABLE))
    finding = checked("learning-rate-too-high", case)
    assert finding.evidence["overshoot"] == pytest.approx(3.0)
    halved = config(target={"reward_scale": 0.25})  # what the network sees is four times as large
    assert checked("learning-rate-too-high", case_on(chain(), STAY, history=log, config=halved)) is None


def test_initial_noise_of_a_network_is_no_overshoot():
    log = history(snapshot(10, high=2.5), snapshot(20, high=2.0))
    shared = {"target": {"reward_scale": 10.0}}  # a fresh network's 0.25 is worth 2.5
    born = case_on(chain(), STAY, history=log, config=config(**shared))
    assert checked("learning-rate-too-high", born) is None
    table = case_on(chain(), STAY, history=log, config=config(**shared, network=TABLE))
    assert checked("learning-rate-too-high", table).evidence["overshoot"] == pytest.approx(1.5)


def test_a_training_that_does_not_settle_is_named():
    log = history(*[snapshot(10 * i, change=0.2, policy=0.5) for i in range(1, 9)])
    finding = checked("learning-rate-too-high", unseen(history=log))
    assert (finding.severity, finding.source) == ("warning", "log")
    assert finding.evidence["policy_change"] == 0.5
    calm = history(*[snapshot(10 * i, change=0.2 / i**2, policy=0.5 / i) for i in range(1, 17)])
    assert checked("learning-rate-too-high", unseen(history=calm)) is None


def test_an_error_that_grows_is_named():
    errors = [progress(i, td_error=0.1 if i < 50 else 0.01 * i) for i in range(1, 101)]
    log = history(*errors, snapshot(50), snapshot(100))
    assert checked("learning-rate-too-high", unseen(history=log)).evidence["td_error_grew"] > 3


def test_a_good_agent_whose_training_was_stopped_early_is_fine():
    log = history(*[snapshot(10 * i, change=0.2, policy=0.5) for i in range(1, 9)])
    good = case_on(chain(), [[1.0, 0.0]] * 3, history=log, config=config())
    assert checked("learning-rate-too-high", good) is None


def test_a_short_log_gives_no_finding():
    assert isinstance(checked("learning-rate-too-high", unseen(history=history(snapshot(1)))), Unchecked)


def drifting(start, end, count=16):
    return history(*[snapshot(i, mean=start + (end - start) * i / count) for i in range(1, count + 1)])


def test_values_still_moving_toward_distant_targets_are_named():
    # Q* of the chain at 0.9 is 0.81, 0.9, 1 going on; the agent's values are a tenth of that.
    q = np.array([[0.08, 0.082], [0.09, 0.092], [0.1, 0.102]])
    finding = checked("learning-rate-too-low", case_on(chain(), q, history=drifting(0, 0.09), config=config()))
    assert finding.evidence["to_go"] == pytest.approx((np.array([[0.81, 0.729], [0.9, 0.81], [1, 0.9]]) - q).mean())
    assert finding.cure.startswith("--learning-rate 0.03")
    for log in (drifting(0.2, 0.09), history(*[snapshot(i, mean=0.09 * (-1) ** i) for i in range(16)])):
        assert checked("learning-rate-too-low", case_on(chain(), q, history=log, config=config())) is None


def test_small_steps_are_named_where_even_plain_rewards_are_not_fitted():
    # the last step of the chain pays 1, and its Q is 0.1
    q = np.array([[0.0, 0.1], [0.0, 0.1], [0.1, 0.2]])
    short, usual = history(snapshot(10)), config(optimizer={"learning_rate": 0.005})

    def look(rate, values=q, **known):
        known = {"config": config(optimizer={"learning_rate": rate}), "usual": usual, "history": short, **known}
        return checked("learning-rate-too-low", case_on(chain(), values, **known))

    finding = look(0.0005)
    assert (finding.severity, finding.source, finding.cure) == ("warning", "exact", "--learning-rate 0.005")
    assert finding.evidence["plain_rewards"] == pytest.approx(0.9)
    assert "10 times smaller than usual, and even at the one pair" in finding.summary
    fitted = np.array([[0.0, 0.1], [0.0, 0.1], [1.0, 0.0]])
    for nothing in (look(0.002), look(0.0005, fitted), look(0.0005, usual=None)):
        assert isinstance(nothing, Unchecked)  # a log that is too short for anything else


def test_nan_values_are_divergence():
    broken = np.full((3, 2), np.nan)
    finding = checked("diverged", case_on(chain(), broken))
    assert (finding.severity, finding.source, finding.evidence["broken_states"]) == ("severe", "network", 3)
    lost = history(progress(1), progress(2, loss=None), tabular_step=4.0)
    assert checked("diverged", unseen(history=lost)).cure == "--tabular-step 0.1"
    failed = history(progress(1), failure="the training diverged before update 5")
    assert "before update 5" in checked("diverged", unseen(history=failed)).summary
    assert checked("diverged", unseen(history=history(progress(1)))) is None
    assert math.isnan(learning_curves.finite([None])[0])


@pytest.mark.parametrize("name", ["learning-rate-too-high", "learning-rate-too-low", "target-too-fresh"])
@pytest.mark.parametrize("known", [0, 1, 8])
def test_a_log_with_some_nan_q_values_is_diagnosed_all_the_same(name, known):
    away = [snapshot(10 * n, low=None, high=None, mean=None, change=None, policy=None) for n in range(1, 9)]
    there = [snapshot(100 + n, change=0.5, policy=0.5) for n in range(known)]
    log = history(*[progress(n, td_error=None if n % 2 else 0.1) for n in range(1, 30)], *away, *there)
    case = case_on(chain(), [[0.0, 0.0]] * 3, history=log, config=config(network={"hidden": [8]}))
    found = checked(name, case)
    assert found is None or (known == 8 and isinstance(found, Finding)) or isinstance(found, Unchecked)


def corridor(length):
    """Action 1 moves on, and earns 1 at the end; action 0, the first of ties, stays."""
    return build(
        [[surely(s, 0), surely(min(s + 1, length - 1), float(s == length - 1), s == length - 1)] for s in range(length)]
    )


@pytest.mark.parametrize("length", [1, 2, 5])
def test_the_depth_of_a_corridor_is_its_length(length):
    assert depth(case_on(corridor(length), np.zeros((length, 2))), 0.9, 0.0) == length


@pytest.mark.parametrize(("updates", "n_step", "named"), [(300, 1, True), (400, 1, False), (300, 2, False)])
def test_a_target_network_too_slow_to_propagate_values_is_named(updates, n_step, named):
    settings = config(target={"polyak": 1.0, "period": 100, "n_step": n_step}, updates=updates)
    case = case_on(corridor(5), np.zeros((5, 2)), config=settings, history=history(updates=updates))
    finding = checked("target-too-stale", case)
    assert (finding is not None) == named
    if finding:  # three copies carry values back four steps, of the five that are needed
        assert (finding.evidence["steps"], finding.evidence["depth"]) == (4, 5)
        assert (finding.severity, finding.source) == ("severe", "exact")


def test_a_target_network_with_polyak_updates_is_only_suspected():
    settings = config(target={"polyak": 0.01, "period": 10}, updates=1_000)
    finding = checked("target-too-stale", case_on(corridor(5), np.zeros((5, 2)), config=settings, history=history()))
    assert (finding.severity, finding.source) == ("warning", "log")


def test_a_target_network_that_follows_at_once_is_named_where_nothing_settles():
    restless = history(*[snapshot(10 * i, change=0.2, policy=0.5) for i in range(1, 9)])
    fresh = config(target={"polyak": 1.0, "period": 1})
    assert checked("target-too-fresh", unseen(config=fresh, history=restless)).cure.startswith("--polyak")
    assert checked("target-too-fresh", unseen(config=config(), history=restless)) is None
    table = config(target={"polyak": 1.0}, network={"hidden": [], "dueling": False})
    assert checked("target-too-fresh", unseen(config=table, history=restless)) is None


def test_an_unfinished_training_is_named():
    assert checked("interrupted", unseen(history=history())) is None
    assert checked("interrupted", unseen(history=history(stopped="optimal"))) is None
    stopped = checked("interrupted", unseen(history=history(stopped="interrupted")))
    assert stopped.cause == "it was stopped"
    saved = unseen(history=history(progress(7), stopped=None), config=config(), q=np.zeros((3, 2)))
    assert "its log could not be completed" in checked("interrupted", saved).cause
    lost = checked("interrupted", unseen(history=history(progress(7), stopped=None)))
    assert "after 7 of 1,000 updates" in lost.summary
    assert lost.severity == "warning"


def test_a_training_with_few_samples_per_pair_is_named():
    settings = config(replay={"batch_size": 10})
    cases = {
        updates: case_on(corridor(5), np.zeros((5, 2)), config=settings, history=history(updates=updates))
        for updates in (9, 10)
    }
    assert checked("untrained", cases[9]).evidence["samples_per_pair"] == 9
    assert checked("untrained", cases[10]) is None
    assert isinstance(checked("untrained", unseen(config=config(), history=history())), Unchecked)


def test_a_step_that_is_usual_for_the_problem_is_not_blamed_for_unrest():
    log = history(*(snapshot(i, policy=0.5, change=0.5) for i in range(1, 9)))
    q, usual = [[0.0, 1.0]] * 3, config(optimizer={"learning_rate": 0.003})
    known = {"history": log, "usual": usual}
    larger = checked(
        "learning-rate-too-high", case_on(chain(), q, config=config(optimizer={"learning_rate": 0.3}), **known)
    )
    assert (larger.severity, larger.cure) == ("severe", "--learning-rate 0.003")
    assert checked("learning-rate-too-high", case_on(chain(), q, config=usual, **known)) is None


def test_a_step_that_is_smaller_than_usual_is_never_too_large():
    log = history(*(snapshot(i, high=99.0) for i in range(1, 9)))  # beyond all that can be earned
    usual, small = config(optimizer={"learning_rate": 0.003}), config(optimizer={"learning_rate": 1e-5})
    case = case_on(chain(), [[0.0, 1.0]] * 3, config=small, usual=usual, history=log)
    assert checked("learning-rate-too-high", case) is None
    assert checked("learning-rate-too-high", replace(case, config=usual)).source == "exact"


def test_a_schedule_that_ends_early_is_mended_by_a_longer_one():
    log = history(*(snapshot(i, mean=i / 1_000) for i in range(1, 20)))
    early = config(schedule_updates=10, updates=1_000)
    finding = checked("learning-rate-too-low", case_on(chain(), [[0.0, 0.01]] * 3, config=early, history=log))
    assert finding.cure == "--schedule-updates 1000"


@pytest.mark.parametrize(
    ("states", "network"),
    [
        (16, {"hidden": [64]}),
        (64, {"hidden": [128], "dueling": False}),
        (100, {"hidden": [64, 32]}),
        (40, {"hidden": [64], "activation": "elu"}),
    ],
)
def test_the_values_of_a_fresh_network_lie_as_far_off_as_its_initializers_say(states, network):
    from deeptaxi.network.build import build_q_network

    known = config(network=network)
    settings = {name: getattr(known.network, name) for name in ("hidden", "dueling", "activation")}
    networks = [build_q_network(states, 4, seed=seed, **settings) for seed in range(8)]
    q = np.array([one(np.arange(states)) for one in networks])
    deviation = learning_curves.fresh_deviation(known, states, 4)
    assert deviation == pytest.approx(q.std(), rel=0.2 if known.network.activation == "relu" else 0.4)
    assert np.abs(q).max() < learning_curves.fresh_noise(known, states, 4) < 10 * q.std()


def test_a_q_table_begins_without_noise_and_rewards_are_scaled_back():
    assert learning_curves.fresh_noise(config(network=TABLE), 500, 6) == 0
    one, scaled = config(), config(target={"reward_scale": 8.0})
    assert learning_curves.fresh_noise(scaled, 9, 2) == pytest.approx(8 * learning_curves.fresh_noise(one, 9, 2))


def test_what_a_small_network_began_with_is_no_overshoot():
    log = history(*[snapshot(100 * i, low=-0.41, high=0.9) for i in range(1, 5)])  # below 0 as fresh weights may be
    case = case_on(chain(), STAY, history=log, config=config(network={"hidden": [64]}))
    assert checked("learning-rate-too-high", case) is None


def test_steps_are_not_blamed_for_the_noise_of_targets_that_is_maximized_over():
    # Leave for 0, or enter a room of four arms that pay ±1, −0.1 in the mean: a step of 0.1 scatters by 0.23.
    pay = [(0.5, 1, 0.9, True), (0.5, 1, -1.1, True)]
    table = build([[surely(1, 0, True), *[surely(1, 0)] * 3], [pay] * 4])
    unrest = history(*[snapshot(10 * i, change=0.2, policy=0.5) for i in range(1, 9)])
    drift = history(*[snapshot(10 * i, mean=0.3 - i / 100) for i in range(1, 17)])
    optimizer = {"name": "sgd", "tabular_step": 0.1, "schedule": "constant"}
    sampled = config(network=TABLE, optimizer=optimizer, target={"backup": "sample"})
    q = [[0.0, 0.2, 0.2, 0.2], [0.3, 0.1, -0.2, -0.4]]

    def names(q, log, config=sampled):
        found = {name: checked(name, case_on(table, q, history=log, config=config)) for name in ABOUT_STEPS}
        return [name for name, finding in found.items() if finding is not None]

    assert names(q, unrest) == ["overestimation"]
    assert names(q, drift) == ["overestimation"]
    far = [[0.0, 2.0, 2.0, 2.0], [3.0, 1.0, -2.0, -4.0]]  # off by ten times what the noise explains
    assert "learning-rate-too-high" in names(far, unrest)
    expected = config(network=TABLE, optimizer=optimizer, target={"backup": "expected"})
    assert names(q, unrest, expected) == ["learning-rate-too-high"]  # there is no noise
    cure = checked("overestimation", case_on(table, q, history=unrest, config=sampled)).cure
    assert cure == "--backup expected"  # which leaves nothing to maximize over, where double DQN leaves a part


def test_values_that_hardly_left_where_they_began_are_named_with_any_optimizer():
    log, near = history(*(snapshot(i) for i in range(1, 9))), [[0.02, 0.03], [0.01, 0.04], [0.05, 0.02]]

    def found(q, optimizer):
        known = config(network=TABLE, optimizer=optimizer)
        return checked("learning-rate-too-low", case_on(chain(), q, config=known, usual=config(), history=log))

    small = found(near, {"name": "adadelta"})
    assert "at the one pair whose target is a plain reward, 1 from the initial value, Q moved by 0.05" in small.summary
    assert small.evidence["whole_way"] == 1
    assert "--optimizer adam" in small.cure
    assert found([[0.02, 0.03], [0.01, 0.04], [0.6, 0.02]], {"name": "adadelta"}) is None  # it is on its way
    held = found(near, {"name": "sgd", "clip_norm": 1e-5})
    assert held.summary.endswith("sgd makes small steps with its learning rate and clip_norm 1e-05")
    decayed = found(near, {"options": {"weight_decay": 5.0}, "learning_rate": config().optimizer.learning_rate})
    assert decayed.summary.endswith("and weight_decay 5.0")
    assert decayed.cure == "leave out [optimizer.options] of the configuration"
    assert found(near, {}) is None  # a usual step
