"""Values at discount 1: the expected sum of rewards until the episode ends, without a time limit.

V*(s) = max_π E[r_1 + r_2 + …] is a stochastic shortest path (Bertsekas & Tsitsiklis, An Analysis of Stochastic Shortest
Path Problems, 1991; Puterman, Markov Decision Processes, 1994, chapter 7). It is defined here where

1. from every start, some policy ends the episode with probability 1, and
2. no policy gains by never ending: from no start does the best policy overall earn more than the best that ends.

A state that no action leaves and that earns nothing counts as an end. Policy iteration starts from a policy that ends.
If it keeps the old action on ties, an improved policy can only fail to end by earning on a cycle, forever; then there
is no optimum (2. fails). This also holds for the steps that an improvement looks ahead (`look_ahead`). Cycles that earn
nothing are invisible to the Bellman equation, which any large value on them solves; so each gets the option to stay
there for good, worth 0.

An error ε in the Bellman equation costs at most ε times the length of the episode, which gives the bounds; for the
optimum this assumes that the best policy's episodes are no longer than those of the policy found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from deeptaxi.errors import UsageError
from deeptaxi.machine import check_address_space
from deeptaxi.mdp.chains import ROUNDING, Chain, chain, expectation
from deeptaxi.mdp.linear_solvers import solve_banded_chain
from deeptaxi.mdp.stopping import check_stop
from deeptaxi.mdp.table import Bools, Floats, Ints, TransitionTable

if TYPE_CHECKING:
    from scipy.sparse import csr_array

DENSE, SPARSE = 1_024, 5_000  # up to this many states, equations are solved with dense and with sparse matrices
WORK = 2 * 10**9  # outcomes backed up before iterating on a larger problem is given up; about ten seconds
SETTLED = 1e-13  # change of a converged iterate, relative to the values
AHEAD = 256  # most steps that an improvement of a policy looks ahead
BETTER = 1e-11  # improvement of an action that is not rounding, relative to the values
ADVICE = "take --objective-discount 0.99"


class UndefinedError(UsageError):
    """At discount 1, the values do not exist or cannot be computed. The message says why, and what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"discount 1 is not defined here: {reason}; {ADVICE}")


def edges(onward: Bools, next_state: Ints) -> tuple[Ints, Ints]:
    """Return the transitions marked by `onward` `[S, …]`, as states and their successors, `[E]` each."""
    source = np.broadcast_to(np.arange(len(onward)).reshape(-1, *[1] * (onward.ndim - 1)), onward.shape)
    return source[onward], next_state[onward]


def fewest_steps(source: Ints, target: Ints, roots: Bools) -> Floats:
    """Return the fewest edges `source` → `target`, `[E]` each, from the `roots` `[S]` to each state, `[S]`.

    ∞ for unreachable states.
    """
    check_address_space()
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    found, count = np.flatnonzero(roots), len(roots)  # a state S precedes all roots, so that one search suffices
    both = np.concatenate([source, np.full(len(found), count)]), np.concatenate([target, found])
    graph = csr_array((np.ones(len(both[0])), both), shape=(count + 1, count + 1))
    distance = dijkstra(graph, indices=count, unweighted=True)[:count]
    return np.asarray(distance - 1, np.float64)


def steps_to(targets: Bools, onward: Bools, next_state: Ints) -> Floats:
    """Return the fewest transitions from each state to one of the `targets` `[S]`, `[S]`; ∞ if none is reachable."""
    source, reached = edges(onward, next_state)
    return fewest_steps(reached, source, targets)


def components(onward: Bools, next_state: Ints) -> Ints:
    """Return the strongly connected component of each state, by number, `[S]`."""
    check_address_space()
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    source, reached = edges(onward, next_state)
    graph = csr_array((np.ones(len(source)), (source, reached)), shape=(len(onward), len(onward)))
    return np.asarray(connected_components(graph, connection="strong")[1], np.int64)


@dataclass(frozen=True)
class Model:
    """A table as a graph.

    Attributes:
        table: the decision process.
        absorbing: the states that no action leaves and that earn nothing, `[S]`.
        onward: the outcomes after which the episode continues, `[S, A, K]`.
        ends: the pairs that may end the episode, `[S, A]`.
        pairs: the pairs that can be chosen before it has ended, `[S, A]`.
    """

    table: TransitionTable
    absorbing: Bools
    onward: Bools
    ends: Bools
    pairs: Bools

    def __init__(self, table: TransitionTable, mask: Bools | None) -> None:
        possible = table.probability > 0
        if mask is not None:
            possible = possible & mask[:, :, None]
        here = np.arange(table.states)[:, None, None]
        idle = (table.next_state == here) & ~table.terminated & (table.reward == 0)
        absorbing = np.asarray((idle | ~possible).all(axis=(1, 2)))
        over = possible & (table.terminated | absorbing[table.next_state])
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "absorbing", absorbing)
        object.__setattr__(self, "onward", possible & ~over)
        object.__setattr__(self, "ends", over.any(axis=-1))
        object.__setattr__(self, "pairs", possible.any(axis=-1) & ~absorbing[:, None])

    def within(self, states: Bools, pairs: Bools) -> Bools:
        """Return which of the `pairs` `[S, A]` lead only to the `states` `[S]` or to the end."""
        inside = (states[self.table.next_state] | ~self.onward).all(axis=-1)
        return np.asarray(pairs & states[:, None] & inside)

    def surely_ending(self, resting: Bools) -> tuple[Bools, Floats]:
        """Return the pairs after which some policy still ends the episode, or rests, with probability 1.

        Args:
            resting: the states where a policy may stop for good, `[S]`.

        Returns:
            The pairs `[S, A]`, and the fewest steps to the end by them, `[S]`; ∞ if there is no such policy.
        """
        states = ~self.absorbing
        while True:
            check_stop()
            pairs = self.within(states, self.pairs)
            targets = (self.ends & pairs).any(axis=1) | (resting & states)
            distance = steps_to(targets, self.onward & pairs[:, :, None], self.table.next_state)
            found = np.asarray(np.isfinite(distance) & states)
            if np.array_equal(found, states):
                return pairs, np.where(states, distance, np.inf)
            states = found

    def end_components(self, pairs: Bools) -> tuple[Bools, Ints]:
        """Return the `pairs` `[S, A]` by which a policy can stay in a set of states forever, and these sets.

        These are the maximal end components (de Alfaro, Formal Verification of Probabilistic Systems, 1997, §3.3); the
        sets are given as a number for each state, `[S]`.
        """
        kept = pairs & ~self.ends
        while True:
            check_stop()
            states = np.asarray(kept.any(axis=1))
            kept = self.within(states, kept)
            number = components(self.onward & kept[:, :, None], self.table.next_state)
            together = (number[self.table.next_state] == number[:, None, None]) | ~self.onward
            inner = np.asarray(kept & together.all(axis=-1))
            if np.array_equal(inner, kept):
                return kept, number
            kept = inner


class OptimalValues(NamedTuple):
    """The optimum at discount 1.

    Values are −∞ where every policy loses reward forever, and NaN in unreachable states that have none. Without a
    discount, not every policy of best actions is optimal: where a detour costs nothing, one may wander forever and
    never get what it is on the way to.
    """

    value: Floats  # [S]
    q: Floats  # [S, A]; −∞ where the mask is False
    bound: float  # on the error of `value`
    policies: int  # evaluated
    policy: Ints  # [S], attains `value`


def optimal_values(table: TransitionTable, mask: Bools | None = None) -> OptimalValues:
    """Compute the optimum at discount 1.

    Raises:
        UndefinedError: they do not exist or do not converge.
    """
    model = Model(table, mask)
    nowhere = np.zeros(table.states, np.bool_)
    sure, distance = model.surely_ending(nowhere)
    starts = np.flatnonzero(table.start > 0)
    endless = starts[~np.isfinite(distance[starts]) & ~model.absorbing[starts]]
    if endless.size:
        raise UndefinedError(f"no policy ends an episode with certainty from state {endless[0]}")
    nothing = ((table.reward == 0) | (table.probability == 0)).all(axis=-1) & model.pairs
    idle = np.asarray(model.end_components(nothing)[0].any(axis=1))
    pairs, reach = model.surely_ending(idle) if idle.any() else (sure, distance)
    found = policy_iteration(model, pairs, reach, idle)
    check_outside(model, np.isfinite(reach) | model.absorbing)
    check_cycles(model, pairs, found)
    if idle.any():
        ended = policy_iteration(model, sure, distance, nowhere).value[starts]
        gained = found.value[starts] - ended > BETTER * 100 * (1 + np.abs(ended))
        if gained.any():
            raise UndefinedError(f"from state {starts[np.argmax(gained)]}, a policy gains by never ending the episode")
    return complete(model, found, mask)


@dataclass(frozen=True)
class Improved:
    """The result of policy iteration.

    Attributes:
        value: `[S]`; 0 in absorbing states, NaN where no policy ends or rests.
        bound: on the error of `value`.
        iterations: the number of policies evaluated.
        policy: the last of them, `[S]`; A where it rests.
    """

    value: Floats
    bound: float
    iterations: int
    policy: Ints


def policy_iteration(model: Model, pairs: Bools, distance: Floats, idle: Bools) -> Improved:
    """Improve a policy that ends until nothing is gained; in `idle` states `[S]` it may rest, for 0.

    Args:
        model: the decision process.
        pairs: the pairs to choose from, `[S, A]`, as returned by `surely_ending`.
        distance: the fewest steps to the end by them, `[S]`.
        idle: where a policy may rest.

    Raises:
        UndefinedError: a policy earns reward forever, or the values do not converge.
    """
    table, states = model.table, np.isfinite(distance)
    nearer = model.onward & (distance[table.next_state] < distance[:, None, None])
    policy = np.argmax(pairs & (model.ends | nearer.any(axis=-1)), axis=1)
    policy[idle & (distance == 0) & ~(pairs & model.ends).any(axis=1)] = table.actions  # rest
    value, count = np.where(states | model.absorbing, 0.0, np.nan), 0
    while True:
        count += 1
        check_stop()
        value, bound = follow(model, policy, states, value)
        improved = look_ahead(table, pairs, states, idle, policy, value)
        if improved is policy:
            return Improved(value, bound, count, policy)
        policy = improved
        check_ending(model, policy, states)


def look_ahead(table: TransitionTable, pairs: Bools, states: Bools, idle: Bools, policy: Ints, value: Floats) -> Ints:
    """Improve a policy, and again by what the improved one earns in a step, and so on; return it as it is if optimal.

    News of a better action travels one step with each improvement, and to evaluate a policy takes as long as many
    (modified policy iteration; Puterman, 1994, §6.5). With V_{j+1} = T_{π_{j+1}} V_j, where π_{j+1} takes another
    action than π_j only where that is better by V_j, V_j ≤ V_{j+1} ≤ T_{π_{j+1}} V_{j+1}. If π_{j+1} stays in some
    states forever, the mean of this inequality says that it earns there, or that nothing has changed: then π_j stays
    there too, which it does not, as π_0 ends.

    Args:
        table: the decision process.
        pairs: the pairs to choose from, `[S, A]`.
        states: where there are any, `[S]`.
        idle: where a policy may rest, `[S]`.
        policy: one that ends, `[S]`.
        value: what it is worth, `[S]`.
    """
    here = np.arange(table.states)
    for _ in range(AHEAD):
        check_stop()
        known = np.nan_to_num(value)
        q = np.where(pairs, table.expected_reward + expectation(table.continuation, known[table.next_state]), -np.inf)
        q = np.concatenate([q, np.where(idle & states, 0.0, -np.inf)[:, None]], axis=1)
        better = states & (q.max(axis=1) > q[here, policy] + BETTER * (1 + np.abs(known)))
        if not better.any():
            break
        policy = np.where(better, q.argmax(axis=1), policy)
        value = np.where(states, q[here, policy], value)
    return policy


def follow(model: Model, policy: Ints, states: Bools, before: Floats) -> tuple[Floats, float]:
    """Evaluate a policy that ends: return its value `[S]` and an error bound; action A means to rest.

    Args:
        model: the decision process.
        policy: `[S]`.
        states: where it has a value, `[S]`.
        before: initial values for the iteration, `[S]`.
    """
    table = model.table
    here, number = np.flatnonzero(states), np.zeros(table.states, np.int64)
    number[here] = np.arange(len(here))
    rests = policy[here] == table.actions
    action = np.where(rests, 0, policy[here])
    onward = model.onward[here, action] & ~rests[:, None]
    fixed = Chain(
        np.where(rests, 0.0, table.expected_reward[here, action]),
        np.where(onward, table.continuation[here, action], 0.0),
        number[table.next_state[here, action]],
    )
    value, bound = solve(fixed, before[here])
    whole = np.where(model.absorbing, 0.0, np.nan)
    whole[here] = value
    return whole, bound


def solve(fixed: Chain, before: Floats | None = None) -> tuple[Floats, float]:
    """Return the total reward `[S]` of a chain that ends with probability 1, and an error bound.

    Raises:
        UndefinedError: it is large and does not converge.
    """
    count = len(fixed.reward)
    if count == 0:
        return np.zeros(0), 0.0
    right = np.stack([fixed.reward, np.ones(count)], axis=1)  # steps to the end, for the bound
    both: Floats
    if count <= DENSE:
        both = np.linalg.solve(np.eye(count) - fixed.matrix(), right).astype(np.float64)
    elif (found := solve_banded_chain(sparse_matrix(fixed), right)) is not None:
        both = found
    elif count <= SPARSE:
        both = solve_sparse(fixed, right)
    else:
        both = iterate(fixed, right, before)
    value = fixed.backup(both[:, 0], 1.0)
    left = float(np.abs(value - both[:, 0]).max())
    scale = 1 + float(np.abs(value).max())
    return value, (left + ROUNDING * scale) * max(1.0, float(both[:, 1].max()))


def solve_sparse(fixed: Chain, right: Floats) -> Floats:
    """Solve (1 − P)·X = `right` `[S, …]` with sparse matrices."""
    matrix = sparse_matrix(fixed)
    from scipy.sparse import eye_array
    from scipy.sparse.linalg import splu

    return np.asarray(splu((eye_array(matrix.shape[0], format="csc") - matrix).tocsc()).solve(right), np.float64)


def sparse_matrix(fixed: Chain) -> csr_array:
    """Return P `[S, S]` of a chain, without explicit zeros."""
    check_address_space()
    from scipy.sparse import csr_array

    count = len(fixed.reward)
    source = np.broadcast_to(np.arange(count)[:, None], fixed.next_state.shape)
    entries = fixed.continuation.reshape(-1), (source.reshape(-1), fixed.next_state.reshape(-1))
    matrix = csr_array(entries, shape=(count, count))
    matrix.eliminate_zeros()
    return matrix


def iterate(fixed: Chain, right: Floats, before: Floats | None) -> Floats:
    """Iterate X ← `right` + P·X, `[S, 2]`, to convergence.

    Raises:
        UndefinedError: it does not converge.
    """
    found = np.zeros_like(right)
    if before is not None:
        found[:, 0] = before
    sweeps = max(1_000, WORK // max(1, fixed.continuation.size))
    for _ in range(sweeps):
        check_stop()
        better = right + np.einsum("sj,sjx->sx", fixed.continuation, found[fixed.next_state])
        change = np.abs(better - found).max(axis=0)
        found = better
        if (change <= SETTLED * (1 + np.abs(found).max(axis=0))).all():
            return np.asarray(found)
    raise UndefinedError(f"the values of its {len(right):,} states have not settled after {sweeps:,} sweeps")


def check_ending(model: Model, policy: Ints, states: Bools) -> None:
    """Reject an improved policy that does not end: it improved by earning on a cycle, forever.

    Raises:
        UndefinedError: it does not end.
    """
    rests = policy == model.table.actions
    here, action = np.arange(model.table.states), np.where(rests, 0, policy)
    onward = model.onward[here, action] & ~rests[:, None] & states[:, None]
    targets = rests | model.ends[here, action]
    lost = np.flatnonzero(states & np.isinf(steps_to(targets, onward, model.table.next_state[here, action])))
    if lost.size:
        raise UndefinedError(f"from state {lost[0]}, a policy earns without end")


def check_outside(model: Model, known: Bools) -> None:
    """Reject a problem whose starts lead to states that no policy leaves, where reward may be earned forever.

    Args:
        model: the decision process.
        known: the states from which some policy ends or rests, `[S]`.

    Raises:
        UndefinedError: there are such states.
    """
    outside = ~known & reached_states(model)
    kept, _ = model.end_components(model.pairs & outside[:, None])
    earning = (kept & (model.table.expected_reward > 0)).any(axis=1)
    if earning.any():
        raise UndefinedError(f"no policy ends an episode from state {np.argmax(earning)}, and one may earn there")


def reached_states(model: Model) -> Bools:
    """Return the states that some policy reaches from the starts, `[S]`."""
    source, reached = edges(model.onward, model.table.next_state)
    return np.isfinite(fewest_steps(source, reached, model.table.start > 0))


def check_cycles(model: Model, pairs: Bools, found: Improved) -> None:
    """Reject a problem whose best policies may cycle forever if that is worth more than ending.

    On a cycle of optimal actions with zero net reward, the sum of rewards oscillates about V − (mean of V).

    Raises:
        UndefinedError: there is such a cycle.
    """
    value = np.nan_to_num(found.value)
    onward = expectation(np.where(model.onward, model.table.continuation, 0.0), value[model.table.next_state])
    tied = pairs & (model.table.expected_reward + onward >= (value - BETTER * (1 + np.abs(value)))[:, None])
    kept, number = model.end_components(tied)
    moving = kept & ((model.table.reward != 0) & (model.table.probability > 0)).any(axis=-1)
    sets = np.unique(number[moving.any(axis=1)])
    worse = np.isin(number, sets) & kept.any(axis=1) & (value < -BETTER * 100)
    if worse.any():
        raise UndefinedError(f"from state {np.argmax(worse)}, a policy may gain by never ending the episode")


def complete(model: Model, found: Improved, mask: Bools | None) -> OptimalValues:
    """Return the optimum, including the states where no policy ends."""
    table = model.table
    lost = np.where(reached_states(model), -np.inf, np.nan)
    value = np.where(np.isnan(found.value), lost, found.value)
    q = table.expected_reward + weighted_sum(np.where(model.onward, table.continuation, 0.0), value[table.next_state])
    q = q if mask is None else np.where(mask, q, -np.inf)
    chosen = np.isfinite(found.value) & ~model.absorbing & (found.policy < table.actions)
    policy = np.where(chosen, found.policy, np.nan_to_num(q, nan=-np.inf).argmax(axis=1))
    return OptimalValues(value, q, found.bound, found.iterations, policy)


def weighted_sum(weights: Floats, values: Floats) -> Floats:
    """Return the sum over the last axis of weights × values, ignoring infinite values of weight 0."""
    return expectation(weights, np.where(weights > 0, values, 0.0))


def policy_values(table: TransitionTable, policy: Ints | Floats) -> tuple[Floats, float]:
    """Return the value `[S]` of any policy at discount 1, and an error bound for the finite values.

    It is −∞ if the policy may continue forever and loses on the way, ∞ if it earns; if it cycles without either, it is
    the limit of the discounted value.

    Args:
        table: the decision process.
        policy: actions `[S]`, or probabilities `[S, A]`.

    Raises:
        UndefinedError: the values do not converge.
    """
    fixed = chain(table, policy)
    onward = fixed.continuation > 0
    ends = fixed.continuation.sum(axis=1) < 1 - ROUNDING * onward.shape[1]
    forever = np.isinf(steps_to(np.asarray(ends), onward, fixed.next_state))
    number = components(onward & forever[:, None], fixed.next_state)
    leaves = (onward & (number[fixed.next_state] != number[:, None])).any(axis=1)
    closed = forever & ~np.isin(number, number[forever & leaves])
    value = np.zeros(table.states)
    for index in np.unique(number[closed]):
        members = np.flatnonzero(number == index)
        value[members] = recurrent(fixed, members)
    for end in (np.inf, -np.inf):  # losing on one path and earning on another counts as losing
        value[np.isfinite(steps_to(closed & (value == end), onward, fixed.next_state))] = end
    open_states = np.flatnonzero(~closed & np.isfinite(value))
    place = np.zeros(table.states, np.int64)
    place[open_states] = np.arange(len(open_states))
    stays = onward & np.isin(np.arange(table.states), open_states)[fixed.next_state]
    known = weighted_sum(np.where(stays, 0.0, fixed.continuation), np.where(stays, 0.0, value[fixed.next_state]))
    inner = Chain(
        (fixed.reward + np.where(np.isfinite(value), known, 0.0))[open_states],
        np.where(stays, fixed.continuation, 0.0)[open_states],
        place[fixed.next_state[open_states]],
    )
    value[open_states], bound = solve(inner)
    return value, bound


def recurrent(fixed: Chain, members: Ints) -> Floats:
    """Return the value of the states of a recurrent class, which is never left, `[M]`.

    With mean reward g per step, it is ±∞ if g is not 0, else the bias: the limit of the discounted values.
    """
    reward = fixed.reward[members]
    if not reward.any():
        return np.zeros(len(members))
    if (reward <= 0).all() or (reward >= 0).all():
        return np.full(len(members), np.sign(reward.sum()) * np.inf)
    if len(members) > SPARSE:
        raise UndefinedError(f"a policy cycles through {len(members):,} states forever")
    place = np.zeros(len(fixed.reward), np.int64)
    place[members] = np.arange(len(members))
    onward = Chain(reward, fixed.continuation[members], place[fixed.next_state[members]]).matrix()
    leaving = np.eye(len(members)) - onward
    share = np.linalg.lstsq(np.vstack([leaving.T, np.ones(len(members))]), np.eye(len(members) + 1)[-1], rcond=None)[0]
    gain = float(share @ reward)
    if abs(gain) > BETTER * float(np.abs(reward).max()):
        return np.full(len(members), np.sign(gain) * np.inf)
    return np.asarray(np.linalg.solve(leaving + share, reward), np.float64)
