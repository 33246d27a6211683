"""Both networks and the optimizer's slots as arrays, and one update of them: the rule without a loop around it.

dE/dQ `[B, A]` is 0 but for the actions taken (`targets.overwrite` says why). From there the gradient goes back through
the network's rest to z `[B, W]`, the kernel rows of the minibatch. Dense, dE/dW[r] is the sum of dE/dz over the places
where row r occurs, scattered into a gradient of the kernel's full shape. Row-sparse (`rows`), only the rows that occur
are touched. There the sum is taken before the way back rather than after it: occurrences of one state have the same z,
the way back is linear in dE/dQ, and a row of dE/dQ is much shorter than one of dE/dz.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from deeptaxi import xla
from deeptaxi.config import TrainConfig
from deeptaxi.learning import rows as row_sparse
from deeptaxi.learning.optimizers import Arrays, Optimizer
from deeptaxi.learning.replay import Batch
from deeptaxi.learning.rows import Following, Rows
from deeptaxi.learning.targets import clip_by_global_norm, loss_and_slope, td_targets
from deeptaxi.network import functional
from deeptaxi.network.encoding import encode


class Dense(NamedTuple):
    """Weights that every update moves."""

    online: Arrays
    target: Arrays
    slots: tuple[Arrays, ...]


class Learnt(NamedTuple):
    """All that an update changes. The kernel is in `rows`, or the first of `dense`; the last of `dense` is the rest."""

    rows: Rows | None
    dense: Dense
    zeros: Any = None  # [R, W], where dense updates sum the kernel's gradient; 0 between updates


class Updater:
    """One update, as a pure function of arrays.

    Args:
        config: network, optimizer, target.
        actions: A.
        factors: sizes of the factors of a state; None for the joint encoding.
        sparse: whether updates are row-sparse; only with the joint encoding.
    """

    def __init__(self, config: TrainConfig, actions: int, factors: tuple[int, ...] | None, sparse: bool) -> None:
        self.config = config
        self.factors = factors
        self.sparse = sparse
        self.shapes = functional.shapes(config.network, actions)
        self.optimizer = Optimizer(config.optimizer.name, config.optimizer.options)
        self.following = Following(config.target.polyak, config.target.period)

    def initial(self, weights: functional.Weights) -> Learnt:
        """Return the state before the first update: the target equal to the online network, all slots 0."""
        slots = len(self.optimizer.decays)
        kernel, rest = weights

        def zeros(array: Any) -> Arrays:
            return tuple(np.zeros_like(array) for _ in range(slots))

        every = (rest,) if self.sparse else (kernel, rest)
        dense = Dense(every, tuple(array.copy() for array in every), tuple(zeros(array) for array in every))
        if not self.sparse:
            return Learnt(None, dense, np.zeros_like(kernel))
        count = np.zeros(len(kernel), np.int32)
        return Learnt(Rows(kernel, kernel.copy(), zeros(kernel), count, count.copy()), dense)

    def online(self, learnt: Learnt) -> functional.Weights:
        """Return the online network's weights."""
        kernel = learnt.dense.online[0] if learnt.rows is None else learnt.rows.online
        return functional.Weights(kernel, learnt.dense.online[-1])

    def q_from(self, z: Any, rest: Any) -> Any:
        """Return the Q values `[B, A]` of kernel rows `[B, W]` and the flat rest of the weights."""
        return functional.q_values(z, functional.unravel(rest, self.shapes), self.config.network)

    def q_online(self, learnt: Learnt, states: Any) -> Any:
        """Return the online network's Q values of `states` `[B]`, `[B, A]`."""
        kernel, rest = self.online(learnt)
        return self.q_from(self.rows_of(kernel, states), rest)

    def q_target(self, learnt: Learnt, states: Any, updates: Any) -> Any:
        """Return the target network's Q values of `states` `[B]` after `updates` updates, `[B, A]`."""
        if learnt.rows is None:
            z = self.rows_of(learnt.dense.target[0], states)
        else:
            z = row_sparse.read_target(learnt.rows, states, updates, self.following)
        return self.q_from(z, learnt.dense.target[-1])

    def rows_of(self, kernel: Any, states: Any) -> Any:
        """Return the kernel rows of `states` `[B]`, summed over the factors, `[B, W]`."""
        return sum(xla.gather(kernel, index) for index in self.indices(states))

    def update(self, learnt: Learnt, batch: Batch, allowed: Any, rate: Any, updates: Any) -> tuple[Learnt, Any, Any]:
        """Make one update after `updates` updates.

        Args:
            learnt: the state before.
            batch: B transitions.
            allowed: the actions allowed in the next states, bool `[B, A]`; None for all.
            rate: the learning rate.
            updates: int32.

        Returns:
            the state after, the loss, and the td_errors `[B]`.
        """
        next_q = self.q_target(learnt, batch.next_states, updates)
        choosing = self.q_online(learnt, batch.next_states) if self.config.target.double else None
        targets = td_targets(batch.rewards, batch.discounts, next_q, allowed, choosing)

        z = self.rows_of(self.online(learnt).kernel, batch.states)
        parts = functional.unravel(learnt.dense.online[-1], self.shapes)
        q, back = xla.pullback(lambda z, *rest: functional.q_values(z, rest, self.config.network), (z, *parts))
        taken = ops.expand_dims(batch.actions, -1) == ops.arange(q.shape[-1], dtype="int32")
        errors = targets - ops.sum(ops.where(taken, q, 0.0), axis=-1)
        loss, slope = loss_and_slope(self.config.optimizer.loss, errors, batch.weights, q.shape[-1])
        slope = ops.where(taken, ops.expand_dims(slope, -1), 0.0)  # dE/dQ
        return self.apply(learnt, batch.states, slope, back, rate, updates), loss, errors

    def apply(self, learnt: Learnt, states: Any, slope: Any, back: Any, rate: Any, updates: Any) -> Learnt:
        """Make the optimizer's step and the target's move, `slope` being dE/dQ `[B, A]`."""
        rows = learnt.rows
        if rows is not None:
            place, states, slope = row_sparse.summed(rows.place, states, slope)
        dz, *parts = back(slope)
        rest = functional.ravel(parts)
        if rows is None:
            summed = self.scattered(learnt.zeros, states, dz)
            dense = self.dense_after(learnt.dense, self.clipped([summed, rest]), rate, updates)
            return Learnt(None, dense, self.cleared(summed, states, dense.online[0]))
        dz, rest = self.clipped([dz, rest])
        rows = rows._replace(place=place)
        rows = row_sparse.touch(rows, states, dz, self.optimizer, self.following, rate, updates)
        return Learnt(rows, self.dense_after(learnt.dense, [rest], rate, updates))

    def indices(self, states: Any) -> list[Any]:
        """Return the kernel rows `[B]` of `states` `[B]`, for each factor."""
        return [states] if self.factors is None else ops.unstack(encode(states, self.factors), axis=1)

    def scattered(self, zeros: Any, states: Any, dz: Any) -> Any:
        """Return the gradient of the whole kernel, `[R, W]`, summed in place of `zeros`."""
        for index in self.indices(states):
            zeros = xla.scatter_add(zeros, index, dz)
        return zeros

    def cleared(self, summed: Any, states: Any, kernel: Any) -> Any:
        """Return `summed` with the rows of the minibatch set to 0 again, which is less than all rows."""
        zero = ops.cast(xla.zero_after(kernel[0, 0]), "float32")  # the sums are cleared once they have been used
        for index in self.indices(states):
            summed = xla.scatter(summed, index, ops.broadcast_to(zero, (states.shape[0], summed.shape[1])))
        return summed

    def clipped(self, gradients: list[Any]) -> list[Any]:
        """Clip by the global norm, if that is asked for."""
        norm = self.config.optimizer.clip_norm
        return gradients if norm is None else clip_by_global_norm(gradients, norm)

    def dense_after(self, dense: Dense, gradients: list[Any], rate: Any, updates: Any) -> Dense:
        """Return the dense weights after update number ``updates + 1``; a gradient for each of them."""
        moves = self.following.moves(updates, updates + 1)
        slots = tuple(
            self.optimizer.slots_after(old, gradient, rate)
            for old, gradient in zip(dense.slots, gradients, strict=True)
        )
        online = tuple(
            weight + self.optimizer.step(new, gradient, rate, updates + 1)
            for weight, new, gradient in zip(dense.online, slots, gradients, strict=True)
        )
        target = tuple(self.following.after(moves, old, new) for old, new in zip(dense.target, online, strict=True))
        return Dense(online, target, slots)
