"""Cases that a person can check by hand, and logs without a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deeptaxi.config import EnvironmentConfig, resolve
from deeptaxi.diagnosis import Case
from deeptaxi.diagnosis.run_checks import CHECKS
from deeptaxi.evaluation import exact
from deeptaxi.metrics import Finished, History, Progress, Snapshot, Started

ENVIRONMENT = EnvironmentConfig("problem.npz")


def case_on(table, q=None, discount=0.9, horizon=50, **known):
    """A case on a table with Q values `q`, trained at the discount of the objective unless another is given."""
    training = known.setdefault("training_discount", discount)
    reference = exact.reference(table, horizon, discount, training)
    q = None if q is None else np.asarray(q, float)
    verdict = exact.evaluate_greedy(reference, q) if q is not None and np.isfinite(q).all() else None
    known = {"environment": ENVIRONMENT, "reference": reference, "verdict": verdict, **known}
    environment = known.pop("environment")
    return Case(environment, table.states, table.actions, horizon, discount, table=table, q=q, **known)


def unseen(states=3, actions=2, **known):
    """A case without a table."""
    why = {"table": "there is none", **known.pop("why", {})}
    return Case(ENVIRONMENT, states, actions, 50, 0.9, why=why, **known)


def config(**values):
    return resolve({"environment": {"id": "problem.npz"}, **values})


def history(*records, updates=1_000, stopped="updates", failure=None, tabular_step=None):
    """A log: its first record, the given ones, and its last; `stopped` None leaves that out."""
    first = Started("problem.npz", 3, 2, "q-table", "compiled", 0, updates, 0.1, tabular_step, 1.0)
    last = Finished(stopped, updates, updates, updates, 1.0, 1.0, "", None, None, failure) if stopped else None
    return History(Path("metrics.jsonl"), (first, *records, *([last] if last else [])))


def progress(update, td_error=0.1, epsilon=0.5, loss=0.1):
    return Progress(update, update, 1.0, loss, td_error, epsilon, 0.1, 0, None)


def snapshot(update, low=0.0, high=1.0, mean=0.5, change=0.0, policy=0.0, action=0, share=0.5, states=3, pairs=6):
    return Snapshot(update, low, high, mean, change, policy, action, share, states, pairs)


def checked(name, case):
    """Make one check."""
    return next(check for check in CHECKS if check.name == name)(case)
