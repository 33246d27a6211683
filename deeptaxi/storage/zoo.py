"""List the agents in a folder of runs from their cards, without loading a model."""

from __future__ import annotations

import gc
import os
import stat
from pathlib import Path
from typing import Any

from deeptaxi.config import OWN_KIND
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.io.safe_load import TOML_BYTES, parse_toml, read_text
from deeptaxi.storage.model_card import CARD_BYTES, read_card
from deeptaxi.storage.run_folder import CARD_FILE, CONFIG_FILE, MODEL_FILE

VERDICT_ROW = "| Verdict | "  # in a card.md
NO_CARD = "it has no card.json, as it was made by an early deeptaxi; `deeptaxi evaluate {}` computes its verdict"


def agents(folder: Path) -> list[dict[str, Any]]:
    """Return one row per agent in `folder`, sorted by name; a run folder gives a single row.

    Raises:
        UsageError: the folder does not exist.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UsageError(f"{folder} {what}: name the folder that holds the runs of `deeptaxi train`")
    if model_bytes(folder) is not None:
        return [agent(folder, folder.resolve().name)]
    collecting = gc.isenabled()
    gc.disable()  # it would scan all cards again and again, which takes half of the time
    try:
        # Resolving all names would take as long as reading the cards.
        return [
            agent(run, run.resolve().name if link else run.name)
            for run, link in folders_in(folder)
            if model_bytes(run) is not None
        ]
    finally:
        if collecting:
            gc.enable()


def folders_in(folder: Path) -> list[tuple[Path, bool]]:
    """Return the entries of a folder that are not hidden, sorted, each with whether it is a link.

    Raises:
        UsageError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_symlink()) for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise UsageError(f"cannot read {folder}: {error.strerror or error}") from None
    return [(folder / name, link) for name, link in found]


def model_bytes(run: Path) -> int | None:
    """Return the size of a run's model in bytes; None if it is missing."""
    try:
        found = os.stat(f"{run}/{MODEL_FILE}")  # noqa: PTH116  # there may be tens of thousands of runs
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def agent(run: Path, name: str) -> dict[str, Any]:
    """Return the row of one run; `note` describes problems with its files, if any."""
    known: dict[str, Any] = {"name": name, "path": str(run), "note": None, "bytes": model_bytes(run)}
    try:
        card = read_card(run)
    except DeepTaxiError as error:
        return {**known, **without_card(run), "note": str(error)}
    if card is None:
        return {**known, **without_card(run), "note": NO_CARD.format(run)}
    return {
        **known,
        "environment": card["environment"],
        "network": card["network"],
        "preset": card["preset"],
        "seed": card["seed"],
        "optimal": card["exact"]["optimal"] if card["exact"] else None,
        "verdict": card["verdict"],
        "exact": card["exact"],
        "weights_digest": card["weights_digest"],
        "made": card["made"],
    }


def without_card(run: Path) -> dict[str, Any]:
    """Return the facts in a run's `config.toml` and `card.md`; None for missing ones."""
    config = settings(run / CONFIG_FILE)
    environment, network, about = (section(config, name) for name in ("environment", "network", "run"))
    known = {"id": str(environment.get("id") or "?"), "kwargs": section(environment, "kwargs")}
    kind = (
        OWN_KIND
        if network.get("builder")
        else "dueling"
        if network.get("dueling")
        else "mlp"
        if network.get("hidden")
        else "q-table"
    )
    return {
        "environment": {**known, "states": None, "actions": None, "time_limit": environment.get("time_limit")},
        "network": {"kind": kind, "description": kind} if network else None,
        "preset": known_text(about, "preset"),
        "seed": config.get("seed"),
        "optimal": None,
        "verdict": read_verdict(run / CARD_FILE),
        "exact": None,
        "weights_digest": known_text(about, "weights_digest"),
        "made": None,
    }


def settings(path: Path) -> dict[str, Any]:
    """Read a TOML file; return an empty mapping if it cannot be read."""
    try:
        return parse_toml(read_text(path, TOML_BYTES, plain=True))
    except (OSError, ValueError):
        return {}


def section(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a table of a TOML file; empty if it is missing or not a table."""
    found = values.get(name, {})
    return found if isinstance(found, dict) else {}


def known_text(values: dict[str, Any], name: str) -> str | None:
    """Return a string of a TOML file; None if it is missing or not a string."""
    found = values.get(name)
    return found if isinstance(found, str) else None


def read_verdict(path: Path) -> str | None:
    """Return the verdict in a `card.md`; None if it is missing."""
    try:
        lines = read_text(path, CARD_BYTES, plain=True).splitlines()
    except (OSError, ValueError):
        return None
    return next((line[len(VERDICT_ROW) : -1].strip() for line in lines if line.startswith(VERDICT_ROW)), None)
