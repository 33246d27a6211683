from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from deeptaxi.backend import importing


def test_output_of_compiled_code_on_standard_error_is_dropped(capfd):
    with importing.standard_error_aside():
        os.write(2, b"a line of a compiled library\n")
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "later\n"


def test_output_on_standard_error_is_printed_after_an_exception(capfd):
    def fail():
        with importing.standard_error_aside():
            os.write(2, b"why it failed\n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "why it failed\nlater\n"


def test_held_back_output_is_dropped_on_ctrl_c():
    code = """
import os
from deeptaxi.backend import importing
try:
    with importing.standard_error_aside():
        os.write(2, b"chatter")
        raise KeyboardInterrupt
except KeyboardInterrupt:
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_hidden_package_is_available_again_afterwards():
    with importing.hide_modules("tabnanny"), pytest.raises(ImportError):
        import tabnanny
    import tabnanny

    with importing.hide_modules("tabnanny"):
        import tabnanny  # noqa: F401  # what is imported already stays


def test_the_command_line_does_not_import_the_plotting_packages_of_keras():
    code = """
import sys
from deeptaxi.backend import keras_backend
import deeptaxi.cli.main
keras_backend.start()
assert not {"matplotlib", "IPython", "jax"} & sys.modules.keys()
import matplotlib
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "KERAS_BACKEND": "tensorflow"})


def test_garbage_collection_is_paused_and_resumed():
    try:
        with importing.pause_collector():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
