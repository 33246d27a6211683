"""Other people's code: importing, running and closing environments so that whatever they do is told in one line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deeptaxi.errors import DeepTaxiError


@contextmanager
def blaming(name: str) -> Iterator[None]:
    """Turn whatever an environment's own code raises into one line that names the environment."""
    try:
        yield
    except DeepTaxiError:
        raise
    except (Exception, SystemExit) as error:
        raise DeepTaxiError(f"the environment {name} failed: {type(error).__name__}: {error}") from error


@contextmanager
def closing(env: Any) -> Iterator[Any]:
    """Close an environment at the end; one that fails at that has done its work all the same."""
    try:
        yield env
    finally:
        with suppress(Exception):
            env.close()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Gymnasium's advice on the choice of environments off standard error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="gymnasium")
        yield


@contextmanager
def importable_folder(active: bool) -> Iterator[None]:
    """Let modules of the current folder be imported, as ``python -m`` does."""
    folder = str(Path.cwd())
    added = active and folder not in sys.path
    if added:
        sys.path.insert(0, folder)
    try:
        yield
    finally:
        if added:
            sys.path.remove(folder)
