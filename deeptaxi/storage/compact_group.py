"""The agents of a group in one file: `agents.sqlite` in the folder of the group.

    file (agent, name, content)   the files of each agent's run, such as "seed-3", "card.json"
                                  those that all agents share have an empty `agent`

It holds what the folder of a run holds, each content compressed by zlib: configuration, card, log and visits of every
agent, and its weights as `weights.npz`, the arrays of `Model.get_weights` by their number. `model.keras`, which says
how these are used, and a transition table without a file of its own are there once.

The path of an agent is that of the run folder that it would have without the file, such as `models/group/seed-3`.
Whatever opens it gets its files in a temporary folder. A process that is killed loses at most the agents of its last
`COMMIT_SECONDS`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from deeptaxi.errors import DeepTaxiError, DiskError, UsageError, one_line, printable
from deeptaxi.io.atomic import Scratch, temporary
from deeptaxi.storage.keras_file import MAX_BYTES
from deeptaxi.storage.logs import LOG_FILE, VISITS_FILE, name_also
from deeptaxi.storage.run_folder import (
    AGENTS_FILE,
    CARD_JSON,
    CONFIG_FILE,
    MODEL_FILE,
    OBSERVATIONS_FILE,
    TABLE_FILE,
    is_compact,
)

WEIGHTS_FILE = "weights.npz"
SHARED = ""  # the agent whose files are those of all
OWN_FILES = (CONFIG_FILE, CARD_JSON, LOG_FILE, VISITS_FILE, OBSERVATIONS_FILE, WEIGHTS_FILE)
SHARED_FILES = (MODEL_FILE, TABLE_FILE)
VERSION = 1
COMMIT_SECONDS = 0.5
LEVEL = 1  # of zlib: the default takes twice as long for a tenth less
LOCKED_SECONDS = 60.0  # to wait for another process that reads or writes
KEPT = 16  # unpacked agents of a group
SCHEMA = """CREATE TABLE IF NOT EXISTS file (
    agent TEXT NOT NULL, name TEXT NOT NULL, content BLOB NOT NULL, PRIMARY KEY (agent, name)
)"""


class CompactGroup:
    """The agents of a group, open for writing.

    Args:
        folder: the folder of the group; it exists.

    Attributes:
        failed: whether an agent could not be written; nor can any other then.

    Raises:
        DiskError: the file cannot be written.
        DeepTaxiError: it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / AGENTS_FILE
        self.failed = False
        check_is_file(self._path)
        self._committed = time.monotonic()
        with faults(self._path):
            # Trainings that run together have threads, of which one runs at a time.
            self._connection = sqlite3.connect(
                self._path, timeout=LOCKED_SECONDS, isolation_level="IMMEDIATE", check_same_thread=False
            )
            self._connection.execute(SCHEMA)
            self._connection.execute(f"PRAGMA user_version = {VERSION}")
            self._connection.commit()
            self._shared = self._connection.execute("SELECT 1 FROM file WHERE agent = ?", (SHARED,)).fetchone()

    @property
    def has_shared_files(self) -> bool:
        """Whether the files that all agents share are there."""
        return self._shared is not None

    def add(self, agent: str, files: Mapping[str, bytes]) -> None:
        """Add or replace the files of an agent, by their names; those of `SHARED` are added first.

        Raises:
            DiskError: the disk is full, or the file cannot be written.
        """
        rows = [(agent, name, zlib.compress(content, LEVEL)) for name, content in files.items()]
        failed, self.failed = self.failed, True
        with faults(self._path):
            self._connection.execute("DELETE FROM file WHERE agent = ?", (agent,))
            self._connection.executemany("INSERT INTO file VALUES (?, ?, ?)", rows)
            if agent == SHARED:
                self._shared = (1,)
            elif time.monotonic() - self._committed > COMMIT_SECONDS:
                self._connection.commit()
                self._committed = time.monotonic()
        self.failed = failed

    def close(self) -> None:
        """Write what is left to the disk.

        Raises:
            DiskError: the disk is full, or the file cannot be written.
        """
        with faults(self._path), contextlib.closing(self._connection):
            self._connection.commit()


@contextlib.contextmanager
def faults(path: Path) -> Iterator[None]:
    """Raise the package's errors for those of SQLite."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise DiskError(f"cannot write {path}: {one_line(error)}") from None
    except (sqlite3.Error, zlib.error, UnicodeError) as error:
        raise DeepTaxiError(
            f"{path} is damaged: {one_line(error)}; once it is moved away, --resume trains its agents again"
        ) from None


def check_is_file(path: Path) -> None:
    """Reject a folder, a pipe or a dangling link: SQLite would wait for it, or fail without saying why.

    Raises:
        DeepTaxiError: it is not a regular file.
    """
    if os.path.lexists(path) and not path.is_file():
        kind = "a folder" if path.is_dir() else "no file"
        raise DeepTaxiError(
            f"{path} is {kind}, not the agents of a group; once it is moved away, --resume trains them again"
        )


class Agent(NamedTuple):
    """An agent of a compact group: the folder of the group, and its name."""

    folder: Path
    name: str


def find_agent(path: Path) -> Agent | None:
    """Return the agent that a path names; None if it is not in a compact group."""
    return Agent(path.parent, path.name) if is_compact(path.parent) and not path.exists() else None


def check_no_agent(path: Path) -> None:
    """Reject the path of an agent of a compact group as that of something new, which would hide the agent.

    Raises:
        UsageError: there is such an agent.
        DeepTaxiError: the file of the group is damaged.
    """
    agent = find_agent(path)
    if agent is not None and agent.name in agents_in(agent.folder):
        raise UsageError(f"{path} is an agent of a compact group; choose another --out")


@contextlib.contextmanager
def open_agents(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the agents of a group for reading.

    Raises:
        DeepTaxiError: the file cannot be read, is damaged, or of a newer deeptaxi.
    """
    path = folder / AGENTS_FILE
    check_is_file(path)
    address = f"file:{quote(str(path.resolve()))}"
    try:
        try:
            connection = sqlite3.connect(f"{address}?mode=rw", timeout=LOCKED_SECONDS, uri=True)
            connection.execute("PRAGMA schema_version")  # takes back what a killed process left half written
        except sqlite3.OperationalError:  # on a disk that cannot be written
            connection = sqlite3.connect(f"{address}?mode=ro&immutable=1", uri=True)
        with contextlib.closing(connection):
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA trusted_schema = OFF")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise DeepTaxiError(f"{path} is of a newer deeptaxi: update it (pip install --upgrade deeptaxi)")
            kind = connection.execute("SELECT type FROM sqlite_schema WHERE name = 'file'").fetchone()
            if kind != ("table",):
                raise DeepTaxiError(f"{path} is damaged: it has no table of files")
            yield connection
    except (sqlite3.Error, UnicodeError) as error:
        raise DeepTaxiError(f"{path} cannot be read: {one_line(error)}") from None


def agents_in(folder: Path) -> list[str]:
    """Return the names of the agents in a compact group; none of any other folder.

    Raises:
        DeepTaxiError: the file is damaged.
    """
    if not is_compact(folder):
        return []
    with open_agents(folder) as connection:
        rows = connection.execute("SELECT agent FROM file WHERE name = ?", (CONFIG_FILE,))
        return [name for (name,) in rows if isinstance(name, str) and name and name == Path(name).name]


def read_files(folder: Path, agent: str, names: tuple[str, ...]) -> dict[str, bytes]:
    """Return the files of an agent by their names; others than `names` are ignored.

    Raises:
        DeepTaxiError: the file is damaged.
    """
    found: dict[str, bytes] = {}
    with open_agents(folder) as connection:
        for name, content in connection.execute("SELECT name, content FROM file WHERE agent = ?", (agent,)):
            if name in names:
                found[name] = decompress(content, folder / AGENTS_FILE)
    return found


def decompress(content: bytes, path: Path) -> bytes:
    """Return the content of a file, of at most `MAX_BYTES`.

    Raises:
        DeepTaxiError: it is damaged, or too large.
    """
    unpacking = zlib.decompressobj()
    try:
        plain = unpacking.decompress(content, MAX_BYTES)
    except (zlib.error, TypeError) as error:
        raise DeepTaxiError(f"{path} is damaged: {one_line(error)}") from None
    if not unpacking.eof:
        raise DeepTaxiError(f"{path} is damaged: a content is cut off, or larger than a model may be")
    return plain


class Unpacked(NamedTuple):
    """The temporary folder of a compact group, with the files that its agents share, and some of its agents."""

    scratch: Scratch
    modified: int


unpacked_groups: dict[Path, Unpacked] = {}


def unpack(agent: Agent) -> Path:
    """Return a folder with the files of an agent: that of a run, whose weights are in `weights.npz`.

    It is temporary: after some others were unpacked, or when the process ends, it is removed.

    Raises:
        UsageError: the group has no such agent.
        DeepTaxiError: its file is damaged.
    """
    check_is_file(agent.folder / AGENTS_FILE)
    group, modified = agent.folder.resolve(), (agent.folder / AGENTS_FILE).stat().st_mtime_ns
    known = unpacked_groups.get(group)
    if known is None or known.modified != modified:
        shared = read_files(agent.folder, SHARED, SHARED_FILES)
        if known is not None:
            known.scratch.close()
        known = unpacked_groups[group] = Unpacked(temporary(), modified)
        atexit.register(known.scratch.close)
        write_files(known.scratch.path / "shared", shared)
    shared_files, place = known.scratch.path / "shared", known.scratch.path / "agents" / agent.name
    if place.is_dir():
        return place
    own = read_files(agent.folder, agent.name, OWN_FILES)
    if CONFIG_FILE not in own:
        names = agents_in(agent.folder)
        some = ", ".join([*map(printable, names[:3]), *(["…"] if len(names) > 3 else [])])
        raise UsageError(f"{agent.folder} has no agent '{printable(agent.name)}': it has {some or 'none yet'}")
    found = {*own, *(path.name for path in shared_files.iterdir())}
    missing = next((name for name in (CARD_JSON, LOG_FILE, WEIGHTS_FILE, MODEL_FILE) if name not in found), None)
    if missing is not None:
        raise DeepTaxiError(f"{agent.folder / AGENTS_FILE} is damaged: {printable(agent.name)} has no {missing}")
    place.parent.mkdir(exist_ok=True)
    older = sorted(place.parent.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    for old in older[: max(0, len(older) - KEPT + 1)]:
        shutil.rmtree(old, ignore_errors=True)
    write_files(place, own)
    for path in shared_files.iterdir():
        name_also(path, place / path.name)
    return place


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a new folder."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def run_folder_of(path: Path) -> Path:
    """Return the run folder that a path names: of an agent of a compact group, a temporary one (`unpack`).

    Raises:
        UsageError: the group has no such agent.
        DeepTaxiError: its file is damaged.
    """
    agent = find_agent(path)
    return path if agent is None else unpack(agent)
