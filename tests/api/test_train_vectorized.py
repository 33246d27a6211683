"""Groups of agents as one vectorized program: each as it is alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deeptaxi
from deeptaxi.errors import UsageError
from tests.api.conftest import LAKE

STOPS: dict[str, Any] = {**LAKE, "early_stop": True, "updates": 200, "eval_every": 10}


def check_agents(folder: Path) -> None:
    """On JAX: agents of a Q table have the weights, verdicts and logs of their own trainings, bit for bit."""
    together = deeptaxi.train(
        "FrozenLake-v1", seeds="0-4", vectorized=True, out=folder / "group", compact=True, **STOPS
    )
    alone = deeptaxi.train("FrozenLake-v1", seeds="0-4", vectorized=False, **STOPS)
    assert [line["weights_digest"] for line in together.results] == [line["weights_digest"] for line in alone.results]
    assert [line["exact"] for line in together.results] == [line["exact"] for line in alone.results]
    assert len({line["updates"] for line in alone.results}) > 1  # some ended before others
    for one, other in zip(together, alone, strict=True):
        assert one.history is not None
        assert other.history is not None
        assert [record.loss for record in one.history.progress] == [record.loss for record in other.history.progress]
        assert one.coverage is not None
        assert other.coverage is not None
        np.testing.assert_array_equal(one.coverage.replay, other.coverage.replay)


def check_networks() -> None:
    """On JAX: dueling networks differ in the last bits, which products of many matrices round otherwise."""
    settings = {"env_args": {"is_slippery": False}, "hidden": (16,), "updates": 40, "eval_every": 20, "seeds": "0-2"}
    groups = [deeptaxi.train("FrozenLake-v1", vectorized=chosen, **settings) for chosen in (True, False)]
    for one, other in zip(*groups, strict=True):
        np.testing.assert_allclose(one.q_values, other.q_values, atol=1e-4)


def check_failures(folder: Path) -> None:
    """On JAX: an agent that fails does not stop the others."""
    result = deeptaxi.train(
        "FrozenLake-v1",
        seeds="0-2",
        vectorized=True,
        learning_rate=1e30,
        optimizer="adam",
        out=folder / "bad",
        **{name: value for name, value in LAKE.items() if name not in ("learning_rate", "optimizer", "tabular_step")},
    )
    assert len(result.results) == 3
    assert [line["status"] for line in result.results] == ["failed"] * 3


def check_refusals() -> None:
    """On JAX: what cannot be trained at once is refused."""
    with pytest.raises(UsageError, match="--vectorized is for the compiled loop, and this is the gymnasium loop"):
        deeptaxi.train("FrozenLake-v1", seeds="0-1", vectorized=True, loop="gymnasium", **LAKE)
    with pytest.raises(UsageError, match="--track follows one training at a time"):
        deeptaxi.train("FrozenLake-v1", seeds="0-1", vectorized=True, track="mlflow", **LAKE)


def test_it_needs_jax_and_several_seeds() -> None:
    with pytest.raises(UsageError, match="--vectorized is a program of JAX: set KERAS_BACKEND=jax"):
        deeptaxi.train("FrozenLake-v1", seeds="0-1", vectorized=True, **LAKE)
    with pytest.raises(UsageError, match="--vectorized is for the agents of several seeds: give --seeds too"):
        deeptaxi.train("FrozenLake-v1", vectorized=True, **LAKE)
