"""What n-step targets converge to where actions are random: the plain sum elsewhere, Watkins' correction to Q*."""

from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.config import merge
from deeptaxi.learning.compiled.loop import prefill_steps
from deeptaxi.learning.trainer import train
from deeptaxi.network.tabulate import tabulate
from tests.learning.driven import Loop
from tests.learning.helpers import finished, opened_problem
from tests.problems import build, surely

STEPS, DISCOUNT = 4, 0.9
# 0 → 1 → 2 → 0 by action 0, which earns 2 on the last step. Action 1 leads back to 0 and costs 6; action 2 stays.
NEXT = np.array([[1, 0, 0], [2, 0, 1], [0, 0, 2]])
REWARD = np.array([[0.0, -6.0, 0.0], [0.0, -6.0, 0.0], [2.0, -6.0, 0.0]])


def table():
    return build(
        [[surely(int(s), float(r)) for s, r in zip(*rows, strict=True)] for rows in zip(NEXT, REWARD, strict=True)]
    )


def fixed_point(correction, steps=STEPS):
    """Return the fixed point `[S, A]` of the n-step operator where all actions are taken equally often.

    With U_0(s) = max_a Q(s, a), the value of the k steps that follow is by the plain sum

        U_k(s) = 1/A · Σ_a (reward + γ · U_{k−1}(next state)),

    and by Watkins' correction the terms of actions that are not greedy are U_0(s). TQ = reward + γ · U_{n−1}(next
    state); the plain T is a contraction by γ^n.
    """
    q_values = np.zeros(REWARD.shape)
    for _ in range(400):
        best = q_values.max(axis=1, keepdims=True)
        followed = best[:, 0]
        for _ in range(steps - 1):
            terms = REWARD + DISCOUNT * followed[NEXT]
            if correction == "watkins":
                terms = np.where(np.isclose(q_values, best), terms, best)
            followed = terms.mean(axis=1)
        q_values = REWARD + DISCOUNT * followed[NEXT]
    return q_values


OPTIMAL = fixed_point("none", 1)  # of one step, T is that of value iteration
BIASED = fixed_point("none")


def test_the_plain_sum_is_biased_and_watkins_is_not():
    np.testing.assert_allclose(fixed_point("watkins"), OPTIMAL, atol=1e-9)
    # Q*: 2 every third step. By the plain sum the random actions that follow cost more than that.
    assert OPTIMAL[2, 0] == pytest.approx(2 / (1 - DISCOUNT**3))
    assert BIASED.max() < -10
    assert np.abs(BIASED - OPTIMAL).min() > 15


SETTINGS = {
    "updates": 1_200,
    "discount": DISCOUNT,
    "optimizer": {"name": "sgd", "tabular_step": 0.05, "schedule": "linear", "final_fraction": 0.01},
    "exploration": {"start": 1.0, "end": 1.0},
    "replay": {"capacity": 100_000, "batch_size": 32},
    "target": {"n_step": STEPS, "polyak": 1.0},
    "interaction": {"environments": 32},
}
# At Q* the corrected sums of a table without chance do not scatter. The plain ones do, by 5.
FOUND = [("watkins", OPTIMAL, 1e-3), ("none", BIASED, 0.6)]


@pytest.mark.parametrize(("correction", "expected", "tolerance"), FOUND)
def test_the_compiled_loop_learns_the_fixed_point(correction, expected, tolerance):
    loop = Loop(table(), **merge(SETTINGS, {"target": {"n_step_correction": correction}}))
    loop.do("prefill", prefill_steps(loop.config)).do("run", 0, SETTINGS["updates"])
    np.testing.assert_allclose(loop.q_values, expected, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant", [{}, {"replay": {"prioritized": True}, "target": {"double": True}}], ids=["", "all"]
)
def test_the_gymnasium_loop_learns_the_optimum(variant, tmp_path):
    short = {"loop": "gymnasium", "evaluation": {"every": 1_200, "early_stop": False}}
    constant = {"network": {"hidden": [], "dueling": False}, "optimizer": {"tabular_step": 0.1, "schedule": "constant"}}
    settings = merge(merge(SETTINGS, {**short, **constant}), variant)
    _, network = finished(train(*opened_problem(table(), tmp_path, **settings)))
    np.testing.assert_allclose(tabulate(network), OPTIMAL, atol=1e-2)
