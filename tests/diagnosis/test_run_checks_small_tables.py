"""Every check on small random tables with masks: NumPy warns of nothing (warnings are errors), and nothing breaks."""

from __future__ import annotations

import numpy as np
import pytest

from deeptaxi.diagnosis import Case, diagnose
from deeptaxi.evaluation import comparison, exact
from deeptaxi.mdp.table import from_arrays
from tests.diagnosis.cases import ENVIRONMENT, config, history, progress, snapshot


def odd_table(rng):
    """Draw a table of 1 to 4 states and 1 to 3 actions: all terminal, without rewards or masked, each at times."""
    states, actions, outcomes = rng.integers(1, 5), rng.integers(1, 4), rng.integers(1, 3)
    shape = (states, actions, outcomes)
    mask = rng.random((states, actions)) < 0.6
    mask[np.arange(states), rng.integers(0, actions, states)] = True
    return from_arrays(
        rng.dirichlet(np.ones(outcomes), shape[:2]),
        rng.integers(0, states, shape),
        rng.normal(size=shape) * rng.choice([0.0, 1.0, 1e6]),
        rng.random(shape) < rng.choice([0.0, 0.3, 1.0]),
        rng.dirichlet(np.ones(states)),
        action_mask=mask if rng.random() < 0.7 else None,
    )


def odd_q(rng, table):
    """Draw Q values: −∞ where the agent may not act, and at times NaN, infinite, or all the same."""
    q = rng.choice([0.0, 1.0, 1e8]) * rng.normal(size=(table.states, table.actions))
    masked = np.zeros(q.shape, bool) if table.action_mask is None else ~table.action_mask
    if rng.random() < 0.3:  # the agent's own mask forbids more
        masked |= rng.random(q.shape) < 0.3
        masked[np.arange(table.states), np.where(masked, -np.inf, q).argmax(axis=1)] = False
        if table.action_mask is not None:
            masked[~masked.any(axis=1)] |= ~table.action_mask[~masked.any(axis=1)]
    q[masked] = -np.inf
    if rng.random() < 0.2:
        q[rng.integers(table.states), rng.integers(table.actions)] = rng.choice([np.nan, np.inf])
    return q


def odd_history(rng):
    """Draw a log; what was no number is None, as it is read back."""
    records = []
    for update in range(100, 100 * rng.integers(2, 14), 100):
        error = None if rng.random() < 0.1 else float(rng.exponential())
        records.append(progress(update, td_error=error, loss=error, epsilon=float(rng.random())))
        low, high = sorted(rng.normal(size=2).tolist())
        change = None if update == 100 else float(rng.random())
        mean = None if error is None else update / 100
        records.append(snapshot(update, low, high, mean, change, change))
    return history(*records, updates=1_300, stopped=rng.choice(["updates", "interrupted", "optimal"]))


def odd_case(seed):
    rng = np.random.default_rng(seed)
    table = odd_table(rng)
    q = odd_q(rng, table)
    training_discount = float(rng.choice([0.0, 0.5, 0.9, 1.0]))
    sound = not (np.isnan(q) | np.isposinf(q)).any()
    if sound and not ((q > -np.inf) & (True if table.action_mask is None else table.action_mask)).any(axis=1).all():
        return None  # a state without an allowed action is refused before anything is looked at
    mask = q > -np.inf if sound else None
    reference = exact.reference(table, 20, 0.9, training_discount, mask)
    visits = rng.integers(0, 3, q.shape) if rng.random() < 0.7 else np.zeros(q.shape, int)
    return Case(
        ENVIRONMENT,
        table.states,
        table.actions,
        20,
        0.9,
        table=table,
        q=q,
        reference=reference,
        verdict=exact.evaluate_greedy(reference, q) if sound else None,
        config=config() if rng.random() < 0.7 else None,
        training_discount=training_discount,
        history=odd_history(rng) if rng.random() < 0.8 else None,
        visits=visits,
        replay=np.minimum(visits, rng.integers(0, 2, q.shape)),
    )


LESSONS = (130, 1129)  # broken Q values that leave a state without an action


@pytest.mark.parametrize("seeds", [range(40), LESSONS], ids=["first", "lessons"])
def test_a_small_table_is_diagnosed_without_a_warning(seeds):
    for seed in seeds:
        case = odd_case(seed)
        if case is None:
            continue
        found = diagnose(case)
        assert len({finding.name for finding in found.findings}) == len(found.findings), seed
        if case.verdict is not None:
            compared = comparison.compare(case.reference, case.q)
            comparison.worst_states(compared, 3)
            if compared.error is not None:
                comparison.largest_of_each(compared.error, 2)
