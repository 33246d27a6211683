"""The agents that deeptaxi ships in `models/`: ``python -m benchmarks.zoo`` makes them again, from the presets.

One for every preset of a problem with a transition table but `LEFT_OUT`, by seed 0, as a user trains it:
``deeptaxi train --preset``. Each takes its place once its exact verdict is what is promised of its preset, and then
`models/README.md` and `models/.gitignore` are written from the cards. Nothing is added to an agent but the license on
its card, and its `.keras` file is zipped, where Keras stores what is in it as it is.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.presets import WITHOUT_TABLE
from deeptaxi.io.atomic import write_atomic_all
from deeptaxi.presets import Preset, listed_presets
from deeptaxi.storage.model_card import describe_environment, read_card, write_card
from deeptaxi.storage.run_folder import CARD_JSON, MODEL_FILE

MODELS = Path(__file__).parents[1] / "models"
LICENSE = "mit"  # deeptaxi's own
SEED = 0
LEFT_OUT = ("taxi-rainy",)  # optimal as well, but large: the agents come with every clone

README = """# Models

<!-- Written by `python -m benchmarks.zoo`. -->

Agents that come with deeptaxi. Each verdict is exact, computed from the environment's transition table, and the tests
compute it again. `deeptaxi zoo` lists them, and `deeptaxi evaluate models/taxi-v4-dueling` computes one again.
[docs/zoo.md](../docs/zoo.md) says more.

{table}

*Optimal* counts the start states that are played optimally: all of them. *Best* is the highest possible mean return
within the time limit, which may require a policy that watches the clock.

`deeptaxi train` puts its runs here too, under names that end in the seed: one folder per run, with `model.keras`,
`config.toml`, `card.md` and `card.json`. Git ignores them.
"""


def name_of(preset: Preset) -> str:
    """Return the name of a preset's agent: environment, variant, network."""
    environment = re.sub(r"[^a-z0-9]+", "-", preset.environment["id"].lower())
    variant = preset.name.partition(".")[0].rpartition("-")[2] if preset.environment["kwargs"] else ""
    network = preset.network if preset.encoding == "joint" else preset.encoding
    return "-".join(filter(None, [environment, variant, network]))


def plan() -> dict[str, Preset]:
    """Return the presets that have an agent here, by the agent's name."""
    others = {*WITHOUT_TABLE, *(f"{name}.q-table" for name in WITHOUT_TABLE), *LEFT_OUT}
    found = [preset for preset in listed_presets() if preset.name not in others]
    return dict(sorted((name_of(preset), preset) for preset in found))


def make(name: str, preset: Preset, models: Path) -> None:
    """Train one agent in a folder of its own, check it, and put it into its place in `models`.

    Raises:
        RuntimeError: it is not optimal. What stood in its place still does.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [
            "train",
            "--preset",
            preset.name,
            "--seed",
            str(SEED),
            "--out",
            f"models/{name}",
            "--no-checkpoints",
            "--quiet",
            "--json",
        ]
        subprocess.run([sys.executable, "-m", "deeptaxi", *words], cwd=folder, stdout=subprocess.DEVNULL, check=True)
        run = Path(folder) / "models" / name
        card = card_of(run)
        if not card["exact"]["optimal"]:
            raise RuntimeError(f"{name}: {card['verdict']}")
        with write_atomic_all(run) as aside:
            own = json.loads((run / CARD_JSON).read_text(encoding="utf-8"))  # what reading a card fills in stays out
            write_card(aside, {**own, "license": LICENSE})
        deflate(run / MODEL_FILE)
        shutil.rmtree(models / name, ignore_errors=True)
        shutil.copytree(run, models / name)
    print(f"{name}: {card['verdict']}", flush=True)


def deflate(path: Path) -> None:
    """Rewrite a `.keras` file with its parts compressed; Keras stores them as they are."""
    with zipfile.ZipFile(path) as archive:
        parts = [(info, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for info, content in parts:
            archive.writestr(info.filename, content)


def card_of(run: Path) -> dict[str, Any]:
    """Return the card of a run.

    Raises:
        RuntimeError: it has none.
    """
    card = read_card(run)
    if card is None:
        raise RuntimeError(f"{run} has no card")
    return card


def readme(models: Path, names: Iterable[str]) -> str:
    """Return the page about the agents, from their cards."""
    head = ["agent", "environment", "network", "optimal", "return", "best", "KB"]
    return README.format(table=markdown_table([head, *(cells(models / name) for name in names)]))


def markdown_table(rows: list[list[str]]) -> str:
    """Return a table whose columns are as wide in the text as they are on the page, the first row its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def cells(run: Path) -> list[str]:
    """Return the row of one agent."""
    card, size = card_of(run), (run / MODEL_FILE).stat().st_size
    exact = card["exact"]
    return [
        f"[{run.name}]({run.name}/card.md)",
        f"`{describe_environment(card['environment'])}`",
        card["network"]["description"],
        f"{exact['optimal_start_states']} of {exact['start_states']}",
        f"{exact['return']:.4f}",
        f"{exact['optimal_return']:.4f}",
        f"{size / 1000:.0f}",
    ]


def ignored(names: Iterable[str]) -> str:
    """Return the `.gitignore` that keeps users' runs out and lets the agents in."""
    kept = ["/.gitignore", "/README.md", *(f"/{name}/" for name in names)]
    return "# Written by `python -m benchmarks.zoo`: runs of users stay out.\n/*\n" + "".join(f"!{k}\n" for k in kept)


def write_pages(models: Path) -> None:
    """Write the page about the agents, and what git passes over."""
    (models / "README.md").write_text(readme(models, plan()), encoding="utf-8")
    (models / ".gitignore").write_text(ignored(plan()), encoding="utf-8")


def main() -> None:
    """Make the agents, then the pages about them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="these agents; with no name, the pages alone")
    asked = parser.parse_args()
    wanted = plan() if asked.only is None else {name: plan()[name] for name in asked.only}
    for name, preset in wanted.items():
        make(name, preset, MODELS)
    write_pages(MODELS)
    folders = [MODELS / name for name in plan()]
    size = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    print(f"{len(folders)} agents, {size / 1000:.0f} KB", file=sys.stderr)


if __name__ == "__main__":
    main()
