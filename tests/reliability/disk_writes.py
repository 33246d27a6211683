"""What deeptaxi writes, each as something that `tests.reliability.disk_faults` can do again and again in a folder.

A write knows what stood before, how it is done, which of the two stands afterwards and whether that is sound, and how a
user does it again.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeptaxi.backend.cache import Cache
from deeptaxi.io.atomic import ASIDE, tidy, write_atomic, write_atomic_all, write_text
from deeptaxi.io.locks import lock

OLD, NEW = "old", "new"


@dataclass(frozen=True)
class Write:
    """A write.

    Attributes:
        name: what is written.
        folder: where.
        prepare: makes what stands before.
        act: writes.
        look: given the folder, whether the process was killed, and whether it reported success, answers which
            of the two stands; raises where it is neither.
        again: what a user does next, given which of the two stands; raises where that does not end well.
        most: how many points of each kind of fault are tried where that is asked for; None for all: it takes no time.
    """

    name: str
    folder: Path
    prepare: Callable[[Path], object]
    act: Callable[[Path], object]
    look: Callable[[Path, bool, bool], str]
    again: Callable[[Path, str], object]
    most: int | None = None


def quick_writes(folder: Path) -> list[Write]:
    """Return the writes that make no run."""
    return [files(folder), entries(folder), together(folder), locks(folder), cache(folder), solution(folder)]


def contents(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file below a folder by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def check(truth: object, words: str) -> None:
    """Raise where something is not as it should be."""
    if not truth:
        raise RuntimeError(words)


def of_trees(name: str, folder: Path, old: dict[str, str], new: dict[str, str], act: Callable[[Path], object]) -> Write:
    """Return a write in a folder that holds the texts `old` before, and `new` after it, and never anything between."""

    def fill(target: Path, texts: dict[str, str]) -> None:
        for path, text in texts.items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_text(text, encoding="utf-8")

    def read(target: Path) -> dict[str, str]:
        paths = [path for path in target.rglob("*") if path.is_file() and ASIDE not in str(path)]
        return {str(path.relative_to(target)): path.read_text(encoding="utf-8") for path in paths}

    def look(target: Path, killed: bool, success: bool) -> str:
        if killed:
            for inner in (target, target / "folder"):
                tidy(inner)
        found = read(target)
        check(found in (old, new), f"neither the old nor the new: {found}")
        check(found == new or not success, "the old one, though it was reported as written")
        return NEW if found == new else OLD

    def again(target: Path, _stands: str) -> None:
        act(target)
        check(read(target) == new, "the second time it is not there either")
        tidy(target)
        check(not list(target.rglob(f"{ASIDE}*")), f"left behind: {list(target.rglob(f'{ASIDE}*'))}")

    return Write(name, folder / "texts", lambda target: fill(target, old), act, look, again)


def files(folder: Path) -> Write:
    """Return the write of one file, such as a page of a report."""
    return of_trees(
        "a file", folder, {"file": "old" * 9000}, {"file": "new" * 9000},
        lambda target: write_text(target / "file", "new" * 9000),
    )  # fmt: skip


def entries(folder: Path) -> Write:
    """Return the write of a folder over its like, such as a SavedModel."""
    old = {"folder/a": "old", "folder/sub/b": "old", "folder/gone": "old", "beside": "mine"}
    new = {"folder/a": "new", "folder/sub/b": "new", "folder/sub/c": "new", "folder/more/d": "new", "beside": "mine"}

    def act(target: Path) -> None:
        with write_atomic(target / "folder") as aside:
            for path, text in new.items():
                if path.startswith("folder/"):
                    (aside / path.removeprefix("folder/")).parent.mkdir(parents=True, exist_ok=True)
                    (aside / path.removeprefix("folder/")).write_text(text, encoding="utf-8")

    return of_trees("a folder", folder, old, new, act)


def together(folder: Path) -> Write:
    """Return the write of files that belong together, beside others."""
    old = {"folder/a": "old", "folder/b": "old", "folder/mine": "mine"}
    new = {"folder/a": "new", "folder/b": "new", "folder/c": "new", "folder/mine": "mine"}

    def act(target: Path) -> None:
        with write_atomic_all(target / "folder") as aside:
            for name in "abc":
                (aside / name).write_text("new", encoding="utf-8")

    return of_trees("files together", folder, old, new, act)


def locks(folder: Path) -> Write:
    """Return the taking and freeing of a lock."""

    def look(target: Path, _killed: bool, _success: bool) -> str:
        lock(target, "look").release()
        return OLD

    def again(target: Path, _stands: str) -> None:
        check(not list(target.iterdir()), f"left behind: {list(target.iterdir())}")

    return Write("a lock", folder / "lock", lambda _: None, lambda target: lock(target, "act").release(), look, again)


def cache(folder: Path) -> Write:
    """Return the storing of a compiled program: it is stored or not, silently."""
    programs = {"before": b"old" * 3000, "after": b"new" * 3000}

    def compile_one(target: Path, name: str = "after") -> dict[str, bytes]:
        try:
            opened = Cache(target / "cache", "compiler", "1.0")
        except OSError:  # as `open_cache`
            return {}
        given = {path.name: path.read_bytes() for path in opened.working.iterdir()}
        with contextlib.suppress(OSError):  # as the compiler
            aside = opened.working / f"{name}.tmp"
            aside.write_bytes(programs[name])
            aside.rename(opened.working / name)
        opened.close()
        return given

    def look(target: Path, _killed: bool, success: bool) -> str:
        check(success, "the cache is no reason to fail")
        given = compile_one(target)
        check(all(programs[name] == content for name, content in given.items()), "a program is damaged")
        check("before" in given, "a program is lost")
        return NEW if "after" in given else OLD

    def again(target: Path, _stands: str) -> None:
        check(compile_one(target) == programs, "it is not stored the second time either")
        check(not list((target / "cache").glob("working-*")), "a working folder is left behind")

    return Write(
        "the compile cache", folder / "cache", lambda target: compile_one(target, "before"), compile_one, look, again
    )


def solution(folder: Path) -> Write:
    """Return the write of an exact optimum as tables, in each format of tables that deeptaxi has."""
    import deeptaxi

    endings, known = ("csv", "npz", "json"), {}

    def act(target: Path) -> None:
        for ending in endings:
            deeptaxi.solve(small_table(), out=target / f"q.{ending}", force=True)

    def prepare(target: Path) -> None:
        if not known:
            act(target)
            known.update(contents(target))
        for ending in endings:
            (target / f"q.{ending}").write_text("old", encoding="utf-8")

    def look(target: Path, _killed: bool, success: bool) -> str:
        states = []
        for name, digest in known.items():
            is_old = (target / name).read_bytes() == b"old"
            check(
                is_old or hashlib.sha256((target / name).read_bytes()).hexdigest() == digest, f"{name} is half written"
            )
            states.append(OLD if is_old else NEW)
        check(OLD not in states or not success, "the old one, though it was reported as written")
        return OLD if OLD in states else NEW

    def again(target: Path, _stands: str) -> None:
        act(target)
        check(contents(target) == known, f"not what it was the first time: {sorted(contents(target))}")

    return Write("tables", folder / "tables", prepare, act, look, again)


def small_table() -> Any:
    """Return the transition table of a lake that does not slip."""
    from deeptaxi.config import EnvironmentConfig
    from deeptaxi.mdp.environment import open_environment

    return open_environment(EnvironmentConfig("FrozenLake-v1", {"is_slippery": False})).table
