"""Bellman sweeps over a large table, at the cost of what changes.

The rows of the table are sparse, and its states cut into blocks by their distance from the end of an episode
(`mdp.sparse_rows`). In most problems values spread like a wave: ahead of it all values change alike, behind it they
have settled. With the sweep V_{n+1} = T V_n and the change
D_n = V_n − V_{n−1}, every state of a block obeys

    γ·σ·min D_n ≤ D_{n+1} ≤ γ·σ'·max D_n          over the successors of the block,

where the sums σ, σ' of a row's continuation probabilities are 1 unless it may terminate (T is monotone, and
T(V + c) = T V + γ·c for a constant c; Puterman, Markov Decision Processes, 1994, lemma 6.1.1 and §6.6.2). So where the
changes of all successors agree within rounding, a block's values change by a known constant and its rows need not be
read. What is neglected this way is summed up and is part of the error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deeptaxi.mdp.chains import ROUNDING
from deeptaxi.mdp.sparse_rows import Rows, cut, leaks_of, rounding_of
from deeptaxi.mdp.stopping import check_stop
from deeptaxi.mdp.table import Bools, Floats, Ints

if TYPE_CHECKING:
    from scipy.sparse import csr_array

GROUP = 16  # blocks whose rows are read at once if they are all active
DECIMALS, REFINE = 9, 64  # digits that long-run gains are rounded to; steps to refine those that are not round
CHECK = 64  # fewest sweeps between two attempts to foresee all others
NEARER = 0.1  # share of the change that may be left by an extrapolation
EVERY = 0.25  # seconds between two reports of progress

Listener = Callable[[int, float, bool], object]  # receives the number of sweeps, and a bound (True) or the last change
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def reported_to(listener: Listener | None) -> Iterator[None]:
    """Report the progress of all long sweeps in the block to `listener`; None reports nothing."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def listener() -> Listener | None:
    """Return what progress is reported to, or None."""
    return _listener.get()


def in_groups(active: Ints, blocks: int) -> list[tuple[int, int]]:
    """Return the `active` blocks as ranges: whole groups of `GROUP`, and single blocks."""
    counts = np.bincount(active // GROUP, minlength=-(-blocks // GROUP)) if active.size else np.zeros(1)
    whole = np.flatnonzero(counts == GROUP)
    alone = active[counts[active // GROUP] < GROUP] if active.size else active
    groups = [(int(group) * GROUP, (int(group) + 1) * GROUP) for group in whole]
    return groups + [(int(block), int(block) + 1) for block in alone]


@dataclass
class Sweeping:
    """Values that are swept until they settle.

    Attributes:
        values: V_n, `[S]`.
        sweeps: n.
        neglected: a bound on the error of V_n from blocks that were not read; rounding not included.
        change: the largest |V_n − V_{n−1}|.
    """

    values: Floats
    sweeps: int
    neglected: float
    change: float

    def times(self, factor: float) -> Sweeping:
        """Return what the same sweeps would have made of `factor` times the gain, without a choice of actions."""
        size = abs(factor)
        return Sweeping(factor * self.values, self.sweeps, size * self.neglected, size * self.change)


def sweep(
    rows: Rows,
    gain: Floats,
    discount: float,
    steps: int,
    worst: bool = False,
    tolerance: float | None = None,
    start: Floats | None = None,
) -> Sweeping:
    """Apply V ← opt_a (gain + γP·V) to `start`, `steps` times or until it has settled.

    Args:
        rows: P.
        gain: what a step gains, `[N, A, B]`; −∞, or ∞ for the worst, excludes a pair.
        discount: γ, from 0 to 1.
        steps: most sweeps.
        worst: whether to take the least instead of the greatest over the actions.
        tolerance: stop when the values are within about this of the fixed point, relative to 1 + ‖V‖; None to sweep
            `steps` times.
        start: the first values, `[S]`; None for 0.
    """
    state = _State(rows, gain, discount, worst)
    if start is not None:
        state.begin(start)
    heard, reported, check = listener(), time.monotonic(), CHECK
    count = 0
    for count in range(1, steps + 1):
        state.step()
        if heard is not None and time.monotonic() - reported > EVERY:
            reported = time.monotonic()
            if discount == 1:
                heard(count, state.change(), False)
            else:
                heard(count, (state.change() * discount + state.neglected) / (1 - discount), True)
        if tolerance is not None and state.settled(tolerance):
            break
        if count == check:
            check += max(CHECK, count // 8)
            if tolerance is not None:
                state.extrapolate()
            elif state.leap(steps - count):
                break
    values = state.whole()
    return Sweeping(values, count, state.neglected, state.change())


class _State:
    """The present values of a sweep, block by block."""

    def __init__(self, rows: Rows, gain: Floats, discount: float, worst: bool) -> None:
        self.rows, self.gain, self.discount = rows, gain, discount
        self.blocks, self.actions, self.size = rows.reward.shape
        self.pick = np.minimum if worst else np.maximum
        self.worst, self.worst_case = worst, np.inf if worst else -np.inf
        self.excludes = not all(np.isfinite(part).all() for part in gain)  # some pairs
        self.values = np.zeros((self.blocks, self.size))
        self.low, self.high = np.zeros((2, self.blocks))
        self.owed = np.zeros(self.blocks)  # what is still to be added to the values of a block
        self.scale = 1.0  # at least 1 + ‖V‖
        self.rounding = float(rounding_of(np.diff(rows.matrix.indptr)).max())
        self.leaks = leaks_of(rows, np.isfinite(gain)) if self.excludes else rows.leaks
        self.latest: list[tuple[slice, Floats]] = []  # the blocks that were read in the last sweep, and their changes
        self.began = False
        self.neglected = 0.0
        self.reads: Bools = np.zeros((self.blocks, self.blocks), np.bool_)  # whether a block leads to another
        counts = np.diff(np.append(rows.first, len(rows.sources)))
        self.reads[np.repeat(np.arange(self.blocks), counts), rows.sources] = True
        self.cuts: dict[tuple[int, int], csr_array] = {}

    def begin(self, start: Floats) -> None:
        """Start from the values `[S]`."""
        self.values[:] = start[self.rows.order].reshape(self.values.shape)
        self.scale = 1 + float(np.abs(self.values).max())

    def step(self) -> None:
        """Sweep once."""
        low, high = self.foresee()
        epsilon = self.rounding * self.scale
        alike = (high - low <= epsilon) & self.began
        active = np.flatnonzero(~alike)
        self.settle_debts(self.needed(active))
        renewed = self.renew(active)
        self.neglected *= self.discount
        if len(active) < self.blocks:
            middle = np.where(np.maximum(-low, high) <= epsilon, 0.0, (low + high) / 2)
            error = np.maximum(middle - low, high - middle)[alike]
            self.neglected += self.discount * float(error.max())
            moved = self.discount * middle[alike]
            self.owed[alike] += moved
            self.low[alike] = self.high[alike] = moved
            self.scale += float(np.abs(moved).max())
        self.latest = []
        for begin, new, old in renewed:
            change, part = new - old, slice(begin, begin + len(new))
            self.low[part], self.high[part] = change.min(axis=1), change.max(axis=1)
            self.values[part] = new
            self.latest.append((part, change))
            self.scale = max(self.scale, 1 + float(new.max()), 1 - float(new.min()))
        self.began = True

    def foresee(self) -> tuple[Floats, Floats]:
        """Return the least and the greatest change of what each block depends on, `[N]`."""
        rows = self.rows
        low = np.minimum.reduceat(self.low[rows.sources], rows.first)
        high = np.maximum.reduceat(self.high[rows.sources], rows.first)
        low[self.leaks] = np.minimum(low[self.leaks], 0)
        high[self.leaks] = np.maximum(high[self.leaks], 0)
        return low, high

    def needed(self, active: Ints) -> Ints:
        """Return the blocks whose values the `active` blocks read, themselves included, and that are owed anything."""
        reads = np.asarray(self.reads[active].any(axis=0))
        reads[active] = True
        return np.flatnonzero(reads & (self.owed != 0))

    def settle_debts(self, blocks: Ints) -> None:
        """Add to the values of `blocks` what they are owed."""
        for block in blocks:
            self.values[block] += self.owed[block]
        self.owed[blocks] = 0

    def renew(self, active: Ints) -> list[tuple[int, Floats, Floats]]:
        """Compute the new values of the `active` blocks: for each run of blocks its first, new and old values."""
        found = []
        values = self.values.reshape(-1)
        discounted = self.discount * values if active.size * 2 > self.blocks and self.discount < 1 else None
        for begin, end in in_groups(active, self.blocks):
            part = self.part(begin, end)
            q = part @ (values if discounted is None else discounted)
            if discounted is None and self.discount < 1:
                q *= self.discount
            q = q.reshape(end - begin, self.actions, self.size)
            q += self.gain[begin:end]
            new = q[:, 0] if self.actions == 1 else self.pick.reduce(q, axis=1)
            found.append((begin, new, self.values[begin:end]))
        return found

    def change(self) -> float:
        """Return the largest change of the last sweep."""
        return float(max(np.abs(self.low).max(), np.abs(self.high).max()))

    def settled(self, tolerance: float) -> bool:
        """Whether the values are as near to the fixed point as asked, or as rounding allows.

        Without termination, the fixed point lies between V + γ/(1−γ)·min D and V + γ/(1−γ)·max D; then its middle is
        taken (MacQueen's bounds; Puterman, 1994, theorem 6.6.6).
        """
        ahead = self.discount / (1 - self.discount)
        least, most = float(self.low.min()), float(self.high.max())
        change, scale = max(abs(least), abs(most)), self.scale
        if ahead * change <= tolerance * scale or change <= ROUNDING / 2 * scale:
            return True
        if not self.leaks.any() and ahead * (most - least) <= tolerance * scale:
            self.owed += ahead * (most + least) / 2
            return True
        return False

    def changes(self) -> Floats:
        """Return what the last sweep changed, `[N, B]`."""
        change = np.repeat(self.low[:, None], self.size, axis=1)
        for part, exact in self.latest:
            change[part] = exact
        return change

    def extrapolate(self) -> None:
        """Add what all further discounted sweeps would add to the values, if that brings them nearer to settling.

        A change D that every step of a greedy policy keeps, P_π·D = D, adds γ·D, γ²·D, …, so γ/(1−γ)·D. Whether it
        does is seen from the result: one step from it must change far less.
        """
        ahead = self.discount / (1 - self.discount)
        self.settle_debts(np.arange(self.blocks))
        found = self.values + ahead * self.changes()
        better = np.empty_like(found)
        for begin, end in self.groups():
            q = (self.part(begin, end) @ found.reshape(-1)).reshape(self.gain[begin:end].shape)
            q *= self.discount
            q += self.gain[begin:end]
            better[begin:end] = self.pick.reduce(q, axis=1)
        change = better - found
        if float(np.abs(change).max()) < NEARER * self.change():
            self.values, self.low, self.high = better, change.min(axis=1), change.max(axis=1)
            self.scale = max(self.scale, 1 + float(np.abs(better).max()))
            self.neglected, self.latest = 0.0, [(slice(0, self.blocks), change)]

    def leap(self, steps: int) -> bool:
        """Add the changes of `steps` more undiscounted sweeps at once, if they are known; return whether they are.

        Let U be the change of the last sweep within δ, and π a policy that it was greedy for. If P_a·U ≤ U + ε for all
        actions and P_π·U ≥ U − ε, then by induction n more sweeps change V by n·U within n·δ + n²·ε/2: U is what a step
        gains in the long run (Puterman, 1994, theorem 9.1.2, the first of the optimality equations).
        """
        if self.discount != 1 or sum(len(change) for _, change in self.latest) * 4 > self.blocks:
            return False
        change = self.changes()
        noise = self.rounding * self.scale
        if float(np.abs(self.onward(change) - change).max()) > 4 * noise:
            return False
        self.settle_debts(np.arange(self.blocks))
        gained = np.round(change, DECIMALS)
        unsure = np.abs(change - gained) > noise
        gained[unsure] = change[unsure]
        for _ in range(REFINE if unsure.any() else 0):
            gained[unsure] = self.onward(gained)[unsure]
        off = float(np.abs(change - gained).max())
        error = steps * off + steps * steps / 2 * self.unlike(gained, self.values - change)
        if error > steps * noise:
            return False
        self.values += steps * gained
        self.neglected += error
        return True

    def unlike(self, gained: Floats, values: Floats) -> float:
        """Return by how much a step from U `[N, B]` changes it: opt_a P·U, or P_π·U for the greedy π of `values`."""
        found = 0.0
        for begin, end in self.groups():
            part = self.part(begin, end)
            q = (part @ values.reshape(-1)).reshape(self.gain[begin:end].shape)
            q += self.gain[begin:end]
            chosen = (q.argmin(axis=1) if self.worst else q.argmax(axis=1))[:, None]
            following = (part @ gained.reshape(-1)).reshape(q.shape)
            kept = np.take_along_axis(following, chosen, axis=1)[:, 0]
            best = self.pick.reduce(self.allowed(following, begin, end), axis=1)
            found = max(found, *(float(np.abs(each - gained[begin:end]).max()) for each in (best, kept)))
        return found

    def onward(self, change: Floats) -> Floats:
        """Return opt_a P·U over the allowed actions, `[N, B]`, for U `[N, B]`."""
        found = np.empty_like(change)
        for begin, end in self.groups():
            following = (self.part(begin, end) @ change.reshape(-1)).reshape(self.gain[begin:end].shape)
            found[begin:end] = self.pick.reduce(self.allowed(following, begin, end), axis=1)
        return found

    def allowed(self, q: Floats, begin: int, end: int) -> Floats:
        """Return what follows on the pairs of blocks, `[…, A, B]`, and the worst case where one is excluded."""
        return np.where(np.isfinite(self.gain[begin:end]), q, self.worst_case) if self.excludes else q

    def groups(self) -> list[tuple[int, int]]:
        """Return all blocks, in groups."""
        return in_groups(np.arange(self.blocks), self.blocks)

    def part(self, begin: int, end: int) -> csr_array:
        """Return the rows of some blocks."""
        check_stop()
        found = self.cuts.get((begin, end))
        if found is None:
            found = self.cuts[begin, end] = cut(self.rows, begin, end)
        return found

    def whole(self) -> Floats:
        """Return the values in the order of the states, `[S]`."""
        self.settle_debts(np.arange(self.blocks))
        return np.asarray(self.values.reshape(-1)[self.rows.place])
