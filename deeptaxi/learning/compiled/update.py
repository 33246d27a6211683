"""One update of both networks as arrays: the update rule without a loop around it, dense and row-sparse.

dE/dQ `[B, A]` is 0 except for the actions taken (see `targets.overwrite`). From there, backpropagation leads through
the rest of the network to z `[B, W]`, the kernel rows of the minibatch. Dense, dE/dW[r] is the sum of dE/dz over the
occurrences of row r, scattered into a gradient of the kernel's full shape. Row-sparse, only the rows that occur are
touched. There the sum is taken before backpropagation rather than after: occurrences of one state have the same z,
backpropagation is linear in dE/dQ, and a row of dE/dQ is much shorter than one of dE/dz.

**Row-sparse** updates bring rows of the kernel up to date when they are touched, without a pass over all of them. The
kernel `[R, W]` has R rows, one per state; a minibatch touches few. It is stored with the target network's kernel, the
optimizer's slots, and `last` `[R]`: the number of updates made when the row's target and slots were written.

**Target.** Every P updates the target moves by the share τ toward the online weights. A row not touched since update l
has had the same online value w ever since, so after n updates, with c = ⌊n/P⌋ − ⌊l/P⌋ moves since,

    t(n) = w + (1 − τ)ᶜ (t(l) − w),

the same as c single moves, up to rounding. With τ = 1, the hard copy, it is w after the first move.

**Slots** shrink in the same way: see `optimizers`.

**Repeated rows.** If a row occurs twice in a minibatch, its gradients must be summed before the optimizer squares them.
Each occurrence writes its own position in the minibatch to `scratch[row]`; one wins; all then read the winner's
position, and the sum is accumulated there. This takes `[B]` integer operations; sorting or comparing all pairs would
cost more. The other occurrences are sent past the end of the kernel, where the compiled program writes nothing.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from deeptaxi.backend import xla
from deeptaxi.config import TrainConfig
from deeptaxi.layers import encode
from deeptaxi.learning.compiled.hyperparameters import Hyperparameters
from deeptaxi.learning.compiled.optimizers import Arrays, DenseOptimizer, Optimizer
from deeptaxi.learning.replay_buffer import Batch
from deeptaxi.network import functional
from deeptaxi.recipe import bootstrap, clip_by_global_norm, is_greedy, loss_and_slope, next_values


class Rows(NamedTuple):
    """The kernel and its per-row state."""

    online: Any  # [R, W]
    target: Any  # [R, W], as of `last`
    slots: tuple[Any, ...]  # each [R, W], as of `last`
    last: Any  # int32 [R]
    scratch: Any  # int32 [R], scratch


class TargetUpdate(NamedTuple):
    """The target network update: every `period` updates, move by the share `polyak` toward the online network."""

    log_retention: Any  # log(1 − polyak); None for a hard copy, polyak = 1
    period: int

    def moves(self, earlier: Any, later: Any) -> Any:
        """Return the number of moves after update `earlier`, up to update `later`."""
        if self.period == 1:
            return later - earlier
        return xla.divide(later, self.period)[0] - xla.divide(earlier, self.period)[0]

    def moves_at(self, update: Any) -> Any:
        """Return the number of moves at update number `update` (from 1), 0 or 1."""
        return 1 if self.period == 1 else self.moves(update - 1, update)

    def after(self, moves: Any, target: Any, online: Any) -> Any:
        """Return the target after `moves` moves toward a constant online value."""
        if self.log_retention is None:
            return ops.where(moves > 0, online, target)
        left = ops.exp(self.log_retention * ops.cast(moves, "float32"))
        return online + left * (target - online)


def read_target(rows: Rows, index: Any, updates: Any, following: TargetUpdate) -> Any:
    """Return the target's rows `[B, W]` at `index` `[B]` after `updates` updates."""
    online = xla.gather(rows.online, index)
    moves = following.moves(xla.gather(rows.last, index), updates)
    return following.after(ops.expand_dims(moves, -1), xla.gather(rows.target, index), online)


def sum_duplicates(scratch: Any, index: Any, slopes: Any) -> tuple[Any, Any, Any]:
    """Sum the gradients of duplicate rows.

    Args:
        scratch: int32 `[R]`, scratch.
        index: int32 `[B]`, the rows.
        slopes: `[B, A]`, one per occurrence.

    Returns:
        the scratch; the rows `[B]`, each once, with other occurrences replaced by R, past the end; and the sums
        `[B, A]`, aligned with the rows, 0 elsewhere.
    """
    number = ops.arange(index.shape[0], dtype="int32")
    scratch = xla.scatter(scratch, index, number)
    winner = xla.gather(scratch, index)
    once = ops.where(winner == number, index, scratch.shape[0])
    return scratch, once, xla.scatter_add(ops.zeros_like(slopes), winner, slopes)


def sparse_update(
    rows: Rows, index: Any, gradient: Any, optimizer: Optimizer, following: TargetUpdate, rate: Any, updates: Any
) -> Rows:
    """Apply update number ``updates + 1`` to some rows.

    Args:
        rows: all rows, after `updates` updates.
        index: int32 `[B]`, each row once; R for none.
        gradient: `[B, W]`.
        optimizer: the optimizer.
        following: the target network update.
        rate: the learning rate.
        updates: int32.
    """
    written, index = index, ops.minimum(index, rows.last.shape[0] - 1)
    last = xla.gather(rows.last, index)
    # Gather written values again rather than use them twice: a gather with a single use is fused, which is several
    # times as fast as one that materializes its rows.
    slots = optimizer.decayed(tuple(xla.gather(slot, index) for slot in rows.slots), updates - last)
    slots = optimizer.slots_after(slots, gradient, rate)
    new_slots = tuple(xla.scatter(old, written, new) for old, new in zip(rows.slots, slots, strict=True))
    slots = tuple(xla.gather(slot, index) for slot in new_slots)
    step = optimizer.step(slots, gradient, rate, updates + 1)
    new_online = xla.scatter_add(rows.online, written, step)
    online = xla.gather(new_online, index)
    missed = ops.expand_dims(following.moves(last, updates), -1)
    target = following.after(missed, xla.gather(rows.target, index), online - step)
    target = following.after(following.moves_at(updates + 1), target, online)
    new_target = xla.scatter(rows.target, written, target)
    zero = xla.zero_after(sum(array[0, 0] for array in (new_target, *new_slots)))
    return rows._replace(
        online=new_online,
        target=new_target,
        slots=new_slots,
        last=xla.scatter(rows.last, written, ops.broadcast_to(updates + 1 + zero, index.shape)),
    )


class Dense(NamedTuple):
    """Weights that every update changes."""

    online: Arrays
    target: Arrays
    slots: Any  # the optimizer's


class AgentState(NamedTuple):
    """The state that an update changes; the kernel is `rows` or the first of `dense`, the rest the last of `dense`."""

    rows: Rows | None
    dense: Dense
    zeros: Any = None  # [R, W], accumulator of the kernel's gradient in dense updates; 0 between updates
    others: Any = None  # what is not trained, of the online and of the target network, for `ModelUpdate`


SMALL_KERNEL = 2**14  # entries


def updates_rows(config: TrainConfig, kernel: Any, factors: tuple[int, ...] | None, states: int) -> bool:
    """Return whether updates are row-sparse: if they may be, and that pays."""
    # If the kernel is small, or a minibatch touches most rows, a pass over all of it beats looking rows up.
    pays = kernel.size >= SMALL_KERNEL and states > config.replay.batch_size
    return config.optimizer.row_sparse and factors is None and pays


class CompiledUpdate:
    """One update, as a pure function of arrays.

    Args:
        config: network, optimizer, target.
        actions: A.
        factors: sizes of the factors of a state; None for the joint encoding.
        sparse: whether updates are row-sparse; only with the joint encoding.
        states: S.
    """

    def __init__(
        self, config: TrainConfig, actions: int, factors: tuple[int, ...] | None, sparse: bool, states: int
    ) -> None:
        self.config = config
        self.actions = actions
        self.states = states
        self.factors = factors
        self.sparse = sparse
        self.loss_parts = config.replay.batch_size
        self.is_table = not sparse and not config.network.hidden and not config.network.dueling
        self.shapes = functional.shapes(config.network, actions)
        self.optimizer = Optimizer(config.optimizer.name, config.optimizer.options)
        self.dense_optimizer: DenseOptimizer = self.optimizer

    def initial(self, weights: functional.Weights) -> AgentState:
        """Return the state before the first update: target equal to online network, all slots 0."""
        kernel, rest = weights
        every = (rest,) if self.sparse else (kernel, rest)
        dense = Dense(every, tuple(array.copy() for array in every), self.optimizer.initial(every))
        if not self.sparse:
            return AgentState(None, dense, np.zeros_like(kernel))
        count = np.zeros(len(kernel), np.int32)
        (slots,) = self.optimizer.initial((kernel,))
        return AgentState(Rows(kernel, kernel.copy(), slots, count, count.copy()), dense)

    def begin(self, network: keras.Model) -> AgentState:
        """Return the state before the first update of a network."""
        return self.initial(functional.weights_of(network, self.config.network))

    def assign(self, weights: Any, network: keras.Model) -> None:
        """Assign the online network's weights, as `online` returns them, to `network`."""
        functional.assign(network, self.config.network, weights)

    def online(self, agent: AgentState) -> Any:
        """Return the online network's weights, as `functional.Weights`."""
        kernel = agent.dense.online[0] if agent.rows is None else agent.rows.online
        return functional.Weights(kernel, agent.dense.online[-1])

    def q_from(self, z: Any, rest: Any) -> Any:
        """Return the Q values `[B, A]` from kernel rows `[B, W]` and the flat rest of the weights."""
        return functional.q_values(z, functional.unravel(rest, self.shapes), self.config.network)

    def q_online(self, agent: AgentState, states: Any) -> Any:
        """Return the online network's Q values `[B, A]` of `states` `[B]`."""
        kernel, rest = self.online(agent)
        return self.q_from(self.gather_rows(kernel, states), rest)

    def following(self, now: Hyperparameters) -> TargetUpdate:
        """Return the target network update."""
        return TargetUpdate(now.log_retention, self.config.target.period)

    def q_target(self, agent: AgentState, states: Any, now: Hyperparameters, updates: Any) -> Any:
        """Return the target network's Q values `[B, A]` of `states` `[B]` after `updates` updates."""
        if agent.rows is None:
            z = self.gather_rows(agent.dense.target[0], states)
        else:
            z = read_target(agent.rows, states, updates, self.following(now))
        return self.q_from(z, agent.dense.target[-1])

    def gather_rows(self, kernel: Any, states: Any) -> Any:
        """Return the kernel rows `[B, W]` of `states` `[B]`, summed over the factors."""
        return sum(xla.gather(kernel, index) for index in self.indices(states))

    def update(
        self, agent: AgentState, batch: Batch, allowed: Any, now: Hyperparameters, updates: Any
    ) -> tuple[AgentState, Any, Any]:
        """Run update number ``updates + 1``.

        Args:
            agent: the state before.
            batch: B transitions.
            allowed: the actions allowed in all states, bool `[S, A]`; None for all.
            now: the numbers of this update.
            updates: int32.

        Returns:
            the state after, the parts that sum up to the loss `[n]`, and the td_errors `[B]`.
        """
        targets = bootstrap(
            batch.rewards, batch.discounts, self.values(agent, batch.next_states, allowed, now, updates)
        )
        if self.is_table:
            entries = [index * self.actions + batch.actions for index in self.indices(batch.states)]
            table = ops.reshape(agent.dense.online[0], (-1,))
            errors = targets - sum(xla.gather(table, index) for index in entries)
            losses, slope = loss_and_slope(self.config.optimizer.loss, errors, batch.weights, self.actions)
            return self.apply_dense(agent, entries, slope, functional.ravel([]), now, updates), losses, errors
        z = self.gather_rows(self.online(agent).kernel, batch.states)
        parts = functional.unravel(agent.dense.online[-1], self.shapes)
        q, back = xla.pullback(lambda z, *rest: functional.q_values(z, rest, self.config.network), (z, *parts))
        taken = ops.expand_dims(batch.actions, -1) == ops.arange(q.shape[-1], dtype="int32")
        errors = targets - ops.sum(ops.where(taken, q, 0.0), axis=-1)
        losses, slope = loss_and_slope(self.config.optimizer.loss, errors, batch.weights, q.shape[-1])
        slope = ops.where(taken, ops.expand_dims(slope, -1), 0.0)  # dE/dQ
        return self.apply(agent, batch.states, slope, back, now, updates), losses, errors

    def values(self, agent: AgentState, states: Any, allowed: Any, now: Hyperparameters, updates: Any) -> Any:
        """Return the target network's values of `states`, `[B]` or `[B, K]`, which a bootstrap takes.

        If there are more of them than there are states, all states are evaluated once, and their values looked up.
        """
        if len(states.shape) == 1:
            return self.values_of(agent, states, allowed, now, updates)
        if self.states <= math.prod(states.shape):
            every = ops.arange(self.states, dtype="int32")
            return xla.gather(self.values_of(agent, every, allowed, now, updates), states)
        return ops.reshape(self.values_of(agent, ops.reshape(states, (-1,)), allowed, now, updates), states.shape)

    def values_of(self, agent: AgentState, states: Any, allowed: Any, now: Hyperparameters, updates: Any) -> Any:
        """Return the target network's values `[B]` of `states` `[B]`."""
        masks = None if allowed is None else xla.gather(allowed, states)
        next_q = self.q_target(agent, states, now, updates)
        choosing = self.q_online(agent, states) if self.config.target.double else None
        return next_values(next_q, masks, choosing)

    def greedy(
        self, agent: AgentState, states: Any, actions: Any, allowed: Any, now: Hyperparameters, updates: Any
    ) -> Any:
        """Return whether `actions` are those that a bootstrap from `states` would choose, bool; all three `[B, n]`."""
        every = ops.arange(self.states, dtype="int32")
        some = self.states > math.prod(states.shape)  # else all states are evaluated once, as by `values`
        index = ops.reshape(states, (-1,)) if some else every
        masks = None if allowed is None else xla.gather(allowed, index)
        choosing = (
            self.q_online(agent, index) if self.config.target.double else self.q_target(agent, index, now, updates)
        )
        if masks is not None:
            choosing = ops.where(masks, choosing, float("-inf"))
        shape = (*states.shape, choosing.shape[-1])
        return is_greedy(ops.reshape(choosing, shape) if some else xla.gather(choosing, states), actions)

    def apply(
        self, agent: AgentState, states: Any, slope: Any, back: Any, now: Hyperparameters, updates: Any
    ) -> AgentState:
        """Take the optimizer step and update the target, given `slope`, dE/dQ `[B, A]`."""
        rows = agent.rows
        if rows is not None:
            scratch, states, slope = sum_duplicates(rows.scratch, states, slope)
        dz, *parts = back(slope)
        rest = functional.ravel(parts)
        if rows is None:
            return self.apply_dense(agent, self.indices(states), dz, rest, now, updates)
        dz, rest = self.clip_gradients([dz, rest], now)
        rows = rows._replace(scratch=scratch)
        rows = sparse_update(rows, states, dz, self.optimizer, self.following(now), now.learning_rate, updates)
        return AgentState(rows, self.step_dense(agent.dense, [rest], now, updates))

    def indices(self, states: Any) -> list[Any]:
        """Return the kernel row indices `[B]` of `states` `[B]`, for each factor."""
        return [states] if self.factors is None else ops.unstack(encode(states, self.factors), axis=1)

    def apply_dense(
        self, agent: AgentState, indices: list[Any], gradient: Any, rest: Any, now: Hyperparameters, updates: Any
    ) -> AgentState:
        """Take the optimizer step and update the target, in passes over all weights.

        Args:
            agent: the state before.
            indices: of each transition, int32 `[B]`: the kernel's rows, or its entries; for each factor.
            gradient: of those rows `[B, W]`, or of those entries `[B]`.
            rest: the gradient of the rest of the weights.
            now: the numbers of this update.
            updates: int32.
        """
        summed = ops.reshape(agent.zeros, (-1, *gradient.shape[1:]))
        for index in indices:
            summed = xla.scatter_add(summed, index, gradient)
        gradients = self.clip_gradients([ops.reshape(summed, agent.zeros.shape), rest], now)
        dense = self.step_dense(agent.dense, gradients, now, updates)
        # Reset only what the minibatch touched to 0, and only after it is used.
        zero = ops.cast(xla.zero_after(dense.online[0][0, 0]), "float32")
        for index in indices:
            summed = xla.scatter(summed, index, ops.broadcast_to(zero, gradient.shape))
        return AgentState(None, dense, ops.reshape(summed, agent.zeros.shape))

    def clip_gradients(self, gradients: list[Any], now: Hyperparameters) -> list[Any]:
        """Clip by the global norm, if configured."""
        return gradients if now.clip_norm is None else clip_by_global_norm(gradients, now.clip_norm)

    def step_dense(self, dense: Dense, gradients: list[Any], now: Hyperparameters, updates: Any) -> Dense:
        """Return the dense weights after update number ``updates + 1``, given a gradient for each."""
        following, rate = self.following(now), now.learning_rate
        moves = following.moves_at(updates + 1)
        online, slots = self.dense_optimizer.apply(dense.online, dense.slots, gradients, rate, updates + 1)
        target = tuple(following.after(moves, old, new) for old, new in zip(dense.target, online, strict=True))
        return Dense(online, target, slots)
