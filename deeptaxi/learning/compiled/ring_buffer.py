"""The replay memory of the compiled loop: a ring of outcome numbers, and minibatches drawn from it.

It is ordered as the other loops' memory is (`replay`): C entries, a multiple of the N copies, so that the entry that
follows p in the same copy is p + N; and an entry can be drawn once it has the n − 1 successors of an n-step target. An
entry is the number of an outcome, o (`world`), or −1 − o where a time limit cut the episode after it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from deeptaxi import xla
from deeptaxi.config import TrainConfig
from deeptaxi.learning import sum_tree
from deeptaxi.learning.compiled.mdp import CompiledMDP
from deeptaxi.learning.replay_buffer import Batch
from deeptaxi.learning.targets import n_step


class Ring(NamedTuple):
    """All that changes; `tree` and `largest` are of prioritized replay."""

    entries: Any  # int32 [C]
    position: Any  # int32, where the next entry goes
    size: Any  # int32, how many there are
    tree: Any  # levels of a sum tree, or None
    largest: Any  # float32, the largest priority so far, or None


class CompiledReplayBuffer:
    """What is stored in a ring and drawn from it, as pure functions.

    Args:
        config: copies, capacity, n, γ and priorities.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.copies = config.interaction.environments
        self.capacity = config.replay.capacity // self.copies * self.copies
        self.steps = config.target.n_step
        self.waiting = (self.steps - 1) * self.copies
        self.discount = config.discount
        self.prioritized = config.replay.prioritized
        self.priority_exponent = config.replay.priority_exponent

    def initial(self) -> Ring:
        """Return the empty ring."""
        tree = largest = None
        if self.prioritized:
            tree, largest = tuple(sum_tree.levels(self.capacity)), np.float32(1)
        return Ring(np.zeros(self.capacity, np.int32), np.int32(0), np.int32(0), tree, largest)

    def stored(self, ring: Ring, drawn: Any, cut: Any) -> Ring:
        """Put the outcomes `drawn` `[N]` of one step into the ring; `cut` `[N]` marks those that a limit cut after."""
        # Only sums of several steps must know where an episode was cut.
        entries = ops.where(cut, -1 - drawn, drawn) if self.steps > 1 else drawn
        ring = ring._replace(tree=self.entered(ring), entries=xla.put(ring.entries, ring.position, entries))
        return ring._replace(
            position=(ring.position + self.copies) % self.capacity,
            size=ops.minimum(ring.size + self.copies, self.capacity),
        )

    def entered(self, ring: Ring) -> Any:
        """Return the tree once a step is stored: what has its n − 1 successors now can be drawn, what is new cannot."""
        if ring.tree is None:
            return None
        tree, place = ring.tree, ring.position + ops.arange(self.copies, dtype="int32")
        priority = ops.where(ring.size >= self.waiting, ring.largest, 0.0)
        if self.waiting:
            tree = sum_tree.assign(tree, place, ops.zeros((self.copies,)))
            place = (place - self.waiting + self.capacity) % self.capacity
        return tuple(sum_tree.assign(tree, place, ops.broadcast_to(priority, (self.copies,))))

    def update_priorities(self, ring: Ring, places: Any, errors: Any) -> Ring:
        """Give the entries at `places` `[B]`, which were drawn, the priority of their new td_errors `[B]`."""
        if ring.tree is None:
            return ring
        values = sum_tree.priorities(errors, self.priority_exponent)
        tree = tuple(sum_tree.assign(ring.tree, places, values))
        return ring._replace(tree=tree, largest=ops.maximum(ring.largest, ops.max(values)))

    def draw(self, ring: Ring, world: CompiledMDP, bits: Any, exponent: Any) -> tuple[Any, Batch]:
        """Draw a minibatch.

        Args:
            ring: with something to draw.
            world: where the outcomes are looked up.
            bits: random, int32 `[B]`.
            exponent: β of the importance weights.

        Returns:
            The places of its entries, int32 `[B]`, and the minibatch; its weights are None where all weigh the same.
        """
        drawable, weights = ring.size - self.waiting, None
        if ring.tree is None:
            oldest = ring.position - ring.size + self.capacity
            places = (oldest + xla.naturals(bits) % drawable) % self.capacity
        else:
            strata = ops.arange(bits.shape[0], dtype="float32")
            places, chance = sum_tree.draw(ring.tree, (strata + xla.fractions(bits)) / bits.shape[0])
            weights = sum_tree.importance_weights(chance, ops.cast(drawable, "float32"), exponent)
        if self.steps > 1:
            return places, self.sequence(ring, world, places, weights)
        drawn = xla.gather(ring.entries, places)
        going_on = 1.0 - ops.cast(xla.gather(world.terminated, drawn), "float32")
        return places, Batch(
            xla.gather(world.state, drawn),
            xla.gather(world.action, drawn),
            xla.gather(world.reward, drawn),
            xla.gather(world.next_state, drawn),
            self.discount * going_on,
            weights,
        )

    def sequence(self, ring: Ring, world: CompiledMDP, places: Any, weights: Any) -> Batch:
        """Return the samples of n steps that begin at `places` `[B]`."""
        later = self.copies * ops.arange(self.steps, dtype="int32")
        entries = xla.gather(ring.entries, (ops.expand_dims(places, 1) + later) % self.capacity)  # [B, n]
        cut = entries < 0
        drawn = ops.where(cut, -1 - entries, entries)
        returns, last, discounts = n_step(
            xla.gather(world.reward, drawn), xla.gather(world.terminated, drawn), cut, self.discount
        )
        reached = ops.expand_dims(last, 1) == ops.arange(self.steps, dtype="int32")
        final = ops.sum(ops.where(reached, drawn, 0), axis=1)
        first = drawn[:, 0]
        return Batch(
            xla.gather(world.state, first),
            xla.gather(world.action, first),
            returns,
            xla.gather(world.next_state, final),
            discounts,
            weights,
        )
