"""What the tests of this folder share: problems opened from a file, trainings run to their end, random minibatches."""

from __future__ import annotations

import numpy as np
from keras import ops

from deeptaxi.config import merge, resolve
from deeptaxi.learning.learner import Learner
from deeptaxi.learning.replay import Transitions
from deeptaxi.mdp import npz
from deeptaxi.mdp.environment import open_environment
from deeptaxi.network.build import build_q_network

# A table as the weights, learnt by plain SGD, from a few environments: compiled and trained in about a second.
SMALL = {
    "updates": 300,
    "discount": 0.8,
    "network": {"hidden": [], "dueling": False},
    "optimizer": {"name": "sgd", "tabular_step": 0.05, "schedule": "cosine"},
    "exploration": {"end": 1.0},
    "replay": {"capacity": 1_000, "batch_size": 16, "start": 16},
    "target": {"polyak": 0.1},
    "interaction": {"environments": 4},
    "judgement": {"every": 100, "objective_discount": 0.8},
}
TABLE = {"network": {"hidden": [], "dueling": False}}


def opened_problem(table, folder, **settings):
    """Save the table and open it as an environment; return the configuration of a small training, and it."""
    npz.save(table, folder / "table.npz")
    config = resolve(merge(merge(SMALL, {"environment": {"id": str(folder / "table.npz")}}), settings))
    return config, open_environment(config.environment)


def finished(training):
    """Run a training to its end; return its records and the network that it returns."""
    records = []
    while True:
        try:
            records.append(next(training))
        except StopIteration as end:
            return records, end.value


def of_kind(records, cls):
    return [record for record in records if isinstance(record, cls)]


def build_pair(states, actions, config, seed=0):
    """Build an online and a target network of the configured kind."""
    network = config.network
    return [
        build_q_network(states, actions, network.hidden, network.dueling, network.aggregation, seed=seed)
        for _ in range(2)
    ]


def new_learner(settings, states=5, actions=3, q_values=None, cls=Learner):
    """Return a learner on fresh networks; `q_values` `[S, A]` are the weights of a Q-table network."""
    config = resolve(settings)
    online, target = build_pair(states, actions, config)
    if q_values is not None:
        online.set_weights([np.asarray(q_values, np.float32)])
    return cls(online, target, config, copies=2)


def transitions(*rows):
    """Make transitions of rows ``(state, action, reward, next state, terminated)``."""
    columns = (np.array(column) for column in zip(*rows, strict=True))
    dtypes = (np.int32, np.int32, np.float32, np.int32, np.bool_)
    return Transitions(*(column.astype(dtype) for column, dtype in zip(columns, dtypes, strict=True)))


def rows_of(batch):
    """Return transitions as a list of rows of plain numbers."""
    return list(zip(*(column.tolist() for column in batch), strict=True))


def random_batches(count, size, states=5, actions=3, seed=0):
    """Yield minibatches with the actions allowed in their next states; most hold some (state, action) twice."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        batch = Transitions(
            rng.integers(0, states, size, np.int32),
            rng.integers(0, actions, size, np.int32),
            rng.normal(size=size).astype(np.float32),
            rng.integers(0, states, size, np.int32),
            rng.random(size) < 0.2,
        )
        allowed = rng.random((size, actions)) < 0.7
        yield batch, allowed | ~allowed.any(axis=1, keepdims=True)


def everything(batch, actions=3):
    """Return the mask that allows everything."""
    return np.ones((len(batch.states), actions), np.bool_)


def numbers(x):
    return ops.convert_to_numpy(x)
