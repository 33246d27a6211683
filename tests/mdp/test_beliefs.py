from __future__ import annotations

import pytest

from deeptaxi.mdp.beliefs import Graph, blocks_of, follow_beliefs, merge_blocks
from deeptaxi.mdp.chance import NotDiscoverableError


def going(target, reward=0.0):
    """The outcomes of an action that surely leads on."""
    return {(target, reward, False): 1.0}


def ending(reward, state=9):
    """The outcomes of an action that surely ends the episode in a state."""
    return {(state, reward, True): 1.0}


# A coin is hidden at the start, and shown by the reward of the end: all observations are 0.
COIN = Graph([0, 0], [[ending(0.0)], [ending(1.0)]], {0: 0.5, 1: 0.5})


def test_a_coin_that_no_history_tells_of_is_averaged():
    beliefs = follow_beliefs(COIN, 10)
    assert beliefs.graph.states == [0]
    assert beliefs.graph.moves == [[{(9, 0.0, True): 0.5, (9, 1.0, True): 0.5}]]
    assert beliefs.graph.start == {0: 1.0}


def test_a_coin_that_is_peeked_at_leaves_another_belief():
    # Action 0 bets, action 1 looks: its reward tells the coin, the observation stays.
    graph = Graph([0, 0], [[ending(0.0), going(0, -1.0)], [ending(1.0), going(1, -2.0)]], {0: 0.5, 1: 0.5})
    beliefs = follow_beliefs(graph, 10)
    assert beliefs.graph.states == [0, 0, 0]
    assert beliefs.beliefs == [{0: 0.5, 1: 0.5}, {0: 1.0}, {1: 1.0}]
    assert beliefs.history(2) == [(None, 0), (1, 0)]
    assert len(set(blocks_of(beliefs.graph))) == 3


def test_nodes_with_the_same_future_are_one_block():
    # 0 → 1 or 2, which both end with 3; 3 shows the same observation and ends with 4.
    graph = Graph(
        [5, 6, 6, 6],
        [[{(1, 0.0, False): 0.25, (2, 0.0, False): 0.5, (3, 0.0, False): 0.25}], [ending(3)], [ending(3)], [ending(4)]],
        {0: 1.0},
    )
    blocks = blocks_of(graph)
    assert blocks == [0, 1, 1, 2]
    merged, firsts = merge_blocks(graph, blocks)
    assert (merged.states, firsts) == ([5, 6, 6], [0, 1, 3])
    assert merged.moves[0] == [{(1, 0.0, False): 0.75, (2, 0.0, False): 0.25}]


def test_a_difference_far_away_is_found():
    # Two chains that show the same and differ in the reward of their last step.
    chains = [[going(1)], [going(2)], [ending(0.0)], [going(4)], [going(5)], [ending(1.0)]]
    graph = Graph([0, 1, 2, 0, 1, 2], chains, {0: 0.5, 3: 0.5})
    assert len(set(blocks_of(graph))) == 6
    beliefs = follow_beliefs(graph, 10)
    assert beliefs.graph.states == [0, 1, 2]  # no history tells the two apart


def test_beliefs_that_differ_and_mean_the_same_are_one_block():
    # A hidden die of four faces of which only the parity counts; the start leaves one belief, a look another.
    moves = [[ending(float(face % 2)), going(face, float(face // 2))] for face in range(4)]
    beliefs = follow_beliefs(Graph([0] * 4, moves, dict.fromkeys(range(4), 0.25)), 10)
    assert len(beliefs.beliefs) == 3  # of all faces, of 0 and 1, of 2 and 3


def test_a_count_that_nobody_sees_has_too_many_beliefs():
    count = 50
    moves = [[going(node + 1)] for node in range(count)] + [[ending(1.0)]]
    with pytest.raises(NotDiscoverableError, match="leave more than 10 beliefs"):
        follow_beliefs(Graph([0] * (count + 1), moves, {0: 1.0}), 10)
