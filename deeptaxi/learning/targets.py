"""The rule, as pure functions on arrays of any Keras backend.

A transition (s, a, r, s', terminated) asks for

    td_target = r + γ · (1 − terminated) · max_a' q_target(s')[a']
    td_error  = td_target − q_online(s)[a].

A time limit cuts the episode, never the bootstrap: only `terminated` does. The overwrite rule makes of it a regression
target for all actions: the network's own predictions q_online(s), with entry a replaced by td_target. All other errors
are zero, so dE/dQ is zero for every other action: fitting these targets is the masked gradient, to the letter.

**Scale of the loss.** Keras averages the squared errors over the A outputs and the B samples, though all but one of
the A are zero. For plain SGD with learning rate lr on the Q-table network, one sample therefore moves its entry by
α · td_error with

    α = 2 · lr / (A · B),

and a (state, action) that a minibatch holds twice moves twice, from the same old value.
"""

from __future__ import annotations

from typing import Any

from keras import ops


def td_targets(rewards: Any, terminated: Any, next_q: Any, discount: float, next_allowed: Any = None) -> Any:
    """Return the targets of the taken actions, `[B]`.

    Args:
        rewards: float `[B]`.
        terminated: bool `[B]`; a truncated transition is not terminated.
        next_q: Q values of the next states by the target network, `[B, A]`.
        discount: γ.
        next_allowed: bool `[B, A]`, the actions that may be taken in the next states; None for all.
    """
    if next_allowed is not None:
        next_q = ops.where(next_allowed, next_q, float("-inf"))
    going_on = 1.0 - ops.cast(terminated, next_q.dtype)
    return ops.add(rewards, discount * going_on * ops.max(next_q, axis=-1))


def overwrite(q_values: Any, actions: Any, targets: Any) -> Any:
    """Return `q_values` `[B, A]` with entry ``actions[b]`` of each row replaced by ``targets[b]``."""
    taken = ops.expand_dims(actions, -1) == ops.arange(q_values.shape[-1], dtype=actions.dtype)
    return ops.where(taken, ops.expand_dims(targets, -1), q_values)


def epsilon(update: int, updates: int, start: float, end: float, fraction: float) -> float:
    """Return ε before update number `update` (from 0): linear from `start` to `end` over a fraction of the updates."""
    progress = min(1.0, update / (fraction * updates))
    return start + (end - start) * progress


def epsilon_greedy(q_values: Any, epsilon: Any, draws: Any, noise: Any, allowed: Any) -> Any:
    """Return actions `[N]`: with probability ε a random one, else a best one; ties are broken at random.

    Args:
        q_values: `[N, A]`.
        epsilon: ε, a scalar.
        draws: uniform in [0, 1), `[N]`: which rows explore.
        noise: uniform in [0, 1), `[N, A]`: the order in which equals are preferred.
        allowed: bool `[N, A]`.
    """
    q_values = ops.where(allowed, q_values, float("-inf"))
    best = q_values == ops.max(q_values, axis=-1, keepdims=True)
    explore = ops.expand_dims(draws < epsilon, -1)
    candidates = ops.logical_and(allowed, ops.logical_or(explore, best))
    return ops.argmax(ops.where(candidates, noise, -1.0), axis=-1)


def tabular_step(learning_rate: float, actions: int, batch_size: int) -> float:
    """Return α = 2·lr/(A·B), the step of one sample of plain SGD on the mse loss of a Q-table network."""
    return 2 * learning_rate / (actions * batch_size)


def learning_rate_of(step: float, actions: int, batch_size: int) -> float:
    """Return the learning rate lr = α·A·B/2 that gives one sample the tabular step α."""
    return step * actions * batch_size / 2
