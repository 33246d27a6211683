from __future__ import annotations

import doctest
import json
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops, tree

from deeptaxi import layers
from deeptaxi.backend import keras_backend
from deeptaxi.layers import ActionMask, Dueling, OneHotDense, encode, join
from deeptaxi.recipe import overwrite, td_targets
from deeptaxi.storage.models import load_network

NAN, INF = float("nan"), float("inf")
STATES = np.array([3, 0, 4, 3], np.int32)
RNG = np.random.default_rng(0)
VALUE = RNG.normal(size=(4, 1)).astype(np.float32)
ADVANTAGE = RNG.normal(size=(4, 3)).astype(np.float32)
KERNEL = RNG.normal(size=(5, 3)).astype(np.float32)
BIAS = np.array([0.5, -1.0, 2.0], np.float32)
MASK = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1], [0, 0, 1], [1, 0, 1]], np.float32)


def numbers(x: Any) -> np.ndarray:
    return ops.convert_to_numpy(x)


def run_layer_test(
    cls: type[keras.layers.Layer],
    arguments: dict[str, Any],
    inputs: Any,
    weights: list[np.ndarray],
    trained: int,
    folder: Path,
) -> None:
    """Check what Keras expects of every layer.

    Args:
        cls: the layer's class.
        arguments: of its constructor.
        inputs: one array, or a list of arrays.
        weights: values for its weights, which must be of these shapes.
        trained: how many of the weights are trained.
        folder: where a model can be saved.
    """
    shapes = tree.map_structure(np.shape, inputs)
    layer = cls(**arguments)
    layer.build(shapes)
    assert [weight.shape for weight in layer.weights] == [weight.shape for weight in weights]
    assert len(layer.trainable_weights) == trained
    layer.set_weights(weights)
    output = numbers(layer(inputs))
    assert layer.compute_output_shape(shapes) == output.shape

    config = layer.get_config()
    assert arguments.keys() <= config.keys()
    copy = cls.from_config(json.loads(json.dumps(config)))
    assert copy.get_config() == config
    copy.build(shapes)
    copy.set_weights(weights)
    np.testing.assert_array_equal(numbers(copy(inputs)), output)

    symbols = tree.map_structure(lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), inputs)
    symbolic = layer(symbols)
    assert (symbolic.shape, symbolic.dtype) == ((None, *output.shape[1:]), output.dtype.name)
    model = keras.Model(symbols, symbolic)
    np.testing.assert_array_equal(numbers(model(inputs)), output)

    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(numbers(loaded(inputs)), output)


@pytest.mark.parametrize(
    ("extra", "weights"),
    [
        pytest.param({}, [KERNEL, BIAS], id="dense"),
        pytest.param({"activation": "relu", "bias_initializer": "ones"}, [KERNEL, BIAS], id="relu"),
        pytest.param({"use_bias": False, "kernel_initializer": "zeros"}, [KERNEL], id="table"),
        pytest.param({"states": 6, "factors": [2, 3]}, [KERNEL, BIAS], id="factored"),  # 2 + 3 rows
    ],
)
def test_one_hot_dense_is_a_proper_keras_layer(extra, weights, tmp_path):
    arguments = {"units": 3, "states": 5, **extra}
    run_layer_test(OneHotDense, arguments, STATES, weights, trained=len(weights), folder=tmp_path)


@pytest.mark.parametrize("aggregation", ["mean", "max", "none"])
def test_dueling_is_a_proper_keras_layer(aggregation, tmp_path):
    run_layer_test(Dueling, {"aggregation": aggregation}, [VALUE, ADVANTAGE], [], trained=0, folder=tmp_path)


def test_action_mask_is_a_proper_keras_layer(tmp_path):
    run_layer_test(ActionMask, {"states": 5, "actions": 3}, [STATES, ADVANTAGE], [MASK], trained=0, folder=tmp_path)


@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_one_hot_dense_is_a_dense_layer_on_one_hot_vectors(activation):
    gather, product = OneHotDense(3, 5, activation), keras.layers.Dense(3, activation)
    gather.build((None,))
    product.build((None, 5))
    one_hot = np.eye(5, dtype=np.float32)[STATES]
    for layer in (gather, product):
        layer.set_weights([KERNEL, BIAS])

    def squares(layer: keras.layers.Layer, inputs: np.ndarray) -> tuple[Any, list[Any]]:
        return keras_backend.gradients(
            lambda: ops.sum(ops.square(ops.subtract(layer(inputs), ADVANTAGE))), layer.trainable_variables
        )

    np.testing.assert_allclose(numbers(gather(STATES)), numbers(product(one_hot)), atol=1e-6)
    loss, gradients = squares(gather, STATES)
    expected_loss, expected = squares(product, one_hot)
    np.testing.assert_allclose(numbers(loss), numbers(expected_loss), rtol=1e-6)
    for one, other in zip(gradients, expected, strict=True):  # state 3 comes twice: its row gets both gradients
        np.testing.assert_allclose(numbers(one), numbers(other), atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_state_out_of_range_gives_nan_and_no_other_row_does(compiled):
    layer = OneHotDense(3, 5, use_bias=False)
    layer.build((None,))
    layer.set_weights([KERNEL])
    call = keras_backend.compiled(layer.call, layer.variables) if compiled else layer
    rows = numbers(call(np.array([-1, 0, 4, 5, -(2**31), 2**31 - 1], np.int32)))
    np.testing.assert_array_equal(rows, [[NAN] * 3, KERNEL[0], KERNEL[4], [NAN] * 3, [NAN] * 3, [NAN] * 3])


@pytest.mark.parametrize("factors", [None, (2, 3)])
def test_floats_are_states_if_they_are_whole_numbers(factors):
    states = np.array([4.0, 0.5, -1.0, NAN, INF, 6.0], np.float32)
    layer = OneHotDense(2, 6, factors=factors)
    rows, row = numbers(layer(states)), numbers(layer(np.array([4])))
    np.testing.assert_array_equal(rows, [row[0], *[[NAN] * 2] * 5])


# V = 4, A = (0, 1, 5): the mean is 2, the maximum 5.
@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("mean", [2.0, 3.0, 7.0]),  # 4 − 2 + A
        ("max", [-1.0, 0.0, 4.0]),  # 4 − 5 + A: the best action is worth V
        ("none", [4.0, 5.0, 9.0]),  # 4 + A
    ],
)
def test_dueling_subtracts_its_aggregate_from_the_advantages(aggregation, expected):
    value, advantage = np.array([[4.0]]), np.array([[0.0, 1.0, 5.0]])
    np.testing.assert_array_equal(numbers(Dueling(aggregation)([value, advantage])), [expected])


@pytest.mark.parametrize("aggregation", ["mean", "max", "none"])
def test_the_head_is_the_function_that_joins(aggregation):
    head = numbers(Dueling(aggregation)([VALUE, ADVANTAGE]))
    np.testing.assert_array_equal(numbers(join(VALUE, ops.convert_to_tensor(ADVANTAGE), aggregation)), head)


def test_dueling_aggregates_each_state_by_itself():
    # Means of 2 and −2: 4 − 2 + A and 10 + 2 + A.
    value, advantage = np.array([[4.0], [10.0]]), np.array([[0.0, 1.0, 5.0], [-2.0, -3.0, -1.0]])
    np.testing.assert_array_equal(numbers(Dueling()([value, advantage])), [[2.0, 3.0, 7.0], [10.0, 9.0, 11.0]])


def test_action_mask_sets_disallowed_actions_to_minus_infinity():
    layer = ActionMask(2, 3)
    layer.build([(None,), (None, 3)])
    layer.set_weights([np.array([[1, 0, 1], [0, 1, 0]], np.float32)])
    states = np.array([1, 0, 1], np.int32)
    q_values = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, -8.0, 9.0]], np.float32)
    masked = numbers(layer([states, q_values]))
    np.testing.assert_array_equal(masked, [[-INF, 2.0, -INF], [4.0, -INF, 6.0], [-INF, -8.0, -INF]])


def test_action_mask_allows_every_action_initially():
    np.testing.assert_array_equal(numbers(ActionMask(5, 3)([STATES, ADVANTAGE])), ADVANTAGE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneHotDense(0, 5), "units: expected .* received 0"),
        (lambda: OneHotDense(2.5, 5), "units: expected .* received 2.5"),
        (lambda: OneHotDense(3, -1), "states: expected .* received -1"),
        (lambda: OneHotDense(3, "5"), "states: expected .* received '5'"),
        (lambda: Dueling("median"), "aggregation: expected one of mean, max, none, received 'median'"),
        (lambda: Dueling()(ADVANTAGE), r"expected the shapes of \[value, advantage\], received \(4, 3\)"),
        (lambda: Dueling()([VALUE, ADVANTAGE, VALUE]), r"expected the shapes of \[value, advantage\], received"),
        (lambda: Dueling()([VALUE]), r"expected the shapes of \[value, advantage\], received \[\(4, 1\)\]"),
        (lambda: Dueling()({"v": VALUE, "a": ADVANTAGE}), r"expected the shapes of \[value, advantage\], received {"),
        (lambda: Dueling()(VALUE, ADVANTAGE), r"expected one list \[value, advantage\], received 2 arguments"),
        (lambda: Dueling()([ADVANTAGE, VALUE]), r"value: expected a last dimension of 1, received \(4, 3\)"),
        (lambda: Dueling()([VALUE, ADVANTAGE[:, 0]]), r"advantage: expected \(4, N\) .* received \(4,\)"),
        (lambda: Dueling()([VALUE, ADVANTAGE[:2]]), r"advantage: expected \(4, N\) .* received \(2, 3\)"),
        (lambda: Dueling()([keras.Input((1,)), keras.Input((None,))]), r"advantage: expected .*\(None, None\)"),
        (lambda: Dueling().build([(None, 1), (None,)]), r"advantage: expected \(None, N\) .* received \(None,\)"),
        (lambda: OneHotDense(3, 5)(STATES.astype("float16")), 'inputs: float16 would round .* dtype="int32"'),
        (lambda: OneHotDense(3, 5, dtype="mixed_bfloat16")(STATES.astype("float32")), "inputs: bfloat16 would round"),
        (lambda: ActionMask(5, 3)(ADVANTAGE), r"expected the shapes of \[states, q_values\], received \(4, 3\)"),
        (lambda: ActionMask(5, 3)(STATES, ADVANTAGE), r"expected one list \[states, q_values\], received 2 arguments"),
        (lambda: ActionMask(5, 3)([ADVANTAGE, STATES]), r"q_values: expected \(4, 3, 3\) .* received \(4,\)"),
        (lambda: ActionMask(5, 3)([STATES[:, None], ADVANTAGE]), r"q_values: expected \(4, 1, 3\) .* \(4, 3\)"),
        (lambda: ActionMask(5, 4)([STATES, ADVANTAGE]), r"q_values: expected \(4, 4\) .* received \(4, 3\)"),
        (lambda: ActionMask(5, 3)([STATES.astype("float16"), ADVANTAGE]), "states: float16 would round"),
        (lambda: ActionMask(0, 3), "states: expected .* received 0"),
        (lambda: ActionMask(5, -1), "actions: expected .* received -1"),
    ],
)
def test_an_invalid_argument_is_refused_with_what_was_expected_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_layer_that_has_been_called_still_checks_what_it_is_called_with():
    head = Dueling()
    head([VALUE, ADVANTAGE])
    for wrong in ([VALUE, ADVANTAGE, ADVANTAGE], [VALUE, ADVANTAGE[:, 0]]):
        with pytest.raises(ValueError, match=r"^(expected the shapes of|advantage: expected) .*$"):
            head(wrong)


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """A model class of somebody else's, with the head on top."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.hidden = OneHotDense(4, 5, "relu", kernel_initializer=keras.initializers.GlorotUniform(1))
        self.value = keras.layers.Dense(1, kernel_initializer=keras.initializers.GlorotUniform(2))
        self.advantage = keras.layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(3))
        self.head = Dueling()

    def call(self, inputs: Any) -> Any:
        hidden = self.hidden(inputs)
        return self.head((self.value(hidden), self.advantage(hidden)))


def functional(outputs: Any) -> keras.Model:
    """Return a functional model of the layers of `Subclassed`, on top of which `outputs` makes what it gives."""
    model, state = Subclassed(), keras.Input((), dtype="int32")
    hidden = model.hidden(state)
    return keras.Model(state, outputs([model.value(hidden), model.advantage(hidden)]))


MODELS = {
    "functional": lambda: functional(Dueling()),
    "sequential": lambda: keras.Sequential([keras.Input((), dtype="int32"), functional(list), Dueling()]),
    "subclassed": Subclassed,
}


def check_models(folder: Path) -> None:
    """Fit each kind of model by the recipe, save and load it: all give the same Q values."""
    states, actions, next_states = STATES, np.array([0, 2, 1, 1]), np.array([0, 1, 2, 3])
    rewards, terminated = np.array([1.0, 0.0, -1.0, 2.0]), np.array([False, True, False, False])
    found = {}
    for name, make in MODELS.items():
        model = make()
        model.compile(keras.optimizers.SGD(0.5), "mse")
        for _ in range(3):
            targets = td_targets(rewards, 0.9 * (1 - terminated), model.predict(next_states, verbose=0))
            targets = overwrite(model.predict(states, verbose=0), actions, targets)
            model.fit(states, targets, batch_size=4, shuffle=False, verbose=0)
        model.save(folder / f"{name}.keras")
        loaded = keras.saving.load_model(folder / f"{name}.keras", safe_mode=True)
        found[name] = model.predict(np.arange(5), verbose=0)
        np.testing.assert_array_equal(loaded.predict(np.arange(5), verbose=0), found[name])
    assert np.isfinite(found["functional"]).all()
    np.testing.assert_allclose(found["sequential"], found["functional"], atol=1e-6)
    np.testing.assert_allclose(found["subclassed"], found["functional"], atol=1e-6)


def test_the_head_fits_saves_and_loads_in_every_kind_of_model(tmp_path):
    check_models(tmp_path)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_the_layers_compute_in_the_dtype_of_their_policy(policy):
    dtype = keras.DTypePolicy(policy).compute_dtype
    table = OneHotDense(3, 3000, use_bias=False, dtype=policy)
    table.build((None,))
    rows = np.zeros((3000, 3), np.float32)
    rows[2049] = [1.0, 2.0, 4.0]  # no number of float16, which a state must not be rounded to
    table.set_weights([rows])
    states = np.array([2049, 2048, 3000], np.int32)
    q_values = table(states)
    assert keras.backend.standardize_dtype(q_values.dtype) == dtype
    np.testing.assert_array_equal(numbers(ops.cast(q_values, "float32")), [[1, 2, 4], [0, 0, 0], [NAN] * 3])
    for head in (
        Dueling(dtype=policy)([q_values[:, :1], q_values]),
        ActionMask(3000, 3, dtype=policy)([states, q_values]),
    ):
        assert keras.backend.standardize_dtype(head.dtype) == dtype
    # V + A − mean(A) of halves and quarters, exact in all of them; on top of float16, a head may be float32.
    value, advantage = ops.cast([[0.5]], dtype), ops.cast([[0.25, 0.75, -1.0, 0.0]], dtype)
    for head, expected in ((Dueling(dtype=policy), dtype), (Dueling(dtype="float32"), "float32")):
        joined = head([value, advantage])
        assert keras.backend.standardize_dtype(joined.dtype) == expected
        np.testing.assert_array_equal(numbers(ops.cast(joined, "float32")), [[0.75, 1.25, -0.5, 0.5]])


def test_files_that_name_the_module_where_the_layers_were_still_open(tmp_path):
    model = functional(Dueling())
    model.save(tmp_path / "new.keras")
    with zipfile.ZipFile(tmp_path / "new.keras") as new, zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            changed = content.replace(b'"deeptaxi.layers"', b'"deeptaxi.network.layers"')
            assert (changed != content) == (name == "config.json")
            old.writestr(name, changed)
    for loaded in (load_network(tmp_path / "old.keras", foreign=True), keras.saving.load_model(tmp_path / "old.keras")):
        np.testing.assert_array_equal(numbers(loaded(np.arange(5))), numbers(model(np.arange(5))))


def test_the_examples_of_the_docstrings_are_right():
    assert doctest.testmod(layers, extraglobs={"np": np}).failed == 0


PARTS_KERNEL = np.array([[1.0, 10.0], [2.0, 20.0], [100.0, 0.0], [200.0, 0.0], [300.0, 0.5]], np.float32)
SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=4)


def factored(kernel, factors, **arguments):
    """Return a layer without bias that has these weights."""
    layer = OneHotDense(kernel.shape[1], int(np.prod(factors)), factors=factors, use_bias=False, **arguments)
    layer.build((None,))
    layer.set_weights([kernel])
    return layer


def test_a_state_is_encoded_by_the_row_of_each_of_its_parts():
    # State 4 of 2 · 3 is (1, 1): row 1 of the first two, and row 1 of the three that follow, 2 + 1.
    np.testing.assert_array_equal(numbers(encode(np.array([0, 4, 5]), (2, 3))), [[0, 2], [1, 3], [1, 4]])


def test_without_factors_a_state_is_its_own_row():
    np.testing.assert_array_equal(numbers(encode(np.array([3, 0]))), [[3], [0]])


@given(SIZES)
@settings(max_examples=25, deadline=None)
def test_the_rows_are_those_of_the_row_major_parts(sizes):
    states = np.arange(np.prod(sizes))
    offsets = np.cumsum([0, *sizes[:-1]])
    expected = np.stack(np.unravel_index(states, sizes), axis=-1) + offsets
    np.testing.assert_array_equal(numbers(encode(states, sizes)), expected)


def test_the_output_is_the_sum_of_the_rows_of_the_parts():
    # (0, 0) and (1, 2): rows 0 and 2 give 1 + 100; rows 1 and 4 give 2 + 300 and 20 + 0.5.
    rows = numbers(factored(PARTS_KERNEL, (2, 3))(np.array([0, 5], np.int32)))
    np.testing.assert_array_equal(rows, [[101.0, 10.0], [302.0, 20.5]])


@given(SIZES, st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_it_is_a_dense_layer_on_the_one_hot_vectors_of_the_parts(sizes, seed):
    states = np.arange(np.prod(sizes), dtype=np.int32)
    kernel = np.random.default_rng(seed).normal(size=(sum(sizes), 3)).astype(np.float32)
    parts = np.unravel_index(states, sizes)
    one_hot = np.concatenate([np.eye(size)[part] for size, part in zip(sizes, parts, strict=True)], axis=1)
    np.testing.assert_allclose(numbers(factored(kernel, sizes)(states)), one_hot @ kernel, atol=1e-5)


def test_every_row_gets_the_gradient_of_all_the_states_that_share_its_part():
    # The sum of the outputs of states (0, 0), (0, 0) and (1, 2): row 0 is used twice, row 1 once.
    layer = factored(PARTS_KERNEL, (2, 3))
    states = np.array([0, 0, 5], np.int32)
    _, (gradient,) = keras_backend.gradients(lambda: ops.sum(layer(states, training=True)), layer.trainable_variables)
    np.testing.assert_array_equal(numbers(gradient), [[2, 2], [1, 1], [2, 2], [0, 0], [1, 1]])


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_state_out_of_range_gives_nan_and_no_other_does(compiled):
    # There are fewer rows than states: 5 is a state and not a row, −1 would be one by its remainders.
    layer = factored(PARTS_KERNEL, (2, 3))
    call = keras_backend.compiled(layer.call, layer.variables) if compiled else layer
    rows = numbers(call(np.array([-1, 5, 6, -(2**31), 2**31 - 1, 0], np.int32)))
    np.testing.assert_array_equal(rows, [[NAN] * 2, [302.0, 20.5], [NAN] * 2, [NAN] * 2, [NAN] * 2, [101.0, 10.0]])


def test_a_layer_saved_before_factors_existed_still_loads():
    config = OneHotDense(2, 6).get_config()
    del config["factors"]
    layer = OneHotDense.from_config(config)
    layer.build((None,))
    assert layer.factors is None
    assert layer.kernel.shape == (6, 2)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ((2, 2), r"factors: expected a product of 6, received \[2, 2\]"),
        ((6, 0), "factor 2: expected .* received 0"),
        ((-2, -3), "factor 1: expected .* received -2"),
        ((2.0, 3), "factor 1: expected .* received 2.0"),
    ],
)
def test_factors_that_do_not_make_the_states_are_refused(factors, message):
    with pytest.raises(ValueError, match=message):
        OneHotDense(2, 6, factors=factors)


def test_a_layer_of_one_factor_is_the_joint_layer():
    states = np.array([4, 0], np.int32)
    joint = OneHotDense(2, 5, use_bias=False)
    joint.build((None,))
    joint.set_weights([PARTS_KERNEL])
    np.testing.assert_array_equal(numbers(factored(PARTS_KERNEL, (5,))(states)), numbers(joint(states)))


def test_the_layer_survives_saving_with_its_factors(tmp_path):
    state = keras.Input((), dtype="int32")
    layer = factored(PARTS_KERNEL, (2, 3), activation="tanh")
    model = keras.Model(state, layer(state))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.layers[-1].factors == (2, 3)
    states = np.arange(6, dtype=np.int32)
    np.testing.assert_array_equal(numbers(loaded(states)), numbers(model(states)))
