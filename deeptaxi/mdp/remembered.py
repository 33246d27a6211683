"""Remember the code that this user trained with, so that the user's own runs open without asking.

A run names the module of its environment, or of its network, which is code. Whoever trained with it has run that code
already. So a training that is kept leaves a record in the user's data folder: the file of the module, the name in it,
the sha256 of each file of its package or folder that was imported, and the arguments. A run that names the same is
opened without asking only if

- the module is found in the same place, whichever folder is the current one, and nothing else has its name;
- none of these files has changed;
- its arguments hold no text, which might name a file or a class, or are those of a training.

The code is then imported with the folder of the module first, and without the current folder. What is trusted is the
system's permissions, as with the cache: the data folder and the record must be the user's alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import platformdirs

from deeptaxi.arguments import parts_of, words
from deeptaxi.config import EnvironmentConfig
from deeptaxi.io.permissions import check_way, is_own
from deeptaxi.io.safe_load import read_json
from deeptaxi.mdp.named_code import FILE, is_file, module_name, source_of, split_name
from deeptaxi.search_path import installed

VARIABLE = "DEEPTAXI_DATA"
FOLDER = "environments"
MOST_FILES, MOST_BYTES, MOST_ARGUMENTS = 1_000, 2**26, 100


@dataclass(frozen=True)
class Located:
    """Where a module is found, without importing it.

    Attributes:
        module: its dotted name; for a file, the name that it is imported by.
        file: its file.
        folder: the folder that it, or its outermost package, is imported from.
    """

    module: str
    file: Path
    folder: Path

    def key(self, name: str) -> str:
        """Return the name of the record of an environment in it."""
        text = json.dumps([self.module, os.fsdecode(self.file), os.fsdecode(self.folder), split_name(name)[1]])
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest() + ".json"


@dataclass(frozen=True)
class Recalled:
    """What is remembered of an environment's code.

    Attributes:
        folder: the folder to import it from; None if it may not be imported without asking.
        changed: its file that has changed since, or None.
    """

    folder: Path | None = None
    changed: Path | None = None


def data_root() -> Path | None:
    """Return the user's data folder: `DEEPTAXI_DATA`, else the system's for this user; None if switched off."""
    named = os.environ.get(VARIABLE)
    if named is None:
        folder = platformdirs.user_data_path("deeptaxi", appauthor=False)
        return folder if folder.is_absolute() else None
    return None if named.strip().lower() in ("", "off") else Path(named).absolute()


def remember(config: EnvironmentConfig) -> None:
    """Record the imported code of an environment that is trained on; see `remember_code`."""
    remember_code(config.id, config.kwargs)


def remember_code(name: str, kwargs: Mapping[str, Any]) -> None:
    """Record the imported code of `module:Name`, called with these arguments, if there is a data folder to keep it."""
    root, place = data_root(), locate(name)
    if root is None or place is None:
        return
    with contextlib.suppress(OSError, ValueError):
        files = digests(imported_files(place))
        if str(place.file) not in files:
            return
        for folder in (*reversed(root.parents), root, root / FOLDER):
            folder.mkdir(mode=0o700, exist_ok=True)
        path = root.resolve() / FOLDER / place.key(name)
        known = read_record(path)
        before = known["arguments"] if known is not None and known["files"] == files else []
        arguments = list(dict.fromkeys([words(kwargs), *before]))[:MOST_ARGUMENTS]
        write_record(path, {"name": name, "files": files, "arguments": arguments})


def recall(config: EnvironmentConfig) -> Recalled:
    """Return what is remembered of an environment's code that a file names; see `recall_code`."""
    return recall_code(config.id, config.kwargs)


def recall_code(name: str, kwargs: Mapping[str, Any]) -> Recalled:
    """Return what is remembered of the code of `module:Name` that a file names; nothing of it is imported."""
    root, place = data_root(), locate(name)
    if root is None or place is None:
        return Recalled()
    known = read_record(root.resolve() / FOLDER / place.key(name))
    if known is None or (holds_text(kwargs) and words(kwargs) not in known["arguments"]):
        return Recalled()
    for file, digest in known["files"].items():
        with contextlib.suppress(OSError):
            if digests([Path(file)]) == {file: digest}:
                continue
        return Recalled(changed=Path(file))
    return Recalled(place.folder)


def locate(name: str) -> Located | None:
    """Find the module of a name as an import would, the current folder first; None unless it is Python code.

    One that is already imported from elsewhere counts as none, and so does Gymnasium, which needs no trust.
    """
    module, _ = split_name(name)
    if not module or module == "gymnasium":
        return None
    with contextlib.suppress(OSError, ImportError, ValueError):
        here = Path.cwd()
        if not is_file(module):
            return locate_module(module, [str(here), *sys.path])
        file = (here / module).resolve()
        return Located(module_name(file), file, file.parent) if file.is_file() else None
    return None


def locate_module(module: str, search: list[str]) -> Located | None:
    """Find a module by its dotted name in a list of folders."""
    files: list[Path] = []
    parts = module.split(".")
    for number in range(1, len(parts) + 1):
        name = ".".join(parts[:number])
        found = PathFinder.find_spec(name, search)
        if found is None or found.origin is None or not found.origin.endswith(FILE):
            return None
        files.append(Path(found.origin).resolve())
        if name in sys.modules and source_of(sys.modules[name]) != files[-1]:
            return None
        search = list(found.submodule_search_locations or ())
    outermost = files[0]
    return Located(module, files[-1], outermost.parents[1 if outermost.stem == "__init__" else 0])


def imported_files(place: Located) -> Iterator[Path]:
    """Yield the imported files of a module's package; of a module without one, those of its folder."""
    package = "." in place.module or place.file.stem == "__init__"
    inside = place.folder / place.module.partition(".")[0] if package else place.folder
    folders = [Path(folder).resolve() for folder in installed()]
    within = [folder for folder in folders if inside in folder.parents]  # such as those of a virtual environment

    @cache
    def is_beside(folder: str) -> bool:  # asked of a few hundred folders, where there are thousands of modules
        around = Path(folder).resolve()
        up = (around, *around.parents)
        return inside in up and inside not in folders and not any(part in up for part in within)

    for module in list(sys.modules.values()):
        named = getattr(module, "__file__", None)
        if not isinstance(named, str):
            continue
        if module is sys.modules.get(place.module) or is_beside(os.path.dirname(named)):  # noqa: PTH120  # quicker
            yield Path(named).resolve()


def digests(files: Iterator[Path] | list[Path]) -> dict[str, str]:
    """Return the sha256 of each file, by its path.

    Raises:
        OSError: a file cannot be read.
        ValueError: they are too many or too large.
    """
    found: dict[str, str] = {}
    left = MOST_BYTES
    for file in files:
        left -= file.stat().st_size
        if left < 0 or len(found) == MOST_FILES:
            raise ValueError("more code than is remembered")
        found[str(file)] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def read_record(path: Path) -> dict[str, Any] | None:
    """Return a record; None if it is missing, damaged, or others may have written it."""
    try:
        check_way(path.parent)
        record = read_json(path) if is_own(path.lstat()) else None
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict):
        return None
    files, arguments = record.get("files"), record.get("arguments")
    known = isinstance(files, dict) and files and all(isinstance(digest, str) for digest in files.values())
    return record if known and isinstance(arguments, list) else None


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record whole, for the user alone.

    Raises:
        OSError: it cannot be written.
    """
    aside = path.with_suffix(f".{os.getpid()}")
    try:
        aside.write_text(json.dumps(record), encoding="utf-8")
        aside.chmod(0o600)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def holds_text(value: Any) -> bool:
    """Whether an argument is a string, or a list or mapping that contains one."""
    return isinstance(value, str) or any(map(holds_text, parts_of(value)))
