"""What the tests of this folder share: problems opened from a file, trainings run to their end, random minibatches."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from keras import ops

from deeptaxi.backend.program import Program
from deeptaxi.config import merge, resolve
from deeptaxi.learning import agent
from deeptaxi.learning.action_mask import ActionMaskTable
from deeptaxi.learning.agent import DQNAgent, FitAgent
from deeptaxi.learning.compiled.hyperparameters import numbers_of
from deeptaxi.learning.compiled.update import CompiledUpdate
from deeptaxi.learning.gymnasium_loop import GymnasiumLoop
from deeptaxi.learning.recipe_agent import RecipeAgent
from deeptaxi.learning.replay_buffer import Batch, Transitions
from deeptaxi.learning.schedules import learning_rate
from deeptaxi.mdp.environment import open_environment
from deeptaxi.mdp.table import save_table
from deeptaxi.network import functional
from deeptaxi.network.build import build_q_network

# A table as the weights, learned by plain SGD, from a few environments: compiled and trained in about a second.
SMALL = {
    "updates": 300,
    "discount": 0.8,
    "network": {"hidden": [], "dueling": False},
    "optimizer": {"name": "sgd", "tabular_step": 0.05, "schedule": "cosine"},
    "exploration": {"end": 1.0},
    "replay": {"capacity": 1_000, "batch_size": 16, "start": 16},
    "target": {"polyak": 0.1},
    "interaction": {"environments": 4},
    "evaluation": {"every": 100, "objective_discount": 0.8},
}
TABLE = {"network": {"hidden": [], "dueling": False}}


def opened_problem(table, folder, **settings):
    """Save the table and open it as an environment; return the configuration of a small training, and it."""
    save_table(table, folder / "table.npz")
    config = resolve(merge(merge(SMALL, {"environment": {"id": str(folder / "table.npz")}}), settings))
    return config, open_environment(config.environment)


def finished(training):
    """Run a training to its end; return its records and the network that it leaves."""
    records, trained = outcome(training)
    return records, trained.network


def outcome(training):
    """Run a training to its end; return its records and what it leaves."""
    records = []
    while True:
        try:
            records.append(next(training))
        except StopIteration as end:
            return records, end.value


def of_kind(records, cls):
    return [record for record in records if isinstance(record, cls)]


def build_network(states, actions, config, seed=0, factors=None):
    """Build a network of the configured kind."""
    network = config.network
    kind = (network.hidden, network.dueling, network.aggregation, network.activation)
    return build_q_network(states, actions, *kind, seed, factors)


def build_pair(states, actions, config, seed=0, factors=None):
    """Build an online and a target network of the configured kind."""
    return [build_network(states, actions, config, seed, factors) for _ in range(2)]


def new_learner(settings, states=5, actions=3, q_values=None, cls=DQNAgent, factors=None):
    """Return an agent with fresh networks; `q_values` `[S, A]` are the weights of a Q-table network."""
    config = resolve(settings)
    online, target = build_pair(states, actions, config, factors=factors)
    if q_values is not None:
        online.set_weights([np.asarray(q_values, np.float32)])
    return cls(online, target, config, environments=2)


def recipe_loop(config, environment, learner, active=False):
    """Return the gymnasium loop of a learner whose minibatches come from a replay buffer in NumPy."""
    masks = ActionMaskTable(environment, active)
    *for_environments, for_replay = np.random.SeedSequence(0).spawn(3)
    recipe = RecipeAgent(learner, config, environment, masks, for_replay)
    return GymnasiumLoop(config, environment, recipe, masks, for_environments)


def transitions(*rows):
    """Make transitions of rows ``(state, action, reward, next state, terminated)``, or with truncated at the end."""
    columns = zip(*((*row, False)[:6] for row in rows), strict=True)
    dtypes = (np.int32, np.int32, np.float32, np.int32, np.bool_, np.bool_)
    return Transitions(*(np.array(column, dtype) for column, dtype in zip(columns, dtypes, strict=True)))


def batch_of(*rows, discount, weights=None):
    """Make a minibatch of transitions ``(state, action, reward, next state, terminated)`` by one-step targets."""
    states, actions, rewards, next_states, terminated, _ = transitions(*rows)
    weights = np.ones(len(rows), np.float32) if weights is None else np.array(weights, np.float32)
    return Batch(states, actions, rewards, next_states, np.float32(discount) * ~terminated, weights)


def rows_of(batch):
    """Return transitions or a minibatch as a list of rows of plain numbers."""
    return list(zip(*(column.tolist() for column in batch), strict=True))


def summed(steps, discount):
    """Return the reward, the state to bootstrap from and the bootstrap's factor of rows of transitions in a row."""
    total, factor = 0.0, 1.0
    for _, _, reward, reached, terminated, truncated in steps:
        total, factor = total + factor * reward, factor * discount
        if terminated or truncated:
            return total, reached, factor * (not terminated)
    return total, reached, factor


def random_batches(count, size, states=5, actions=3, seed=0, weighted=False, outcomes=None):
    """Yield minibatches with the actions allowed in their next states; most hold some (state, action) twice.

    The bootstraps come after one step to three, with a discount of 0.9; a fifth of the samples has none. With
    `outcomes` K, each sample has K next states whose factors are random shares of its own.
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        batch = Batch(
            rng.integers(0, states, size, np.int32),
            rng.integers(0, actions, size, np.int32),
            rng.normal(size=size).astype(np.float32),
            rng.integers(0, states, size, np.int32),
            (0.9 ** rng.integers(1, 4, size) * (rng.random(size) >= 0.2)).astype(np.float32),
            (rng.random(size) if weighted else np.ones(size)).astype(np.float32),
        )
        if outcomes is not None:
            shares = rng.dirichlet(np.ones(outcomes), size) * (rng.random((size, outcomes)) >= 0.2)
            batch = batch._replace(
                next_states=rng.integers(0, states, (size, outcomes), np.int32),
                discounts=(batch.discounts[:, None] * shares).astype(np.float32),
            )
        allowed = rng.random((states, actions)) < 0.7
        allowed |= ~allowed.any(axis=1, keepdims=True)
        yield batch, allowed[batch.next_states]


def predict_on_batch(network, states):
    """Return the Q values `[B, A]` of `states` `[B]`, or `[B, K, A]` of `[B, K]`."""
    return np.asarray(network.predict_on_batch(states.reshape(-1))).reshape(*states.shape, -1)


class Traced(FitAgent):
    """Predict, overwrite, fit, by functions that are traced, not compiled: seconds less for a pair of networks."""

    def prepare(self):
        super().prepare()
        for network in (self.online, self.target):
            network.jit_compile = False


class Literal(Traced):
    """Predict, overwrite, train: the recipe by the methods of Keras that take one minibatch, which are much faster."""

    def update(self, batch, next_allowed):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(agent, "predict", predict_on_batch)
            return super().update(batch, next_allowed)

    def fit(self, batch, targets):
        return float(self.online.train_on_batch(batch.states, targets, sample_weight=batch.weights))


class Updates:
    """`compiled.update.CompiledUpdate`, compiled: a state that its updates change, and looks at it.

    Args:
        settings: of the training.
        states: S.
        actions: A.
        factors: of a factored encoding.
        sparse: whether updates are row-sparse.
    """

    def __init__(self, settings, states=5, actions=3, factors=None, sparse=False):
        self.config, self.states, self.actions = resolve(settings), states, actions
        self.rule = CompiledUpdate(self.config, actions, factors, sparse, states)
        self.numbers = numbers_of(self.config, actions).constant
        size = self.config.replay.batch_size
        self._reports = (np.zeros(self.rule.loss_parts, np.float32), np.zeros(size, np.float32))
        outputs = actions + self.config.network.dueling
        width, rest = (self.config.network.hidden or (outputs,))[0], sum(map(math.prod, self.rule.shapes))
        kernel = np.zeros((states if factors is None else sum(factors), width), np.float32)
        start = self.rule.initial(functional.Weights(kernel, np.zeros(rest, np.float32)))
        self._program = Program({"update": self._update}, (start, *self._reports))
        self.updates = 0

    def _update(self, state, batch, allowed, now, updates):
        return self.rule.update(state[0], batch, allowed, now, updates)

    def start(self, weights):
        """Begin with these weights, arrays of `functional.Weights`."""
        self._program.reset((self.rule.initial(functional.Weights(*weights)), *self._reports))
        self.updates = 0

    def update(self, batch, allowed=None):
        """Make one update, with the actions `allowed` in the next states; return the loss and the td_errors."""
        if allowed is not None:
            table = np.ones((self.states, self.actions), np.bool_)
            table[batch.next_states] = allowed
            allowed = table
        rate = learning_rate(self.config, self.actions, self.updates / self.config.updates)
        now = self.numbers._replace(learning_rate=np.float32(rate))
        arguments = (batch, allowed, now, np.int32(self.updates))
        self._program("update", *self._program.arguments(arguments))
        self.updates += 1
        return float(numbers(self._program.state[1]).sum()), numbers(self._program.state[2])

    @property
    def agent(self):
        """The state as it is."""
        return self._program.state[0]

    def weights(self):
        """Return the online network's weights as NumPy arrays."""
        return functional.Weights(*(numbers(array) for array in self.rule.online(self.agent)))

    def q_values(self):
        """Return the Q values of the online and of the target network, `[S, A]` each; no program is compiled for it."""
        everywhere, updates = self._program.arguments((np.arange(self.states, dtype=np.int32), np.int32(self.updates)))
        online = self.rule.q_online(self.agent, everywhere)
        return numbers(online), numbers(self.rule.q_target(self.agent, everywhere, self.numbers, updates))


def everything(batch, actions=3):
    """Return the mask that allows everything."""
    return np.ones((len(batch.states), actions), np.bool_)


def numbers(x):
    return ops.convert_to_numpy(x)


def alias_shares(share, alias):
    """Return the probabilities that one distribution of an alias table is drawn by, exactly."""
    count = len(share)
    total = [Fraction(0)] * count
    for value in range(count):
        total[value] += Fraction(float(share[value]))
        total[alias[value]] += 1 - Fraction(float(share[value]))
    return [part / count for part in total]
