"""rejax's DQN: `train_iteration` in a compiled loop, which is the body of its `train` without the evaluation.

Its environment is the smallest Taxi with gymnax's interface, a look-up in the transition table. rejax fixes two hidden
layers of 64; here its dueling network gets one, and its observations are state numbers that the network turns into
one-hot vectors, so that the memory keeps numbers and not vectors. What differs from the others: every end of an
episode cuts the bootstrap, also the time limit, and memory and random numbers are rejax's own. Double DQN is off.
"""

from __future__ import annotations

from typing import Any

from benchmarks.peers import common, jax_world  # jax_world first: it sets up JAX

import jax  # isort: skip
import jax.numpy as jnp  # isort: skip
from flax import linen as nn  # isort: skip
from flax import struct  # isort: skip
from gymnax.environments import environment, spaces  # isort: skip
from rejax import DQN  # isort: skip
from rejax.networks import DuelingQNetwork, EpsilonGreedyPolicy  # isort: skip


@struct.dataclass
class State:
    """Where a copy of the environment stands."""

    number: Any
    time: Any


@struct.dataclass
class Params:
    """The environment has no parameters but its time limit."""

    max_steps_in_episode: int = common.TIME_LIMIT


class Taxi(environment.Environment):
    """Taxi-v4 by its table, with gymnax's interface as rejax 0.1.3 calls it: five values a step."""

    def __init__(self) -> None:
        self.tables = jax_world.tables(1.0)

    @property
    def default_params(self) -> Params:
        """Return the parameters."""
        return Params()

    def reset(self, key: Any, params: Any = None) -> tuple[Any, State]:
        """Draw a start state."""
        del params
        number = jax_world.picked(jax.random.uniform(key), self.tables.starts)
        return number, State(number, jnp.int32(0))

    def step(self, key: Any, state: State, action: Any, params: Any = None) -> tuple[Any, ...]:
        """Step, and reset at the end of an episode."""
        t, code = self.tables, state.number * 6 + action
        fresh, _ = self.reset(key, params)
        done = (jax_world.rows(t.bootstrap, code) == 0) | (state.time + 1 >= common.TIME_LIMIT)
        number = jnp.where(done, fresh, jax_world.rows(t.following, code))
        return number, State(number, jnp.where(done, 0, state.time + 1)), jax_world.rows(t.reward, code), done, {}

    def observation_space(self, params: Any) -> Any:
        """Return the state numbers."""
        del params
        return spaces.Discrete(500)

    def action_space(self, params: Any = None) -> Any:
        """Return the six actions."""
        del params
        return spaces.Discrete(6)


class OneHotDueling(DuelingQNetwork):
    """rejax's dueling network on one-hot vectors."""

    @nn.compact
    def __call__(self, obs: Any) -> Any:
        """Return Q `[B, A]` of state numbers `[B]`."""
        return super().__call__(jax.nn.one_hot(obs.astype(jnp.int32), 500))


class Rejax:
    """The peer."""

    def __init__(self, spec: common.Spec) -> None:
        n = spec.environments
        algorithm = DQN.create(
            env=Taxi(),
            num_envs=n,
            buffer_size=spec.capacity // n * n,
            fill_buffer=spec.start,
            batch_size=spec.batch,
            total_timesteps=spec.updates * n,
            learning_rate=spec.learning_rate,
            gamma=spec.discount,
            polyak=1 - spec.polyak,
            target_update_freq=n,
            eps_start=1.0,
            eps_end=spec.epsilon_end,
            exploration_fraction=0.5,
            ddqn=False,
        )
        agent = EpsilonGreedyPolicy(OneHotDueling)(hidden_layer_sizes=(spec.hidden,), action_dim=6, activation=nn.relu)
        self._algorithm = algorithm.replace(agent=agent)
        state = self._algorithm.init_state(jax.random.key(spec.seed))
        self._state = jax.tree.map(jnp.copy, state)  # rejax shares arrays, and what is shared cannot be donated
        self._run = jax.jit(self._iterations, static_argnums=1, donate_argnums=0)
        self._waiting = spec.start // n + 1  # iterations that only gather

    def _iterations(self, state: Any, count: int) -> Any:
        return jax.lax.fori_loop(0, count, lambda _, ts: self._algorithm.train_iteration(ts), state)

    def advance(self, updates: int) -> None:
        """Run that many iterations, at first some more."""
        if self._waiting:
            self._state, self._waiting = self._run(self._state, self._waiting), 0
        self._state = jax.block_until_ready(self._run(self._state, updates))

    def q_values(self) -> Any:
        """Return the Q values of all states."""
        return self._algorithm.agent.apply(self._state.q_ts.params, jnp.arange(500))


def make(spec: common.Spec) -> tuple[Rejax, float]:
    """Open the peer."""
    return Rejax(spec), spec.environments


if __name__ == "__main__":
    common.main(make)
