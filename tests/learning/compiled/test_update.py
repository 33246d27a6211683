"""Row-sparse updates against a reference that is written out: a loop over rows, and every update of every row made."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from deeptaxi.backend import keras_backend
from deeptaxi.config import merge
from deeptaxi.learning.compiled.hyperparameters import log_retention
from deeptaxi.learning.compiled.optimizers import Optimizer
from deeptaxi.learning.compiled.update import Rows, TargetUpdate, read_target, sparse_update, sum_duplicates
from deeptaxi.learning.replay_buffer import Batch
from deeptaxi.learning.schedules import learning_rate
from deeptaxi.network.functional import Weights
from tests.learning.helpers import Updates, numbers, random_batches

STATES, ACTIONS, HIDDEN = 7, 3, 4
NETWORK = {"hidden": [HIDDEN], "dueling": False, "activation": "relu"}
SETTINGS = {
    "updates": 60,
    "network": NETWORK,
    "optimizer": {"name": "adam", "learning_rate": 0.02, "schedule": "linear"},
    "replay": {"batch_size": 5},
    "target": {"polyak": 0.2},
}
SGD = {"name": "sgd", "learning_rate": 0.3}


def start(seed=0, hidden=HIDDEN):
    """Return the weights of a network with one hidden layer, in the order of `functional.shapes`."""
    rng = np.random.default_rng(seed)
    shapes = [(STATES, hidden), (hidden,), (ACTIONS, hidden), (ACTIONS,)]
    return [rng.normal(scale=0.7, size=shape).astype(np.float32) for shape in shapes]


def flat(arrays):
    return Weights(arrays[0], np.concatenate([array.ravel() for array in arrays[1:]]).astype(np.float32))


class Written:
    """One hidden layer, its kernel row-sparse, in float64: what an update is, without a thought of speed."""

    def __init__(self, config, arrays):
        self.config = config
        self.online = [array.astype(np.float64) for array in arrays]
        self.target = [array.copy() for array in self.online]
        self.slots = [[np.zeros_like(array) for array in self.online] for _ in range(2)]
        self.updates = 0

    def layers(self, arrays, states):
        kernel, bias, head, last = arrays
        z = kernel[states] + bias
        return z, np.maximum(z, 0) @ head.T + last

    def update(self, batch):
        goal = batch.rewards + batch.discounts * self.layers(self.target, batch.next_states)[1].max(axis=1)
        z, q_values = self.layers(self.online, batch.states)
        errors = goal - q_values[np.arange(len(goal)), batch.actions]
        gradients = [np.zeros_like(array) for array in self.online]
        for sample, state in enumerate(batch.states):
            slope = np.zeros(ACTIONS)
            slope[batch.actions[sample]] = -2 * errors[sample] / q_values.size
            before = self.online[2].T @ slope * (z[sample] > 0)
            gradients[0][state] += before
            gradients[1] += before
            gradients[2] += np.outer(slope, np.maximum(z[sample], 0))
            gradients[3] += slope
        norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
        clip = self.config.optimizer.clip_norm
        scale = 1 if clip is None or norm < clip else clip / norm
        rate = learning_rate(self.config, ACTIONS, self.updates / self.config.updates)
        self.updates += 1
        for index, gradient in enumerate(gradients):
            for row in range(len(gradient)):
                touched = index > 0 or row in batch.states
                self.step(index, row, scale * gradient[row], rate, touched)
        if self.updates % self.config.target.period == 0:
            for old, new in zip(self.target, self.online, strict=True):
                old += self.config.target.polyak * (new - old)
        return errors

    def step(self, index, row, gradient, rate, touched):
        """Move a row; one that is not touched stays where it is, and its slots shrink."""
        options, weight = self.config.optimizer.options, self.online[index]
        one, two = (slots[index] for slots in self.slots)
        if self.config.optimizer.name == "sgd":
            momentum = options.get("momentum", 0.0)
            one[row] = momentum * one[row] - rate * gradient
            move = momentum * one[row] - rate * gradient if options.get("nesterov") else one[row]
        else:
            one[row] = 0.9 * one[row] + 0.1 * gradient
            two[row] = 0.999 * two[row] + 0.001 * gradient**2
            n = self.updates
            first, second = one[row] / (1 - 0.9**n), two[row] / (1 - 0.999**n)
            correction = np.sqrt(1 - 0.999**n)  # Keras' ε stands beside √v before it is corrected
            move = -rate * first / (np.sqrt(second) + 1e-7 / correction)
        if touched:
            weight[row] += move


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="adam"),
        pytest.param({"optimizer": {"clip_norm": 0.05}, "target": {"polyak": 1.0, "period": 7}}, id="clip-hard-target"),
        pytest.param({"optimizer": {**SGD, "options": {"momentum": 0.8}}, "target": {"period": 3}}, id="momentum"),
        pytest.param(
            {"optimizer": {**SGD, "options": {"momentum": 0.8, "nesterov": True}, "clip_norm": 0.3}}, id="nesterov-clip"
        ),
    ],
)
def test_updates_are_those_of_a_loop_over_rows(changes):
    updates = Updates(merge(SETTINGS, changes), STATES, ACTIONS, sparse=True)
    reference = Written(updates.config, start())
    updates.start(flat(start()))
    repeated = 0
    for batch, _ in random_batches(60, 5, STATES, ACTIONS, seed=1):
        repeated += len(set(batch.states.tolist())) < 5
        errors = reference.update(batch)
        _, found = updates.update(batch._replace(weights=None))
        np.testing.assert_allclose(found, errors, rtol=1e-3, atol=1e-4)
    assert repeated > 30
    for one, other in zip(updates.weights(), flat(reference.online), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    _, target = updates.q_values()
    np.testing.assert_allclose(target, reference.layers(reference.target, np.arange(STATES))[1], atol=5e-5)


@pytest.mark.parametrize("name", ["adam", "momentum"])
def test_where_every_row_is_touched_by_every_update_row_sparse_is_dense(name):
    optimizer = {"momentum": {**SGD, "options": {"momentum": 0.9}}, "adam": {}}[name]
    chosen = merge(SETTINGS, {"optimizer": optimizer, "replay": {"batch_size": 2 * STATES}})
    pair = [Updates(chosen, STATES, ACTIONS, sparse=sparse) for sparse in (True, False)]
    rng = np.random.default_rng(2)
    for updates in pair:
        updates.start(flat(start()))
    for batch, _ in random_batches(60, 2 * STATES, STATES, ACTIONS, seed=3):
        everyone = np.tile(np.arange(STATES, dtype=np.int32), 2)
        batch = batch._replace(states=rng.permutation(everyone), weights=None)
        one, other = (updates.update(batch) for updates in pair)
        np.testing.assert_allclose(one[1], other[1], rtol=1e-3, atol=1e-4)
    for one, other in zip(*(updates.weights() for updates in pair), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(pair[0].q_values()[1], pair[1].q_values()[1], atol=2e-5)


class Touched:
    """Rows that are touched by a compiled function, from a kernel `[R, W]` on."""

    def __init__(self, optimizer, following, rate):
        def step(index, gradients, updates, online, target, last, place, *slots):
            place, once, sums = sum_duplicates(place, index, gradients)
            rows = Rows(online, target, slots, last, place)
            rows = sparse_update(rows, once, sums, optimizer, following, rate, updates)
            everywhere = ops.arange(online.shape[0], dtype="int32")
            up_to_date = optimizer.decayed(rows.slots, updates + 1 - rows.last)
            found = read_target(rows, everywhere, updates + 1, following)
            return found, rows.online, rows.target, rows.last, rows.scratch, *rows.slots, *up_to_date

        self.slots = len(optimizer.decays)
        self._step = keras_backend.compiled(step, [])

    def start(self, kernel):
        count = np.zeros(len(kernel), np.int32)
        self.arrays = [kernel, kernel, count, count, *(np.zeros_like(kernel) for _ in range(self.slots))]
        return self

    def sparse_update(self, index, gradients, updates):
        """Return the whole target, and the slots as they would be if all were up to date."""
        target, *arrays = (numbers(x) for x in self._step(index, gradients, np.int32(updates), *self.arrays))
        self.arrays = arrays[: 4 + self.slots]
        return target, arrays[4 + self.slots :]


@pytest.mark.parametrize(
    ("name", "options"), [("adam", {}), ("sgd", {"momentum": 0.9}), ("sgd", {"momentum": 0.9, "nesterov": True})]
)
def test_slots_that_are_brought_up_to_date_are_those_of_the_dense_optimizer(name, options):
    rng = np.random.default_rng(4)
    optimizer = Optimizer(name, options)
    kernel = rng.normal(size=(STATES, 2)).astype(np.float32)
    rows = Touched(optimizer, TargetUpdate(log_retention(0.1), 1), 0.1).start(kernel)
    dense = tuple(np.zeros_like(kernel) for _ in optimizer.decays)
    for update in range(40):
        index = rng.integers(0, STATES, 3, np.int32)
        gradients = rng.normal(size=(3, 2)).astype(np.float32)
        _, lazy = rows.sparse_update(index, gradients, update)
        whole = np.zeros_like(kernel)
        np.add.at(whole, index, gradients)
        dense = optimizer.slots_after(dense, whole, 0.1)
    assert rows.arrays[2].min() < 40  # there is something to bring up to date
    for one, other in zip(lazy, dense, strict=True):
        np.testing.assert_allclose(one, numbers(other), rtol=1e-4, atol=1e-7)


def test_gradients_of_a_row_that_comes_twice_are_summed_once():
    index, gradients = np.array([2, 0, 2, 2], np.int32), np.array([[1.0], [10.0], [2.0], [4.0]], np.float32)
    _, once, sums = (numbers(x) for x in sum_duplicates(np.full(3, 9, np.int32), index, gradients))
    assert sorted(once.tolist()) == [0, 2, 3, 3]  # 3 is past the end: no row
    assert {(int(row), float(total)) for row, (total,) in zip(once, sums, strict=True)} == {(0, 10), (2, 7), (3, 0)}


TOUCHES = st.lists(st.lists(st.integers(0, 4), min_size=2, max_size=2), min_size=1, max_size=12)


@pytest.mark.parametrize(("polyak", "period"), [(1.0, 1), (1.0, 3), (0.25, 1), (0.25, 4)])
def test_the_target_kept_by_rows_is_the_one_that_moves_at_every_period(polyak, period):
    rows = Touched(Optimizer("sgd", {}), TargetUpdate(log_retention(polyak), period), 1.0)

    @given(touches=TOUCHES, seed=st.integers(0, 99))
    @settings(max_examples=25, deadline=None)
    def check(touches, seed):
        rng = np.random.default_rng(seed)
        online = rng.normal(size=(5, 2)).astype(np.float32)
        target = online.copy()
        rows.start(online.copy())
        for update, index in enumerate(touches):
            gradients = rng.normal(size=(2, 2)).astype(np.float32)
            found, _ = rows.sparse_update(np.array(index, np.int32), gradients, update)
            np.add.at(online, index, -gradients)
            if (update + 1) % period == 0:
                target += polyak * (online - target)
            np.testing.assert_allclose(rows.arrays[0], online, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(found, target, rtol=1e-5, atol=1e-5)

    check()


def test_the_target_between_two_moves_can_be_counted_by_hand():
    # Moves after updates 3, 6, 9. From update 2 to 6 there are two, from 3 to 5 none.
    following = TargetUpdate(log_retention(0.5), 3)
    counted = [following.moves(*span) for span in ((2, 6), (3, 5), (0, 3), (3, 3), (0, 100))]
    assert counted == [2, 0, 1, 0, 33]
    one = np.ones(1, np.float32)
    assert numbers(following.after(np.int32(2), 0 * one, one)) == pytest.approx(0.75)  # ½, then ¾
    assert numbers(TargetUpdate(None, 3).after(np.int32(2), 0 * one, one)) == 1.0
    assert numbers(TargetUpdate(None, 3).after(np.int32(0), 0 * one, one)) == 0.0


def test_a_row_that_was_never_touched_keeps_its_weight_under_adam_too():
    updates = Updates(SETTINGS, STATES, ACTIONS, sparse=True)
    updates.start(flat(start()))
    states = np.array([0, 1, 0, 1, 0], np.int32)
    zeros = np.zeros(5, np.int32)
    for _ in range(3):
        updates.update(Batch(states, zeros, np.ones(5, np.float32), states, np.zeros(5, np.float32), None))
    kernel = updates.weights().kernel
    np.testing.assert_array_equal(kernel[2:], start()[0][2:])
    assert (kernel[:2] != start()[0][:2]).any(axis=1).all()
