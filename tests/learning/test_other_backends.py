"""The pure functions, compiled by the other backends, each in a process of its own: skipped where not installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

CODE = """
import pathlib, tempfile
from deeptaxi import backend
backend.start()
from deeptaxi.learning.choice import COMPILING
from tests import test_program, test_xla
from tests.learning import test_compiled, test_sum_tree, test_targets
from tests.learning.loops import test_compiled as test_loop
test_sum_tree.check_compiled()
test_targets.check_compiled()
if backend.name() in COMPILING:
    test_program.check_compiled()
    test_xla.check_compiled()
    test_loop.check_tape(test_loop.new_tape())
    with tempfile.TemporaryDirectory() as folder:
        test_compiled.check_pieces(pathlib.Path(folder))
print(backend.name())
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jax", "torch"])
def test_other_backends_compile_the_pure_functions_too(name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    variables = {**os.environ, "KERAS_BACKEND": name, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", CODE],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == name, done.stderr
