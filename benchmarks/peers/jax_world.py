"""Taxi in plain JAX for the peers of this folder: the table by codes, the environments, the memory and the chunks.

A code is the number s · A + a. The table is deterministic, so a code says all of a transition, and the replay memory
keeps nothing else. Random numbers are drawn for a whole chunk of updates; one row of them goes with each update:

    [explore N | action N | start state N | ε | learning rate | minibatch B]
"""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false " + os.environ.get("XLA_FLAGS", "")
os.environ["JAX_PLATFORMS"] = "cpu"

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.peers.common import TIME_LIMIT, Spec, taxi


class Tables(NamedTuple):
    """The environment by code, `[S · A]`, and its start states."""

    following: Any  # next state
    reward: Any
    bootstrap: Any  # γ, or 0 where the episode terminates
    starts: Any
    actions: int


class World(NamedTuple):
    """The environments and the memory."""

    states: Any  # [N]
    ages: Any  # steps of the episode, [N]
    memory: Any  # codes, a ring
    added: Any


class Drawn(NamedTuple):
    """The numbers that go with one update."""

    explore: Any
    action: Any
    start: Any
    epsilon: Any
    rate: Any
    batch: Any


def fuse_outputs() -> None:
    """Let XLA write several arrays in one pass; to be called before the first computation.

    Adam then takes a tenth less time with jaxlib 0.10. It is not for all: the compiler fails on rejax's loop with it.
    """
    os.environ["XLA_FLAGS"] += " --xla_backend_extra_options=xla_cpu_use_multi_output_fusion"


def tables(discount: float) -> Tables:
    """Write Taxi-v4 as tables of codes."""
    table = taxi().table
    following, reward, terminated = (
        array[:, :, 0].reshape(-1) for array in (table.next_state, table.reward, table.terminated)
    )
    return Tables(
        jnp.asarray(following, jnp.int32),
        jnp.asarray(reward, jnp.float32),
        jnp.asarray(discount * (1.0 - terminated), jnp.float32),
        jnp.asarray(np.flatnonzero(table.start), jnp.int32),
        table.actions,
    )


def rows(array: Any, index: Any) -> Any:
    """Gather without checks."""
    return array.at[index].get(mode="promise_in_bounds")


def picked(where: Any, values: Any) -> Any:
    """Turn uniform numbers in [0, 1) into entries of `values`."""
    return rows(values, (where * values.shape[0]).astype(jnp.int32))


def new_world(spec: Spec, t: Tables) -> World:
    """Return a world with `spec.start` transitions of random play from random states in its memory."""
    first, second = jax.random.split(jax.random.key(spec.seed + 1))
    count = max(spec.start // spec.environments, 1) * spec.environments
    codes = jax.random.randint(first, (count,), 0, t.following.shape[0], jnp.int32)
    capacity = spec.capacity // spec.environments * spec.environments  # so that a step never wraps around
    memory = jnp.zeros(capacity, jnp.int32).at[:count].set(codes)
    states = picked(jax.random.uniform(second, (spec.environments,)), t.starts)
    return World(states, jnp.zeros(spec.environments, jnp.int32), memory, jnp.int32(count))


def sample(world: World, drawn: Drawn) -> Any:
    """Draw a minibatch of codes, `[B]`."""
    size = jnp.minimum(world.added, world.memory.shape[0]).astype(jnp.float32)
    codes = rows(world.memory, (drawn.batch * size).astype(jnp.int32))
    return lax.optimization_barrier(codes)  # read once, before the memory is written: else it is copied


def play(world: World, greedy: Any, drawn: Drawn, t: Tables) -> World:
    """Step all environments by ε-greedy actions and store the transitions."""
    action = jnp.where(drawn.explore < drawn.epsilon, (drawn.action * t.actions).astype(jnp.int32), greedy)
    code = world.states * t.actions + action
    ages = world.ages + 1
    over = (rows(t.bootstrap, code) == 0) | (ages >= TIME_LIMIT)
    states = jnp.where(over, picked(drawn.start, t.starts), rows(t.following, code))
    memory = lax.dynamic_update_slice(world.memory, code, (world.added % world.memory.shape[0],))
    return World(states, jnp.where(over, 0, ages), memory, world.added + len(code))


def split(row: Any, n: int) -> Drawn:
    """Name the parts of a row of numbers."""
    return Drawn(row[:n], row[n : 2 * n], row[2 * n : 3 * n], row[3 * n], row[3 * n + 1], row[3 * n + 2 :])


class Scan:
    """A peer: chunks of updates, each one compiled `lax.scan` over `step` with a donated carry.

    Args:
        spec: the measurement.
        carry: the first state.
        step: (carry, numbers of one update) to the next carry.
        table_of: carry to Q values `[S, A]`.
        corrected: whether Adam's bias corrections are multiplied into the learning rate.
    """

    def __init__(
        self, spec: Spec, carry: Any, step: Callable[[Any, Drawn], Any], table_of: Callable[[Any], Any], corrected: bool
    ) -> None:
        self._spec, self._carry, self._table_of, self._corrected = spec, carry, table_of, corrected
        self._done = 0
        self._key = jax.random.key(spec.seed)
        n, width = spec.environments, 3 * spec.environments + 2 + spec.batch

        @functools.partial(jax.jit, donate_argnums=0)
        def chunk(carry: Any, key: Any, course: Any) -> Any:
            numbers = jax.random.uniform(key, (course.shape[0], width)).at[:, 3 * n : 3 * n + 2].set(course)
            return lax.scan(lambda c, row: (step(c, split(row, n)), None), carry, numbers)[0]

        self._chunk = chunk

    def advance(self, updates: int) -> None:
        """Run one chunk."""
        t = np.arange(self._done, self._done + updates, dtype=np.float64)
        rate = self._spec.rate(t)
        if self._corrected:
            rate = rate * np.sqrt(1 - 0.999 ** (t + 1)) / (1 - 0.9 ** (t + 1))
        course = np.stack([self._spec.epsilon(t), rate], axis=1).astype(np.float32)
        self._key, key = jax.random.split(self._key)
        self._carry = jax.block_until_ready(self._chunk(self._carry, key, course))
        self._done += updates

    def q_values(self) -> Any:
        """Return the Q values of all states."""
        return np.asarray(self._table_of(self._carry))
