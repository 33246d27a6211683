"""Making one update, and checking the gradients of a dueling head, with every number on the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeptaxi import backend
from deeptaxi.api.models import Model
from deeptaxi.api.requests import Request, Wish
from deeptaxi.api.stages import stage
from deeptaxi.api.subjects import Subject, fresh, kept
from deeptaxi.config import AGGREGATIONS, to_mapping
from deeptaxi.io.atomic import check_free, write_text
from deeptaxi.mdp.describe import names_of
from deeptaxi.metrics import to_json

VECTOR_ACTIONS = (1, 2, 3, 4, 6, 16, 64)


def explain_update(
    model: Model | None, request: Request, wish: Wish, target_noise: float | None, comparing: bool
) -> dict[str, Any]:
    """Make the update; return all that there is to tell of it."""
    subject = fresh(request) if model is None else kept(model, request)
    from deeptaxi.learning.example import choose
    from deeptaxi.learning.update_trace import trace_update

    environment, config = subject.environment, subject.config
    asked = (wish.state, wish.action, wish.transitions, wish.seed)
    choice = choose(environment, subject.network, subject.allowed, config.target.n_step, *asked)
    learner = learner_of(subject, target_noise, wish.seed)
    names, anatomy = names_of(environment), trace_update(learner, choice.transitions, subject.allowed, comparing)
    return {
        "model": subject.model,
        "environment": environment.describe(),
        "preset": subject.preset,
        "seed": wish.seed if subject.model else config.seed,
        "network": {"kind": config.network.kind, **to_mapping(config.network)},
        "optimizer": to_mapping(config.optimizer),
        "discount": config.discount,
        "double": config.target.double,
        "n_step": config.target.n_step,
        "reward_scale": config.target.reward_scale,
        "target_noise": target_noise,
        "outcome": choice.how,
        "action_names": list(names.actions),
        "state_name": names.state(anatomy.state),
        "next_state_name": names.state(anatomy.td_target.next_state),
        **anatomy.to_dict(),
    }


def learner_of(subject: Subject, target_noise: float | None, seed: int | None) -> Any:
    """Return a fresh learner; its target network equals the online one up to the noise."""
    import keras

    from deeptaxi.learning.agent import Learner

    target = keras.models.clone_model(subject.network)
    learner = Learner(subject.network, target, subject.config, copies=1)
    if target_noise is not None:
        rng = np.random.default_rng([seed or 0, 1])
        target.set_weights([w + rng.normal(0, target_noise, w.shape).astype(w.dtype) for w in target.get_weights()])
    return learner


def explain_gradients(
    actions: int, aggregation: str, seed: int, gradient: Sequence[float] | None, vectors: Path | None, force: bool
) -> dict[str, Any]:
    """Return all gradients at one random point, as plain numbers; write test vectors if a file is named."""
    if vectors is not None:
        check_free(vectors, force, replaceable=vectors.is_file(), option="--vectors")
    with stage("starting Keras …"):
        backend.start()
        found = {"seed": seed, **gradients_at(actions, aggregation, seed, gradient)}
    if vectors is not None:
        write_vectors(vectors, seed, force)
    return {**found, "vectors": None if vectors is None else str(vectors)}


def gradients_at(actions: int, aggregation: str, seed: int, gradient: Sequence[float] | None = None) -> dict[str, Any]:
    """Return all gradients at one random point, as plain numbers."""
    from deeptaxi.network.gradients import random_gradients

    g = None if gradient is None else np.array([gradient])
    found = random_gradients(actions, aggregation, batch=1, seed=seed, g=g)
    check = found.check
    ways = {"nested": found.nested, "autodiff": found.autodiff, "central_differences": found.differences}
    advantage = {name: pair[1][0].tolist() for name, pair in ways.items()}
    shared = None if found.shared is None else found.shared[0].tolist()
    return {
        "actions": actions,
        "aggregation": aggregation,
        "V": float(found.value[0, 0]),
        "A": found.advantage[0].tolist(),
        "Q": found.q_values[0].tolist(),
        "dE_dQ": found.g[0].tolist(),
        "dE_dV": {name: float(pair[0][0, 0]) for name, pair in ways.items()},
        "dE_dA": {"nested": advantage.pop("nested"), "shared": shared, **advantage},
        "discrepancy": {
            "shared": check.shared_sum,
            "autodiff": check.autodiff,
            "central_differences": check.finite_differences,
            "largest": check.largest,
        },
    }


def write_vectors(path: Path, seed: int, force: bool) -> None:
    """Write test vectors of several N and every aggregation."""
    vectors = [gradients_at(count, name, seed) for name in AGGREGATIONS for count in VECTOR_ACTIONS]
    about = "gradients of a dueling head, float64; docs/dueling-gradient.md of deeptaxi describes the keys"
    write_text(path, to_json({"format": 1, "about": about, "seed": seed, "vectors": vectors}, indent=1) + "\n", force)
