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
from deeptaxi.cli.main import COMMANDS

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


def test_the_names_are_those_of_commands_and_six_more_and_dir_has_them_before_they_are_imported() -> None:
    assert set(deeptaxi.__all__) - set(COMMANDS) == {
        "DeepTaxiError",
        "StopTraining",
        "TransitionTable",
        "layers",
        "listing",
        "load",
        "recipe",
    }
    assert len(set(deeptaxi.__all__)) == len(deeptaxi.__all__)
    done = fresh("import deeptaxi; print(*set(deeptaxi.__all__) - set(dir(deeptaxi)), deeptaxi.__version__)")
    assert done.stdout.strip() == metadata.version("deeptaxi"), done.stderr


def test_importing_is_fast_and_loads_no_heavy_package() -> None:
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
        "print({'keras', 'tensorflow', 'jax', 'matplotlib', 'jinja2', 'yaml'} & set(sys.modules))"
    )
    assert done.stdout == "set()\n", done.stderr


def test_the_public_modules_start_keras_as_deeptaxi_does_once_they_are_used() -> None:
    done = fresh(
        "import sys, deeptaxi\n"
        "assert 'keras' not in sys.modules\n"
        "print(deeptaxi.layers.Dueling().aggregation, deeptaxi.recipe.tabular_step(3, 2, 3))\n"
        "import tensorflow\n"
        "print(tensorflow.config.threading.get_intra_op_parallelism_threads())"
    )
    assert (done.stdout, done.stderr) == ("mean 1.0\n1\n", "")


def test_functions_without_a_network_do_not_start_keras() -> None:
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


def test_the_public_modules_have_docstrings() -> None:
    for name in deeptaxi.__all__:
        if isinstance(value := getattr(deeptaxi, name), ModuleType):
            assert value.__doc__, name


def test_a_module_of_the_package_hides_no_function() -> None:
    done = fresh(
        "import deeptaxi.api.solve, deeptaxi.api.explain, deeptaxi.config, deeptaxi\n"
        "from deeptaxi import explain, solve\n"
        "print(callable(solve), solve is deeptaxi.solve, explain is deeptaxi.api.explain, deeptaxi.config.__name__)"
    )
    assert done.stdout == "True True True deeptaxi.config\n", done.stderr


def test_an_unknown_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'; did you mean 'train'"):
        _ = deeptaxi.trian
