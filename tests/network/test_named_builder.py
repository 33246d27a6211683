from __future__ import annotations

import random

import keras
import numpy as np
import pytest

from deeptaxi.errors import UsageError
from deeptaxi.network.named_builder import build, check_exists, find_builder, seed_global, trusted_folder
from tests.network import own_models as own

MODULE = "tests.network.own_models"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a module, which is the current one."""
    (tmp_path / "a_net.py").write_text("def build(states, actions):\n    return None\ndef other():\n    pass\nx = 5\n")
    (tmp_path / "broken_net.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a_ner:build", "there is no module 'a_ner'; did you mean 'a_net'?"),
        ("a_ner.py:build", "there is no file a_ner.py; did you mean 'a_net.py'?"),
        ("a_net:", "--network a_net:: name the function that builds the network, a_net:build"),
        (":build", "--network :build: name the function that builds the network, my_net:build"),
    ],
)
def test_a_module_that_is_not_there_is_found_out_without_importing_any(folder, name, message):
    with pytest.raises(UsageError) as caught:
        check_exists(name)
    assert str(caught.value) == message
    check_exists("broken_net:build")
    check_exists("__main__:build")
    check_exists("a_net.py:build")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a_net:bulid", "--network a_net:bulid: a_net has no 'bulid'; did you mean 'a_net:build'?"),
        ("a_net.py:zzz", "--network a_net.py:zzz: a_net.py has no 'zzz'; it has a_net.py:build, a_net.py:other"),
        (
            "a_net:x",
            "--network a_net:x: a_net has no function 'x', but an object of int; it has a_net:build, a_net:other",
        ),
        ("broken_net:x", "--network broken_net:x: importing broken_net raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_function_that_is_not_there_is_refused_with_the_nearest(folder, name, message):
    with pytest.raises(UsageError) as caught:
        find_builder(name, str(folder))
    assert str(caught.value) == message


def test_a_name_is_found_in_a_module_or_a_file(folder):
    assert find_builder("a_net:build", str(folder)).__name__ == "build"
    assert find_builder("a_net.py:build", str(folder)).__name__ == "build"
    assert find_builder(f"{MODULE}:Subclassed", None) is own.Subclassed


def test_what_only_a_file_names_needs_trust(folder):
    assert trusted_folder("a_net:build", {}, trust=True) == str(folder)
    with pytest.raises(UsageError, match="names the network module 'a_net', which is code: pass --trust-env"):
        trusted_folder("a_net:build", {}, trust=False)


def make(builder, kwargs=None, factors=(4, 4)):
    return build(builder, "net:it", (16, 4), factors, kwargs or {}, seed=0)


@pytest.mark.parametrize(
    ("builder", "kwargs", "message"),
    [
        (own.raises, {}, "net:it, called with 16 states and 4 actions, raised RuntimeError: no room for it"),
        (own.of_one, {}, "net:it cannot be called with states and actions (too many positional arguments)"),
        (own.needs_width, {}, "net:it needs the argument width: add --network-arg width=…"),
        (own.build, {"wdith": 3}, "does not take the argument wdith: besides states and actions it takes width"),
        (own.build, {"wdith": 3}, "; did you mean 'width'?"),
        (own.build, {"width": "wide"}, "width=wide: net:it expects a number"),
        (own.one_hot, {"a": 1}, "besides states and actions it takes no argument"),
    ],
)
def test_a_builder_that_cannot_be_called_is_refused_on_one_line(builder, kwargs, message):
    with pytest.raises(UsageError) as caught:
        make(builder, kwargs)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_builder_gets_sizes_arguments_and_factors():
    assert make(own.build, {"width": 3}).count_params() == 16 * 3 + 3 * 3 + 3 + 3 * 4 + 4
    assert make(own.Subclassed, {"width": 3}).sizes == {"states": 16, "actions": 4, "width": 3}
    assert make(own.by_factors).input_shape == (None, 2)
    with pytest.raises(UsageError, match="needs the factors of a state, which this environment does not say"):
        make(own.by_factors, factors=None)


def test_weights_follow_from_the_seed_alone():
    one, other = (make(own.build).get_weights() for _ in range(2))
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)
    third = build(own.build, "net:it", (16, 4), None, {}, seed=1).get_weights()
    assert not np.array_equal(one[0], third[0])


def test_the_global_generators_go_on_as_before():
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002  # what a user's program may draw from
    expected = random.random(), np.random.random()  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    with seed_global(0):
        keras.layers.Dropout(0.5)
        np.random.random()  # noqa: NPY002
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002
