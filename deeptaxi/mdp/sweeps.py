"""Bellman sweeps over a large table, at the cost of what changes.

The rows of every (state, action) pair are stored sparsely, without padding, merged where outcomes agree. States are
ordered by their distance from the end of an episode and cut into blocks. In most problems values spread like a wave:
ahead of it all values change alike, behind it they have settled. With the sweep V_{n+1} = T V_n and the change
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
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from deeptaxi.machine import check_address_space
from deeptaxi.mdp.chains import ROUNDING
from deeptaxi.mdp.table import Bools, Floats, Ints, TransitionTable

if TYPE_CHECKING:
    from scipy.sparse import csr_array

LARGE = 200_000  # outcomes S·A·K from which sparse rows pay for the import of SciPy
BLOCKS, SMALLEST, GREATEST = 128, 256, 2_048  # number of blocks, and the fewest and most states in one
GROUP = 16  # blocks whose rows are read at once if they are all active
DECIMALS, REFINE = 9, 64  # digits that long-run gains are rounded to; steps to refine those that are not round
CHECK = 64  # fewest sweeps between two attempts to foresee all others
NEARER = 0.1  # share of the change that may be left by an extrapolation
EVERY = 0.25  # seconds between two reports of progress

Listener = Callable[[int, float, bool], object]  # is told the number of sweeps, and a bound (True) or the last change
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def reported_to(listener: Listener | None) -> Iterator[None]:
    """Report the progress of all long sweeps in the block to `listener`; None reports nothing."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@dataclass(frozen=True, eq=False)
class Rows:
    """Sparse rows of N blocks of B states with A actions each, in the order [N, A, B].

    Attributes:
        matrix: continuation probabilities, `[N·A·B, N·B]`.
        reward: expected rewards, `[N, A, B]`.
        order: the state at each position, `[N·B]`; the last state is repeated to fill the last block.
        place: the first position of each state, `[S]`.
        leaks: the blocks from which an episode may end, `[N]`.
        sources: for all blocks, one after the other, the blocks that its rows lead to.
        first: where each block begins in `sources`, `[N]`.
    """

    matrix: csr_array
    reward: Floats
    order: Ints
    place: Ints
    leaks: Bools
    sources: Ints
    first: Ints

    def backup(self, values: Floats, discount: float) -> Floats:
        """Return R + γP·V, `[S, A]`, for the values V `[S]`."""
        blocks, actions, size = self.reward.shape
        q = (self.matrix @ (discount * values[self.order])).reshape(blocks, actions, size)
        q += self.reward
        return self.disarrange(q)

    def arrange(self, pairs: NDArray[Any]) -> NDArray[Any]:
        """Bring an array `[S, A]` into the order `[N, A, B]`."""
        blocks, _, size = self.reward.shape
        return np.ascontiguousarray(pairs[self.order].reshape(blocks, size, -1).transpose(0, 2, 1))

    def disarrange(self, pairs: NDArray[Any]) -> NDArray[Any]:
        """Bring an array `[N, A, B]` into the order `[S, A]`."""
        found = np.empty((len(self.place), pairs.shape[1]), pairs.dtype)
        for action in range(pairs.shape[1]):  # several times as fast as gathering rows of few entries
            found[:, action] = pairs[:, action].reshape(-1).take(self.place)
        return found


_rows: WeakKeyDictionary[TransitionTable, Rows] = WeakKeyDictionary()


def is_large(table: TransitionTable) -> bool:
    """Whether sparse rows are worth the import of SciPy."""
    return table.probability.size >= LARGE


def rows_of(table: TransitionTable) -> Rows:
    """Return the sparse rows of a table; they are made once."""
    found = _rows.get(table)
    if found is None:
        found = _rows[table] = pack(table)
    return found


def pack(table: TransitionTable) -> Rows:
    """Store the outcomes of a table sparsely, nearest to the end of an episode first."""
    check_address_space()
    from scipy.sparse import csr_array

    states, actions, outcomes = table.probability.shape
    order = order_from_ends(table)
    size = max(SMALLEST, min(GREATEST, -(-states // BLOCKS)))
    blocks = -(-states // size)
    order = np.concatenate([order, np.full(blocks * size - states, order[-1])])
    place = np.zeros(states, np.int64)
    place[order[::-1]] = np.arange(len(order))[::-1]
    target = place.astype(np.int32 if len(order) < 2**31 else np.int64)
    reward = np.empty((blocks, actions, size))
    store = _Store(len(order) * actions * outcomes, target.dtype)
    for block in range(blocks):
        here = order[block * size : (block + 1) * size]
        chance = table.probability[here]
        reward[block] = np.einsum("sak,sak->as", chance, table.reward[here])
        chance *= ~table.terminated[here]
        flat = chance.transpose(1, 0, 2).reshape(-1)
        column = target[table.next_state[here]].transpose(1, 0, 2).reshape(-1)
        ends = np.arange(0, flat.size + 1, outcomes, dtype=column.dtype)
        part = csr_array((flat, column, ends), shape=(size * actions, len(order)))
        part.sum_duplicates()
        part.eliminate_zeros()
        store.add(part)
    return assemble(store, reward, order, place)


class _Store:
    """A sparse matrix that grows by blocks of rows. The memory that it reserves is taken only as it is written."""

    def __init__(self, most: int, dtype: Any) -> None:
        self.data = np.empty(most)
        self.indices = np.empty(most, dtype)
        self.lengths: list[Ints] = []
        self.ends = [0]

    def add(self, part: csr_array) -> None:
        """Append rows."""
        begin, end = self.ends[-1], self.ends[-1] + part.nnz
        self.data[begin:end], self.indices[begin:end] = part.data, part.indices
        self.lengths.append(np.diff(part.indptr))
        self.ends.append(end)


def assemble(store: _Store, reward: Floats, order: Ints, place: Ints) -> Rows:
    """Join the blocks of a sparse matrix, and note what each block depends on."""
    from scipy.sparse import csr_array

    size = reward.shape[2]
    leaks, sources = [], []
    for block, lengths in enumerate(store.lengths):
        part = slice(store.ends[block], store.ends[block + 1])
        sums = np.bincount(np.repeat(np.arange(len(lengths)), lengths), store.data[part], minlength=len(lengths))
        leaks.append(bool((sums < 1 - rounding_of(lengths)).any()))
        sources.append(np.flatnonzero(np.bincount(store.indices[part] // size, minlength=reward.shape[0])))
        if not len(sources[-1]):  # every pair ends the episode: the block depends on nothing, so on itself
            sources[-1] = np.array([block])
    pointers = np.concatenate([[0], np.cumsum(np.concatenate(store.lengths))])
    if pointers[-1] < 2**31:
        pointers = pointers.astype(np.int32)
    whole = slice(0, store.ends[-1])
    matrix = csr_array((store.data[whole], store.indices[whole], pointers), shape=(reward.size, len(order)))
    first = np.concatenate([[0], np.cumsum([len(found) for found in sources])[:-1]])
    return Rows(matrix, reward, order, place, np.array(leaks), np.concatenate(sources), first)


def join(parts: list[Any]) -> NDArray[Any]:
    """Concatenate arrays, releasing each once it is copied."""
    whole = np.empty(sum(map(len, parts)), parts[0].dtype)
    at = 0
    while parts:
        part = parts.pop(0)
        whole[at : at + len(part)] = part
        at += len(part)
    return whole


def order_from_ends(table: TransitionTable) -> Ints:
    """Return the states by their fewest steps to the end of an episode, `[S]`.

    Those that reach no end come last, before them those that lead there in one step: their values may never change
    alike, which would keep busy every block that holds one of them.
    """
    onward, ends = links(table)
    if not ends.any():
        return np.arange(table.states)
    levels = levels_before(onward, ends)
    found = np.zeros(table.states, np.bool_)
    near = np.concatenate(levels)
    found[near] = True
    between = found & (onward @ ~found)
    return np.concatenate([near[~between[near]], near[between[near]], np.flatnonzero(~found)])


def links(table: TransitionTable, pairs: Bools | None = None) -> tuple[csr_array, Bools]:
    """Return which states the `pairs` `[S, A]` (None for all) may lead to, `[S, S]`, and where they may end, `[S]`."""
    check_address_space()
    from scipy.sparse import csr_array

    states = table.states
    ends = np.zeros(states, np.bool_)
    parts: list[Any] = []
    counts = np.zeros(states + 1, np.int64)
    step = max(1, 2**20 // (table.probability.size // states))
    for begin in range(0, states, step):
        here = slice(begin, begin + step)
        possible = table.probability[here] > 0
        if pairs is not None:
            possible &= pairs[here][:, :, None]
        over = possible & table.terminated[here]
        ends[here] = over.any(axis=(1, 2))
        goes_on = possible & ~over
        parts.append(table.next_state[here][goes_on].astype(np.int32))
        counts[begin + 1 : begin + 1 + len(goes_on)] = goes_on.sum(axis=(1, 2))
    targets, pointers = join(parts), np.cumsum(counts)
    if pointers[-1] < 2**31:
        pointers = pointers.astype(np.int32)
    return csr_array((np.ones(len(targets), np.bool_), targets, pointers), shape=(states, states)), ends


def levels_before(onward: csr_array, targets: Bools) -> list[Ints]:
    """Return the `targets` `[S]`, the states that lead to one in a step, those that do in two, and so on."""
    back = onward.tocsc()
    found, frontier, levels = targets.copy(), np.flatnonzero(targets), []
    lengths_of = np.diff(back.indptr)
    while frontier.size:
        levels.append(frontier)
        begins, lengths = back.indptr[frontier].astype(np.int64), lengths_of[frontier]
        offsets = np.repeat(begins - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
        before = back.indices[np.arange(int(lengths.sum())) + offsets]
        frontier = np.unique(before[~found[before]]).astype(np.int64)
        found[frontier] = True
    return levels


def leads_to(table: TransitionTable, targets: Bools | None, pairs: Bools | None) -> Bools:
    """Mark the states from which the `pairs` `[S, A]` (None for all) may lead to `targets` `[S]` (None: to an end)."""
    onward, ends = links(table, pairs)
    found = np.zeros(table.states, np.bool_)
    for level in levels_before(onward, ends if targets is None else targets):
        found[level] = True
    return found


def fix(rows: Rows, policy: Ints | Floats) -> Rows:
    """Fix a policy, given as actions `[S]` or probabilities `[S, A]`: return rows with one action."""
    from scipy.sparse import csr_array

    blocks, actions, size = rows.reward.shape
    weights = np.eye(actions)[policy] if policy.ndim == 1 else policy
    weights = rows.arrange(weights)  # [N, A, B]
    reward = (weights * rows.reward).sum(axis=1, keepdims=True)
    store = _Store(rows.matrix.nnz, rows.matrix.indices.dtype)
    for block in range(blocks):
        part = cut(rows, block, block + 1)
        inner, action = np.nonzero(weights[block].T)
        shares = weights[block].T[inner, action]
        ends = np.searchsorted(inner, np.arange(size + 1))
        mean = csr_array((shares, action * size + inner, ends), shape=(size, actions * size)) @ part
        mean.sum_duplicates()
        store.add(mean)
    return assemble(store, np.asarray(reward), rows.order, rows.place)


def cut(rows: Rows, begin: int, end: int) -> csr_array:
    """Return the rows of the blocks from `begin` to before `end`, as a view."""
    from scipy.sparse import csr_array

    matrix, (_, actions, size) = rows.matrix, rows.reward.shape
    pointers = matrix.indptr[begin * actions * size : end * actions * size + 1]
    entries = slice(pointers[0], pointers[-1])
    shape = (len(pointers) - 1, matrix.shape[1])
    part = csr_array((matrix.data[entries], matrix.indices[entries], pointers - pointers[0]), shape=shape)
    part.data, part.indices = matrix.data[entries], matrix.indices[entries]  # SciPy copies views of larger arrays
    return part


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
    heard, told, check = _listener.get(), time.monotonic(), CHECK
    for count in range(1, steps + 1):
        state.step()
        if heard is not None and count % 8 == 0 and time.monotonic() - told > EVERY:
            told = time.monotonic()
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


def leaks_of(rows: Rows, allowed: Bools) -> Bools:
    """Return the blocks from which an episode may end by a pair that is `allowed` `[N, A, B]`, `[N]`."""
    sums = rows.matrix @ np.ones(rows.matrix.shape[1])
    ends = (sums < 1 - rounding_of(np.diff(rows.matrix.indptr))).reshape(allowed.shape)
    return np.asarray((ends & allowed).any(axis=(1, 2)))


def rounding_of(terms: Ints) -> Floats:
    """Return a bound on the rounding error of a sum of that many `terms`, half an ε for each, relative to the sum."""
    return np.asarray(ROUNDING * np.maximum(1, terms / 16))


class _State:
    """The present values of a sweep, block by block."""

    def __init__(self, rows: Rows, gain: Floats, discount: float, worst: bool) -> None:
        self.rows, self.gain, self.discount = rows, gain, discount
        self.blocks, self.actions, self.size = rows.reward.shape
        self.pick = np.minimum if worst else np.maximum
        self.worst, self.worst_case = worst, np.inf if worst else -np.inf
        self.values = np.zeros((self.blocks, self.size))
        self.low, self.high = np.zeros((2, self.blocks))
        self.owed = np.zeros(self.blocks)  # what is still to be added to the values of a block
        self.scale = 1.0  # at least 1 + ‖V‖
        self.rounding = float(rounding_of(np.diff(rows.matrix.indptr)).max())
        self.leaks = rows.leaks if np.isfinite(gain).all() else leaks_of(rows, np.isfinite(gain))
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
            part = self.cuts.get((begin, end))
            if part is None:
                part = self.cuts[begin, end] = cut(self.rows, begin, end)
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
        q = self.discount * (self.rows.matrix @ found.reshape(-1)).reshape(self.gain.shape) + self.gain
        better = self.pick.reduce(q, axis=1)
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
        before = (self.values - change).reshape(-1)
        q = (self.rows.matrix @ before).reshape(self.gain.shape) + self.gain
        following = (self.rows.matrix @ gained.reshape(-1)).reshape(q.shape)
        chosen = (q.argmin(axis=1) if self.worst else q.argmax(axis=1))[:, None]
        kept = np.take_along_axis(following, chosen, axis=1)[:, 0]
        error = steps * off + steps * steps / 2 * max(
            float(
                np.abs(self.pick.reduce(np.where(np.isfinite(q), following, self.worst_case), axis=1) - gained).max()
            ),
            float(np.abs(kept - gained).max()),
        )
        if error > steps * noise:
            return False
        self.values += steps * gained
        self.neglected += error
        return True

    def onward(self, change: Floats) -> Floats:
        """Return opt_a P·U over the allowed actions, `[N, B]`, for U `[N, B]`."""
        following = (self.rows.matrix @ change.reshape(-1)).reshape(self.gain.shape)
        following = np.where(np.isfinite(self.gain), following, self.worst_case)
        return np.asarray(self.pick.reduce(following, axis=1))

    def whole(self) -> Floats:
        """Return the values in the order of the states, `[S]`."""
        self.settle_debts(np.arange(self.blocks))
        return np.asarray(self.values.reshape(-1)[self.rows.place])
