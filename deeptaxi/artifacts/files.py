"""Writing files so that a crash leaves either the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deeptaxi.errors import DeepTaxiError, UsageError

MODEL_FILE, CONFIG_FILE, CARD_FILE, CARD_JSON = "model.keras", "config.toml", "card.md", "card.json"  # of a run folder
TABLE_FILE = "table.npz"  # of a run on a transition table that had no file
CHECKPOINTS = "checkpoints"  # folder of a run folder


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a path beside `path`, with the same ending, to write to; on success it is synced and takes its place.

    What the block writes may be a file or a folder. A folder that stands in the place stays what it is (a link, a
    mount, the current folder): its entries are replaced one by one, and those that are not written again are removed,
    so check first. What others put there meanwhile is left alone.

    Raises:
        DeepTaxiError: the disk or the permissions do not allow it. What stood there before still does.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stood = {item.name for item in path.iterdir()} if path.is_dir() else None
        beside = path.parent if stood is None else path
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=beside) as folder:
            aside = Path(folder) / (path.name or "new")
            yield aside
            sync(aside)
            if stood is not None and aside.is_dir():
                refill(path, aside, stood)
            else:
                aside.replace(path)
    except OSError as error:
        raise DeepTaxiError(f"cannot write {path}: {error.strerror or error}") from None


def refill(folder: Path, new: Path, stood: set[str]) -> None:
    """Move what is in `new` into `folder`; what `stood` there goes where `new` is, which is about to be removed."""
    old = new.with_name(f"{new.name}-old")
    old.mkdir()
    names = [item.name for item in new.iterdir()]
    for name in names:
        if (folder / name).is_dir():
            (folder / name).rename(old / name)
        (new / name).replace(folder / name)
    for name in stood.difference(names):
        (folder / name).rename(old / name)


def sync(path: Path) -> None:
    """Make sure that what was written has reached the disk."""
    for item in [path, *path.rglob("*")] if path.is_dir() else [path]:
        if item.is_file():
            with item.open("rb+") as file:
                os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def check_free(path: Path, force: bool, replaceable: bool = True, option: str = "--out") -> None:
    """Refuse to write to a place that is taken.

    Args:
        path: where a file or folder is about to be written.
        force: whether the user asked to overwrite.
        replaceable: whether what stands there is of the kind that would replace it.
        option: by which the user chooses the place.

    Raises:
        UsageError: it is taken, and not to be overwritten.
    """
    if not path.exists():
        return
    if not replaceable:
        raise UsageError(
            f"{path} exists and is something else, so --force does not replace it; choose another {option}"
        )
    if not force:
        raise UsageError(f"{path} exists; choose another {option}, or overwrite it with --force")


def make_folder(path: Path) -> list[Path]:
    """Create a folder that can be written to; return the folders that are new, the innermost first.

    Raises:
        DeepTaxiError: it cannot be created or written to.
        UsageError: a file stands in its place.
        FileNotFoundError: another process removes it at this moment.
    """
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return new
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{path} cannot be a folder: a file of that name stands in the way") from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DeepTaxiError(f"cannot write in {path}: {error.strerror or error}") from None


def remove_if_empty(path: Path) -> None:
    """Remove a folder if nothing is in it."""
    with contextlib.suppress(OSError):
        path.rmdir()
