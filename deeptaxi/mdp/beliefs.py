"""Decide whether observations tell all there is to know, and average over what they hide.

A walk through an environment finds *nodes*: an observation (a state number) with all that the environment keeps behind
it. Nodes that cannot be distinguished by anything that ever follows are first merged: the coarsest partition in which
nodes of one block have the same observation and, for every action, the same distribution over (block, reward,
terminated), by refinement (Larsen & Skou, Bisimulation through probabilistic testing, 1991).

What a history of observations, actions and rewards leaves open is a *belief*: the distribution over the blocks of the
last observation. Beliefs follow from each other by Bayes' rule; observation and belief together are a Markov decision
process (Kaelbling, Littman & Cassandra, Planning and acting in partially observable stochastic domains, 1998, section
3.3). Where every history that ends in an observation leaves the same belief, or beliefs with the same future, the
observation is Markov, and its transitions are the average over the belief: Blackjack's dealer hides a card, but no
history says anything about it. Otherwise two histories are named that end in one observation and have other futures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deeptaxi.mdp.chance import NotDiscoverableError

DIGITS = 9  # decimals in which probabilities are compared
Outcome = tuple[int, float, bool]  # node, or state number where the episode terminates; reward; terminated
Moves = Mapping[Outcome, float]  # outcome → probability


@dataclass(frozen=True)
class Graph:
    """A Markov decision process whose nodes show an observation.

    Attributes:
        states: the state number that each node shows, `[N]`.
        moves: the outcomes of each action in each node, `[N][A]`.
        start: node → probability that an episode starts there.
    """

    states: Sequence[int]
    moves: Sequence[Sequence[Moves]]
    start: Mapping[int, float]


def blocks_of(graph: Graph) -> list[int]:
    """Return the block of each node in the coarsest partition of nodes with the same future, `[N]`."""
    if len(set(graph.states)) == len(graph.states):
        return list(range(len(graph.states)))
    blocks, count = number_values(graph.states)
    while True:
        signatures = [
            (block, *(frozenset(project(one, blocks).items()) for one in moves))
            for block, moves in zip(blocks, graph.moves, strict=True)
        ]
        blocks, finer = number_values(signatures)
        if finer == count:
            return blocks
        count = finer


def number_values(values: Sequence[Any]) -> tuple[list[int], int]:
    """Number equal values alike, in the order in which they occur; return the numbers and how many there are."""
    known: dict[Any, int] = {}
    return [known.setdefault(value, len(known)) for value in values], len(known)


def project(moves: Moves, blocks: Sequence[int], digits: int = DIGITS) -> dict[Outcome, float]:
    """Return outcomes with blocks instead of nodes, their probabilities rounded."""
    found: dict[Outcome, float] = {}
    for (target, reward, terminated), probability in moves.items():
        key = (target if terminated else blocks[target], reward, terminated)
        found[key] = found.get(key, 0.0) + probability
    return {key: round(probability, digits) for key, probability in found.items()}


def merge_blocks(graph: Graph, blocks: Sequence[int]) -> tuple[Graph, list[int]]:
    """Return the graph of the blocks, and the first node of each."""
    firsts: dict[int, int] = {}
    for node, block in enumerate(blocks):
        firsts.setdefault(block, node)
    start: dict[int, float] = {}
    for node, probability in graph.start.items():
        start[blocks[node]] = start.get(blocks[node], 0.0) + probability
    nodes = [firsts[block] for block in range(len(firsts))]
    moves = [[project(one, blocks, 17) for one in graph.moves[node]] for node in nodes]
    return Graph([graph.states[node] for node in nodes], moves, start), nodes


Belief = dict[int, float]  # node → probability, all with the same observation
Step = tuple[int, int, float] | None  # the belief that came before, the action, the reward; None for a reset


@dataclass(frozen=True)
class BeliefGraph:
    """The process of observations and beliefs.

    Attributes:
        graph: its nodes are pairs of an observation and a belief.
        beliefs: the belief of each, over the nodes of the process that it is about.
        parents: how each is first come to.
    """

    graph: Graph
    beliefs: Sequence[Belief]
    parents: Sequence[Step]

    def history(self, node: int) -> list[tuple[int | None, int]]:
        """Return a shortest history to a node as (action, state number), the first with no action."""
        steps: list[tuple[int | None, int]] = []
        at: int | None = node
        while at is not None:
            parent = self.parents[at]
            steps.append((None if parent is None else parent[1], self.graph.states[at]))
            at = None if parent is None else parent[0]
        return steps[::-1]


def follow_beliefs(graph: Graph, limit: int) -> BeliefGraph:
    """Follow all histories from the starts as beliefs.

    Args:
        graph: the process, best with its nodes merged.
        limit: the number of beliefs to stop at.

    Raises:
        NotDiscoverableError: there are more beliefs.
    """
    known: dict[tuple[int, frozenset[tuple[int, float]]], int] = {}
    beliefs: list[Belief] = []
    parents: list[Step] = []
    states: list[int] = []

    def node_of(belief: Belief, parent: Step) -> int:
        state = graph.states[next(iter(belief))]
        key = (state, frozenset((node, round(p, DIGITS)) for node, p in belief.items() if p > 10**-DIGITS))
        if key not in known:
            if len(beliefs) >= limit:
                raise NotDiscoverableError(
                    f"its observations hide a state, and its histories leave more than {limit:,} beliefs about it"
                )
            known[key] = len(beliefs)
            beliefs.append(belief)
            parents.append(parent)
            states.append(state)
        return known[key]

    start: dict[int, float] = {}
    for belief, probability in split_by_observation(graph, graph.start).values():
        start[node_of(belief, None)] = probability
    moves: list[list[Moves]] = []
    while len(moves) < len(beliefs):
        here = len(moves)
        rows: list[Moves] = []
        for action in range(len(graph.moves[0])):
            row: dict[Outcome, float] = {}
            for (reward, terminated), reached in outcomes_from(graph, beliefs[here], action).items():
                if terminated:
                    row.update({(state, reward, True): p for state, p in reached.items()})
                    continue
                for belief, probability in split_by_observation(graph, reached).values():
                    key = (node_of(belief, (here, action, reward)), reward, False)
                    row[key] = row.get(key, 0.0) + probability
            rows.append(row)
        moves.append(rows)
    return BeliefGraph(Graph(states, moves, start), beliefs, parents)


def outcomes_from(graph: Graph, belief: Belief, action: int) -> dict[tuple[float, bool], dict[int, float]]:
    """Return the probability of each next node (or last state) for each (reward, terminated)."""
    found: dict[tuple[float, bool], dict[int, float]] = {}
    for node, weight in belief.items():
        for (target, reward, terminated), probability in graph.moves[node][action].items():
            reached = found.setdefault((reward, terminated), {})
            reached[target] = reached.get(target, 0.0) + weight * probability
    return found


def split_by_observation(graph: Graph, reached: Mapping[int, float]) -> dict[int, tuple[Belief, float]]:
    """Return the belief that each observation leaves, and the probability of the observation."""
    groups: dict[int, Belief] = {}
    for node, probability in reached.items():
        groups.setdefault(graph.states[node], {})[node] = probability
    found = {}
    for state, belief in groups.items():
        total = sum(belief.values())
        found[state] = ({node: p / total for node, p in belief.items()}, total)
    return found
