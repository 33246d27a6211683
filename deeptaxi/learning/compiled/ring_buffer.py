"""The replay buffer of compiled programs: a ring buffer, and minibatches sampled from it.

It is ordered like that of the literal recipe (`replay_buffer`): C entries, a multiple of the N environments, so that
the entry that follows p in the same environment is p + N; and an entry can be sampled once it has the n − 1 successors
of an n-step target. Where a transition table is known, an entry is an outcome number o (`mdp`), or −1 − o if a time
limit cut the episode after it: `CompiledReplayBuffer`. Else it is a row of numbers: `TransitionReplayBuffer`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from keras import ops
from numpy.typing import NDArray

from deeptaxi.backend import xla
from deeptaxi.config import TrainConfig
from deeptaxi.learning import sum_tree
from deeptaxi.learning.compiled.hyperparameters import Hyperparameters
from deeptaxi.learning.replay_buffer import Batch, Transitions
from deeptaxi.recipe import n_step

Greedy = Callable[[Any, Any], Any]  # states and actions, int32 [B, n − 1], to whether these are greedy, bool [B, n − 1]


class Ring(NamedTuple):
    """The state of the buffer; `tree` and `largest` are for prioritized replay."""

    entries: Any  # int32 [C], or [C, 5] of a `TransitionReplayBuffer`
    position: Any  # int32, where the next entry goes
    size: Any  # int32, number of entries
    tree: Any  # levels of a sum tree, or None
    largest: Any  # float32, the largest priority so far, or None


class LookedUp(Protocol):
    """What a minibatch is looked up in."""

    @property
    def expected(self) -> Any:
        """The `ExpectedOutcomes` of expected updates; None for sampled ones."""


class Found(NamedTuple):
    """Transitions found in the buffer; all arrays are of the shape of their positions."""

    states: Any
    actions: Any
    rewards: Any
    next_states: Any
    terminated: Any
    cut: Any  # whether a time limit cut the episode after it; only where sums of several steps ask
    pairs: Any  # s·A + a


class CompiledReplayBuffer:
    """Stores and samples outcomes, as pure functions of a `Ring`.

    Args:
        config: environments, capacity, n, and whether there are priorities.
        actions: A.
        outcomes: K.
    """

    def __init__(self, config: TrainConfig, actions: int, outcomes: int) -> None:
        self.actions = actions
        self.outcomes = outcomes
        self.environments = config.interaction.environments
        self.capacity = config.replay.capacity // self.environments * self.environments
        self.steps = config.target.n_step
        self.waiting = (self.steps - 1) * self.environments
        self.prioritized = config.replay.prioritized

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
        return self.put(ring, entries)

    def put(self, ring: Ring, entries: Any) -> Ring:
        """Store the N entries of one step."""
        return ring._replace(
            tree=self.add_priorities(ring),
            entries=xla.put(ring.entries, ring.position, entries),
            position=xla.divide(ring.position + self.environments, self.capacity)[1],
            size=ops.minimum(ring.size + self.environments, self.capacity),
        )

    def add_priorities(self, ring: Ring) -> Any:
        """Return the tree after storing a step: entries that now have n − 1 successors can be sampled, new ones not."""
        if ring.tree is None:
            return None
        index = ring.position + ops.arange(self.environments, dtype="int32")
        priority = ops.broadcast_to(ops.where(ring.size >= self.waiting, ring.largest, 0.0), (self.environments,))
        if self.waiting:  # both at once: a tree takes long to compile
            index = ops.concatenate([index, xla.divide(index - self.waiting + self.capacity, self.capacity)[1]])
            priority = ops.concatenate([ops.zeros((self.environments,)), priority])
        return tuple(sum_tree.assign(ring.tree, index, priority))

    def update_priorities(self, ring: Ring, indices: Any, errors: Any, now: Hyperparameters) -> Ring:
        """Set the priorities of the sampled entries at `indices` `[B]` from their new td_errors `[B]`."""
        if ring.tree is None:
            return ring
        values = sum_tree.priorities(errors, now.priority_exponent)
        tree = tuple(sum_tree.assign(ring.tree, indices, values))
        return ring._replace(tree=tree, largest=ops.maximum(ring.largest, ops.max(values)))

    def sample(
        self, ring: Ring, mdp: LookedUp, bits: Any, now: Hyperparameters, greedy: Greedy | None = None
    ) -> tuple[Any, Batch]:
        """Sample a minibatch.

        Args:
            ring: a ring with entries that can be sampled.
            mdp: the arrays to look outcomes up in.
            bits: random bits, int32 `[B]`.
            now: the numbers of the update.
            greedy: tells which actions are greedy, which ends n-step sums before others; None for plain sums.

        Returns:
            The positions of the entries, int32 `[B]`, and the minibatch; its weights are None if all are equal.
        """
        drawable, weights = ring.size - self.waiting, None
        if ring.tree is None:
            oldest = ring.position - ring.size + self.capacity
            indices = oldest + xla.divide(xla.naturals(bits), drawable)[1]  # below 2·C
            indices = ops.where(indices < self.capacity, indices, indices - self.capacity)
        else:
            strata = ops.arange(bits.shape[0], dtype="float32")
            indices, chance = sum_tree.draw(ring.tree, (strata + xla.fractions(bits)) / bits.shape[0])
            weights = sum_tree.importance_weights(chance, ops.cast(drawable, "float32"), now.importance_exponent)
        if self.steps > 1:
            return indices, self.sequence(ring, mdp, indices, weights, now.discount, greedy)
        found = self.find(ring, mdp, indices)
        if mdp.expected is not None:
            return indices, Batch(
                found.states,
                found.actions,
                xla.gather(mdp.expected.rewards, found.pairs),
                xla.gather(mdp.expected.next_states, found.pairs),
                xla.gather(mdp.expected.discounts, found.pairs),
                weights,  # type: ignore[arg-type]
            )
        not_terminated = 1.0 - ops.cast(found.terminated, "float32")
        return indices, Batch(
            found.states,
            found.actions,
            found.rewards,
            found.next_states,
            now.discount * not_terminated,
            weights,  # type: ignore[arg-type]  # None: all samples weigh the same
        )

    def find(self, ring: Ring, mdp: Any, index: Any) -> Found:
        """Return the transitions at positions `index`."""
        drawn, cut = xla.gather(ring.entries, index), None
        if self.steps > 1:
            cut = drawn < 0
            drawn = ops.where(cut, -1 - drawn, drawn)
        pairs = drawn if self.outcomes == 1 else xla.divide(drawn, self.outcomes)[0]
        states, actions = xla.divide(pairs, self.actions)
        return Found(
            states,
            actions,
            xla.gather(mdp.reward, drawn),
            xla.gather(mdp.next_state, drawn),
            xla.gather(mdp.terminated, drawn),
            cut,
            pairs,
        )

    def sequence(
        self, ring: Ring, mdp: LookedUp, indices: Any, weights: Any, discount: Any, greedy: Greedy | None = None
    ) -> Batch:
        """Return the n-step samples that begin at `indices` `[B]`; `greedy` as for `sample`."""
        later = self.environments * ops.arange(self.steps, dtype="int32")
        places = xla.divide(ops.expand_dims(indices, 1) + later, self.capacity)[1]
        found = self.find(ring, mdp, places)  # [B, n] each
        followed = None if greedy is None else greedy(found.states[:, 1:], found.actions[:, 1:])
        returns, last, discounts = n_step(found.rewards, found.terminated, found.cut, discount, followed)
        reached = ops.expand_dims(last, 1) == ops.arange(self.steps, dtype="int32")
        next_states = ops.sum(ops.where(reached, found.next_states, 0), axis=1)
        return Batch(found.states[:, 0], found.actions[:, 0], returns, next_states, discounts, weights)


TERMINATED, TRUNCATED = 1, 2  # bits of the last column of an entry
COLUMNS = 5


class TransitionReplayBuffer(CompiledReplayBuffer):
    """Stores and samples transitions: an entry is its state, action, reward (as bits), next state and ending.

    Args:
        config: environments, capacity, n, and whether there are priorities.
        actions: A.
    """

    def __init__(self, config: TrainConfig, actions: int) -> None:
        super().__init__(config, actions, 1)

    def initial(self) -> Ring:
        """Return an empty ring."""
        return super().initial()._replace(entries=np.zeros((self.capacity, COLUMNS), np.int32))

    def find(self, ring: Ring, mdp: Any, index: Any) -> Found:
        """Return the transitions at positions `index`."""
        del mdp  # an entry is all of its transition
        # Materialized: the compiler would gather the rows again for each use of each column.
        rows = xla.materialize(xla.gather(ring.entries, index))
        states, actions, rewards, next_states, ends = (rows[..., column] for column in range(COLUMNS))
        return Found(
            states,
            actions,
            xla.as_float(rewards),
            next_states,
            ops.bitwise_and(ends, TERMINATED) != 0,
            ops.bitwise_and(ends, TRUNCATED) != 0,
            states * self.actions + actions,
        )


def rows_of(new: Transitions) -> NDArray[np.int32]:
    """Return transitions as the rows of numbers that a `TransitionReplayBuffer` stores, int32 `[N, 5]`."""
    rows = np.empty((len(new.states), COLUMNS), np.int32)
    rows[:, 0], rows[:, 1], rows[:, 3] = new.states, new.actions, new.next_states
    rows[:, 2] = new.rewards.view(np.int32)
    rows[:, 4] = new.terminated * np.int32(TERMINATED) + new.truncated * np.int32(TRUNCATED)
    return rows
