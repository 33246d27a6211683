"""Was the training long enough, and did the target network carry values far enough?

**Staleness.** A value travels one step back at each refresh of the target network (n steps with n-step targets). After
m hard copies Q is at best the m + 1-th sweep of value iteration, so a policy that needs more sweeps cannot be found.
"""

from __future__ import annotations

import math
import re

import numpy as np

from deeptaxi.evaluation.diagnosis.case import Case, the
from deeptaxi.evaluation.diagnosis.check import Check, Unchecked
from deeptaxi.evaluation.diagnosis.findings import Finding
from deeptaxi.evaluation.diagnosis.graph import only
from deeptaxi.evaluation.diagnosis.steps import restless
from deeptaxi.mdp import planning

SAMPLES = 10  # of a pair, below which nothing can be learned
TOO_DEEP = 2_000  # sweeps
MANY = 1_000  # steps that refreshes carry values back, which is enough for anything
PLACE = re.compile(r"\(([^()]+:\d+, in [^()]+)\)$")  # at the end of an environment's error
DIVERGED = "the training diverged"  # in the words of the errors that say so
FRESH = 0.2  # share by which the target network moves at each update


def depth(case: Case, discount: float, start_value: float) -> int | None:
    """Return after how many sweeps of value iteration the greedy policy is optimal wherever it comes from the starts.

    Sweeps begin at Q = `start_value`. None where `TOO_DEEP` are not enough.
    """
    table, mask = the(case.table), the(case.table).action_mask
    q = np.full((case.states, case.actions), start_value)
    for sweep in range(1, TOO_DEEP):
        value = q.max(axis=1) if mask is None else np.where(mask, q, -np.inf).max(axis=1)
        better = planning.bellman(table, value, discount, mask)
        policy = planning.greedy_policy(better, mask)
        passed = np.flatnonzero(planning.reachable(table, only(policy, case.actions)))
        if case.optimal[passed, policy[passed]].all():
            return sweep
        if np.array_equal(better, q):
            return None
        q = better
    return None


def target_too_stale(case: Case) -> Finding | Unchecked | None:
    """Name a target network that is refreshed less often than values have to travel."""
    config = the(case.config)
    target, finished = config.target, the(case.history).finished
    updates = finished.updates if finished else config.updates
    refreshes = updates / target.period * target.polyak
    if refreshes * target.n_step > MANY:
        return None
    needed = depth(case, the(case.training_discount), config.network.initial_value)
    steps = (math.floor(refreshes) + 1) * target.n_step
    exactly = target.polyak == 1
    if needed is None or steps >= needed or (case.harmful is False and not exactly):
        return None
    return Finding(
        "target-too-stale",
        case.worst if exactly else "warning",
        f"the target network was refreshed {refreshes:.3g} times, which carries values back by {steps} steps; "
        f"the optimal policy needs {needed}",
        {"refreshes": refreshes, "n_step": target.n_step, "steps": steps, "depth": needed},
        "exact" if exactly else "log",
        "a value travels back one step at each refresh of the target network",
        "--target-period 1 --polyak 0.02",
    )


def target_too_fresh(case: Case) -> Finding | None:
    """Name a target network that follows at once, in a network that shares weights and does not come to rest."""
    config = the(case.config)
    speed, signs = config.target.polyak / config.target.period, restless(the(case.history))
    if speed < FRESH or config.network.kind == "q-table" or not signs:
        return None
    return Finding(
        "target-too-fresh",
        "warning",
        f"the target network moves by {config.target.polyak:g} every {config.target.period} updates, and the training "
        "does not come to rest",
        {"polyak": config.target.polyak, "period": config.target.period, **signs},
        "log",
        "what shares weights chases its own predictions where the target follows at once",
        "--polyak 0.02 --target-period 1",
    )


def interrupted(case: Case) -> Finding | Unchecked | None:
    """Name a training that did not come to its end, and that no error of its own ended."""
    history = the(case.history)
    done = history.finished
    if case.running is not None:
        return Unchecked(f"the training still runs, by {case.running}")
    if history.failure is not None or (done is not None and done.stopped != "interrupted"):
        return None
    if done is None and case.config is not None and case.q is not None:  # a run is kept at the end of its training
        cause = "the run was kept, so its log could not be written to the end, or was cut off since"
        return unfinished(case, "interrupted", "its log stops there", cause, "train it again for a whole log")
    return unfinished(
        case,
        "interrupted",
        "it was stopped" if done else "it broke off",
        "it was stopped" if done else "it broke off",
        "go on with it by `deeptaxi train --resume`, or train it again to the end",
    )


def cause_of_failure(case: Case) -> str | None:
    """Return what kind of error ended the training: "environment", "diverged" or "other"; None where none did."""
    history = the(case.history)
    if case.running is not None or history.failure is None:
        return None
    if history.finished is not None:  # of a training that left something, all that can fail is the environment
        return "diverged" if DIVERGED in history.failure else "environment"
    return history.failed.cause if history.failed else None


def environment_failed(case: Case) -> Finding | None:
    """Name a training that an error of the environment ended."""
    if cause_of_failure(case) != "environment":
        return None
    failure = the(the(case.history).failure)
    where = PLACE.search(failure)
    cure = f"fix the environment {f'at {where[1]}' if where else 'where the error says'}, then train again"
    return unfinished(case, "environment-failed", failure, "the environment's own code broke the training off", cure)


def training_failed(case: Case) -> Finding | None:
    """Name a training that another error ended, such as a disk that is full."""
    if cause_of_failure(case) != "other":
        return None
    failure = the(the(case.history).failure)
    return unfinished(case, "training-failed", failure, failure, "mend what the error names, then train again")


def unfinished(case: Case, name: str, why: str, cause: str, cure: str) -> Finding:
    """Return the finding of a training that ended before its last update."""
    history = the(case.history)
    done = history.finished
    planned = history.started.updates if history.started else None
    last = done.updates if done else max((item.update for item in history.progress), default=0)
    return Finding(
        name,
        "severe" if name == "environment-failed" else case.worst,
        f"the training ended after {last:,} of {planned:,} updates: {why}" if planned else f"the training ended: {why}",
        {"updates": last, "planned": planned, "failure": history.failure},
        "log",
        cause,
        cure,
    )


def untrained(case: Case) -> Finding | Unchecked | None:
    """Name a training in which a pair was drawn a handful of times at most."""
    config, history = the(case.config), the(case.history)
    updates = history.finished.updates if history.finished else max((i.update for i in history.progress), default=0)
    if case.table is not None:
        pairs = int(case.pairs.sum())
    elif case.visits is not None:
        pairs = int((case.visits > 0).sum())
    else:
        return Unchecked(case.missing("visits"))
    samples = updates * config.replay.batch_size / max(1, pairs)
    if samples >= SAMPLES:
        return None
    return Finding(
        "untrained",
        case.worst,
        f"{updates:,} updates of {config.replay.batch_size} transitions are {samples:.2g} for each of {pairs:,} pairs",
        {"updates": updates, "batch_size": config.replay.batch_size, "pairs": pairs, "samples_per_pair": samples},
        "exact" if case.table is not None else "log",
        "the training was too short to learn anything",
        f"--updates {max(1_000, math.ceil(100 * pairs / config.replay.batch_size / 1_000) * 1_000)}",
    )


CHECKS = (
    Check("interrupted", ("history",), interrupted),
    Check("environment-failed", ("history",), environment_failed),
    Check("training-failed", ("history",), training_failed),
    Check("untrained", ("config", "history", "q"), untrained),
    Check("target-too-stale", ("config", "history", "table", "discount"), target_too_stale),
    Check("target-too-fresh", ("config", "history"), target_too_fresh),
)
