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

from deeptaxi.io.mapped import in_blocks
from deeptaxi.machine import check_address_space
from deeptaxi.mdp.chains import ROUNDING
from deeptaxi.mdp.table import Bools, Floats, Ints, TransitionTable

if TYPE_CHECKING:
    from scipy.sparse import csr_array

LARGE = 30_000  # outcomes S·A·K from which sparse rows pay for the import of SciPy, of 0.15 CPU seconds
PLANNING_BYTES = 40  # for an outcome, at its peak, besides a table that is in memory
BLOCKS, SMALLEST, GREATEST = 128, 256, 2_048  # number of blocks, and the fewest and most states in one
FRONTIER = 2**16  # states of a level that are looked at at once
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
    """Store the outcomes of a table sparsely, nearest to the end of an episode first.

    The table is read twice from its beginning to its end, as it may lie in a file: for the number of outcomes of each
    pair, from which their places follow, and to put them there.
    """
    check_address_space()
    states, actions, _ = table.probability.shape
    size = max(SMALLEST, min(GREATEST, -(-states // BLOCKS)))
    blocks = -(-states // size)
    counts, order = count_and_order(table)
    order = np.concatenate([order, np.full(blocks * size - states, order[-1])])
    place = np.zeros(states, np.int64)
    place[order[::-1]] = np.arange(len(order))[::-1]
    pointers = np.zeros(order.size * actions + 1, np.int64)
    lengths = pointers[1:].reshape(blocks, actions, size)
    for action in range(actions):
        lengths[:, action] = counts[:, action].take(order).reshape(blocks, size)
    del counts, lengths
    np.cumsum(pointers, out=pointers)
    if pointers[-1] < 2**31:
        pointers = pointers.astype(np.int32)
    column = place.astype(np.int32 if len(order) < 2**31 else np.int64)
    data, indices = np.empty(pointers[-1]), np.empty(pointers[-1], column.dtype)
    reward = np.empty((blocks, actions, size))
    for here, matrix, gain in parts_of(table, column):
        block, inner = np.divmod(place[here], size)
        reward[block, :, inner] = gain
        row = ((block[:, None] * actions + np.arange(actions)) * size + inner[:, None]).reshape(-1)
        length = np.diff(matrix.indptr)
        at = np.repeat(pointers[row] - matrix.indptr[:-1], length) + np.arange(matrix.nnz, dtype=pointers.dtype)
        data[at], indices[at] = matrix.data, matrix.indices
    fill_last_block(pointers, data, indices, reward, states - 1 - (blocks - 1) * size)
    return assemble(pointers, data, indices, reward, order, place)


def parts_of(table: TransitionTable, column: NDArray[Any]) -> Iterator[tuple[slice, csr_array, Floats]]:
    """Yield the rows of a table, some states at a time: the states, their rows by pair, and expected rewards `[B, A]`.

    `column` `[S]` says in which column of the rows each state is. Outcomes that agree in the next state are merged.
    """
    from scipy.sparse import csr_array

    outcomes, columns = table.probability.shape[2], int(column.max()) + 1
    for here in in_blocks(table.probability, table.next_state, table.reward, table.terminated):
        chance = table.probability[here]
        gain = np.einsum("sak,sak->sa", chance, table.reward[here])
        flat = (chance * ~table.terminated[here]).reshape(-1)
        ends = np.arange(0, flat.size + 1, outcomes, dtype=column.dtype)
        to = column[table.next_state[here]].reshape(-1)
        matrix = csr_array((flat, to, ends), shape=(len(ends) - 1, columns))
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        yield slice(here.start, here.start + len(gain)), matrix, gain


def count_and_order(table: TransitionTable) -> tuple[NDArray[np.int32], Ints]:
    """Return the number of different next states of each pair, `[S, A]`, and the states in `order_from_ends`."""
    states, actions, _ = table.probability.shape
    counts, ends = np.empty((states, actions), np.int32), np.zeros(states, np.bool_)
    graph = _Graph(states)
    for here, matrix, _ in parts_of(table, np.arange(states, dtype=np.int32 if states < 2**31 else np.int64)):
        counts[here] = np.diff(matrix.indptr).reshape(-1, actions)
        ends[here] = ((table.probability[here] > 0) & table.terminated[here]).any(axis=(1, 2))
        graph.add(matrix.indices, matrix.indptr[::actions])
    if not ends.any():
        return counts, np.arange(states)
    return counts, order_from_ends(graph.whole(), ends)


def fill_last_block(pointers: NDArray[Any], data: Floats, indices: NDArray[Any], reward: Floats, last: int) -> None:
    """Repeat the rows of the state at position `last` of the last block in the positions after it."""
    blocks, actions, size = reward.shape
    reward[-1, :, last + 1 :] = reward[-1, :, last : last + 1]
    for action in range(actions):
        row = ((blocks - 1) * actions + action) * size + last
        begin, end, until = pointers[row], pointers[row + 1], pointers[row + size - last]
        for values in (data, indices):
            values[end:until] = np.tile(values[begin:end], size - 1 - last)


def assemble(
    pointers: NDArray[Any], data: Floats, indices: NDArray[Any], reward: Floats, order: Ints, place: Ints
) -> Rows:
    """Join what `Rows` are made of, and note what each block depends on."""
    blocks, actions, size = reward.shape
    leaks, sources = [], []
    for block in range(blocks):
        here = pointers[block * actions * size : (block + 1) * actions * size + 1]
        part = slice(here[0], here[-1])
        rows = np.repeat(np.arange(len(here) - 1), np.diff(here))
        sums = np.bincount(rows, data[part], minlength=len(here) - 1)
        leaks.append(bool((sums < 1 - rounding_of(np.diff(here))).any()))
        sources.append(np.flatnonzero(np.bincount(indices[part] // size, minlength=blocks)))
        if not len(sources[-1]):  # every pair ends the episode: the block depends on nothing, so on itself
            sources[-1] = np.array([block])
    first = np.concatenate([[0], np.cumsum([len(found) for found in sources])[:-1]])
    matrix = sparse_rows(data, indices, pointers, len(order))
    return Rows(matrix, reward, order, place, np.array(leaks), np.concatenate(sources), first)


def sparse_rows(data: Floats, indices: NDArray[Any], pointers: NDArray[Any], columns: int) -> csr_array:
    """Return a sparse matrix over arrays as they are: SciPy copies views of larger arrays."""
    from scipy.sparse import csr_array

    found = csr_array((len(pointers) - 1, columns))
    found.data, found.indices, found.indptr = data, indices, pointers
    return found


class _Graph:
    """Which states lead to which in a step, collected some states at a time."""

    def __init__(self, states: int) -> None:
        self.states = states
        self.targets: list[NDArray[Any]] = []
        self.lengths: list[NDArray[Any]] = []

    def add(self, targets: NDArray[Any], pointers: NDArray[Any]) -> None:
        """Append states, those that each leads to one after the other, and where they begin."""
        from scipy.sparse import csr_array

        part = csr_array((np.ones(len(targets), np.bool_), targets, pointers), (len(pointers) - 1, self.states))
        part.sum_duplicates()
        self.targets.append(part.indices)
        self.lengths.append(np.diff(part.indptr))

    def whole(self) -> csr_array:
        """Return the graph, `[S, S]`."""
        from scipy.sparse import csr_array

        pointers = np.concatenate([[0], np.cumsum(np.concatenate(self.lengths))])
        if pointers[-1] < 2**31:
            pointers = pointers.astype(np.int32)
        targets = join(self.targets)
        return csr_array((np.ones(len(targets), np.bool_), targets, pointers), (self.states, self.states))


def join(parts: list[Any]) -> NDArray[Any]:
    """Concatenate arrays, releasing each once it is copied."""
    whole = np.empty(sum(map(len, parts)), parts[0].dtype)
    at = 0
    while parts:
        part = parts.pop(0)
        whole[at : at + len(part)] = part
        at += len(part)
    return whole


def order_from_ends(onward: csr_array, ends: Bools) -> Ints:
    """Return the states by their fewest steps to the end of an episode, `[S]`.

    Those that reach no end come last, before them those that lead there in one step: their values may never change
    alike, which would keep busy every block that holds one of them.

    Args:
        onward: which states lead to which in a step, `[S, S]`.
        ends: where an episode may end, `[S]`.
    """
    levels = levels_before(onward, ends)
    found = np.zeros(len(ends), np.bool_)
    near = np.concatenate(levels)
    found[near] = True
    between = found & (onward @ ~found)
    return np.concatenate([near[~between[near]], near[between[near]], np.flatnonzero(~found)])


def links(table: TransitionTable, pairs: Bools | None = None) -> tuple[csr_array, Bools]:
    """Return which states the `pairs` `[S, A]` (None for all) may lead to, `[S, S]`, and where they may end, `[S]`."""
    check_address_space()
    ends, graph = np.zeros(table.states, np.bool_), _Graph(table.states)
    for here in in_blocks(table.probability, table.next_state, table.terminated):
        possible = table.probability[here] > 0
        if pairs is not None:
            possible &= pairs[here][:, :, None]
        over = possible & table.terminated[here]
        ends[here] = over.any(axis=(1, 2))
        goes_on = possible & ~over
        pointers = np.concatenate([[0], np.cumsum(goes_on.sum(axis=(1, 2)))])
        graph.add(table.next_state[here][goes_on].astype(np.int32), pointers.astype(np.int32))
    return graph.whole(), ends


def levels_before(onward: csr_array, targets: Bools) -> list[Ints]:
    """Return the `targets` `[S]`, the states that lead to one in a step, those that do in two, and so on."""
    back = onward.tocsc()
    found, frontier, levels = targets.copy(), np.flatnonzero(targets), []
    lengths_of = np.diff(back.indptr)
    while frontier.size:
        levels.append(frontier)
        news = []
        for part in np.split(frontier, range(FRONTIER, len(frontier), FRONTIER)):
            begins, lengths = back.indptr[part].astype(np.int64), lengths_of[part]
            offsets = np.repeat(begins - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
            before = back.indices[np.arange(int(lengths.sum())) + offsets]
            new = np.unique(before[~found[before]]).astype(np.int64)
            found[new] = True
            news.append(new)
        frontier = np.sort(np.concatenate(news)) if len(news) > 1 else news[0]
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
    every = np.eye(actions)
    reward = np.empty((blocks, 1, size))
    pointers = np.zeros(blocks * size + 1, rows.matrix.indptr.dtype)
    data, indices = np.empty(rows.matrix.nnz), np.empty(rows.matrix.nnz, rows.matrix.indices.dtype)
    for block in range(blocks):  # memory is taken as it is written to
        chosen = policy[rows.order[block * size : (block + 1) * size]]
        weights = np.ascontiguousarray((every[chosen] if policy.ndim == 1 else chosen).T)  # [A, B]
        reward[block, 0] = (weights * rows.reward[block]).sum(axis=0)
        inner, action = np.nonzero(weights.T)
        ends = np.searchsorted(inner, np.arange(size + 1))
        shares = csr_array((weights.T[inner, action], action * size + inner, ends), shape=(size, actions * size))
        mean = shares @ cut(rows, block, block + 1)
        mean.sum_duplicates()
        row = block * size
        begin, end = pointers[row], pointers[row] + mean.nnz
        data[begin:end], indices[begin:end] = mean.data, mean.indices
        pointers[row + 1 : row + size + 1] = begin + mean.indptr[1:]
    whole = slice(0, pointers[-1])
    return assemble(pointers, data[whole], indices[whole], reward, rows.order, rows.place)


def cut(rows: Rows, begin: int, end: int) -> csr_array:
    """Return the rows of the blocks from `begin` to before `end`, as a view."""
    matrix, (_, actions, size) = rows.matrix, rows.reward.shape
    pointers = matrix.indptr[begin * actions * size : end * actions * size + 1]
    entries = slice(pointers[0], pointers[-1])
    return sparse_rows(matrix.data[entries], matrix.indices[entries], pointers - pointers[0], matrix.shape[1])


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
        if heard is not None and count % 8 == 0 and time.monotonic() - reported > EVERY:
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
        found = self.cuts.get((begin, end))
        if found is None:
            found = self.cuts[begin, end] = cut(self.rows, begin, end)
        return found

    def whole(self) -> Floats:
        """Return the values in the order of the states, `[S]`."""
        self.settle_debts(np.arange(self.blocks))
        return np.asarray(self.values.reshape(-1)[self.rows.place])
