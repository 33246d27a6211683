"""The update rule, as pure functions on arrays of any Keras backend or NumPy, in any mixture.

For a transition (s, a, r, s', terminated),

    td_target = r + γ · (1 − terminated) · max_a' q_target(s')[a']
    td_error  = td_target − q_online(s)[a].

With expected updates, the part after r is summed over all outcomes of (s, a): see `expected`.

A time limit cuts the episode, never the bootstrap: only `terminated` does. The overwrite rule turns this into a
regression target for all actions: the network's own predictions q_online(s), with entry a replaced by td_target. All
other errors are zero, so dE/dQ is zero for every other action: fitting these targets is exactly the masked gradient.

**Double DQN** (van Hasselt, Guez & Silver 2016, "Deep Reinforcement Learning with Double Q-learning", eq. 4): the
online network chooses a', the target network evaluates it: q_target(s')[argmax_a' q_online(s')[a']].

**n steps** (Sutton & Barto 2018, "Reinforcement Learning", eq. 7.1): r is replaced by r_1 + γ·r_2 + … + γ^(m−1)·r_m,
s' by the state after step m, and γ by γ^m. The sum stops, at m ≤ n, with the step that ends the episode; if that was a
time limit, it bootstraps from there.

The plain sum (as in Hessel et al. 2018, "Rainbow") is a return of the policy that acted: where that explores, its fixed
point is not Q*. **Watkins' correction** (Sutton & Barto 2018, §12.10) ends the sum before the first action, other than
that of the sample itself, that is not greedy when the sample is used: an action that a bootstrap from its state would
not choose, by the same network (the target network's Q values; with double DQN the online network's), among the allowed
ones. Then every step summed is one that the greedy policy takes too, and the fixed point is Q*, whatever policy acted.

**Scale of the loss.** Keras averages the squared errors over the A outputs and the B samples, although all but one of
the A are zero. With plain SGD at learning rate lr on the Q-table network, one sample therefore moves its entry by
α · td_error with

    α = 2 · lr / (A · B),

and a (state, action) pair that occurs twice in a minibatch moves twice, from the same old value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

HUBER_DELTA = 1.0  # where the loss changes from quadratic to linear; Keras' default


def td_targets(rewards: Any, discounts: Any, next_q: Any, next_allowed: Any = None, choosing_q: Any = None) -> Any:
    """Return the td_targets of the actions taken, `[B]`.

    Args:
        rewards: float `[B]`, of one step or the discounted sum of several.
        discounts: float `[B]`, bootstrap factors: γ^m · (1 − terminated) after m steps.
        next_q: the target network's Q values of the next states, `[B, A]`.
        next_allowed: bool `[B, A]`, the actions allowed in the next states; None for all.
        choosing_q: `[B, A]`, Q values that choose the next action: the online network's for double DQN; None for
            `next_q` itself.

    With expected updates, `discounts` is `[B, K]` and the Q values `[B, K, A]`: of all outcomes.
    """
    return bootstrap(rewards, discounts, next_values(next_q, next_allowed, choosing_q))


def next_values(next_q: Any, next_allowed: Any = None, choosing_q: Any = None) -> Any:
    """Return the values of the next states, ``[...]`` for Q values ``[..., A]``; the arguments are `td_targets`'s."""
    choosing = next_q if choosing_q is None else choosing_q
    if next_allowed is not None:
        choosing = ops.where(next_allowed, choosing, float("-inf"))
    if choosing_q is None:
        return ops.max(choosing, axis=-1)
    action = ops.expand_dims(ops.cast(ops.argmax(choosing, axis=-1), "int32"), -1)
    return ops.sum(ops.where(action == ops.arange(next_q.shape[-1], dtype="int32"), next_q, 0.0), axis=-1)


def bootstrap(rewards: Any, discounts: Any, values: Any) -> Any:
    """Return ``rewards + discounts · values``, `[B]`; of `discounts` and `values` `[B, K]` the sum over K.

    Terminal states select 0 rather than multiply by it: if no action is allowed, 0 · −∞ would be NaN.
    """
    carried = ops.where(ops.equal(discounts, 0.0), 0.0, ops.multiply(discounts, values))
    return ops.add(rewards, carried if len(carried.shape) == 1 else ops.sum(carried, axis=-1))


def n_step(rewards: Any, terminated: Any, truncated: Any, discount: float, greedy: Any = None) -> tuple[Any, Any, Any]:
    """Sum the discounted rewards of n consecutive steps, or fewer if the episode ends or an action is not greedy.

    Args:
        rewards: float `[B, n]`, the steps in order.
        terminated: bool `[B, n]`.
        truncated: bool `[B, n]`.
        discount: γ.
        greedy: bool `[B, n − 1]`, whether the actions from the second on are greedy, of `is_greedy`: the sum ends
            before the first that is not. None for the plain sum.

    Returns:
        The discounted sums up to and including the last step used, `[B]`; the index of that step, int32 `[B]`, whose
        next state is the one to bootstrap from; and the bootstrap factors, `[B]`. NumPy in, NumPy out.
    """
    if not all(isinstance(x, np.ndarray | None) for x in (rewards, terminated, truncated, greedy)):
        rewards, terminated, truncated = (ops.convert_to_tensor(x) for x in (rewards, terminated, truncated))
        greedy = None if greedy is None else ops.convert_to_tensor(greedy)
    ends = _cast(terminated, "float32")
    goes_on = (1.0 - ends) * (1.0 - _cast(truncated, "float32"))
    used = 1.0 + 0.0 * ends[:, 0]  # 1 while neither the episode nor the sum has ended before step k
    returns, steps, discounts = 0.0 * used, 0.0 * used, 0.0 * used
    for k in range(rewards.shape[1]):
        returns = returns + discount**k * used * rewards[:, k]
        steps = steps + used
        # If this step was reached, it replaces the one before.
        discounts = (1.0 - used) * discounts + discount ** (k + 1) * used * (1.0 - ends[:, k])
        used = used * goes_on[:, k]
        if greedy is not None and k + 1 < rewards.shape[1]:
            used = used * _cast(greedy[:, k], "float32")
    return returns, _cast(steps, "int32") - 1, discounts


def is_greedy(q_values: Any, actions: Any, allowed: Any = None) -> Any:
    """Return whether actions have the largest Q value, bool `[...]`; all that tie do.

    Args:
        q_values: ``[..., A]``.
        actions: `[...]`.
        allowed: bool ``[..., A]``, the actions to compare; None for all.
    """
    if allowed is not None:
        q_values = ops.where(allowed, q_values, float("-inf"))
    best = ops.equal(q_values, ops.max(q_values, axis=-1, keepdims=True))
    taken = ops.expand_dims(actions, -1) == ops.arange(q_values.shape[-1], dtype=actions.dtype)
    return ops.any(ops.logical_and(best, taken), axis=-1)


def _cast(x: Any, dtype: str) -> Any:
    """Cast `x` to `dtype`; NumPy arrays stay NumPy, because a Keras call would dominate the runtime."""
    return x.astype(dtype) if isinstance(x, np.ndarray) else ops.cast(x, dtype)


def overwrite(q_values: Any, actions: Any, targets: Any) -> Any:
    """Return `q_values` `[B, A]` with entry ``actions[b]`` of each row replaced by ``targets[b]``."""
    taken = ops.expand_dims(actions, -1) == ops.arange(q_values.shape[-1], dtype=actions.dtype)
    return ops.where(taken, ops.expand_dims(targets, -1), q_values)


def loss_of(name: str, q_values: Any, goal: Any, weights: Any) -> Any:
    """Return the loss, a scalar: Keras' `MeanSquaredError` or `Huber` with sample weights.

    Args:
        name: ``"mse"`` or ``"huber"``.
        q_values: `[B, A]`.
        goal: target values, `[B, A]`.
        weights: `[B]`; the loss is the mean over B of the weighted means over A. None for all 1.
    """
    errors = ops.subtract(goal, q_values)
    if name == "huber":
        size = ops.abs(errors)
        each = ops.where(size <= HUBER_DELTA, 0.5 * errors * errors, HUBER_DELTA * (size - 0.5 * HUBER_DELTA))
    else:
        each = errors * errors
    means = ops.mean(each, axis=-1)
    return ops.mean(means if weights is None else ops.multiply(weights, means))


def loss_and_slope(name: str, errors: Any, weights: Any, actions: int) -> tuple[Any, Any]:
    """Return `loss_of` with only one nonzero error per row, and its derivative with respect to that output.

    Args:
        name: ``"mse"`` or ``"huber"``.
        errors: td_error of the actions taken, `[B]`; all other errors are 0, by `overwrite`.
        weights: `[B]`, or None for all 1.
        actions: A, over which the loss is also averaged.

    Returns:
        the loss, a scalar, and dE/dQ of the actions taken, `[B]`.
    """
    scale = 1.0 / (actions * errors.shape[0])
    errors = ops.convert_to_tensor(errors)
    weighted = scale if weights is None else ops.convert_to_tensor(weights) * scale
    if name == "huber":
        bounded = ops.clip(errors, -HUBER_DELTA, HUBER_DELTA)
        return ops.sum(weighted * bounded * (errors - 0.5 * bounded)), -weighted * bounded
    return ops.sum(weighted * errors * errors), -2.0 * weighted * errors


def clip_by_global_norm(gradients: list[Any], norm: float) -> list[Any]:
    """Scale all gradients by one factor so that their global norm is at most `norm`.

    Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks", algorithm 1.
    """
    scale = clip_factor(gradients, norm)
    return [ops.multiply(gradient, scale) for gradient in gradients]


def clip_factor(gradients: list[Any], norm: float) -> Any:
    """Return the factor that reduces the global norm to `norm`; 1 if it is not larger."""
    total = ops.sqrt(sum(ops.sum(ops.square(gradient)) for gradient in gradients))
    return norm / ops.maximum(total, norm)


def epsilon_greedy(q_values: Any, epsilon: Any, draws: Any, noise: Any, allowed: Any) -> Any:
    """Return ε-greedy actions `[N]`: random with probability ε, else greedy with random tie-breaking.

    Args:
        q_values: `[N, A]`.
        epsilon: ε, a scalar.
        draws: uniform in [0, 1), `[N]`; rows below ε explore.
        noise: uniform in [0, 1), `[N, A]`; breaks ties.
        allowed: bool `[N, A]`; None for all.
    """
    if allowed is not None:
        q_values = ops.where(allowed, q_values, float("-inf"))
    best = q_values == ops.max(q_values, axis=-1, keepdims=True)
    candidates = ops.logical_or(ops.expand_dims(draws < epsilon, -1), best)
    if allowed is not None:
        candidates = ops.logical_and(allowed, candidates)
    return ops.argmax(ops.where(candidates, noise, -1.0), axis=-1)


def tabular_step(learning_rate: float, actions: int, batch_size: int) -> float:
    """Return α = 2·lr/(A·B), the step size per sample of plain SGD on the mse loss of a Q-table network."""
    return 2 * learning_rate / (actions * batch_size)


def learning_rate_of(step: float, actions: int, batch_size: int) -> float:
    """Return the learning rate lr = α·A·B/2 that yields the tabular step α per sample."""
    return step * actions * batch_size / 2
