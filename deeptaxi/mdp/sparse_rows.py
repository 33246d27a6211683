"""The transitions of a large table as sparse rows, in blocks of states that are alike in their distance from an end.

The rows of every (state, action) pair are stored without padding, merged where outcomes agree. States are ordered by
their distance from the end of an episode and cut into blocks, which `mdp.sweeps` skips while they change predictably.
A table that lies in a file is read some states at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from deeptaxi.io.mapped import in_blocks
from deeptaxi.machine import check_address_space
from deeptaxi.mdp.chains import ROUNDING
from deeptaxi.mdp.stopping import check_stop
from deeptaxi.mdp.table import Bools, Floats, Ints, TransitionTable

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SPARSE_FROM = 30_000  # outcomes S·A·K from which sparse rows pay for the import of SciPy, of 0.15 CPU seconds
PLANNING_BYTES = 40  # for an outcome, at its peak, besides a table that is in memory
BLOCKS, SMALLEST, GREATEST = 128, 256, 2_048  # number of blocks, and the fewest and most states in one
FRONTIER = 2**16  # states of a level that are looked at at once


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


def uses_sparse_rows(table: TransitionTable) -> bool:
    """Whether planning on a table is faster by sparse rows, the import of SciPy included."""
    return table.probability.size >= SPARSE_FROM


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
        check_stop()
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
        check_stop()
        here = pointers[block * actions * size : (block + 1) * actions * size + 1]
        part = slice(here[0], here[-1])
        rows = np.repeat(np.arange(len(here) - 1), np.diff(here))
        sums = np.bincount(rows, data[part], minlength=len(here) - 1)
        leaks.append(bool((sums < 1 - rounding_of(np.diff(here))).any()))
        sources.append(np.flatnonzero(np.bincount(indices[part] // size, minlength=blocks)))
        if not len(sources[-1]):  # every pair ends the episode: the block depends on nothing, so on itself
            sources[-1] = np.array([block])
    first = np.concatenate([[0], np.cumsum([len(found) for found in sources])[:-1]])
    matrix = matrix_over(data, indices, pointers, len(order))
    return Rows(matrix, reward, order, place, np.array(leaks), np.concatenate(sources), first)


def matrix_over(data: Floats, indices: NDArray[Any], pointers: NDArray[Any], columns: int) -> csr_array:
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
        check_stop()
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
        check_stop()
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


def fix_policy(rows: Rows, policy: Ints | Floats) -> Rows:
    """Fix a policy, given as actions `[S]` or probabilities `[S, A]`: return rows with one action."""
    from scipy.sparse import csr_array

    blocks, actions, size = rows.reward.shape
    every = np.eye(actions)
    reward = np.empty((blocks, 1, size))
    pointers = np.zeros(blocks * size + 1, rows.matrix.indptr.dtype)
    data, indices = np.empty(rows.matrix.nnz), np.empty(rows.matrix.nnz, rows.matrix.indices.dtype)
    for block in range(blocks):  # memory is taken as it is written to
        check_stop()
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
    return matrix_over(matrix.data[entries], matrix.indices[entries], pointers - pointers[0], matrix.shape[1])


def leaks_of(rows: Rows, allowed: Bools) -> Bools:
    """Return the blocks from which an episode may end by a pair that is `allowed` `[N, A, B]`, `[N]`."""
    sums = rows.matrix @ np.ones(rows.matrix.shape[1])
    ends = (sums < 1 - rounding_of(np.diff(rows.matrix.indptr))).reshape(allowed.shape)
    return np.asarray((ends & allowed).any(axis=(1, 2)))


def rounding_of(terms: Ints) -> Floats:
    """Return a bound on the rounding error of a sum of that many `terms`, half an ε for each, relative to the sum."""
    return np.asarray(ROUNDING * np.maximum(1, terms / 16))
