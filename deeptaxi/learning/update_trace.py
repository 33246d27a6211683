"""Trace one update with every intermediate value, and compare it with the masked gradient.

`trace_update` makes the update of a `FitAgent` step by step: predict, overwrite, and what `fit` does, a gradient and a
step of the agent's optimizer. With the quantities of `recipe` and `gradients`, E the loss, α the tabular step:

    td_target → targets → E → dE/dQ → dE/dV, dE/dA → weights → predictions

The sample stands for one of a minibatch of B in which the others have no error. It is computed alone, with weight 1/B:
the loss and the gradients are the same, because the loss is a mean over B. The optimizer is fresh, so its first step is
the same whether dense or row-sparse.

**The masked gradient.** A loss on the action taken alone, at the same scale,

    E = (1/(A·B)) · Σ_b ℓ(td_target_b − q_online(state_b)[action_b]),

has the same gradient as the loss over all outputs of the overwritten targets, whose other errors are zero. Both are
computed here by automatic differentiation, each followed by a step of a fresh optimizer, and compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from deeptaxi.backend import keras_backend
from deeptaxi.config import TrainConfig
from deeptaxi.learning.agent import FitAgent
from deeptaxi.learning.example import Transition
from deeptaxi.learning.keras_optimizer import build_optimizer
from deeptaxi.learning.replay_buffer import Batch
from deeptaxi.learning.schedules import initial_learning_rate, initial_tabular_step
from deeptaxi.network import gradients
from deeptaxi.network.own import copy_network, streams_of
from deeptaxi.network.tabulate import tabulate
from deeptaxi.recipe import loss_of, n_step, overwrite, td_targets

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class TdTarget:
    """The terms of td_target, in units of the reward scale: Σ_k γ^k · r_k + discount · bootstrap."""

    rewards: tuple[float, ...]  # r_k of the steps used
    factors: tuple[float, ...]  # γ^k
    reward: float  # the discounted sum
    discount: float  # γ^m · (1 − terminated) after m steps
    next_state: int
    terminated: bool
    allowed: tuple[bool, ...]  # in the next state, [A]
    best_action: int | None  # a', whose q_target is bootstrapped; None if the episode ended
    bootstrap: float | None  # q_target(next_state)[a']
    td_target: float
    td_error: float


@dataclass(frozen=True)
class Loss:
    """The loss of each output, [A], and the scale of their sum."""

    name: str
    errors: Floats
    outputs: Floats
    scale: float  # 1/(A·B)
    loss: float


@dataclass(frozen=True)
class Gradient:
    """The gradient of the loss with respect to the Q values and, if dueling, the streams; [A], V []."""

    dE_dQ: Floats  # noqa: N815  # in mathematical notation
    aggregation: str | None = None
    value: float | None = None
    advantage: Floats | None = None
    dE_dV: float | None = None  # noqa: N815
    dE_dA_nested: Floats | None = None  # noqa: N815
    dE_dA_shared: Floats | None = None  # noqa: N815  # None unless the aggregation is the mean, the only one with that form


@dataclass(frozen=True)
class WeightChange:
    """The change of one weight array in the step: the rows (along the first axis) that changed, and their values."""

    name: str
    shape: tuple[int, ...]
    rows: tuple[int, ...]
    entries: int  # number of entries that changed
    largest: float  # largest change
    gradient: Floats  # of the rows
    before: Floats
    after: Floats


@dataclass(frozen=True)
class TabularStep:
    """A Q-table entry as predicted by Q[s, a] += α · td_error, and after the actual step; None if there is no α."""

    alpha: float | None
    before: float
    td_error: float
    expected: float | None
    after: float
    difference: float | None


@dataclass(frozen=True)
class After:
    """The predictions after the step, and how many others changed along with the one updated."""

    q_values: Floats  # [A]
    td_error: float  # against the same td_target
    other_actions: int  # changed actions of the same state
    other_states: int  # changed states
    largest_elsewhere: float  # largest change in another state
    largest_state: int | None  # that state


@dataclass(frozen=True)
class Difference:
    """The largest differences in one weight array."""

    name: str
    gradient_difference: float
    weight_difference: float


@dataclass(frozen=True)
class Comparison:
    """The overwrite rule compared with the masked gradient: largest values, and largest differences."""

    overwrite_loss: float
    masked_loss: float
    largest_gradient: float
    gradient_difference: float
    largest_step: float
    weight_difference: float
    weights: tuple[Difference, ...]


@dataclass(frozen=True)
class Anatomy:
    """One update, in order of computation."""

    state: int
    action: int
    transitions: tuple[Transition, ...]
    batch_size: int
    learning_rate: float
    q_online: Floats  # of the state, [A]
    q_target: Floats  # of the next state, [A]
    choosing_q: Floats | None  # double DQN: q_online of the next state, [A]
    td_target: TdTarget
    targets: Floats  # [A]
    loss: Loss
    gradient: Gradient
    gradient_norm: float
    weights: tuple[WeightChange, ...]
    tabular: TabularStep | None
    after: After
    comparison: Comparison | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, arrays as lists, in full precision."""
        plain: dict[str, Any] = listed(dataclasses.asdict(self))
        return plain


def listed(value: Any) -> Any:
    """Convert nested arrays and tuples to lists."""
    if isinstance(value, dict):
        return {key: listed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [listed(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def array(x: Any) -> NDArray[Any]:
    """Copy a tensor to a NumPy array."""
    return np.array(ops.convert_to_numpy(x))


def tensor(x: Any) -> Any:
    """Convert a NumPy array to a tensor: PyTorch does not mix arrays with tensors that require gradients."""
    return ops.convert_to_tensor(x)


def recipe_gradients(online: keras.Model, config: TrainConfig, batch: Batch, targets: Floats) -> tuple[Any, list[Any]]:
    """Return the loss of all outputs against the overwritten targets `[B, A]`, and its weight gradients.

    It includes what layers of the user's own add to the loss, such as regularizers.
    """
    states, weights, overwritten = tensor(batch.states), tensor(batch.weights), tensor(targets)

    def loss() -> Any:
        error = loss_of(config.optimizer.loss, online(states, training=True), overwritten, weights)
        return sum(online.losses, error)

    return keras_backend.gradients(loss, online.trainable_variables, online.non_trainable_variables)


def masked_gradients(online: keras.Model, config: TrainConfig, batch: Batch, targets: Floats) -> tuple[Any, list[Any]]:
    """Return the loss on the actions taken alone, scaled like the overwrite rule's, and its weight gradients.

    It includes what layers of the user's own add to the loss, as that of the overwrite rule does.

    Args:
        online: the network.
        config: selects the loss.
        batch: B samples.
        targets: `[B, A]`; only the entries of the actions taken are used.
    """
    actions, index = targets.shape[1], batch.actions[:, None].astype(np.int64)
    states, weights, taken_index = tensor(batch.states), tensor(batch.weights), tensor(index)
    td_targets = tensor(np.take_along_axis(targets, index, axis=1))

    def loss() -> Any:
        taken = ops.take_along_axis(online(states, training=True), taken_index, axis=1)
        error = loss_of(config.optimizer.loss, taken, td_targets, weights) / actions
        return sum(online.losses, error)

    return keras_backend.gradients(loss, online.trainable_variables, online.non_trainable_variables)


def compare(
    online: keras.Model,
    config: TrainConfig,
    batch: Batch,
    targets: Floats,
    recipe: tuple[float, Sequence[Floats]],
    after: Sequence[Floats],
) -> Comparison:
    """Take a step along the masked gradient and compare it with that of the overwrite rule.

    Args:
        online: the network before the update; modified in place.
        config: of the update.
        batch: of the update.
        targets: the overwritten targets, `[B, A]`.
        recipe: loss and gradients of the overwrite rule.
        after: the weights after the step of the overwrite rule.
    """
    variables = online.trainable_variables
    before = [array(variable) for variable in variables]
    loss, masked = masked_gradients(online, config, batch, targets)
    rate = initial_learning_rate(config, targets.shape[1])
    optimizer = build_optimizer(config.optimizer, rate, config.schedule_length)
    optimizer.build(variables)
    optimizer.apply(masked, variables)
    apart = [
        Difference(variable.path, largest(one, array(other)), largest(made, array(variable)))
        for variable, made, one, other in zip(variables, after, recipe[1], masked, strict=True)
    ]
    return Comparison(
        recipe[0],
        float(loss),
        max(largest(gradient, 0.0) for gradient in recipe[1]),
        max(item.gradient_difference for item in apart),
        max(largest(new, old) for new, old in zip(after, before, strict=True)),
        max(item.weight_difference for item in apart),
        tuple(apart),
    )


def largest(one: Floats, other: Floats | float) -> float:
    """Return the largest absolute difference."""
    return float(np.abs(one - other).max())


Bools = NDArray[np.bool_]


def batch_of(steps: Sequence[Transition], config: TrainConfig) -> Batch:
    """Build the one-sample minibatch, with weight 1/B, that a replay buffer makes from n consecutive transitions."""
    scale = np.float32(config.target.reward_scale)
    rewards = np.array([[step.reward for step in steps]], np.float32) / scale
    terminated, truncated = (
        np.array([[getattr(step, name) for step in steps]]) for name in ("terminated", "truncated")
    )
    returns, last, discounts = n_step(rewards, terminated, truncated, config.discount)
    first, reached = steps[0], steps[int(last[0])].next_state
    return Batch(
        np.array([first.state], np.int32),
        np.array([first.action], np.int32),
        returns.astype(np.float32),
        np.array([reached], np.int32),
        discounts.astype(np.float32),
        np.array([1 / config.replay.batch_size], np.float32),
    )


def steps_before_exploration(agent: FitAgent, steps: Sequence[Transition], allowed: Bools) -> Sequence[Transition]:
    """Return the steps that an n-step sum of the agent has: those before the first action that is not greedy.

    Args:
        agent: the agent, before the update.
        steps: n consecutive transitions, fewer if the episode ended.
        allowed: the actions allowed in each state, bool `[S, A]`.
    """
    later = steps[1:]
    if not (agent.config.target.cuts and later):
        return steps
    states, actions = (np.array([[getattr(step, name) for step in later]], np.int32) for name in ("state", "action"))
    (greedy,) = agent.greedy(states, actions, allowed[states])
    return steps if greedy.all() else steps[: 1 + int(greedy.argmin())]


class TDTargets(NamedTuple):
    """The targets of an update and the Q values they are computed from."""

    q_online: Floats  # of the states, before the step, [B, A]
    q_target: Floats  # of the next states, [B, A]
    choosing_q: Floats | None  # double DQN: the online network's Q values of the next states, [B, A]
    td_targets: Floats  # [B]
    targets: Floats  # `q_online` with the entries of the actions taken overwritten, [B, A]


def compute_targets(agent: FitAgent, batch: Batch, allowed: Bools) -> TDTargets:
    """Return the targets of an update of the agent; `allowed` are the actions allowed in the next states, `[B, A]`."""
    q_online = array(agent.online(batch.states, training=False))
    q_target = array(agent.target(batch.next_states, training=False))
    choosing = array(agent.online(batch.next_states, training=False)) if agent.config.target.double else None
    found = td_targets(batch.rewards, batch.discounts, q_target, allowed, choosing)
    return TDTargets(q_online, q_target, choosing, array(found), array(overwrite(q_online, batch.actions, found)))


def trace_update(agent: FitAgent, steps: Sequence[Transition], allowed: Bools, comparing: bool = False) -> Anatomy:
    """Run one update of the agent on `steps` and return every intermediate value.

    Args:
        agent: a newly constructed agent; modified in place. Its target network may differ from the online one.
        steps: n consecutive transitions, fewer if the episode ended.
        allowed: the actions allowed in each state, bool `[S, A]`.
        comparing: whether to compare with the masked gradient.
    """
    config, online = agent.config, agent.online
    used = steps_before_exploration(agent, steps, allowed)
    batch = batch_of(used, config)
    next_allowed = allowed[batch.next_states]
    td = compute_targets(agent, batch, next_allowed)
    loss, found = recipe_gradients(online, config, batch, td.targets)
    slopes, gradient = [array(slope) for slope in found], gradient_of(online, td, batch, config)
    states = len(allowed)
    copy, table_before, before = copy_network(online), tabulate(online, states), weights_of(online)
    agent.optimizer.apply(found, online.trainable_variables)
    made = weights_of(online)
    state, action = steps[0].state, steps[0].action
    td_target = td_target_of(used, batch, td, next_allowed[0], config)
    after = after_of(state, action, table_before, tabulate(online, states), td_target.td_target)
    return Anatomy(
        state=state,
        action=action,
        transitions=tuple(steps),
        batch_size=config.replay.batch_size,
        learning_rate=initial_learning_rate(config, agent.actions),
        q_online=td.q_online[0],
        q_target=td.q_target[0],
        choosing_q=None if td.choosing_q is None else td.choosing_q[0],
        td_target=td_target,
        targets=td.targets[0],
        loss=loss_parts(td, config, float(loss)),
        gradient=gradient,
        gradient_norm=float(np.sqrt(sum(np.square(slope).sum() for slope in slopes))),
        weights=tuple(changes(online, before, made, slopes)),
        tabular=tabular_of(config, agent.actions, action, td, td_target, after),
        after=after,
        comparison=compare(copy, config, batch, td.targets, (float(loss), slopes), made) if comparing else None,
    )


def weights_of(network: keras.Model) -> list[Floats]:
    """Copy the trainable weights to NumPy arrays."""
    return [array(weight) for weight in network.trainable_variables]


def td_target_of(
    steps: Sequence[Transition], batch: Batch, td: TDTargets, allowed: Bools, config: TrainConfig
) -> TdTarget:
    """Return the terms of td_target; `allowed` are the actions allowed in the state bootstrapped from, `[A]`."""
    terminated = steps[-1].terminated
    choosing = np.where(allowed, td.q_target[0] if td.choosing_q is None else td.choosing_q[0], -np.inf)
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
        bootstrap=None if best is None else float(td.q_target[0, best]),
        td_target=float(td.td_targets[0]),
        td_error=float(td.td_targets[0] - td.q_online[0, taken]),
    )


def loss_parts(td: TDTargets, config: TrainConfig, loss: float) -> Loss:
    """Return the loss of each output and their sum."""
    name, actions = config.optimizer.loss, td.targets.shape[1]
    pairs = zip(td.q_online[0], td.targets[0], strict=True)
    outputs = np.array([float(loss_of(name, q[None, None], target[None, None], None)) for q, target in pairs])
    return Loss(name, td.targets[0] - td.q_online[0], outputs, 1 / (actions * config.replay.batch_size), loss)


def gradient_of(online: keras.Model, td: TDTargets, batch: Batch, config: TrainConfig) -> Gradient:
    """Return dE/dQ by automatic differentiation, and the gradients of the streams in closed form."""
    q_values, targets, weights = keras.Variable(td.q_online), tensor(td.targets), tensor(batch.weights)
    _, (slope,) = keras_backend.gradients(
        lambda: loss_of(config.optimizer.loss, q_values.value, targets, weights), [q_values]
    )
    g, found = array(slope).astype(np.float64) + 0.0, streams_of(online)  # + 0.0 turns −0 into 0
    if found is None:
        return Gradient(g[0])
    below, aggregation = found
    value, advantage = (array(x).astype(np.float64) for x in below(batch.states, training=False))
    total = gradients.value_gradient(g)
    return Gradient(
        g[0],
        aggregation,
        float(value[0, 0]),
        advantage[0],
        float(total[0, 0]),
        gradients.advantage_gradient_nested(g, advantage, aggregation)[0],
        gradients.advantage_gradient_shared(g, total)[0] if aggregation == "mean" else None,
    )


def changes(
    network: keras.Model, before: Sequence[Floats], after: Sequence[Floats], slopes: Sequence[Floats]
) -> list[WeightChange]:
    """Return the change of each weight array in a step."""
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
    config: TrainConfig, actions: int, action: int, td: TDTargets, found: TdTarget, after: After
) -> TabularStep | None:
    """Return the step in tabular terms; None if the network is not a Q table."""
    if config.network.kind != "q-table":
        return None
    alpha, before, reached = initial_tabular_step(config, actions), float(td.q_online[0, action]), after.q_values
    expected = None if alpha is None else before + alpha * found.td_error
    moved = float(reached[action])
    return TabularStep(
        alpha, before, found.td_error, expected, moved, None if expected is None else abs(moved - expected)
    )
