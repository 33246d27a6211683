"""Other people's code: importing, running and closing environments so that whatever they do is told in one line."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deeptaxi.errors import DeepTaxiError, EnvironmentFailedError

PACKAGE = str(Path(__file__).parents[1])
LIBRARIES = ("numpy", "gymnasium/core", "gymnasium/vector", "gymnasium/wrappers", "gymnasium/utils", "gymnasium/spaces")


@contextmanager
def blaming(name: str) -> Iterator[None]:
    """Turn whatever an environment's own code raises into one line that names the environment and the place."""
    try:
        yield
    except DeepTaxiError:
        raise
    except MemoryError as error:
        raise DeepTaxiError(
            f"not enough memory for the environment {name}{f': {error}' if str(error) else ''}"
        ) from error
    except (Exception, SystemExit) as error:
        where = place_of(error)
        told = f"{type(error).__name__}: {error}{f' ({where})' if where else ''}"
        raise EnvironmentFailedError(f"the environment {name} failed: {told}") from error


def place_of(error: BaseException) -> str:
    """Return where an environment's own code failed, such as ``pond.py:17, in step``; an empty text if nowhere."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(PACKAGE) and not of_a_library(frame.filename)]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}, in {own[-1].name}" if own else ""


def of_a_library(file: str) -> bool:
    """Whether a file belongs to what environments are made with."""
    _, installed, within = Path(file).as_posix().rpartition("/site-packages/")
    return bool(installed) and within.startswith(LIBRARIES)


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
