"""Links in the places that commands write to or remove from: what they lead to must stay as it is."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from pathlib import Path

OTHERS = "others"  # the folder of somebody else
NAMES = ("000001.npz", "000002.npz", "000009.npz", "1.npz", "table.npz", "metrics.jsonl", "visits.npz", "model.keras")
PLACES = (
    "models/table/checkpoints", "models/table/checkpoints/000002.npz", "models/table/checkpoints/table.npz",
    "models/table/.lock", "models/table/model.keras", "models/table/config.toml", "models/table/card.md",
    "models/table/card.json", "models/table/.deeptaxi-00000000-x", "models/table/.spare-00000000-x",
    "logs/table/metrics.jsonl", "logs/table/visits.npz", "logs/table/.previous", "logs/table/.lock",
    "logs/table/metrics.failed.jsonl", "logs/table", "out.html", "out.csv", "out.npz",
)  # fmt: skip


def lay(rng: random.Random, folder: Path, place: Path) -> None:
    """Put a link into a place, and into another one at times: to a folder, a file, by a hard link, or to nothing."""
    others = folder / OTHERS
    others.mkdir()
    for name in NAMES:  # some are what they are called
        sound = rng.choice([path for path in folder.rglob(f"*{Path(name).suffix}") if others not in path.parents])
        shutil.copy(sound, others / name)
    for path in [place, *([folder / rng.choice(PLACES)] if rng.random() < 0.3 else [])]:
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
        if not path.parent.is_dir() or path.parent.resolve() != path.parent:
            continue
        kind = rng.randrange(4)
        if kind == 0:
            path.symlink_to(others)
        elif kind == 1:
            path.symlink_to(others / "nothing")
        elif kind == 2:
            path.symlink_to(others / rng.choice(NAMES))
        else:
            os.link(others / rng.choice(NAMES), path)


def state(folder: Path) -> dict[str, str]:
    """Return what is in the folder of somebody else, by name; nothing where there is none."""
    paths = sorted((folder / OTHERS).iterdir()) if (folder / OTHERS).is_dir() else []
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}
