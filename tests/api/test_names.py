from __future__ import annotations

import inspect
import os
import subprocess
import sys
import time
from importlib import metadata
from types import ModuleType

import pytest

import deeptaxi
from deeptaxi.api.settings import Settings, nested, paths
from deeptaxi.config import TrainConfig, leaf_settings

HEAVY = {"tensorflow", "keras", "jax", "gymnasium", "numpy", "matplotlib", "click", "rich"}


def fresh(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False)


def functions() -> list[tuple[str, object]]:
    """Return all that is public and can be called, that of the public modules included."""
    found: list[tuple[str, object]] = []
    for name in deeptaxi.__all__:
        value = getattr(deeptaxi, name)
        inner = [(f"{name}.{key}", getattr(value, key)) for key in value.__all__] if inspect.ismodule(value) else []
        found += inner or [(name, value)]
    return found


def test_there_are_at_most_ten_names_and_dir_has_them_before_they_are_imported() -> None:
    assert len([name for name in deeptaxi.__all__ if name[0].islower()]) <= 10  # beside two classes
    assert len(set(deeptaxi.__all__)) == len(deeptaxi.__all__)
    done = fresh("import deeptaxi; print(*set(deeptaxi.__all__) - set(dir(deeptaxi)), deeptaxi.__version__)")
    assert done.stdout.strip() == metadata.version("deeptaxi"), done.stderr


def test_importing_takes_no_time_and_brings_nothing_along() -> None:
    code = f"import sys; import deeptaxi; dir(deeptaxi); sys.exit(str({HEAVY} & set(sys.modules) or ''))"
    assert fresh(code).stderr.strip() == ""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        fresh("import deeptaxi")
        loaded = time.perf_counter()
        fresh("pass")
        times.append((loaded - start) - (time.perf_counter() - loaded))
    assert sorted(times)[0] <= 0.1, times


def test_no_module_of_functions_imports_keras_before_it_is_started() -> None:
    """Keras imported by itself would print, take several threads, and compute other last bits."""
    done = fresh(
        "import importlib, pkgutil, sys, deeptaxi.api\n"
        "names = [name for _, name, _ in pkgutil.iter_modules(deeptaxi.api.__path__)]\n"
        "for name in names: importlib.import_module(f'deeptaxi.api.{name}')\n"
        "print({'keras', 'tensorflow', 'jax', 'matplotlib'} & set(sys.modules))"
    )
    assert done.stdout == "set()\n", done.stderr


def test_what_needs_no_network_starts_no_keras() -> None:
    done = fresh(
        "import sys, deeptaxi\n"
        "deeptaxi.solve('FrozenLake-v1'); deeptaxi.listing.presets(); deeptaxi.listing.envs('FrozenLake-v1')\n"
        "assert not {'keras', 'tensorflow', 'jax'} & set(sys.modules)"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "value"), functions(), ids=lambda part: part if isinstance(part, str) else "")
def test_every_public_name_is_documented_and_typed(name: str, value: object) -> None:
    text = inspect.getdoc(value)
    assert text, name
    if not inspect.isfunction(value):
        return
    signature = inspect.signature(value)
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty, f"{name}: {parameter}"
        assert f"{parameter.name}:" in text, f"{name}: {parameter} is not described"


def test_the_public_modules_say_what_they_are_for() -> None:
    for name in deeptaxi.__all__:
        if isinstance(value := getattr(deeptaxi, name), ModuleType):
            assert value.__doc__, name


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'; did you mean 'train'"):
        _ = deeptaxi.trian


def test_every_option_of_a_training_is_a_setting_by_its_name_and_nothing_else_is() -> None:
    options = [item.metadata["option"] for _, item, _ in leaf_settings(TrainConfig) if item.metadata["option"]]
    assert len(options) == len(Settings.__annotations__)
    assert set(paths()) == set(Settings.__annotations__)
    for option in options:
        assert option.split("/")[0][2:].replace("-", "_") in paths()
    assert nested({"hidden": (64,), "learning_rate": 0.01, "early_stop": False, "double": None}) == {
        "network": {"hidden": (64,)},
        "optimizer": {"learning_rate": 0.01},
        "evaluation": {"early_stop": False},
    }
    with pytest.raises(deeptaxi.DeepTaxiError, match="unknown setting 'learning_rat'; did you mean 'learning_rate'"):
        nested({"learning_rat": 1})
