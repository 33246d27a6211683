from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from deeptaxi.backend import keras_backend
from deeptaxi.backend.exactness import chosen_backend
from deeptaxi.errors import UsageError

START = """
import sys
from deeptaxi import errors
from deeptaxi.backend import keras_backend
try:
    keras_backend.start()
except errors.UsageError as error:
    print(error)
print(sorted({"keras", "tensorflow", "jax", "torch"} & {name for name, module in sys.modules.items() if module}))
"""


def fresh(code, **variables):
    """Run Python code in a fresh process whose environment says nothing of Keras and its backends but `variables`."""
    steering = ("KERAS_", "TF_", "XLA_", "JAX_", "PYTHON")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(steering)}
    environment = {**inherited, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)


def test_an_unknown_backend_is_refused_before_anything_is_imported():
    lines = fresh(START, KERAS_BACKEND="tensorflo").stdout.splitlines()
    assert lines == [
        "KERAS_BACKEND=tensorflo is not one of tensorflow, jax, torch; did you mean 'tensorflow'?",
        "[]",
    ]


def test_a_backend_that_is_not_installed_is_refused():
    hide = "import sys; sys.modules['torch'] = None\n"
    lines = fresh(hide + START, KERAS_BACKEND="torch").stdout.splitlines()
    assert lines == [
        "KERAS_BACKEND=torch: the package 'torch' is not installed; install it, or unset KERAS_BACKEND",
        "[]",
    ]


def test_an_empty_variable_names_no_backend(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.delitem(sys.modules, "keras")
    assert chosen_backend() == "tensorflow"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "flags", "reason"),
    [
        ("XLA_FLAGS", "--xla_nonsense=1", "Unknown flag in XLA_FLAGS: --xla_nonsense=1"),
        ("TF_XLA_FLAGS", "'x", 'Could not open file "\'x" to read flags'),
    ],
)
def test_flags_that_would_end_the_process_are_refused(variable, flags, reason):
    done = fresh(START, **{variable: flags})
    assert done.stdout.startswith(f"tensorflow refuses {variable}: {reason}")
    assert "; correct that, or unset it\n" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("I0000 00:00:1.5 7 a.cc:3] fine\nF0000 00:00:1.5 7 b.cc:4] Unknown flag: --x\n", "Unknown flag: --x"),
        (
            "F0000 00:00:1.5 7 b.cc:4] Check failed: Parse(&x, (y)) Flag parsing failed.\nusage: --x=y\nFlags:\n--a",
            "Flag parsing failed.\nusage: --x=y",
        ),
    ],
)
def test_the_last_error_of_a_compiler_is_found(said, reason):
    assert keras_backend.FATAL.search(said)[1] == reason


@pytest.mark.slow
def test_starting_prints_nothing():
    start = "from deeptaxi.backend import keras_backend\nkeras_backend.start()\nkeras_backend.start()\n"
    done = fresh(start + "import keras\nkeras.ops.ones(3) + 1")
    assert (done.stdout, done.stderr) == ("", "")


def test_the_backend_is_the_one_that_keras_runs_on():
    assert keras_backend.name() == keras.config.backend()


def test_gradients_come_dense_and_in_the_order_of_the_variables():
    # E = Σ x·row(w, 1): dE/dw is x in row 1 and zero elsewhere, dE/dx is that row.
    w = keras.Variable(np.arange(6.0).reshape(3, 2))
    x = keras.Variable([5.0, 7.0])
    result, (by_x, by_w) = keras_backend.gradients(lambda: ops.sum(x * ops.take(w, np.array([1]), axis=0)), [x, w])
    assert float(result) == 5 * 2 + 7 * 3
    np.testing.assert_array_equal(ops.convert_to_numpy(by_x), [2, 3])
    np.testing.assert_array_equal(ops.convert_to_numpy(by_w), [[0, 0], [5, 7], [0, 0]])


def test_gradients_leave_what_the_loss_assigns_and_are_zero_where_nothing_depends():
    x, unused, count = keras.Variable([5.0]), keras.Variable([1.0, 2.0]), keras.Variable(3.0, trainable=False)

    def loss():
        count.assign(count + 1)
        return ops.sum(x * count)

    result, (by_x, by_unused) = keras_backend.gradients(loss, [x, unused], [count])
    assert (float(result), float(count)) == (20.0, 4.0)
    np.testing.assert_array_equal(ops.convert_to_numpy(by_x), [4.0])
    np.testing.assert_array_equal(ops.convert_to_numpy(by_unused), [0.0, 0.0])


def test_gradients_by_inputs_are_computed_in_float64():
    # d(x²y) = (2xy, x²); 10⁻¹² beside 3 would be lost in float32.
    by_x, by_y = keras_backend.input_gradient(lambda x, y: x * x * y, [np.array(3 + 1e-12), np.array(2.0)])
    assert (by_x.dtype, by_y.dtype) == (np.float64, np.float64)
    assert by_x - 12 == pytest.approx(4e-12, rel=1e-3)
    assert by_y == pytest.approx(9, abs=1e-10)


def test_a_compiled_function_reads_and_assigns_variables_at_every_call():
    total = keras.Variable(10.0)

    def add(values):
        total.assign(total + ops.sum(values))
        return 2 * total

    compiled = keras_backend.compiled(add, [total])

    def call(*values):
        return float(ops.convert_to_numpy(compiled(np.array(values, np.float32))))

    assert call(1, 2) == 2 * 13
    assert call(3, 4) == 2 * 20
    total.assign(0.0)
    assert call(1, 1, 1) == 2 * 3  # another shape
    assert float(ops.convert_to_numpy(total)) == 3


def check_shared():
    """Look that functions of a kind are compiled once, and run on the variables of each."""
    traced = []

    def adder(start):
        total, untouched = keras.Variable(start), keras.Variable(100.0)

        def add(values):
            traced.append(start)
            total.assign(total + ops.sum(values))
            return 2 * total

        return total, keras_backend.compiled(add, [untouched, total], "adder")

    (first, add_first), (second, add_second) = adder(1.0), adder(20.0)
    one, three = np.ones(1, np.float32), np.ones(3, np.float32)
    calls = [(add_second, one), (add_first, one), (add_first, three), (add_second, three), (add_first, one)]
    assert [float(ops.convert_to_numpy(add(values))) for add, values in calls] == [42, 4, 10, 48, 12]
    assert [float(ops.convert_to_numpy(total)) for total in (first, second)] == [6, 24]
    assert set(traced) == {1.0}  # the second one's function is never run


def test_functions_of_a_kind_are_compiled_once_and_run_on_the_variables_of_each():
    check_shared()


def test_functions_are_evicted_once_there_are_too_many(monkeypatch):
    shared = {}
    monkeypatch.setattr(keras_backend, "_shared", shared)
    monkeypatch.setattr(keras_backend, "SHARED", 2)
    for kind in (1, 2, 1, 3):
        keras_backend.compiled(lambda: None, [keras.Variable(0.0)], kind)
    assert list(shared) == [1, 3]
    monkeypatch.setattr(keras_backend, "LARGEST", 3)
    keras_backend.compiled(lambda: None, [keras.Variable(0.0)], "too large to be kept")
    assert list(shared) == [1, 3]


def test_a_training_in_another_type_is_refused():
    keras_backend.check_float32()
    try:
        keras.config.set_floatx("float64")
        with pytest.raises(UsageError, match=r"Keras is set to float64 \(floatx\), and deeptaxi trains in float32"):
            keras_backend.check_float32()
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("mixed_float16")
        with pytest.raises(UsageError, match="the dtype policy mixed_float16"):
            keras_backend.check_float32()
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
