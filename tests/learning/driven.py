"""The compiled loop on a table, driven step by step, and looks at what it does."""

from __future__ import annotations

import numpy as np
from keras import ops

from deeptaxi.backend import keras_backend, xla
from deeptaxi.backend.program import Program
from deeptaxi.config import merge, resolve
from deeptaxi.learning.compiled.hyperparameters import numbers_of
from deeptaxi.learning.compiled.loop import LoopProgram
from deeptaxi.learning.compiled.mdp import Sizes, compile_mdp
from deeptaxi.learning.compiled.update import CompiledUpdate
from deeptaxi.learning.expected import expected_outcomes
from deeptaxi.mdp.planning import reachable
from deeptaxi.network.functional import Weights
from tests.learning.helpers import numbers

# A Q table that is learned by plain SGD; with minibatches of one and a step of 1 an entry becomes its target.
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


class Loop:
    """The compiled loop on a table, from the Q values `q_values` `[S, A]` on."""

    def __init__(self, table, q_values=None, **settings):
        self.table, self.config = table, resolve(merge(SETTINGS, settings))
        allowed = table.action_mask
        rule = CompiledUpdate(self.config, table.actions, None, sparse=False, states=table.states)
        self.loop = LoopProgram(self.config, rule, Sizes(*table.probability.shape, table.time_limit))
        expected = None
        if self.config.target.backup == "expected":
            expected = expected_outcomes(table, self.config.discount, self.config.target.reward_scale)
        self.mdp = compile_mdp(table, self.config.target.reward_scale, allowed, reachable(table, allowed), 11, expected)
        q_values = np.zeros((table.states, table.actions)) if q_values is None else q_values
        self.start = (self.loop.initial(self.agent(q_values)), *np.zeros(2, np.float32))
        functions = {"prefill": self._prefill, "run": self._run, "step": self._step, "reset": lambda _, state: state}
        self._program = Program(functions, self.start)
        self.numbers = numbers_of(self.config, table.actions)
        self._given = self._program.arguments((self.mdp, self.numbers))

    def _prefill(self, state, mdp, numbers, steps):
        return self.loop.prefill(state[0], mdp, numbers, steps), *state[1:]

    def _run(self, state, mdp, numbers, first, last):
        return self.loop.run(state[0], mdp, numbers, first, last), *state[1:]

    def _step(self, state, mdp, numbers, number):
        bits = xla.random_bits(3, number, (self.loop.width,))
        after, (_, returns) = self.loop.step_environments(state[0], mdp, numbers.constant, bits)
        ended = returns == returns
        totals = ops.where(ended, returns, 0.0) * numbers.constant.reward_scale
        return after, ops.sum(ops.cast(ended, "float32")), ops.sum(totals)

    def do(self, function, *arguments):
        """Call one of the compiled functions: "prefill", "run" or "step"; return the loop."""
        arguments = self._program.arguments(tuple(np.int32(argument) for argument in arguments))
        self._program(function, *self._given, *arguments)
        return self

    def again(self, **changes):
        """Go back to the beginning, with some parts of the state changed."""
        state = (self.start[0]._replace(**changes), *self.start[1:])
        self._program("reset", self._program.arguments(state))
        return self

    def agent(self, q_values):
        """Return the part of the state that has these Q values."""
        weights = Weights(np.array(q_values, np.float32), np.zeros(0, np.float32))
        return self.loop.rule.initial(weights)

    @property
    def state(self):
        return self._program.state[0]

    @property
    def ended(self):
        """How many episodes the last "step" ended, and the sum of their returns."""
        return tuple(float(numbers(value)) for value in self._program.state[1:])

    @property
    def q_values(self):
        return numbers(self.loop.rule.online(self.state.agent).kernel)

    def store(self):
        """Return the ring's transitions in the order of time, those of each copy in a list of rows."""
        ring, environments = self.state.ring, self.loop.environments
        size, position = int(ring.size), int(ring.position)
        order = (position - size + np.arange(size)) % self.loop.replay.capacity
        rows = [self.row(entry) for entry in numbers(ring.entries)[order].tolist()]
        return [rows[copy::environments] for copy in range(environments)]

    def row(self, entry):
        """Return (state, action, reward, next state, terminated, truncated) of an entry."""
        o = entry if entry >= 0 else -1 - entry
        w = self.mdp
        return (
            *divmod(o // self.loop.sizes.outcomes, self.loop.sizes.actions),
            float(w.reward[o]),
            int(w.next_state[o]),
            bool(w.terminated[o]),
            (entry < 0),
        )

    def drawn(self, count, exponent=0.5, seed=0):
        """Draw a minibatch of `count` from the ring as it is, before the first update; return the places too."""
        state, mdp = self.state, self.mdp
        mdp = type(mdp)(*(None if array is None else ops.convert_to_tensor(array) for array in mdp))

        def draw(index):
            now = self.numbers.constant._replace(importance_exponent=exponent)
            places, batch = self.loop.sample(state, mdp, now, np.int32(0), xla.random_bits(seed, index, (count,)))
            return places, *batch[: 6 if batch.weights is not None else 5]

        return [numbers(array) for array in keras_backend.compiled(draw, [])(np.int32(0))]
