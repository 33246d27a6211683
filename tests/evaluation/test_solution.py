from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.evaluation.solution import optimal_return, solve
from tests.problems import bandit, chain


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
