"""Probe environments of rising difficulty: each has one thing to learn, and an answer that a person can check.

A training that fails at the first of them is broken at the root; one that fails at a later one alone says where.
The discount is 0.8 throughout.
"""

from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.learning.trainer import train
from deeptaxi.network.tabulate import tabulate
from tests.learning.helpers import finished, opened_problem
from tests.problems import build, surely

DUELING = {
    "network": {"hidden": [16], "dueling": True},
    "optimizer": {"name": "adam", "learning_rate": 0.02, "schedule": "cosine"},
}

# name: the table, and Q* [S, A].
PROBES = {
    # Is the loss minimized at all? 1 and the end. Bootstrapping past the end would give 1/(1 − 0.8) = 5.
    "constant-reward": (build([[surely(0, 1, True)]]), [[1]]),
    # Does the gradient reach the right action?
    "reward-of-the-action": (build([[surely(0, 1, True), surely(0, -1, True)]]), [[1, -1]]),
    # Does the network tell states apart?
    "reward-of-the-state": (
        build([[surely(0, 1, True)], [surely(1, -1, True)]], [0.5, 0.5]),
        [[1], [-1]],
    ),
    # Both at once: the right action is that of the state's number.
    "reward-of-state-and-action": (
        build([[surely(0, 1, True), surely(0, -1, True)], [surely(1, -1, True), surely(1, 1, True)]], [0.5, 0.5]),
        [[1, -1], [-1, 1]],
    ),
    # Is it discounted? 1 after three steps: 0.8², 0.8, 1.
    "delayed-reward": (
        build([[surely(1, 0)], [surely(2, 0)], [surely(2, 1, True)]]),
        [[0.64], [0.8], [1]],
    ),
    # Does the best next action count, and not the one that is tried? Action 1 goes on to choose between 1 and −3.
    "delayed-choice": (
        build([[surely(0, 0.5, True), surely(1, 0)], [surely(1, 1, True), surely(1, -3, True)]]),
        [[0.5, 0.8], [1, -3]],
    ),
    # Are chances averaged? Action 0 pays 4 or nothing, 1 to 3; action 1 leads to 2 by a fair coin, ½·0.8·2.
    "chance": (
        build(
            [
                [[(0.25, 0, 4, True), (0.75, 0, 0, True)], [(0.5, 1, 0, False), (0.5, 0, 0, True)]],
                [surely(1, 2, True), surely(1, 2, True)],
            ]
        ),
        [[1, 0.8], [2, 2]],
    ),
    # A time limit cuts the episode and not the bootstrap: 1 forever is 1/(1 − 0.8), though no episode lasts 4 steps.
    "time-limit": (build([[surely(0, 1)]], time_limit=3), [[5]]),
}


@pytest.mark.parametrize("steps", [2, 3, 5])
@pytest.mark.parametrize("name", ["constant-reward", "delayed-reward", "time-limit"])
def test_probes_without_a_choice_are_learned_with_n_steps_too(name, steps, tmp_path):
    table, q_star = PROBES[name]
    config, environment = opened_problem(table, tmp_path, target={"n_step": steps})
    _, trained = finished(train(config, environment))
    np.testing.assert_allclose(tabulate(trained), q_star, atol=0.05)


@pytest.mark.parametrize("network", [{}, DUELING], ids=["q-table", "dueling"])
@pytest.mark.parametrize("name", PROBES)
def test_every_probe_is_learned(name, network, tmp_path):
    table, q_star = PROBES[name]
    config, environment = opened_problem(table, tmp_path, **network)
    _, trained = finished(train(config, environment))
    np.testing.assert_allclose(tabulate(trained), q_star, atol=0.15 if name == "chance" else 0.05)
