"""Rows of a kernel that are brought up to date when they are touched, so that an update need not pass over all of them.

The kernel `[R, W]` has R rows, one a state (or a value of a factor); a minibatch touches few. Beside it lie the target
network's kernel, the optimiser's slots, and `last` `[R]`: the number of updates that had been made when the row's
target and slots were written.

**Target.** Every P updates the target moves by the share τ towards the online weights. A row that has not been touched
since update l has had the same online value w all the time, so after n updates, with c = ⌊n/P⌋ − ⌊l/P⌋ moves since,

    t(n) = w + (1 − τ)ᶜ (t(l) − w),

exactly what c moves one by one would have made of it. With τ = 1, the hard copy, it is w as soon as there was a move.

**Slots** shrink in the same way: see `optimizers`.

**Repeated rows.** Where a minibatch holds a row twice, its gradients must be summed before the optimiser squares them.
Each occurrence writes its own place in the minibatch to `place[row]`; one wins; all then read the winner's place, and
the gradients are summed there: `[B]` integers of work, where sorting or comparing all pairs would cost more.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops

from deeptaxi import xla
from deeptaxi.learning.optimizers import Optimizer, power


class Rows(NamedTuple):
    """The kernel and what goes with it."""

    online: Any  # [R, W]
    target: Any  # [R, W], as of `last`
    slots: tuple[Any, ...]  # each [R, W], as of `last`
    last: Any  # int32 [R]
    place: Any  # int32 [R], scratch


class Moves(NamedTuple):
    """How the target network follows."""

    polyak: float
    period: int

    def between(self, earlier: Any, later: Any) -> Any:
        """Return the number of moves after update `earlier` up to update `later`."""
        return later // self.period - earlier // self.period

    def follow(self, target: Any, online: Any, moves: Any) -> Any:
        """Return the target after that many moves towards an online value that stayed as it is."""
        if self.polyak == 1:
            return ops.where(moves > 0, online, target)
        left = power(1 - self.polyak, ops.cast(moves, "float32"))
        return online + left * (target - online)


def read_target(rows: Rows, index: Any, updates: Any, moves: Moves) -> Any:
    """Return the target's rows `index` `[B]` after `updates` updates, `[B, W]`."""
    online = xla.gather(rows.online, index)
    behind = moves.between(xla.gather(rows.last, index), updates)
    return moves.follow(xla.gather(rows.target, index), online, ops.expand_dims(behind, -1))


def summed(place: Any, index: Any, gradients: Any) -> tuple[Any, Any, Any]:
    """Sum the gradients of repeated rows.

    Args:
        place: int32 `[R]`, scratch.
        index: int32 `[B]`, the rows.
        gradients: `[B, W]`, one an occurrence.

    Returns:
        the scratch; the winner of each occurrence, int32 `[B]`; and the sums `[B, W]`, at the winners, 0 elsewhere.
    """
    place = xla.scatter(place, index, ops.arange(index.shape[0], dtype="int32"))
    winner = xla.gather(place, index)
    return place, winner, xla.scatter_add(ops.zeros_like(gradients), winner, gradients)


def touch(rows: Rows, index: Any, gradient: Any, optimizer: Optimizer, moves: Moves, rate: Any, updates: Any) -> Rows:
    """Make update number ``updates + 1`` on the rows `index` `[B]`; repeated rows carry the same summed gradient."""
    online, last = xla.gather(rows.online, index), xla.gather(rows.last, index)
    behind = ops.expand_dims(moves.between(last, updates), -1)
    target = moves.follow(xla.gather(rows.target, index), online, behind)
    slots = optimizer.decayed(tuple(xla.gather(slot, index) for slot in rows.slots), updates - last)

    online, slots = optimizer.step(online, gradient, slots, rate, updates + 1)
    due = moves.between(updates, updates + 1)
    target = moves.follow(target, online, due)
    return rows._replace(
        online=xla.scatter(rows.online, index, online),
        target=xla.scatter(rows.target, index, target),
        slots=tuple(xla.scatter(old, index, new) for old, new in zip(rows.slots, slots, strict=True)),
        last=xla.scatter(rows.last, index, ops.broadcast_to(updates + 1, index.shape)),
    )
