"""Where an export may be put: not in a run, and not on top of anything but an export of the same kind."""

from __future__ import annotations

import re
from pathlib import Path

from deeptaxi.artifacts.export.formats import FORMATS
from deeptaxi.artifacts.run_folder import CARD_FILE, CARD_JSON, CONFIG_FILE, MODEL_FILE
from deeptaxi.errors import UsageError
from deeptaxi.io.atomic import check_free, tidy

SAVEDMODEL = re.compile(r"saved_model\.pb|fingerprint\.pb|assets|variables(/variables\.(index|data-\d+-of-\d+))?")
IN_FOLDER = {*(form.file for form in FORMATS.values()), CARD_FILE, CARD_JSON}


def check_place(name: str | None, path: Path, force: bool) -> None:
    """Refuse a place that an export cannot have.

    Args:
        name: of the format; None for a folder of all formats.
        path: the place.
        force: whether the user asked to overwrite.

    Raises:
        UsageError: it lies in a run or below a file, is taken, or has a name that the format cannot have.
    """
    if name in ("keras", "plain") and path.suffix != ".keras":
        raise UsageError(f"--out {path}: Keras reads and writes only names that end in .keras")
    in_the_way = next((folder for folder in path.parents if folder.is_file()), None)
    if in_the_way is not None:
        raise UsageError(f"{path} cannot be written: {in_the_way} is a file; choose another --out")
    run = run_around(path)
    if run is not None:
        raise UsageError(f"{path} is in the run {run}, which training alone writes to; choose another --out")
    tidy(path)
    if name not in (None, "savedmodel") or not is_empty(path):
        check_free(path, force, replaceable(name, path))


def run_around(path: Path) -> Path | None:
    """Return the run folder that `path` is or lies in, if it does."""
    place = path.resolve()
    around = (folder for folder in (place, *place.parents) if is_run(folder))
    return next(around, None)


def is_run(folder: Path) -> bool:
    """Whether a folder is a run."""
    return (folder / MODEL_FILE).is_file() and (folder / CONFIG_FILE).is_file()


def is_empty(path: Path) -> bool:
    """Whether a place is a folder with nothing in it."""
    return path.is_dir() and not any(path.iterdir())


def replaceable(name: str | None, path: Path) -> bool:
    """Whether what stands in a place is an export of the same kind, as far as names tell, and holds nothing else."""
    if name is None:
        items = list(path.iterdir()) if path.is_dir() else []
        return bool(items) and all(item.name in IN_FOLDER and (item.is_file() or is_savedmodel(item)) for item in items)
    if name == "savedmodel":
        return is_savedmodel(path)
    return path.is_file() and path.suffix == Path(FORMATS[name].file).suffix


def is_savedmodel(folder: Path) -> bool:
    """Whether a folder is a SavedModel as TensorFlow writes it, and holds nothing else."""
    found = {str(item.relative_to(folder)) for item in folder.rglob("*")}
    return "saved_model.pb" in found and all(SAVEDMODEL.fullmatch(name) for name in found)
