"""The folder in which generated command lines are typed: runs, models, tables and settings, sound and broken."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np

# The first half of each is good.
ENVIRONMENTS = (
    *("FrozenLake-v1", "FrozenLake-v1", "FrozenLake-v1", "table.npz", "table.npz", "table.npz", "CliffWalking-v1"),
    *("CliffWalking-v1", "Taxi-v4", "Blackjack-v1", "FrozenLake8x8-v1", "noisy:Noisy-v0"),
    *(
        "CartPole-v1",
        "NoSuch-v0",
        "Taxi-v3",
        "frozenlake-v1",
        "failing:Failing-v0",
        "leaving:Leaving-v0",
        "nowhere:X-v0",
    ),
    *("broken.npz", "objects.npz", "missing.npz", "folder", "file.txt"),
)
MODELS = (
    *("run", "run", "run", "run", "run", "run/model.keras", "models/other", "models/other", "link", "run/"),
    *(
        "logs/run",
        "folder",
        "file.txt",
        "missing",
        "broken.keras",
        "empty.keras",
        "zip.keras",
        "table.npz",
        "half",
        ".",
    ),
)
TOMLS = (
    *("good.toml", "good.toml", "good.toml", "run/config.toml", "empty.toml"),
    *("bad.toml", "file.txt", "folder", "missing.toml", "binary.toml"),
)
PATHS = (
    *("new", "new", "new/deeper/still", "ü 😀", "new.npz", "new.csv", "new.json", "new.html", "new.gif", "new.keras"),
    *(
        "folder",
        "file.txt",
        "file.txt/below",
        "run",
        "link",
        "dangling",
        ".",
        "a" * 300,
        "new\nline",
        "-new",
        "table.npz",
    ),
)
NOISE = "printed by an environment"
LAKE = "gymnasium.envs.toy_text.frozen_lake:FrozenLakeEnv"
MODULES = {
    "noisy": f"import gymnasium\nprint({NOISE!r})\ngymnasium.register('Noisy-v0', {LAKE!r}, max_episode_steps=100)\n",
    "failing": "raise RuntimeError('it fails\\nin two lines')\n",
    "leaving": "raise SystemExit(7)\n",
}


def build(folder: Path) -> None:
    """Make the folder; it trains tiny agents for it."""
    from deeptaxi import TransitionTable, train

    folder.mkdir()
    lake = {"env_args": {"is_slippery": False}, "q_table": True, "updates": 20, "environments": 2, "batch_size": 4}
    for name in ("run", "models/other"):
        train("FrozenLake-v1", **lake, out=folder / name, logs=folder / "logs", tensorboard=False)
    train("FrozenLake-v1", **lake, out=folder / "part", logs=folder / "logs", tensorboard=False, stop_after=10)
    plain_files(folder)
    probability = np.ones((3, 2, 1))
    next_state = np.array([[[1], [0]], [[2], [0]], [[2], [0]]])
    ends = np.zeros((3, 2, 1), bool)
    ends[2, 0] = True
    table = TransitionTable(probability, next_state, ends.astype(float), ends, np.array([1.0, 0, 0]), time_limit=10)
    table.save(folder / "table.npz")
    content = (folder / "table.npz").read_bytes()
    (folder / "broken.npz").write_bytes(content[: len(content) // 2])
    np.savez(folder / "objects.npz", probability=np.array([{}], dtype=object))
    model = (folder / "run" / "model.keras").read_bytes()
    (folder / "broken.keras").write_bytes(model[: len(model) // 2])
    shutil.copytree(folder / "run", folder / "half")
    (folder / "half" / "config.toml").write_text("[environment]\nid = 3\n", encoding="utf-8")


def plain_files(folder: Path) -> None:
    """Write what needs no agent."""
    texts = {
        "file.txt": "text\n",
        "good.toml": "updates = 5\n[network]\nhidden = [4]\n",
        "bad.toml": "updates = 'many'\n[netwrk]\nhidden = []\n",
        "empty.toml": "",
        "empty.keras": "",
        **{f"{name}.py": code for name, code in MODULES.items()},
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "binary.toml").write_bytes(bytes(range(256)))
    (folder / "folder").mkdir()
    (folder / "folder" / "kept.json").write_text(json.dumps({"kept": True}), encoding="utf-8")
    (folder / "link").symlink_to("run")
    (folder / "dangling").symlink_to("nowhere")
    with zipfile.ZipFile(folder / "zip.keras", "w") as archive:
        archive.writestr("../escaped", "x")


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of every file below a folder, by its path there."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[str(path.relative_to(folder))] = (0, 0) if path.is_dir() else (status.st_size, status.st_mtime_ns)
    return found


def copy(model: Path, target: Path) -> None:
    """Replace the target folder by a copy of the model folder."""
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(model, target, symlinks=True)
