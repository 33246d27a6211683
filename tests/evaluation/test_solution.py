from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.evaluation.solution import optimal_return, solve
from tests.problems import bandit, build, chain, surely


def test_the_solution_of_the_chain_is_known_by_hand():
    # Three steps to the 1, which is discounted twice: 0.9² = 0.81.
    solution = solve(chain(), horizon=10, discount=0.9)
    assert solution.policy.tolist() == [0, 0, 0]
    assert solution.optimal_actions == [[0], [0], [0]]
    np.testing.assert_allclose(solution.value, [0.81, 0.9, 1.0], atol=solution.value_bound)
    assert (solution.optimal_return, solution.policy_return) == (1.0, 1.0)
    assert (solution.termination_probability, solution.mean_episode_length) == (1.0, 3.0)


def test_two_steps_are_too_few_for_the_chain():
    assert optimal_return(chain(), horizon=2) == 0.0
    assert solve(chain(), horizon=2, discount=0.9).policy_return == 0.0


def test_the_json_leaves_q_star_to_the_tables():
    document = solve(bandit(), horizon=1, discount=0.5).to_dict()
    assert "q_star" not in document
    assert isinstance(document["policy"], list)
    assert document["optimal_return"] == pytest.approx(document["policy_return"])


def test_without_a_discount_the_policy_attains_the_optimum_though_detours_cost_nothing():
    # From the middle of a corridor, left ends with 1 and right with 2; every action of every state is worth 2 by
    # Q*, as one may always turn round later. The first of them would walk left and right forever, or end with 1.
    length = 6
    steps = [[surely(s - 1, 0), surely(s + 1, 0)] for s in range(1, length - 1)]
    table = build([[surely(0, 1, True), surely(1, 0)], *steps, [surely(length - 2, 0), surely(length - 1, 2, True)]], 2)
    solution = solve(table, 100, 1.0)
    assert (solution.optimal_value, solution.policy_return, solution.termination_probability) == (2, 2, 1)
    assert solution.policy.tolist() == [1] * length
