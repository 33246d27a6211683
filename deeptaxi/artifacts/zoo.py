"""A folder of runs as a list of agents, read from their cards alone: no model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deeptaxi.artifacts.cards import CARD_BYTES, read_card
from deeptaxi.artifacts.files import CARD_FILE, CONFIG_FILE, MODEL_FILE
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.reading import TOML_BYTES, parse_toml, read_text

VERDICT_ROW = "| Verdict | "  # of a card.md
NO_CARD = "it has no card.json, as a run of an early deeptaxi; `deeptaxi evaluate {}` judges it"


def agents(folder: Path) -> list[dict[str, Any]]:
    """Return what is known of the agents in `folder`, by name; a run folder is its own list.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        raise UsageError(f"{folder} {what}: name the folder that holds the runs of `deeptaxi train`")
    runs = (
        [folder]
        if (folder / MODEL_FILE).is_file()
        else [path.parent for path in folder.glob(f"*/{MODEL_FILE}") if path.is_file()]
    )
    return [agent(run) for run in sorted(runs) if not run.name.startswith(".")]


def agent(run: Path) -> dict[str, Any]:
    """Return what is known of one run; `note` says what is wrong with its files, if anything is."""
    known: dict[str, Any] = {"name": run.resolve().name, "path": str(run), "note": None}
    known["bytes"] = (run / MODEL_FILE).stat().st_size
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
    """Return what `config.toml` and `card.md` of a run say; None for what they do not."""
    config = settings(run / CONFIG_FILE)
    place, network, about = (section(config, name) for name in ("environment", "network", "run"))
    known = {"id": str(place.get("id") or "?"), "kwargs": section(place, "kwargs")}
    kind = "dueling" if network.get("dueling") else "mlp" if network.get("hidden") else "q-table"
    return {
        "environment": {**known, "states": None, "actions": None, "time_limit": place.get("time_limit")},
        "network": {"kind": kind, "description": kind} if network else None,
        "preset": known_text(about, "preset"),
        "seed": config.get("seed"),
        "optimal": None,
        "verdict": told_verdict(run / CARD_FILE),
        "exact": None,
        "weights_digest": known_text(about, "weights_digest"),
        "made": None,
    }


def settings(path: Path) -> dict[str, Any]:
    """Return what a TOML file says; nothing where it cannot be read."""
    try:
        return parse_toml(read_text(path, TOML_BYTES, plain=True))
    except (OSError, ValueError):
        return {}


def section(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a table of a TOML file; an empty one where it is missing or something else."""
    found = values.get(name, {})
    return found if isinstance(found, dict) else {}


def known_text(values: dict[str, Any], name: str) -> str | None:
    """Return a text of a TOML file; None where it is missing or something else."""
    found = values.get(name)
    return found if isinstance(found, str) else None


def told_verdict(path: Path) -> str | None:
    """Return the verdict that a `card.md` tells; None where it tells none."""
    try:
        lines = read_text(path, CARD_BYTES, plain=True).splitlines()
    except (OSError, ValueError):
        return None
    return next((line[len(VERDICT_ROW) : -1].strip() for line in lines if line.startswith(VERDICT_ROW)), None)
