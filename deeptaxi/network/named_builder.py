"""Find what `--network module:function` names, and have it build a network.

    build(states, actions, **kwargs) -> keras.Model

`states` is S and `actions` is A. A parameter named `factors` receives the sizes of the parts of an observation. A class
of models is a builder too, and a model in a module is taken as it is.

What draws random numbers while a network is built, such as Keras' initializers without a seed, draws the same for the
same seed of the training.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from deeptaxi.arguments import shorten, show, words
from deeptaxi.errors import DeepTaxiError, UsageError, nearest, one_line
from deeptaxi.mdp.constructor import WORDS, expected_kinds, fits, list_hint, signature
from deeptaxi.mdp.environment import TRUST
from deeptaxi.mdp.named_code import LISTED, code_folder, is_file, load_code, split_name
from deeptaxi.mdp.remembered import recall_code
from deeptaxi.mdp.sources import Named

FACTORS = "factors"  # the parameter that receives the sizes of the parts


def check_exists(name: str) -> None:
    """Reject a name whose module or file is not there, without importing anything.

    Raises:
        UsageError: it is not there, or the name has no function in it.
    """
    module, known = split_name(name)
    if not known or not module:
        example = f"{module or 'my_net'}:build"
        raise UsageError(f"--network {name}: name the function that builds the network, {example}")
    if is_file(module):
        if not (Path(code_folder(name) or "") / Path(module).name).is_file():
            load_code(module, code_folder(name))  # says what is near
    elif "." not in module:
        with Named(code_folder(name)).importing(), contextlib.suppress(ValueError):  # which importing it tells
            if importlib.util.find_spec(module) is None:
                load_code(module, code_folder(name))


def trusted_folder(name: str, kwargs: Mapping[str, Any], trust: bool) -> str | None:
    """Return the folder that the code of a name is imported from first.

    Args:
        name: `module:function` or `file.py:function`.
        kwargs: its arguments.
        trust: whether it may be imported; if not, that of a training of this user may be (`mdp.remembered`).

    Raises:
        UsageError: only a file names it, and it is not trusted.
    """
    if trust:
        return code_folder(name)
    known = recall_code(name, kwargs)
    if known.folder is not None:
        return str(known.folder)
    since = "which"
    if known.changed is not None:
        since = f"whose file {known.changed} has changed since you trained with it, and which"
    raise UsageError(f"the run names the network module '{shorten(split_name(name)[0])}', {since} is code: {TRUST}")


def find_builder(name: str, folder: str | None) -> Any:
    """Import what a name names.

    Args:
        name: `module:function` or `file.py:function`.
        folder: the folder of a file, absolute, or the one that is searched first.

    Raises:
        UsageError: there is no such module, file or function, or importing it fails.
    """
    module, known = split_name(name)
    with Named(folder).importing():
        try:
            loaded = load_code(module, folder)
        except DeepTaxiError:
            raise
        except (Exception, SystemExit) as error:  # the user's own code may raise anything
            raise UsageError(f"--network {name}: importing {module} {format_error(error)}") from error
    found: Any = loaded
    for part in known.split("."):
        found = getattr(found, part, None)
    if found is None or not callable(found) or isinstance(found, ModuleType):
        fault = f"has no '{known}'" if found is None else f"has no function '{known}', but an object of {kind(found)}"
        raise UsageError(f"--network {name}: {module} {fault}{other_functions(module, known, loaded)}")
    return found


def other_functions(module: str, known: str, loaded: ModuleType) -> str:
    """Return the function nearest to a wrong name, as it is typed, else those that there are."""
    own = [
        name
        for name, value in vars(loaded).items()
        if callable(value) and getattr(value, "__module__", None) == loaded.__name__ and not name.startswith("_")
    ]
    near = nearest(known, own)
    if near or not own:
        return near.replace("'", f"'{module}:", 1) if near else ""
    listed = ", ".join(f"{module}:{name}" for name in own[:LISTED])
    return f"; it has {listed}{', …' if len(own) > LISTED else ''}"


def build(
    builder: Callable[..., Any],
    name: str,
    sizes: tuple[int, int],
    factors: tuple[int, ...] | None,
    kwargs: Mapping[str, Any],
    seed: int,
) -> Any:
    """Call a builder; return what it returns.

    Args:
        builder: the function or class.
        name: what errors call it.
        sizes: (S, A).
        factors: sizes of the parts of an observation, or None if unknown.
        kwargs: its other arguments.
        seed: of the random numbers that it draws.

    Raises:
        UsageError: it takes other arguments, or raises.
    """
    parameters = parameters_of(builder)
    if FACTORS in parameters and FACTORS not in kwargs:
        if factors is not None:
            kwargs = {**kwargs, FACTORS: factors}
        elif parameters[FACTORS].default is inspect.Parameter.empty:
            raise UsageError(
                f"{name} needs the factors of a state, which this environment does not say: give it states and actions"
            )
    check_call(builder, name, sizes, kwargs)
    try:
        with seed_global(seed):
            return builder(*sizes, **kwargs)
    except DeepTaxiError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise UsageError(f"{format_call(name, sizes, kwargs)} {format_error(error)}") from error


def check_call(builder: Callable[..., Any], name: str, sizes: tuple[int, int], kwargs: Mapping[str, Any]) -> None:
    """Reject arguments that a builder does not take.

    Raises:
        UsageError: it takes others, or expects another type.
    """
    parameters = parameters_of(builder)
    if not parameters:  # unknown, or it takes none, which calling it tells
        return
    for key, value in kwargs.items():
        expected = expected_kinds(builder, key, {})
        if expected is not None and not fits(value, expected):
            wanted = " or ".join(WORDS[one] for one in WORDS if one in expected)
            raise UsageError(f"{key}={shorten(show(value))}: {name} expects {wanted}{list_hint(value, expected)}")
    try:
        inspect.Signature(list(parameters.values())).bind(*sizes, **kwargs)
    except TypeError as error:
        names = list(parameters)
        own = next((key for key in kwargs if key not in names[2:]), None)
        optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        missing = [
            key
            for key in names[2:]
            if parameters[key].default is inspect.Parameter.empty
            and parameters[key].kind not in optional
            and key not in kwargs
        ]
        if own is not None and len(names) >= 2:
            others = f"besides states and actions it takes {', '.join(names[2:]) or 'no argument'}"
            raise UsageError(f"{name} does not take the argument {own}: {others}{nearest(own, names[2:])}") from None
        if missing:
            cure = " ".join(f"--network-arg {key}=…" for key in missing)
            raise UsageError(f"{name} needs the argument {', '.join(missing)}: add {cure}") from None
        raise UsageError(
            f"{name} cannot be called with states and actions ({error}): write it as build(states, actions, …)"
        ) from None


def parameters_of(builder: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function, or of a class without `self`; empty if they are unknown."""
    if not isinstance(builder, type):
        return signature(builder)
    own = list(signature(builder.__init__).items())  # type: ignore[misc]  # the class' own
    return dict(own[1:])


def format_call(name: str, sizes: tuple[int, int], kwargs: Mapping[str, Any]) -> str:
    """Return how a builder was called."""
    given = words({key: value for key, value in kwargs.items() if key != FACTORS})
    return f"{name}, called with {sizes[0]} states and {sizes[1]} actions{f' and {given}' if given else ''},"


def format_error(error: BaseException) -> str:
    """Say on one line what was raised."""
    text = one_line(error)
    return f"raised {type(error).__name__}{f': {text}' if text else ''}"


def kind(value: Any) -> str:
    """Return the name of a value's type."""
    return type(value).__name__


@contextmanager
def seed_global(seed: int) -> Iterator[None]:
    """Seed Python's and NumPy's global generators within the block, which Keras draws its seeds from."""
    state, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002  # the user's code may draw from it
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(legacy)  # noqa: NPY002
