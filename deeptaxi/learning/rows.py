"""Rows of a kernel that are brought up to date when they are touched, so that an update need not pass over all of them.

The kernel `[R, W]` has R rows, one a state; a minibatch touches few. Beside it lie the target
network's kernel, the optimizer's slots, and `last` `[R]`: the number of updates that had been made when the row's
target and slots were written.

**Target.** Every P updates the target moves by the share τ toward the online weights. A row that has not been touched
since update l has had the same online value w all the time, so after n updates, with c = ⌊n/P⌋ − ⌊l/P⌋ moves since,

    t(n) = w + (1 − τ)ᶜ (t(l) − w),

what c moves one by one would have made of it, up to rounding. With τ = 1, the hard copy, it is w as soon as there was
a move.

**Slots** shrink in the same way: see `optimizers`.

**Repeated rows.** Where a minibatch holds a row twice, its gradients must be summed before the optimizer squares them.
Each occurrence writes its own place in the minibatch to `place[row]`; one wins; all then read the winner's place, and
the sum is made there: `[B]` integers of work, where sorting or comparing all pairs would cost more. The others are
sent past the end of the kernel, where the compiled program writes nothing.
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


class Following(NamedTuple):
    """How the target network follows the online network: every `period` updates it moves by the share `polyak`."""

    polyak: float
    period: int

    def moves(self, earlier: Any, later: Any) -> Any:
        """Return the number of moves after update `earlier` up to update `later`."""
        return later // self.period - earlier // self.period

    def after(self, moves: Any, target: Any, online: Any) -> Any:
        """Return the target after that many moves toward an online value that stayed as it is."""
        if self.polyak == 1:
            return ops.where(moves > 0, online, target)
        left = power(1 - self.polyak, ops.cast(moves, "float32"))
        return online + left * (target - online)


def read_target(rows: Rows, index: Any, updates: Any, following: Following) -> Any:
    """Return the target's rows `index` `[B]` after `updates` updates, `[B, W]`."""
    online = xla.gather(rows.online, index)
    moves = following.moves(xla.gather(rows.last, index), updates)
    return following.after(ops.expand_dims(moves, -1), xla.gather(rows.target, index), online)


def summed(place: Any, index: Any, slopes: Any) -> tuple[Any, Any, Any]:
    """Sum what repeated rows have.

    Args:
        place: int32 `[R]`, scratch.
        index: int32 `[B]`, the rows.
        slopes: `[B, A]`, one an occurrence.

    Returns:
        the scratch; the rows `[B]`, each once: other occurrences are R, past the end; and the sums `[B, A]`, beside
        the rows, 0 elsewhere.
    """
    number = ops.arange(index.shape[0], dtype="int32")
    place = xla.scatter(place, index, number)
    winner = xla.gather(place, index)
    once = ops.where(winner == number, index, place.shape[0])
    return place, once, xla.scatter_add(ops.zeros_like(slopes), winner, slopes)


def touch(
    rows: Rows, index: Any, gradient: Any, optimizer: Optimizer, following: Following, rate: Any, updates: Any
) -> Rows:
    """Make update number ``updates + 1`` on some rows.

    Args:
        rows: all rows, after `updates` updates.
        index: int32 `[B]`, each row once; R stands for none.
        gradient: `[B, W]`.
        optimizer: what makes a step of a gradient.
        following: moves the target.
        rate: the learning rate.
        updates: int32.
    """
    written, index = index, ops.minimum(index, rows.last.shape[0] - 1)
    last = xla.gather(rows.last, index)
    # What was written is gathered again rather than used twice: a gather with one use is merged into it, which is
    # several times as fast as one that lays its rows out first.
    slots = optimizer.decayed(tuple(xla.gather(slot, index) for slot in rows.slots), updates - last)
    slots = optimizer.slots_after(slots, gradient, rate)
    new_slots = tuple(xla.scatter(old, written, new) for old, new in zip(rows.slots, slots, strict=True))
    slots = tuple(xla.gather(slot, index) for slot in new_slots)
    step = optimizer.step(slots, gradient, rate, updates + 1)
    new_online = xla.scatter_add(rows.online, written, step)
    online = xla.gather(new_online, index)
    missed = ops.expand_dims(following.moves(last, updates), -1)
    target = following.after(missed, xla.gather(rows.target, index), online - step)
    target = following.after(following.moves(updates, updates + 1), target, online)
    new_target = xla.scatter(rows.target, written, target)
    zero = xla.zero_after(sum(array[0, 0] for array in (new_target, *new_slots)))
    return rows._replace(
        online=new_online,
        target=new_target,
        slots=new_slots,
        last=xla.scatter(rows.last, written, ops.broadcast_to(updates + 1 + zero, index.shape)),
    )
