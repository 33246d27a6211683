"""The update rule, as pure functions on arrays of any Keras backend or NumPy, in any mixture.

    q_next = target.predict(next_states)
    targets = overwrite(online.predict(states), actions, td_targets(rewards, 0.99 * (1 - terminated), q_next))
    online.fit(states, targets, batch_size=len(states))

These are the functions that deeptaxi itself trains with. Importing them starts Keras as deeptaxi does, quietly and on
one thread, unless Keras has been imported already.

For a transition (s, a, r, s', terminated),

    td_target = r + γ · (1 − terminated) · max_a' q_target(s')[a']
    td_error  = td_target − q_online(s)[a]

(Sutton & Barto 2018, "Reinforcement Learning", §6.5; with two networks, Mnih et al. 2015, "Human-level control through
deep reinforcement learning", algorithm 1).

With expected updates, the part after r is summed over all outcomes of (s, a): see `expected`.

A time limit cuts the episode, never the bootstrap: only `terminated` does. The overwrite rule turns this into a
regression target for all actions: the network's own predictions q_online(s), with entry a replaced by td_target. All
other errors are zero, so dE/dQ is zero for every other action: fitting these targets is exactly the masked gradient.

**Double DQN** (van Hasselt, Guez & Silver 2016, "Deep Reinforcement Learning with Double Q-learning", eq. 4): the
online network chooses a', the target network evaluates it: q_target(s')[argmax_a' q_online(s')[a']].

**n steps** (Sutton & Barto 2018, eq. 7.1): r is replaced by r_1 + γ·r_2 + … + γ^(m−1)·r_m,
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

from deeptaxi.backend import keras_backend
from deeptaxi.backend.shapes import check_shapes

keras_backend.start()  # before Keras is imported, which would print, and take all threads

from keras import ops  # noqa: E402

__all__ = [
    "clip_by_global_norm",
    "epsilon_greedy",
    "is_greedy",
    "learning_rate_of",
    "loss_of",
    "n_step",
    "overwrite",
    "tabular_step",
    "td_targets",
]
HUBER_DELTA = 1.0  # where the loss changes from quadratic to linear; Keras' default


def td_targets(rewards: Any, discounts: Any, next_q: Any, next_allowed: Any = None, choosing_q: Any = None) -> Any:
    """Return the td_targets of the actions taken, `[B]`: ``rewards + discounts · max_a next_q``.

    Sutton & Barto 2018, §6.5, eq. 6.8; Mnih et al. 2015; with `choosing_q`, van Hasselt et al. 2016, eq. 4.

    Args:
        rewards: float `[B]`, of one step or the discounted sum of several.
        discounts: float `[B]`, bootstrap factors: γ · (1 − terminated), or γ^m · (1 − terminated) after m steps. A
            time limit does not terminate.
        next_q: the target network's Q values of the next states, `[B, A]`.
        next_allowed: bool `[B, A]`, the actions allowed in the next states; None for all.
        choosing_q: `[B, A]`, Q values that choose the next action: the online network's for double DQN; None for
            `next_q` itself.

    With expected updates, `discounts` is `[B, K]` and the Q values `[B, K, A]`: of all outcomes.

    Raises:
        ValueError: the shapes are not these; a backend would broadcast them to `[B, B]`.

    Example:
        The second transition terminates, so nothing follows its reward: 1 + ½ · 8 and 1.

        >>> next_q = np.array([[2.0, 8.0], [2.0, 8.0]])
        >>> np.asarray(td_targets(np.array([1.0, 1.0]), 0.5 * (1 - np.array([0, 1])), next_q)).tolist()
        [5.0, 1.0]

        Double DQN: the online network prefers action 0, which the target network values at 2: 1 + ½ · 2.

        >>> online_q = np.array([[7.0, 6.0], [7.0, 6.0]])
        >>> np.asarray(td_targets([1.0, 1.0], [0.5, 0.5], next_q, choosing_q=online_q)).tolist()
        [2.0, 2.0]
    """
    rewards, discounts, next_q = to_arrays(rewards, discounts, next_q)
    axes = "BK" if len(discounts.shape) == 2 else "B"  # K: see `expected`
    check_shapes(rewards=(rewards, "B"), discounts=(discounts, axes), next_q=(next_q, f"{axes}A"))
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

    Sutton & Barto 2018, eq. 7.1; with `greedy`, Watkins' correction, §12.10.

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

    Raises:
        ValueError: the shapes are not these.

    Example:
        Three steps, of which the second is cut by a time limit: 1 + ½ · 2 = 2, to bootstrap from the state after it
        with (½)² = ¼.

        >>> rewards, no = np.array([[1.0, 2.0, 4.0]]), np.array([[False, False, False]])
        >>> [array.tolist() for array in n_step(rewards, no, np.array([[False, True, False]]), 0.5)]
        [[2.0], [1], [0.25]]

        The second action was not greedy: the sum ends before it.

        >>> [array.tolist() for array in n_step(rewards, no, no, 0.5, greedy=np.array([[False, True]]))]
        [[1.0], [0], [0.5]]
    """
    rewards, terminated, truncated = to_arrays(rewards, terminated, truncated)
    check_shapes(rewards=(rewards, "Bn"), terminated=(terminated, "Bn"), truncated=(truncated, "Bn"))
    if not all(isinstance(x, np.ndarray | None) for x in (rewards, terminated, truncated, greedy)):
        rewards, terminated, truncated = (ops.convert_to_tensor(x) for x in (rewards, terminated, truncated))
        greedy = None if greedy is None else ops.convert_to_tensor(greedy)
        if "int" in str(rewards.dtype):  # which not every backend multiplies by floats
            rewards = ops.cast(rewards, "float32")
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

    Example:
        Actions 1 and 2 tie for the best.

        >>> q_values = np.array([[1.0, 3.0, 3.0], [1.0, 3.0, 3.0]])
        >>> np.asarray(is_greedy(q_values, np.array([2, 0]))).tolist()
        [True, False]
    """
    q_values, actions = to_arrays(q_values, actions)
    if allowed is not None:
        q_values = ops.where(allowed, q_values, float("-inf"))
    best = ops.equal(q_values, ops.max(q_values, axis=-1, keepdims=True))
    return ops.any(ops.logical_and(best, _is_taken(actions, q_values.shape[-1])), axis=-1)


def _is_taken(actions: Any, count: int) -> Any:
    """Return for each of `count` actions whether it is the one taken, bool ``[..., A]`` of `[...]`."""
    return ops.equal(ops.expand_dims(actions, -1), ops.arange(count, dtype="int32"))


def to_arrays(*values: Any) -> list[Any]:
    """Return lists and numbers of Python as arrays of the backend; arrays of any kind remain as they are."""
    return [value if hasattr(value, "shape") else ops.convert_to_tensor(value) for value in values]


def _cast(x: Any, dtype: str) -> Any:
    """Cast `x` to `dtype`; NumPy arrays stay NumPy, because a Keras call would dominate the runtime."""
    return x.astype(dtype) if isinstance(x, np.ndarray) else ops.cast(x, dtype)


def overwrite(q_values: Any, actions: Any, targets: Any) -> Any:
    """Return the targets to fit, `[B, A]`: `q_values` with entry ``actions[b]`` of each row replaced by ``targets[b]``.

    The errors of all other entries are zero, and with them their gradients. Mnih et al. 2015 write the same rule as a
    loss of the action taken alone.

    Args:
        q_values: the online network's own predictions, `[B, A]`, before the update; they are copied.
        actions: the actions taken, integers `[B]` from 0 to A − 1; any other overwrites nothing.
        targets: their td_targets, `[B]`.

    Raises:
        ValueError: the shapes are not these; a backend would broadcast them to `[B, B, A]`.

    Example:
        >>> np.asarray(overwrite(np.array([[4.0, 4.0, 4.0, 4.0]]), np.array([2]), np.array([2.0]))).tolist()
        [[4.0, 4.0, 2.0, 4.0]]
    """
    q_values, actions, targets = to_arrays(q_values, actions, targets)
    check_shapes(q_values=(q_values, "BA"), actions=(actions, "B"), targets=(targets, "B"))
    return ops.where(_is_taken(actions, q_values.shape[-1]), ops.expand_dims(targets, -1), q_values)


def loss_of(name: str, q_values: Any, goal: Any, weights: Any) -> Any:
    """Return the loss, a scalar: Keras' `MeanSquaredError` or `Huber` with sample weights.

    Args:
        name: ``"mse"`` or ``"huber"``.
        q_values: `[B, A]`.
        goal: target values, `[B, A]`.
        weights: `[B]`; the loss is the mean over B of the weighted means over A. None for all 1.

    Example:
        One error of 2 among four outputs: 2² / 4.

        >>> float(loss_of("mse", np.array([[4.0, 4.0, 4.0, 4.0]]), np.array([[4.0, 4.0, 2.0, 4.0]]), None))
        1.0
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
    """Return the samples' parts of `loss_of`, and its derivative, where each row has only one error that is not 0.

    Args:
        name: ``"mse"`` or ``"huber"``.
        errors: td_error of the actions taken, `[B]`; all other errors are 0, by `overwrite`.
        weights: `[B]`, or None for all 1.
        actions: A, over which the loss is also averaged.

    Returns:
        what each sample adds to the loss, `[B]`, and dE/dQ of the actions taken, `[B]`.
    """
    scale = 1.0 / (actions * errors.shape[0])
    errors = ops.convert_to_tensor(errors)
    weighted = scale if weights is None else ops.convert_to_tensor(weights) * scale
    if name == "huber":
        bounded = ops.clip(errors, -HUBER_DELTA, HUBER_DELTA)
        return weighted * bounded * (errors - 0.5 * bounded), -weighted * bounded
    return weighted * errors * errors, -2.0 * weighted * errors


def clip_by_global_norm(gradients: list[Any], norm: float) -> list[Any]:
    """Scale all gradients by one factor so that their global norm is at most `norm`.

    Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks", algorithm 1.

    Args:
        gradients: arrays of any shapes.
        norm: the largest global norm, √ of the sum of all squares.

    Example:
        >>> [np.asarray(array).tolist() for array in clip_by_global_norm([np.array([3.0]), np.array([4.0])], 2.5)]
        [[1.5], [2.0]]
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

    Example:
        Row 0 explores, and its noise decides; row 1 is greedy.

        >>> q_values, noise = np.array([[1.0, 3.0], [1.0, 3.0]]), np.array([[0.9, 0.1], [0.9, 0.1]])
        >>> np.asarray(epsilon_greedy(q_values, 0.2, np.array([0.1, 0.7]), noise, None)).tolist()
        [0, 1]
    """
    if allowed is not None:
        q_values = ops.where(allowed, q_values, float("-inf"))
    best = q_values == ops.max(q_values, axis=-1, keepdims=True)
    candidates = ops.logical_or(ops.expand_dims(draws < epsilon, -1), best)
    if allowed is not None:
        candidates = ops.logical_and(allowed, candidates)
    return ops.argmax(ops.where(candidates, noise, -1.0), axis=-1)


def tabular_step(learning_rate: float, actions: int, batch_size: int) -> float:
    """Return α = 2·lr/(A·B), the step size per sample of plain SGD on the mse loss of a Q-table network.

    Args:
        learning_rate: lr, of the optimizer.
        actions: A, over which Keras averages the loss.
        batch_size: B, over which it averages too.

    Example:
        >>> tabular_step(384, actions=6, batch_size=256)
        0.5
    """
    return 2 * learning_rate / (actions * batch_size)


def learning_rate_of(step: float, actions: int, batch_size: int) -> float:
    """Return the learning rate lr = α·A·B/2 that yields the tabular step α per sample.

    Args:
        step: α, the step size of tabular Q-learning.
        actions: A.
        batch_size: B.

    Example:
        >>> learning_rate_of(0.5, actions=6, batch_size=256)
        384.0
    """
    return step * actions * batch_size / 2
