"""The replay buffer of the compiled loop: a ring buffer of outcome numbers, and minibatches sampled from it.

It is ordered like the other loops' buffer (`replay_buffer`): C entries, a multiple of the N environments, so that the
entry that follows p in the same environment is p + N; and an entry can be sampled once it has the n − 1 successors of
an n-step target. An entry is an outcome number o (`mdp`), or −1 − o if a time limit cut the episode after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from deeptaxi.backend import xla
from deeptaxi.config import TrainConfig
from deeptaxi.learning import sum_tree
from deeptaxi.learning.compiled.mdp import CompiledMDP
from deeptaxi.learning.replay_buffer import Batch
from deeptaxi.recipe import n_step

Greedy = Callable[[Any, Any], Any]  # states and actions, int32 [B, n − 1], to whether these are greedy, bool [B, n − 1]


class Ring(NamedTuple):
    """The state of the buffer; `tree` and `largest` are for prioritized replay."""

    entries: Any  # int32 [C]
    position: Any  # int32, where the next entry goes
    size: Any  # int32, number of entries
    tree: Any  # levels of a sum tree, or None
    largest: Any  # float32, the largest priority so far, or None


class CompiledReplayBuffer:
    """Stores and samples outcomes, as pure functions of a `Ring`.

    Args:
        config: environments, capacity, n, γ and priorities.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.environments = config.interaction.environments
        self.capacity = config.replay.capacity // self.environments * self.environments
        self.steps = config.target.n_step
        self.waiting = (self.steps - 1) * self.environments
        self.discount = config.discount
        self.prioritized = config.replay.prioritized
        self.priority_exponent = config.replay.priority_exponent

    def initial(self) -> Ring:
        """Return an empty ring."""
        tree = largest = None
        if self.prioritized:
            tree, largest = tuple(sum_tree.levels(self.capacity)), np.float32(1)
        return Ring(np.zeros(self.capacity, np.int32), np.int32(0), np.int32(0), tree, largest)

    def store(self, ring: Ring, drawn: Any, cut: Any) -> Ring:
        """Store the outcomes `drawn` `[N]` of one step; `cut` `[N]` marks those followed by truncation."""
        # Only n-step sums need to know where an episode was cut.
        entries = ops.where(cut, -1 - drawn, drawn) if self.steps > 1 else drawn
        ring = ring._replace(tree=self.add_priorities(ring), entries=xla.put(ring.entries, ring.position, entries))
        return ring._replace(
            position=(ring.position + self.environments) % self.capacity,
            size=ops.minimum(ring.size + self.environments, self.capacity),
        )

    def add_priorities(self, ring: Ring) -> Any:
        """Return the tree after storing a step: entries that now have n − 1 successors can be sampled, new ones not."""
        if ring.tree is None:
            return None
        tree, index = ring.tree, ring.position + ops.arange(self.environments, dtype="int32")
        priority = ops.where(ring.size >= self.waiting, ring.largest, 0.0)
        if self.waiting:
            tree = sum_tree.assign(tree, index, ops.zeros((self.environments,)))
            index = (index - self.waiting + self.capacity) % self.capacity
        return tuple(sum_tree.assign(tree, index, ops.broadcast_to(priority, (self.environments,))))

    def update_priorities(self, ring: Ring, indices: Any, errors: Any) -> Ring:
        """Set the priorities of the sampled entries at `indices` `[B]` from their new td_errors `[B]`."""
        if ring.tree is None:
            return ring
        values = sum_tree.priorities(errors, self.priority_exponent)
        tree = tuple(sum_tree.assign(ring.tree, indices, values))
        return ring._replace(tree=tree, largest=ops.maximum(ring.largest, ops.max(values)))

    def sample(
        self, ring: Ring, mdp: CompiledMDP, bits: Any, exponent: Any, greedy: Greedy | None = None
    ) -> tuple[Any, Batch]:
        """Sample a minibatch.

        Args:
            ring: a ring with entries that can be sampled.
            mdp: the arrays to look outcomes up in.
            bits: random bits, int32 `[B]`.
            exponent: β of the importance weights.
            greedy: tells which actions are greedy, which ends n-step sums before others; None for plain sums.

        Returns:
            The positions of the entries, int32 `[B]`, and the minibatch; its weights are None if all are equal.
        """
        drawable, weights = ring.size - self.waiting, None
        if ring.tree is None:
            oldest = ring.position - ring.size + self.capacity
            indices = (oldest + xla.naturals(bits) % drawable) % self.capacity
        else:
            strata = ops.arange(bits.shape[0], dtype="float32")
            indices, chance = sum_tree.draw(ring.tree, (strata + xla.fractions(bits)) / bits.shape[0])
            weights = sum_tree.importance_weights(chance, ops.cast(drawable, "float32"), exponent)
        if self.steps > 1:
            return indices, self.sequence(ring, mdp, indices, weights, greedy)
        drawn = xla.gather(ring.entries, indices)
        if mdp.expected is not None:
            pairs = drawn // mdp.expected.next_states.shape[1]
            return indices, Batch(
                xla.gather(mdp.state, drawn),
                xla.gather(mdp.action, drawn),
                xla.gather(mdp.expected.rewards, pairs),
                xla.gather(mdp.expected.next_states, pairs),
                xla.gather(mdp.expected.discounts, pairs),
                weights,  # type: ignore[arg-type]
            )
        not_terminated = 1.0 - ops.cast(xla.gather(mdp.terminated, drawn), "float32")
        return indices, Batch(
            xla.gather(mdp.state, drawn),
            xla.gather(mdp.action, drawn),
            xla.gather(mdp.reward, drawn),
            xla.gather(mdp.next_state, drawn),
            self.discount * not_terminated,
            weights,  # type: ignore[arg-type]  # None: all samples weigh the same
        )

    def sequence(self, ring: Ring, mdp: CompiledMDP, indices: Any, weights: Any, greedy: Greedy | None = None) -> Batch:
        """Return the n-step samples that begin at `indices` `[B]`; `greedy` as for `sample`."""
        later = self.environments * ops.arange(self.steps, dtype="int32")
        entries = xla.gather(ring.entries, (ops.expand_dims(indices, 1) + later) % self.capacity)  # [B, n]
        cut = entries < 0
        drawn = ops.where(cut, -1 - entries, entries)
        followed = None
        if greedy is not None:
            followed = greedy(xla.gather(mdp.state, drawn[:, 1:]), xla.gather(mdp.action, drawn[:, 1:]))
        returns, last, discounts = n_step(
            xla.gather(mdp.reward, drawn), xla.gather(mdp.terminated, drawn), cut, self.discount, followed
        )
        reached = ops.expand_dims(last, 1) == ops.arange(self.steps, dtype="int32")
        final = ops.sum(ops.where(reached, drawn, 0), axis=1)
        first = drawn[:, 0]
        return Batch(
            xla.gather(mdp.state, first),
            xla.gather(mdp.action, first),
            returns,
            xla.gather(mdp.next_state, final),
            discounts,
            weights,
        )
