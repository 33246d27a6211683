"""Arrays and models of others through every function that takes a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import deeptaxi
from deeptaxi.api.environments import EnvSpec
from deeptaxi.api.load import as_run
from deeptaxi.diagnosis.case import the
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.mdp.planning import value_iteration
from deeptaxi.mdp.table import TransitionTable
from tests.problems import chain, opened

Q = np.array([[0.81, 0.73], [0.9, 0.81], [1.0, 0.9]])  # Q* of the chain at 0.9
POLICY = [0, 0, 0]


@pytest.fixture
def place() -> TransitionTable:
    return chain(time_limit=20, discount=0.9, state_names=("first", "second", "last"), action_names=("go", "stay"))


def batch_mean() -> keras.Model:
    """A dueling head that subtracts the mean over the whole batch."""
    taken = keras.Input((3,))
    advantage = keras.layers.Dense(2, use_bias=False)(taken)
    value = keras.layers.Dense(1, use_bias=False)(taken)
    model = keras.Model(taken, value + advantage - keras.ops.mean(advantage, keepdims=True))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            kernel = np.zeros((3, layer.units))
            kernel[0, 0] = 4 * (layer.units == 2)
            layer.set_weights([kernel])
    return model


def test_a_q_table_and_its_policy_have_the_same_verdict(place: TransitionTable) -> None:
    table, policy = (deeptaxi.evaluate(model, place, episodes=10) for model in (Q, POLICY))
    assert table.optimal
    assert {**table.exact, "q_error": None} == policy.exact  # type: ignore[dict-item]
    assert (table.model, policy.model) == ("Q table", "policy")
    assert table.episodes == policy.episodes


def test_a_policy_has_no_q_values(place: TransitionTable, tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", POLICY)
    run = deeptaxi.load(tmp_path / "p.npy", place)
    assert (run.policy.tolist(), run.act(2), run.optimal) == (POLICY, 0, True)
    with pytest.raises(UsageError, match="is a policy: it has an action for each state, and no Q values"):
        _ = run.q_values
    with pytest.raises(UsageError, match="has no network, and so no weights"):
        _ = run.weights_digest
    with pytest.raises(UsageError, match="no configuration"):
        run.save(tmp_path / "run")
    assert run.to_dict()["network"] is None


def test_watching_a_policy_shows_what_it_takes_alone(place: TransitionTable) -> None:
    steps = list(as_run(POLICY, EnvSpec(place)).play())
    assert [step.action for step in steps[:-1]] == POLICY
    assert all(step.q_values is None for step in steps)
    assert steps[0].optimal is not None


def test_a_policy_is_diagnosed_by_what_it_does(place: TransitionTable) -> None:
    found = deeptaxi.diagnose([1, 1, 1], place)
    assert {finding.name for finding in found.findings} == {"not-optimal", "one-action-collapse", "policy-loops"}
    assert found.severe
    reasons = {item.name: item.why for item in found.not_checked}
    assert reasons["overestimation"] == "a policy has no Q values"
    assert reasons["saturated-output"] == "a policy has no network"
    assert "wrong-environment" not in reasons
    assert deeptaxi.diagnose(POLICY, place).optimal


def test_a_policy_that_takes_what_is_not_allowed_is_refused() -> None:
    masked = chain(action_mask=[[True, False], [True, True], [True, True]])
    with pytest.raises(DeepTaxiError, match="takes action 1 in state 0, where 0 are allowed"):
        deeptaxi.evaluate([1, 0, 0], masked)


def test_a_network_that_mixes_states_is_named_with_the_difference_it_makes(place: TransitionTable) -> None:
    diagnosed = deeptaxi.diagnose(batch_mean(), place)
    found = diagnosed.named("mixes-states")
    assert found is not None
    reasons = {item.name: item.why for item in diagnosed.not_checked}
    assert reasons["policy-loops"] == "the network has no Q values of a state alone: it mixes states"
    assert found.severity == "severe"
    assert found.evidence["largest_difference"] == pytest.approx(2 - 4 / 6)
    with pytest.raises(DeepTaxiError, match="depends on the others"):
        deeptaxi.evaluate(batch_mean(), place)


def test_a_subclassed_model_that_was_called_is_judged(place: TransitionTable) -> None:
    class Network(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(2, use_bias=False)

        def call(self, inputs: Any) -> Any:
            return self.dense(inputs)

    model = Network()
    model(np.eye(3, dtype="float32"))
    model.dense.set_weights([Q])
    assert deeptaxi.evaluate(model, place, episodes=0).optimal


def test_a_report_on_bare_models(place: TransitionTable, tmp_path: Path) -> None:
    np.save(tmp_path / "q.npy", Q)
    np.save(tmp_path / "p.npy", POLICY)
    runs = [deeptaxi.load(tmp_path / name, place) for name in ("q.npy", "p.npy")]
    made = runs[0].report(tmp_path / "page.html", beside=runs[1:])
    assert {"verdict", "findings"} <= set(made.sections)
    assert "configuration" not in made.sections
    page = (tmp_path / "page.html").read_text()
    assert "How it was trained is not known" in page
    assert "policy without Q values" in page


def test_the_environment_is_needed_and_the_shape_compared(place: TransitionTable) -> None:
    with pytest.raises(UsageError, match="an array does not record what it was trained on: pass its environment"):
        deeptaxi.evaluate(Q)
    with pytest.raises(UsageError, match=r"has the shape \[3, 2\], Taxi-v4 has \[S, A\] = \[500, 6\]"):
        deeptaxi.evaluate(Q, "Taxi-v4")


LAKE: dict[str, Any] = {"env": "FrozenLake-v1", "env_args": {"is_slippery": False}}


@pytest.fixture(scope="module")
def lake_q() -> Any:
    """Q* of FrozenLake that does not slip, `[16, 4]`."""
    return value_iteration(the(opened("FrozenLake-v1", is_slippery=False).table), 0.9).q


def dense(q: Any, layer: Any = None, training: bool | None = None) -> keras.Model:
    """A model whose outputs are the rows of Q, with a layer in between that is called as in training or not."""
    state = keras.Input((len(q),))
    output = keras.layers.Dense(q.shape[1], use_bias=False)
    model = keras.Model(state, output(state if layer is None else layer(state, training=training)))
    output.set_weights([q])
    return model


def diagnosed(model: keras.Model, folder: Path) -> Any:
    """Diagnose a model by its file."""
    model.save(folder / "model.keras")
    return deeptaxi.diagnose(folder / "model.keras", **LAKE)


def test_outputs_in_another_order_are_named_by_their_file(lake_q: Any, tmp_path: Path) -> None:
    found = diagnosed(dense(lake_q[:, [1, 0, 2, 3]]), tmp_path).named("actions-permuted")
    assert found is not None
    assert found.severity == "severe"
    assert "output 0 is action 1, output 1 is action 0" in found.cure
    assert not diagnosed(dense(lake_q), tmp_path).findings


def test_swapped_sizes_are_refused_in_a_line_whose_advice_works(
    lake_q: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = dense(lake_q.T)
    with pytest.raises(UsageError, match="states and actions are swapped") as refused:
        diagnosed(model, tmp_path)
    advice = str(refused.value).partition("Q table: ")[2]
    assert advice == "np.save('q.npy', model.predict(np.eye(4)).T)"
    monkeypatch.chdir(tmp_path)
    np.save("q.npy", model.predict(np.eye(4), verbose=0).T)
    assert deeptaxi.diagnose("q.npy", **LAKE).optimal


def test_a_dropout_that_is_always_on_is_named(tmp_path: Path) -> None:
    scattered = np.random.default_rng(0).normal(0, 3, (16, 4))
    found = diagnosed(dense(scattered, keras.layers.Dropout(0.5, name="drop"), training=True), tmp_path)
    finding = found.named("training-mode-on")
    assert finding is not None
    assert (finding.severity, finding.evidence["layers"]) == ("severe", ["drop (Dropout)"])
    assert finding.evidence["difference_again"] > 1
    assert "gives another Q value each time" in finding.summary
    assert finding.cure.endswith("and train the model again")
    assert found.findings[0].cause.startswith("training-mode-on")
    assert found.named("mixes-states") is None


def test_a_batch_normalization_that_is_always_on_does_no_harm_where_predict_acts(lake_q: Any, tmp_path: Path) -> None:
    found = diagnosed(dense(lake_q, keras.layers.BatchNormalization(), training=True), tmp_path)
    finding = found.named("training-mode-on")
    assert found.optimal
    assert finding is not None
    assert finding.severity == "warning"
    assert "gives a state alone other Q values than among others" in finding.summary
    assert finding.cure.startswith("act by model(x, training=False)")


@pytest.mark.parametrize("layer", [keras.layers.Dropout(0.1), keras.layers.BatchNormalization()])
def test_layers_that_leave_training_to_fit_are_sound(layer: Any, lake_q: Any, tmp_path: Path) -> None:
    found = diagnosed(dense(lake_q, layer), tmp_path)
    assert found.optimal
    assert not found.findings


def test_chance_in_a_subclassed_model_is_no_mixing_of_states(place: TransitionTable) -> None:
    class Network(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.dense = keras.layers.Dropout(0.5), keras.layers.Dense(2)

        def call(self, inputs: Any) -> Any:
            return self.dense(self.drop(inputs, training=True))

    model = Network()
    model(np.eye(3, dtype="float32"))
    model.dense.set_weights([np.full((3, 2), [0.0, 1.0]), np.array([0.0, 0.5])])  # it stays, whatever is left out
    found = deeptaxi.diagnose(model, place)
    finding = found.named("training-mode-on")
    assert finding is not None
    assert (finding.severity, finding.evidence["still_without_training"]) == ("severe", False)
    assert found.named("mixes-states") is None


@pytest.mark.parametrize("bias", ["zeros", "random_normal", None])
def test_a_model_as_it_was_built_is_named(bias: str | None, tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    options = {"use_bias": False} if bias is None else {"bias_initializer": bias}
    layers = [keras.layers.Dense(64, "relu", **options), keras.layers.Dense(4, **options)]
    finding = diagnosed(keras.Sequential([keras.Input((16,)), *layers]), tmp_path).named("model-not-trained")
    assert finding is not None
    assert (finding.severity, finding.source) == ("severe", "network")
    assert finding.evidence["as_initialized"] is True


def test_a_model_that_was_trained_badly_is_not_called_untrained(lake_q: Any, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(4)])
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    model.fit(np.eye(16, dtype="float32"), np.zeros_like(lake_q), epochs=5, verbose=0)
    assert diagnosed(model, tmp_path).named("model-not-trained") is None
