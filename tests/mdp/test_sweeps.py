from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.grids import random_grid
from deeptaxi.mdp import planning, sparse_rows, sweeps
from deeptaxi.mdp.table import from_arrays
from tests.problems import random_table

NEVER = 10**12


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    monkeypatch.setenv("DEEPTAXI_CACHE", "off")


@pytest.fixture(params=[0, planning.FEW], ids=["in-blocks", "in-whole-steps"])
def sparse(request, monkeypatch):
    """Plan on every table by sparse rows, in blocks of two states or more; evaluate policies so, or in whole steps."""
    monkeypatch.setattr(planning, "FEW", request.param)
    monkeypatch.setattr(sparse_rows, "SPARSE_FROM", 0)
    monkeypatch.setattr(sparse_rows, "SMALLEST", 2)
    monkeypatch.setattr(planning, "DIRECT", 0)
    monkeypatch.setattr(planning, "SQUARED", 0)


def densely(monkeypatch, compute):
    """Return what `compute` returns without sparse rows."""
    with monkeypatch.context() as patched:
        patched.setattr(sparse_rows, "SPARSE_FROM", NEVER)
        return compute()


def masked(table, seed):
    """Return a mask that leaves an action to every state."""
    mask = np.random.default_rng(seed).random((table.states, table.actions)) < 0.6
    mask[~mask.any(axis=1), 0] = True
    return mask


def corridor(length):
    """Return a corridor with −1 a step, in which action 0 goes on and action 1 stays."""
    here = np.arange(length)
    target = np.stack([np.minimum(here + 1, length - 1), here], axis=1)[..., None]
    ends = np.zeros(target.shape, bool)
    ends[-1, 0] = True
    start = np.full(length, 1 / length)
    return from_arrays(np.ones(target.shape), target, np.full(target.shape, -1.0), ends, start)


def leaky(chance, states=600):
    """Return a table in which every step that pays −1 may lead, by `chance`, to where each step pays −1 forever."""
    target = np.stack([np.minimum(np.arange(states) + 1, states - 2), np.full(states, states - 1)], axis=1)[:, None]
    weights = np.broadcast_to([1 - chance, chance], target.shape).copy()
    weights[-1] = [0, 1]
    reward = np.full(target.shape, -1.0)
    reward[states - 2, 0, 0] = 0
    ends = np.zeros(target.shape, bool)
    ends[states - 2, 0, 0] = True
    return from_arrays(weights, target, reward, ends, np.eye(states)[0])


def test_tables_of_ten_thousand_states_are_planned_sparsely_and_those_of_presets_are_not():
    assert sparse_rows.uses_sparse_rows(random_grid(100, slip=0.0))
    assert not sparse_rows.uses_sparse_rows(random_grid(28, slip=0.2))  # of more outcomes than rainy Taxi's 9,000


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.usefixtures("sparse")
def test_one_step_is_that_of_the_padded_table(monkeypatch, seed):
    table = random_table(seed, states=2 + 3 * seed)
    value = np.random.default_rng(seed).normal(size=table.states)
    expected = densely(monkeypatch, lambda: planning.bellman(table, value, 0.9))
    np.testing.assert_allclose(planning.bellman(table, value, 0.9), expected, atol=1e-13)


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.usefixtures("sparse")
def test_the_same_values_come_from_sparse_rows_within_both_bounds(monkeypatch, seed, discount):
    table = random_table(seed, states=9 + seed)
    mask = masked(table, seed) if seed % 2 else None
    policy = np.random.default_rng(seed).dirichlet(np.ones(table.actions), table.states)
    for compute in (
        lambda: planning.value_iteration(table, discount, mask),
        lambda: planning.worst_values(table, discount, mask),
        lambda: planning.evaluate_policy(table, policy, discount),
        lambda: planning.evaluate_policy(table, policy.argmax(axis=1), discount),
        lambda: planning.evaluate_uniform(table, discount, mask),
    ):
        found, expected = compute(), densely(monkeypatch, compute)
        assert np.abs(found.value - expected.value).max() <= found.bound + expected.bound
        assert found.bound <= 1e-9


@pytest.mark.parametrize("size", [6, 12, 25])
@pytest.mark.parametrize("slip", [0.0, 0.2])
@pytest.mark.usefixtures("sparse")
def test_a_horizon_of_a_grid_is_that_of_every_sweep(monkeypatch, size, slip):
    table = random_grid(size, slip, seed=size, walls=0.35)
    policy = planning.value_iteration(table, 0.9).q.argmax(axis=1)
    for horizon in (1, 7, 40 * size):
        found = planning.optimal_horizon(table, horizon)
        expected = densely(monkeypatch, lambda: planning.optimal_horizon(table, horizon))  # noqa: B023
        assert np.abs(found.returns - expected.returns).max() <= found.bound + expected.bound
        followed = planning.evaluate_horizon(table, policy, horizon)
        proper = densely(monkeypatch, lambda: planning.evaluate_horizon(table, policy, horizon))  # noqa: B023
        assert np.abs(followed.returns - proper.returns).max() <= followed.bound + proper.bound
        np.testing.assert_allclose(followed.termination, proper.termination, atol=1e-9)
        np.testing.assert_allclose(followed.length, proper.length, rtol=1e-10)


@pytest.mark.usefixtures("sparse")
def test_the_chance_to_end_does_not_depend_on_the_size_of_the_rewards(monkeypatch):
    small = random_table(3, states=20)
    table, policy = replace(small, reward=small.reward * 1e20), planning.uniform_policy(small)
    for horizon in (1, 7, 50):
        expected = densely(monkeypatch, lambda: planning.evaluate_horizon(small, policy, horizon))  # noqa: B023
        episode = planning.evaluate_horizon(table, policy, horizon)
        found = [(episode.termination, episode.length), planning.evaluate_lengths(table, policy, horizon)]
        for termination, length in found:
            assert termination == pytest.approx(expected.termination, abs=1e-12)
            assert length == pytest.approx(expected.length)


@pytest.mark.usefixtures("sparse")
def test_a_corridor_has_its_closed_form_and_reads_only_the_front():
    table = corridor(3_000)
    optimum = planning.value_iteration(table, 0.99)
    steps = 3_000 - np.arange(3_000)
    assert np.abs(optimum.value + (1 - 0.99**steps) / 0.01).max() <= optimum.bound
    assert optimum.bound <= 2e-10
    rows = sparse_rows.rows_of(table)
    state = sweeps._State(rows, rows.reward, 0.99, worst=False)
    for _ in range(100):
        state.step()
    assert sum(len(change) for _, change in state.latest) <= 2  # of 128 blocks


@pytest.mark.parametrize("chance", [0.0, 1e-3])
@pytest.mark.usefixtures("sparse")
def test_long_horizons_end_as_soon_as_all_gains_are_known(chance):
    table, horizon = leaky(chance), 5_000
    rows = sparse_rows.rows_of(table)
    swept = sweeps.sweep(rows, rows.reward, 1.0, horizon)
    assert swept.sweeps < 1_000 or chance > 0  # other gains are not round
    # From state s, n = 599 − s steps are left, each of which is followed with probability 1 − p.
    left = np.maximum(598 - np.arange(599), 0)
    along = left if chance == 0 else (1 - (1 - chance) ** left) / chance
    trapped = sum_of_trapped(left, chance, horizon) + chance * (1 - chance) ** left  # the last step pays only that
    bound = horizon * planning.ROUNDING * np.abs(swept.values).max() + swept.neglected
    assert np.abs(swept.values[:599] + along + trapped).max() <= bound + 1e-9 * horizon
    assert swept.values[599] == -horizon


def sum_of_trapped(left, chance, horizon):
    """Return the mean number of steps in the trap within `horizon`, for `left` steps to the last state."""
    found = np.zeros(len(left))
    for place, steps in enumerate(left):
        when = np.arange(1, steps + 2)
        found[place] = (chance * (1 - chance) ** (when - 1) * (horizon - when)).sum()
    return found


def test_the_rounding_of_long_rows_does_not_keep_a_horizon_from_ending():
    table = random_table(0, states=300, actions=3, outcomes=300)
    table = replace(table, reward=table.reward + 50, terminated=np.zeros_like(table.terminated))
    rows = sparse_rows.rows_of(table)
    state = sweeps._State(rows, rows.reward, 1.0, worst=False)
    for _ in range(400):  # all states have gained alike for long, but for the rounding of sums over 300 outcomes
        state.step()
    assert not state.latest  # nothing was read
    plainly = np.zeros(300)
    for _ in range(1_000):
        onward = np.einsum("sak,sak->sa", table.continuation, plainly[table.next_state])
        plainly = (table.expected_reward + onward).max(axis=1)
    found = planning.optimal_horizon(table, 1_000)
    assert np.abs(found.returns - plainly).max() <= found.bound


@pytest.mark.usefixtures("sparse")
def test_without_ends_the_middle_of_the_bounds_is_taken():
    rng = np.random.default_rng(0)
    chance = rng.dirichlet(np.ones(20), (20, 3))
    target = np.broadcast_to(np.arange(20), chance.shape)
    reward = np.broadcast_to(rng.normal(size=(20, 3, 1)), chance.shape)
    table = from_arrays(chance, target, reward, np.zeros(chance.shape, bool), np.full(20, 0.05))
    optimum = planning.value_iteration(table, 0.999)
    assert optimum.iterations < 60  # 27,000 by the change alone
    assert optimum.bound <= 1e-8
    policy = optimum.q.argmax(axis=1)
    matrix = chance[np.arange(20), policy]
    solved = np.linalg.solve(np.eye(20) - 0.999 * matrix, reward[np.arange(20), policy, 0])
    assert np.abs(optimum.value - solved).max() <= optimum.bound + 1e-9


@pytest.mark.usefixtures("sparse")
def test_a_warm_start_saves_sweeps_and_keeps_the_bound():
    table = random_grid(15, 0.3, seed=1)
    policy = planning.value_iteration(table, 0.95).q.argmax(axis=1)
    cold = planning.evaluate_policy(table, policy, 0.95)
    changed = policy.copy()
    changed[-2] = (changed[-2] + 1) % 4
    warm = planning.evaluate_policy(table, policy, 0.95, start=planning.evaluate_policy(table, changed, 0.95).value)
    again = planning.evaluate_policy(table, policy, 0.95, start=cold.value)
    assert again.iterations <= 2 < warm.iterations < cold.iterations
    for found in (warm, again):
        assert np.abs(found.value - cold.value).max() <= found.bound + cold.bound
        assert found.bound <= 1e-9


@pytest.mark.usefixtures("sparse")
def test_no_steps_are_worth_nothing():
    episode = planning.evaluate_horizon(corridor(6), np.zeros(6, np.int64), 0)
    np.testing.assert_array_equal([episode.returns, episode.length, episode.termination], np.zeros((3, 6)))


@pytest.mark.usefixtures("sparse")
def test_progress_is_a_bound_that_falls_and_holds(monkeypatch):
    monkeypatch.setattr(sweeps, "EVERY", 0.0)
    table, told = corridor(300), []
    with sweeps.reported_to(lambda *report: told.append(report)):
        planning.value_iteration(table, 0.95)
    bounds = [left for _, left, exact in told if exact]
    assert len(bounds) > 10
    assert bounds == sorted(bounds, reverse=True)
    steps = 300 - np.arange(300)
    rows = sparse_rows.rows_of(table)
    for count, left, _ in told[:5]:
        values = sweeps.sweep(rows, rows.reward, 0.95, count).values
        assert np.abs(values + (1 - 0.95**steps) / 0.05).max() <= left * (1 + 1e-9)


@pytest.mark.usefixtures("sparse")
def test_ctrl_c_is_heard_between_two_sweeps(monkeypatch):
    monkeypatch.setattr(sweeps, "EVERY", 0.0)

    def interrupt(*_report):
        raise KeyboardInterrupt

    with sweeps.reported_to(interrupt), pytest.raises(KeyboardInterrupt):
        planning.value_iteration(corridor(300), 0.99)
