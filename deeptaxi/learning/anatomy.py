"""One update taken apart, with every number on the way.

`dissect` lets a `Learner` make one real update, and records what went into it and what came of it. It has no rule of
its own: targets, overwrite, loss and gradient are the learner's, so are the weights afterwards. With the quantities of
`targets` and `gradients`, E the loss, α the tabular step:

    td_target → targets → E → dE/dQ → dE/dV, dE/dA → weights → predictions

The sample is shown as one of a minibatch of B whose others have no error. It is computed alone, with weight 1/B: the
same loss and the same gradients, as the loss is a mean over B. The optimizer is fresh, so that its first step is
dense and row-sparse at once.

`masked.compare` sets the masked gradient beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from deeptaxi import backend
from deeptaxi.config import TrainConfig
from deeptaxi.learning.example import Transition
from deeptaxi.learning.learner import Goal, Learner
from deeptaxi.learning.masked import array, compare, tensor
from deeptaxi.learning.parts import (
    After,
    Anatomy,
    Floats,
    Gradient,
    Loss,
    TabularStep,
    TdTarget,
    WeightChange,
)
from deeptaxi.learning.replay import Batch
from deeptaxi.learning.schedules import initial_learning_rate, initial_tabular_step
from deeptaxi.learning.targets import loss_of, n_step
from deeptaxi.network import gradients
from deeptaxi.network.build import streams
from deeptaxi.network.tabulate import tabulate

Bools = NDArray[np.bool_]


def batch_of(steps: Sequence[Transition], config: TrainConfig) -> Batch:
    """Return the minibatch of one sample that a replay memory makes of n transitions in a row, with weight 1/B."""
    scale = np.float32(config.target.reward_scale)
    rewards = np.array([[step.reward for step in steps]], np.float32) / scale
    ends = [np.array([[getattr(step, name) for step in steps]]) for name in ("terminated", "truncated")]
    returns, last, discounts = n_step(rewards, *ends, config.discount)
    first, reached = steps[0], steps[int(last[0])].next_state
    return Batch(
        np.array([first.state], np.int32),
        np.array([first.action], np.int32),
        returns.astype(np.float32),
        np.array([reached], np.int32),
        discounts.astype(np.float32),
        np.array([1 / config.replay.batch_size], np.float32),
    )


def dissect(learner: Learner, steps: Sequence[Transition], allowed: Bools, comparing: bool = False) -> Anatomy:
    """Let the learner make one update on `steps`, and return all that there is to see.

    Args:
        learner: fresh from its constructor; it is changed. Its target network may differ from the online one.
        steps: n transitions in a row, fewer where the episode ended.
        allowed: the actions allowed in each state, bool `[S, A]`.
        comparing: whether to set the masked gradient beside it.
    """
    config, online = learner.config, learner.online
    batch = batch_of(steps, config)
    next_allowed = allowed[batch.next_states]
    inputs, weights = [tensor(x) for x in (*batch[:5], next_allowed)], tensor(batch.weights)
    goal = Goal(*(x if x is None else array(x) for x in learner.rule.goal(*inputs)))
    loss, found = learner.rule.loss_gradients(inputs[0], tensor(goal.targets), weights)
    slopes, gradient = [array(slope) for slope in found], gradient_of(online, goal, batch, config)
    copy, table_before, before = copied(online), tabulate(online), weights_of(online)
    learner.update(batch, next_allowed)
    made = weights_of(online)
    state, action = steps[0].state, steps[0].action
    td_target = td_target_of(steps, batch, goal, next_allowed[0], config)
    after = after_of(state, action, table_before, tabulate(online), td_target.td_target)
    return Anatomy(
        state=state,
        action=action,
        transitions=tuple(steps),
        batch_size=config.replay.batch_size,
        learning_rate=initial_learning_rate(config, learner.actions),
        q_online=goal.q_online[0],
        q_target=goal.q_target[0],
        choosing_q=None if goal.choosing_q is None else goal.choosing_q[0],
        td_target=td_target,
        targets=goal.targets[0],
        loss=loss_parts(goal, config, float(loss)),
        gradient=gradient,
        gradient_norm=float(np.sqrt(sum(np.square(slope).sum() for slope in slopes))),
        weights=tuple(changes(online, before, made, slopes)),
        tabular=tabular_of(config, learner.actions, action, goal, td_target, after),
        after=after,
        comparison=compare(copy, config, batch, goal.targets, (float(loss), slopes), made) if comparing else None,
    )


def weights_of(network: keras.Model) -> list[Floats]:
    """Return the trainable weights as arrays of their own, each in its shape."""
    return [array(weight) for weight in network.trainable_variables]


def td_target_of(
    steps: Sequence[Transition], batch: Batch, goal: Goal, allowed: Bools, config: TrainConfig
) -> TdTarget:
    """Say how td_target came about."""
    terminated = steps[-1].terminated
    choosing = np.where(allowed, goal.q_target[0] if goal.choosing_q is None else goal.choosing_q[0], -np.inf)
    best = None if terminated else int(choosing.argmax())
    taken = int(batch.actions[0])
    return TdTarget(
        rewards=tuple(step.reward / config.target.reward_scale for step in steps),
        factors=tuple(config.discount**k for k in range(len(steps))),
        reward=float(batch.rewards[0]),
        discount=float(batch.discounts[0]),
        next_state=int(batch.next_states[0]),
        terminated=terminated,
        allowed=tuple(allowed.tolist()),
        best_action=best,
        bootstrap=None if best is None else float(goal.q_target[0, best]),
        td_target=float(goal.td_targets[0]),
        td_error=float(goal.td_targets[0] - goal.q_online[0, taken]),
    )


def loss_parts(goal: Goal, config: TrainConfig, loss: float) -> Loss:
    """Return the loss of each output by itself, and how they add up."""
    name, actions = config.optimizer.loss, goal.targets.shape[1]
    pairs = zip(goal.q_online[0], goal.targets[0], strict=True)
    outputs = np.array([float(loss_of(name, q[None, None], target[None, None], None)) for q, target in pairs])
    return Loss(name, goal.targets[0] - goal.q_online[0], outputs, 1 / (actions * config.replay.batch_size), loss)


def gradient_of(online: keras.Model, goal: Goal, batch: Batch, config: TrainConfig) -> Gradient:
    """Return dE/dQ by automatic differentiation, and by the closed form what it becomes in the streams."""
    q_values, targets, weights = keras.Variable(goal.q_online), tensor(goal.targets), tensor(batch.weights)
    _, (slope,) = backend.gradients(
        lambda: loss_of(config.optimizer.loss, q_values.value, targets, weights), [q_values]
    )
    g, below = array(slope).astype(np.float64) + 0.0, streams(online)  # + 0.0 makes zeros of negative ones
    if below is None:
        return Gradient(g[0])
    value, advantage = (array(x).astype(np.float64) for x in below(batch.states, training=False))
    aggregation, total = config.network.aggregation, gradients.value_gradient(g)
    return Gradient(
        g[0],
        aggregation,
        float(value[0, 0]),
        advantage[0],
        float(total[0, 0]),
        gradients.advantage_gradient_nested(g, advantage, aggregation)[0],
        gradients.advantage_gradient_shared(g, total)[0] if aggregation == "mean" else None,
    )


def copied(network: keras.Model) -> keras.Model:
    """Return a network of the same weights, which are its own."""
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    return copy


def changes(
    network: keras.Model, before: Sequence[Floats], after: Sequence[Floats], slopes: Sequence[Floats]
) -> list[WeightChange]:
    """Return what a step did to each weight."""
    found = []
    for variable, old, new, slope in zip(network.trainable_variables, before, after, slopes, strict=True):
        moved = new != old
        rows = np.flatnonzero(moved.reshape(len(old), -1).any(axis=1))
        found.append(
            WeightChange(
                variable.path,
                old.shape,
                tuple(rows.tolist()),
                int(moved.sum()),
                float(np.abs(new - old).max()),
                slope[rows],
                old[rows],
                new[rows],
            )
        )
    return found


def after_of(state: int, action: int, before: Floats, after: Floats, td_target: float) -> After:
    """Compare the Q values of all states before and after the step, `[S, A]` each."""
    change = np.abs(after - before)
    here = change[state] > 0
    change[state] = 0
    elsewhere = change.max(axis=1)
    return After(
        after[state],
        td_target - float(after[state, action]),
        int(here.sum() - here[action]),
        int((elsewhere > 0).sum()),
        float(elsewhere.max()),
        int(elsewhere.argmax()) if elsewhere.any() else None,
    )


def tabular_of(
    config: TrainConfig, actions: int, action: int, goal: Goal, found: TdTarget, after: After
) -> TabularStep | None:
    """Return the step in tabular terms; None where the network is no Q table."""
    if config.network.kind != "q-table":
        return None
    alpha, before, reached = initial_tabular_step(config, actions), float(goal.q_online[0, action]), after.q_values
    expected = None if alpha is None else before + alpha * found.td_error
    moved = float(reached[action])
    return TabularStep(
        alpha, before, found.td_error, expected, moved, None if expected is None else abs(moved - expected)
    )
