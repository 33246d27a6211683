"""The masked gradient, set beside the overwrite recipe.

A loss on the taken action alone, at the scale of the recipe,

    E = (1/(A·B)) · Σ_b ℓ(td_target_b − q_online(state_b)[action_b]),

has the same gradient as the loss over all outputs of the overwritten targets, whose other errors are zero. Both are
computed here by automatic differentiation, each followed by a step of a fresh optimizer, and compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from deeptaxi import backend
from deeptaxi.config import TrainConfig
from deeptaxi.learning.learner import build_optimizer
from deeptaxi.learning.parts import Comparison, Difference, Floats
from deeptaxi.learning.replay import Batch
from deeptaxi.learning.schedules import initial_learning_rate
from deeptaxi.learning.targets import loss_of


def array(x: Any) -> NDArray[Any]:
    """Return a tensor as a NumPy array of its own."""
    return np.array(ops.convert_to_numpy(x))


def tensor(x: Any) -> Any:
    """Return a NumPy array as a tensor: PyTorch takes no others beside one that has a gradient."""
    return ops.convert_to_tensor(x)


def masked_gradients(online: keras.Model, config: TrainConfig, batch: Batch, targets: Floats) -> tuple[Any, list[Any]]:
    """Return the loss on the taken actions alone, at the scale of the recipe, and its gradients by the weights.

    Args:
        online: the network.
        config: names the loss.
        batch: B samples.
        targets: `[B, A]`, of which only the entries of the taken actions are looked at.
    """
    actions, index = targets.shape[1], batch.actions[:, None].astype(np.int64)
    states, weights, taken_index = tensor(batch.states), tensor(batch.weights), tensor(index)
    td_targets = tensor(np.take_along_axis(targets, index, axis=1))

    def loss() -> Any:
        taken = ops.take_along_axis(online(states, training=True), taken_index, axis=1)
        return loss_of(config.optimizer.loss, taken, td_targets, weights) / actions

    return backend.gradients(loss, online.trainable_variables)


def compare(
    online: keras.Model,
    config: TrainConfig,
    batch: Batch,
    targets: Floats,
    recipe: tuple[float, Sequence[Floats]],
    after: Sequence[Floats],
) -> Comparison:
    """Make the step of the masked gradient, and hold it against that of the recipe.

    Args:
        online: the network before the update; it is changed.
        config: of the update.
        batch: of the update.
        targets: the overwritten ones, `[B, A]`.
        recipe: loss and gradients of the recipe.
        after: the weights that the recipe's step made.
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
