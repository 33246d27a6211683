"""Where an export may be written: outside of runs, and over nothing but an export of its kind. Imports no Keras."""

from __future__ import annotations

import re
from pathlib import Path

from deeptaxi.errors import UsageError
from deeptaxi.io.atomic import check_free, tidy
from deeptaxi.storage.formats import FORMATS
from deeptaxi.storage.run_folder import CARD_FILE, CARD_JSON, CONFIG_FILE, MODEL_FILE

SAVEDMODEL = re.compile(r"saved_model\.pb|fingerprint\.pb|assets|variables(/variables\.(index|data-\d+-of-\d+))?")
IN_FOLDER = {*(form.file for form in FORMATS.values()), CARD_FILE, CARD_JSON}


def check_place(name: str | None, path: Path, force: bool) -> None:
    """Reject a path that an export cannot be written to.

    Args:
        name: name of the format; None for a folder of all formats.
        path: file or folder to write.
        force: whether to overwrite an existing export.

    Raises:
        UsageError: the path is in a run folder or below a file, exists, or has the wrong extension.
    """
    if name in ("keras", "plain") and path.suffix != ".keras":
        raise UsageError(f"--out {path}: Keras reads and writes only names that end in .keras")
    in_the_way = next((folder for folder in path.parents if folder.is_file()), None)
    if in_the_way is not None:
        raise UsageError(f"cannot write {path}: {in_the_way} is a file; choose another --out")
    run = run_around(path)
    if run is not None:
        raise UsageError(f"{path} is in the run {run}, which only training writes to; choose another --out")
    tidy(path)
    if name not in (None, "savedmodel") or not is_empty(path):
        check_free(path, force, replaceable(name, path))


def run_around(path: Path) -> Path | None:
    """Return the run folder that `path` is or lies in, or None."""
    target = path.resolve()
    around = (folder for folder in (target, *target.parents) if is_run(folder))
    return next(around, None)


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run folder."""
    return (folder / MODEL_FILE).is_file() and (folder / CONFIG_FILE).is_file()


def is_empty(path: Path) -> bool:
    """Return whether a path is an empty folder."""
    return path.is_dir() and not any(path.iterdir())


def replaceable(name: str | None, path: Path) -> bool:
    """Return whether a path holds nothing but an export of the same kind, by file names."""
    if name is None:
        items = list(path.iterdir()) if path.is_dir() else []
        return bool(items) and all(item.name in IN_FOLDER and (item.is_file() or is_savedmodel(item)) for item in items)
    if name == "savedmodel":
        return is_savedmodel(path)
    return path.is_file() and path.suffix == Path(FORMATS[name].file).suffix


def is_savedmodel(folder: Path) -> bool:
    """Return whether a folder holds nothing but a SavedModel as written by TensorFlow."""
    found = {str(item.relative_to(folder)) for item in folder.rglob("*")}
    return "saved_model.pb" in found and all(SAVEDMODEL.fullmatch(name) for name in found)
