"""Find what `module:Name` and `file.py:Name` name: a registered environment, a class, or a function that makes one.

A name is, in this order, an id that is registered exactly so; something in the module; an id without its version. Where
an id without its version is what the module's own class is registered by, it comes before the class, as it also has
the time limit.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, find_highest_version, get_env_id, load_env_creator, parse_env_id

from deeptaxi.errors import UsageError, nearest
from deeptaxi.search_path import hide_current_folder

FILE = ".py"
LISTED = 5  # names in an error


@dataclass(frozen=True)
class Creator:
    """What makes an environment.

    Attributes:
        make: a class or a function; None if it is registered, for `gymnasium.make`.
        id: its id if it is registered.
    """

    make: Callable[..., Any] | None
    id: str | None = None


def split_name(name: str) -> tuple[str, str]:
    """Split `module:Name` or `path/file.py:Name`; the module is empty for a plain id, the name for a file alone."""
    if is_file(name):
        return name, ""
    module, _, known = name.rpartition(":")
    return module, known


def is_file(module: str) -> bool:
    """Whether the module part of a name is the path of a file."""
    return module.endswith(FILE)


def code_folder(name: str) -> str | None:
    """Return the folder that the code of a name is imported from first; None for a plain id.

    It is the file's own, or the current one; empty if that was removed.
    """
    module, _ = split_name(name)
    if not module:
        return None
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return ""
    return os.path.abspath(here / Path(module).parent) if is_file(module) else str(here)  # noqa: PTH100  # keeps links


def load_code(module: str, folder: str | None) -> ModuleType:
    """Import a module, or a file as a module.

    Args:
        module: its dotted name, or the path of the file.
        folder: the folder of the file, absolute, or the one that is searched first.

    Raises:
        UsageError: there is no such module or file.
    """
    if not is_file(module):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            near = nearest(module, [other.stem for other in Path(folder or "").glob(f"*{FILE}")])
            raise UsageError(f"there is no module '{module}'{near}") from None
    path = Path(folder or "") / Path(module).name
    if not path.is_file():
        near = nearest(path.name, [other.name for other in path.parent.glob(f"*{FILE}")])
        raise UsageError(f"there is no file {module}{near}")
    name = module_name(path)
    for known in (name, dotted_name(path)[1]):
        if known in sys.modules and source_of(sys.modules[known]) == path.resolve():
            return sys.modules[known]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{module} cannot be imported")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    try:
        spec.loader.exec_module(loaded)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, ImportError) and "relative import" in str(error):
            return load_member(path)
        raise
    return loaded


def load_member(path: Path) -> ModuleType:
    """Import a file as a module of the package that it is in, so that ``from .part import`` finds what is beside it."""
    root, name = dotted_name(path)
    sys.path.insert(0, str(root))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(root))


def dotted_name(path: Path) -> tuple[Path, str]:
    """Return the folder that holds the package of a file, and the name of the file's module from there.

    The package begins at the outermost folder in a row with an ``__init__.py``, else at the file's own folder.
    """
    root, names = path.parent.parent, [path.parent.name, path.stem]
    while (root / "__init__.py").is_file() and root != root.parent:
        root, names = root.parent, [root.name, *names]
    return root, ".".join(names)


def module_name(path: Path) -> str:
    """Return the name to import a file by: its own, unless that is another module's, as of a file `random.py`."""
    name, path = path.stem, path.resolve()
    known: Any = sys.modules.get(name)
    if known is None:
        try:
            with hide_current_folder():
                known = importlib.util.find_spec(name)
        except (ImportError, ValueError):  # the name has a dot in it
            known = False
    if known is None or source_of(known) == path:
        return name
    return f"{name}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"


def source_of(module: Any) -> Path | None:
    """Return the file of a module or of its spec."""
    file = getattr(module, "__file__", None) or getattr(module, "origin", None)
    return Path(file).resolve() if isinstance(file, str) else None


def find_creator(name: str, folder: str | None) -> Creator:
    """Import what a name names, and find the environment in it.

    Args:
        name: `module:Name` or `file.py:Name`.
        folder: the folder of a file, absolute, or the one that is searched first.

    Raises:
        UsageError: there is no such module or file, or nothing in it that makes an environment has this name.
    """
    module, known = split_name(name)
    loaded = load_code(module, folder)
    if known in gymnasium.registry:
        return Creator(None, known)
    found: Any = loaded
    for part in known.split("."):
        found = getattr(found, part, None)
    newest = registered_id(known)
    newest_known = newest in gymnasium.registry
    if found is None or (newest_known and entry_of(gymnasium.registry[newest]) is found):
        if newest_known:
            return Creator(None, newest)
        fault = f"has no environment '{known}'" if known else "is code: name an environment in it"
        raise UsageError(f"{module} {fault}{what_else(module, known, loaded)}")
    if not callable(found) or isinstance(found, ModuleType):
        raise UsageError(f"{name} is an object of {type(found).__name__}: name a class, or a function that makes one")
    return Creator(found)


def what_else(module: str, known: str, loaded: ModuleType) -> str:
    """Return the names nearest to a wrong one, as they are typed, else those that there are."""
    names = environments_in(loaded)
    near = nearest(known, names, count=2) if known else ""
    if near or not names:
        return re.sub("'(.+?)'", lambda found: f"'{module}:{found[1]}'", near)
    listed = ", ".join(f"{module}:{name}" for name in names[:LISTED])
    return f"; it has {listed}{', …' if len(names) > LISTED else ''}"


def environments_in(module: ModuleType) -> list[str]:
    """Return the classes of environments that a module defines, and the ids that it registers."""
    classes = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, gymnasium.Env)
        and not issubclass(value, gymnasium.Wrapper)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]
    ids = [name for name, spec in gymnasium.registry.items() if module_of(spec) == module.__name__]
    return classes + ids


def module_of(spec: EnvSpec) -> str:
    """Return the name of the module that a registered environment is made by; empty if unknown."""
    entry: Any = spec.entry_point
    return entry.partition(":")[0] if isinstance(entry, str) else str(getattr(entry, "__module__", ""))


def entry_of(spec: EnvSpec) -> Any:
    """Return the class or function that a registered environment is made by, or None."""
    try:
        return load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    except (Exception, SystemExit):  # the environment's own code may raise anything
        return None


def registered_id(name: str) -> str:
    """Return the id that Gymnasium resolves a name to: itself, or its highest version if it has none.

    The id need not be registered: ``Taxi-v04`` is not ``Taxi-v4``.
    """
    try:
        space, word, version = parse_env_id(name)
        highest = find_highest_version(space, word) if version is None else None
    except gymnasium.error.Error:  # not a valid id
        return name
    return name if highest is None or name in gymnasium.registry else get_env_id(space, word, highest)


def importable_name(creator: Any) -> str | None:
    """Return `module:Name` if that names this class or function wherever its module can be imported, else None."""
    module, name = getattr(creator, "__module__", None), getattr(creator, "__qualname__", "")
    if not isinstance(module, str) or module == "__main__" or not name:
        return None
    found: Any = sys.modules.get(module)
    if not isinstance(getattr(found, "__file__", None), str):
        return None
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is creator else None
