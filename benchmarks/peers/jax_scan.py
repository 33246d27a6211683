"""The strongest opponent: a dueling DQN on a deterministic table as one ``lax.scan``, written out in plain JAX.

What makes it fast, on one core, in the order of what it gained:

- rows of the kernel `[S, H]` are gathered, never multiplied by one-hot vectors; their gradients are added in place to
  a buffer that stays, of which only the touched rows are cleared again;
- memory, environments and random numbers are integers and tables on the device (`jax_world`), and the carry is donated;
- dense Adam is written out, its bias corrections are part of the learning rate, and 1/√ is one operation;
- V and A are folded into one matrix `[A, H]`, once an update, and the target network keeps only that;
- acting and learning share one gather and one product; barriers keep the compiler from computing things again for
  every element that uses them, and from copies of the weights.

Unlike deeptaxi's loop, a minibatch is drawn before the transitions of its own step are stored, which is what lets
acting and learning share. The rule, the loss and its scale are deeptaxi's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from benchmarks.peers import common, jax_world  # jax_world first: it sets up JAX

import jax  # isort: skip
import jax.numpy as jnp  # isort: skip
from jax import lax  # isort: skip

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7
rows = jax_world.rows


class Weights(NamedTuple):
    """A dueling network. The target network's head is folded: its tail is `[1 + A, H]` and its bias `[A]`."""

    kernel: Any  # [S, H]
    tail: Any  # [1 + 1 + A, H]: the hidden bias, then the kernels of V and of A
    bias: Any  # [1 + A], of the head


class Carry(NamedTuple):
    """What one update hands to the next; the last three are Adam's alone."""

    weights: Weights
    target: Weights
    folded: tuple[Any, Any]  # the head of `weights` as one matrix [A, H] and bias [A]
    world: jax_world.World
    first: Weights | None
    second: Weights | None
    gradient: Any  # [S, H], zero between updates


class Gradient(NamedTuple):
    """The gradient of a minibatch: rows of the kernel, the tail and the bias of the head."""

    state: Any
    rows: Any
    tail: Any
    bias: Any


def mixing(actions: int) -> Any:
    """Return the matrix `[A, 1 + A]` that joins (V, A_1 … A_A) to Q."""
    return jnp.concatenate([jnp.ones((actions, 1)), jnp.eye(actions) - 1.0 / actions], axis=1).astype(jnp.float32)


def fold(w: Weights, mix: Any) -> tuple[Any, Any]:
    """Return the head as one matrix `[A, H]` and its bias `[A]`."""
    return mix @ w.tail[1:], jnp.sum(mix * w.bias, axis=1)


def hidden(w: Weights, states: Any) -> Any:
    """Return the hidden layer, `[B, H]`."""
    return jnp.maximum(rows(w.kernel, states) + w.tail[0], 0.0)


def gradient(c: Carry, codes: Any, t: jax_world.Tables, mix: Any) -> tuple[Gradient, Any]:
    """Return the gradient on a minibatch of codes, and the greedy actions of the environments.

    The first N rows are those of the environments: they act, and their errors are zero.
    """
    actions, count = t.actions, c.world.states.shape[0]
    head, bias = c.folded
    state = jnp.concatenate([c.world.states, codes // actions])
    action = jnp.concatenate([jnp.full(count, -1), codes % actions])
    x = lax.optimization_barrier(hidden(c.weights, state))
    q = lax.optimization_barrier(x @ head.T) + bias
    greedy = jnp.argmax(q[:count], axis=1).astype(jnp.int32)
    next_q = hidden(c.target, rows(t.following, codes)) @ c.target.tail[1:].T + c.target.bias
    goal = rows(t.reward, codes) + rows(t.bootstrap, codes) * jnp.max(next_q, axis=1)
    error = q - jnp.concatenate([jnp.zeros(count), goal])[:, None]
    slope = jnp.where(action[:, None] == jnp.arange(actions), error * (2.0 / (actions * len(codes))), 0.0)
    slope = lax.optimization_barrier(slope)
    back = lax.optimization_barrier(jnp.where(x > 0, slope @ head, 0.0))
    head_gradient = mix.T @ (lax.optimization_barrier(slope.T) @ x)
    tail = jnp.concatenate([jnp.sum(back, axis=0)[None], head_gradient])
    return Gradient(state, back, tail, jnp.sum(slope, axis=0) @ mix), greedy


def adam(w: Any, first: Any, second: Any, slope: Any, rate: Any) -> tuple[Any, Any, Any]:
    """Make a dense Adam step on one array; `rate` includes both bias corrections."""
    first = BETA_1 * first + (1 - BETA_1) * slope
    second = BETA_2 * second + (1 - BETA_2) * slope * slope
    return w - rate * first * lax.rsqrt(second + EPSILON * EPSILON), first, second


def adam_step(c: Carry, g: Gradient, greedy: Any, rate: Any) -> tuple[dict[str, Any], Any]:
    """Return what Adam changes of the carry."""
    dense = c.gradient.at[g.state].add(g.rows, mode="promise_in_bounds")
    dense, tail, bias, greedy = lax.optimization_barrier((dense, g.tail, g.bias, greedy))
    found = [adam(*arrays, rate) for arrays in zip(c.weights, c.first, c.second, (dense, tail, bias), strict=True)]
    weights, first, second = (Weights(*arrays) for arrays in zip(*found, strict=True))
    # Zero, but only known once the step is made: else the compiler copies the buffer to clear it early.
    zero = jnp.minimum(jnp.abs(weights.kernel[0, 0] + first.kernel[0, 0] + second.kernel[0, 0]), 0.0)
    dense = dense.at[g.state].set(g.rows * zero, mode="promise_in_bounds")
    return {"weights": weights, "first": first, "second": second, "gradient": dense}, greedy


def sgd_step(c: Carry, g: Gradient, greedy: Any, rate: Any) -> tuple[dict[str, Any], Any]:
    """Return what plain SGD changes of the carry: only the minibatch's rows of the kernel."""
    g, greedy = lax.optimization_barrier((g, greedy))
    kernel = c.weights.kernel.at[g.state].add(-rate * g.rows, mode="promise_in_bounds")
    weights = Weights(kernel, c.weights.tail - rate * g.tail, c.weights.bias - rate * g.bias)
    return {"weights": weights}, greedy


def step(c: Carry, drawn: jax_world.Drawn, t: jax_world.Tables, mix: Any, polyak: float) -> Carry:
    """One update, and one step of every environment."""
    g, greedy = gradient(c, jax_world.sample(c.world, drawn), t, mix)
    changed, greedy = (sgd_step if c.first is None else adam_step)(c, g, greedy, drawn.rate)
    w = changed["weights"]
    head, bias = fold(w, mix)
    new = Weights(w.kernel, jnp.concatenate([w.tail[:1], head]), bias)
    target = Weights(*(old + polyak * (now - old) for old, now in zip(c.target, new, strict=True)))
    return c._replace(**changed, target=target, folded=(head, bias), world=jax_world.play(c.world, greedy, drawn, t))


def tabulated(c: Carry) -> Any:
    """Return the Q values of all states."""
    head, bias = c.folded
    return jnp.maximum(c.weights.kernel + c.weights.tail[0], 0.0) @ head.T + bias


def first_carry(spec: common.Spec, t: jax_world.Tables, mix: Any) -> Carry:
    """Return fresh weights (Glorot uniform, biases zero) and a fresh world; no two arrays share memory."""
    states, actions, size = len(t.following) // t.actions, t.actions, spec.hidden
    keys = jax.random.split(jax.random.key(spec.seed), 3)
    glorot = jax.nn.initializers.glorot_uniform()
    head = jnp.concatenate([glorot(keys[1], (size, 1)).T, glorot(keys[2], (size, actions)).T])
    tail = jnp.concatenate([jnp.zeros((1, size)), head])
    weights = Weights(glorot(keys[0], (states, size)), tail, jnp.zeros(actions + 1))
    matrix, bias = fold(weights, mix)
    target = Weights(weights.kernel + 0, jnp.concatenate([tail[:1], matrix]), bias + 0)

    def zeros() -> Weights | None:
        return None if spec.optimizer == "sgd" else Weights(*(jnp.zeros_like(array) for array in weights))

    gradient = None if spec.optimizer == "sgd" else jnp.zeros_like(weights.kernel)
    return Carry(weights, target, (matrix, bias), jax_world.new_world(spec, t), zeros(), zeros(), gradient)


def make(spec: common.Spec) -> tuple[jax_world.Scan, float]:
    """Open the peer."""
    jax_world.fuse_outputs()
    t = jax_world.tables(spec.discount)
    mix = mixing(t.actions)
    return (
        jax_world.Scan(
            spec,
            first_carry(spec, t, mix),
            lambda c, drawn: step(c, drawn, t, mix, spec.polyak),
            tabulated,
            corrected=spec.optimizer == "adam",
        ),
        spec.environments,
    )


if __name__ == "__main__":
    common.main(make)
