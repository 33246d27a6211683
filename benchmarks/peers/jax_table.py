"""Q-learning in minibatches on a Q table, as one ``lax.scan`` in plain JAX: the opponent of the Q-table network."""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.peers import common, jax_world  # jax_world first: it sets up JAX

import jax.numpy as jnp  # isort: skip

rows = jax_world.rows


class Carry(NamedTuple):
    """Q and the target's Q by code, `[S · A]`, and the world."""

    q: Any
    target: Any
    world: jax_world.World


def step(c: Carry, drawn: jax_world.Drawn, t: jax_world.Tables, polyak: float) -> Carry:
    """One update with step size `drawn.rate`; a code that a minibatch holds twice moves twice, from its old value."""
    codes = jax_world.sample(c.world, drawn)
    table = c.q.reshape(-1, t.actions)
    greedy = jnp.argmax(rows(table, c.world.states), axis=1).astype(jnp.int32)
    best = jnp.max(rows(c.target.reshape(-1, t.actions), rows(t.following, codes)), axis=1)
    error = rows(t.reward, codes) + rows(t.bootstrap, codes) * best - rows(c.q, codes)
    # Zero, but only known once everything is read: else the compiler copies memory and tables to write them early.
    zero = jnp.minimum(jnp.abs(error[0]), 0.0)
    greedy = greedy + zero.astype(jnp.int32) + jnp.minimum(jnp.min(codes), 0)
    q = c.q.at[codes].add(drawn.rate * error + jnp.minimum(jnp.abs(greedy[0]), 0), mode="promise_in_bounds")
    return Carry(q, c.target + polyak * (q - c.target), jax_world.play(c.world, greedy, drawn, t))


def make(spec: common.Spec) -> tuple[jax_world.Scan, float]:
    """Open the peer."""
    t = jax_world.tables(spec.discount)
    zeros = jnp.zeros(t.following.shape)
    carry = Carry(zeros, zeros + 0, jax_world.new_world(spec, t))
    return (
        jax_world.Scan(
            spec,
            carry,
            lambda c, drawn: step(c, drawn, t, spec.polyak),
            lambda c: c.q.reshape(-1, t.actions),
            corrected=False,
        ),
        spec.environments,
    )


if __name__ == "__main__":
    common.main(make)
