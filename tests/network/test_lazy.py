from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from deeptaxi.network import lazy
from deeptaxi.network.build import QNetworkSpec, weights_digest, with_mask
from deeptaxi.network.lazy import LazyNetwork, borrow_network, borrowed_network, return_network

SPECS = {
    "q-table": QNetworkSpec(5, 3),
    "mlp": QNetworkSpec(5, 3, (4, 2), activation="tanh"),
    "dueling": QNetworkSpec(5, 3, (4,), dueling=True),
    "dueling-table": QNetworkSpec(6, 3, dueling=True, aggregation="max", factors=(2, 3)),
    "factored": QNetworkSpec(6, 3, (4,), dueling=True, factors=(2, 3)),
}
ALLOWED = np.array([[True, False, True]] * 5)


@pytest.fixture(autouse=True)
def _no_idle_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy, "_idle", {})


def other(spec: QNetworkSpec) -> QNetworkSpec:
    """Return a spec of the same architecture with other initial weights."""
    return QNetworkSpec(**{**vars(spec), "seed": 7, "initial_value": 3.0})


def change(network: keras.Model) -> None:
    """Change all weights, as a training does."""
    network.set_weights([weight + 1 for weight in network.get_weights()])


def same_weights(one: Any, two: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), two.get_weights(), strict=True))


def graph(path: Path) -> Any:
    """Return the configuration in a Keras file."""
    return json.loads(zipfile.ZipFile(path).read("config.json"))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_borrowed_network_is_what_would_be_built(spec: QNetworkSpec) -> None:
    first = borrow_network(spec)
    change(first)
    return_network(spec, first)
    again, built = borrow_network(other(spec)), other(spec).build()
    assert again is first
    assert same_weights(again, built)
    assert again.get_config() == built.get_config()
    assert not same_weights(again, spec.build())


def test_a_network_is_lent_to_one_at_a_time() -> None:
    spec = SPECS["mlp"]
    return_network(spec, borrow_network(spec))
    one, two = borrow_network(spec), borrow_network(spec)
    change(one)
    assert same_weights(two, spec.build())


def test_another_architecture_has_another_network() -> None:
    spec = SPECS["mlp"]
    return_network(spec, borrow_network(spec))
    relu = QNetworkSpec(5, 3, (4, 2))
    assert borrow_network(relu).get_config() == relu.build().get_config()


def test_a_network_whose_block_failed_is_not_lent_again() -> None:
    spec = SPECS["q-table"]
    block = borrowed_network(spec, spec.build().get_weights())
    failed = block.__enter__()
    assert not block.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert borrow_network(spec) is not failed


def test_what_is_kept_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy, "ARCHITECTURES", 2)
    monkeypatch.setattr(lazy, "IDLE", 1)
    for states in (2, 3, 4):
        spec = QNetworkSpec(states, 2)
        one, two = borrow_network(spec), borrow_network(spec)
        return_network(spec, one)
        return_network(spec, two)
    assert {spec.states: len(idle) for spec, idle in lazy._idle.items()} == {3: 1, 4: 1}
    monkeypatch.setattr(lazy, "LARGEST", 9)
    large = QNetworkSpec(5, 2)
    return_network(large, kept_out := borrow_network(large))
    assert borrow_network(large) is not kept_out


@pytest.mark.parametrize("allowed", [None, ALLOWED], ids=["unmasked", "masked"])
def test_a_lazy_network_is_its_model_before_and_after_it_is_built(allowed: Any, tmp_path: Path) -> None:
    spec = SPECS["dueling"]
    weights = [weight + 1 for weight in spec.build().get_weights()]
    network, built = LazyNetwork(spec, weights, allowed), spec.build()
    built.set_weights(weights)
    built = built if allowed is None else with_mask(built, allowed)
    built.save(tmp_path / "built.keras")
    for _ in range(2):  # the second time, its model has been built
        assert same_weights(network, built)
        assert [weight.dtype for weight in network.get_weights()] == [weight.dtype for weight in built.get_weights()]
        assert network.weights_digest == weights_digest(built)
        network.save(tmp_path / "lazy.keras")
        assert graph(tmp_path / "lazy.keras") == graph(tmp_path / "built.keras")
        assert same_weights(keras.saving.load_model(tmp_path / "lazy.keras"), built)
        assert network.model is network.model


def test_a_model_that_was_handed_out_is_never_lent() -> None:
    spec = SPECS["q-table"]
    weights = spec.build().get_weights()
    one, two = LazyNetwork(spec, weights), LazyNetwork(spec, weights)
    change(one.model)  # a user trains it further
    assert not same_weights(one, two)
    assert one.weights_digest == weights_digest(one.model)
    before = one.get_weights()
    with borrowed_network(spec, weights) as network:
        change(network)
    change(two.model)
    assert network is not one.model
    assert all(np.array_equal(a, b) for a, b in zip(before, one.get_weights(), strict=True))


def test_a_model_that_is_built_already_is_its_own_network() -> None:
    model = SPECS["mlp"].build()
    network = LazyNetwork.of(model)
    assert network.model is model
    change(model)
    assert network.weights_digest == weights_digest(model)
