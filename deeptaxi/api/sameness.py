"""What a training that is resumed must be: settings, backend and problem are held against what its checkpoint says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from deeptaxi.api.places import IN_MEMORY, open_requested
from deeptaxi.arguments import words
from deeptaxi.config import TrainConfig, coerce, leaf_settings, show, to_toml
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.exactness import chosen_backend
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.table import TransitionTable
from deeptaxi.metrics import finite
from deeptaxi.storage.checkpoints import Checkpoint, table_digest
from deeptaxi.storage.model_card import read_card
from deeptaxi.storage.run_folder import CHECKPOINTS, TABLE_FILE

TABLE_SUFFIX = ".npz"
MAY_CHANGE = {("updates",), ("evaluation", "early_stop")}


def check_same(folder: Path, config: TrainConfig, values: Mapping[str, Any]) -> None:
    """Refuse settings that are not those of the training.

    Raises:
        UsageError: one is another; it is named.
    """
    for path, item, hint in leaf_settings(TrainConfig):
        asked: Any = values
        for key in path:
            asked = asked.get(key) if isinstance(asked, Mapping) else None
        if asked is None or path in MAY_CHANGE or (path[-1] == "kwargs" and not asked):
            continue
        has: Any = config
        for key in path:
            has = getattr(has, key)
        wanted = coerce(asked, hint, ".".join(path))
        if path[-1] == "kwargs":  # what is not given again stays
            wanted, has = words({**has, **wanted}), words(has)
        if wanted != has and not (path[-1] == "id" and is_named(str(has), str(asked))):
            name = item.metadata["option"] or {"id": "ENV", "kwargs": "--env-arg"}.get(path[-1], ".".join(path))
            raise UsageError(
                f"{folder} goes on with what it was begun with: {name.partition('/')[0]} is {show(has) or 'none'}, "
                f"not {show(wanted)}; leave it out, or train anew into another --out"
            )


def is_named(environment: str, asked: str) -> bool:
    """Whether what is asked for may be this environment: an id has its version; the file of a table may be anywhere.

    A version is a number: what else may follow in the file of a stranger, such as the name of a module, nobody typed.
    """
    version = environment.removeprefix(f"{asked}-v")
    is_version = version != environment and version.isdecimal()
    return is_version or Path(environment).suffix == Path(asked).suffix == TABLE_SUFFIX


def check_backend(folder: Path, found: Checkpoint) -> None:
    """Refuse another backend than the training's.

    Raises:
        UsageError: it is another.
    """
    was = str(found.about.get("backend"))
    if was != chosen_backend():
        raise UsageError(f"{folder} was trained on {was}, and this is {chosen_backend()}: set KERAS_BACKEND={was}")


def check_unfinished(folder: Path, found: Checkpoint, before: TrainConfig, config: TrainConfig) -> None:
    """Refuse a training that has come to its end and is kept, where nothing more is asked of it.

    Raises:
        UsageError: it has.
    """
    try:
        card = read_card(folder)
    except DeepTaxiError:
        return
    if card is None or not is_of(card, before):
        return
    if card["training"]["updates"] != found.update or config.updates > before.updates:
        return
    stopped = card["training"]["stopped"]
    if stopped == "optimal" and config.evaluation.early_stop:
        raise UsageError(
            f"{folder} stopped after update {found.update:,} because its policy is optimal: "
            f"go on with --no-early-stop, or with more --updates than {before.updates}"
        )
    if found.update >= before.updates:
        raise UsageError(f"{folder} has made all its {before.updates:,} updates: go on with more --updates")


def is_of(card: Mapping[str, Any], config: TrainConfig) -> bool:
    """Whether a card is of a training; a table that was in memory has its place in the run folder since."""
    now = json.loads(json.dumps(finite(to_toml(config)), default=str))
    if config.environment.id == IN_MEMORY:
        now["environment"] = card["configuration"].get("environment")
    return bool(card["configuration"] == now)


def opened(
    folder: Path,
    found: Checkpoint,
    config: TrainConfig,
    trust: bool,
    given: TransitionTable | Environment | None = None,
    asked: str | None = None,
) -> Environment:
    """Open the environment of the training; `asked` is where the file of its table is by now.

    Raises:
        UsageError: it is not what it was.
    """
    place = config.environment
    if place.id == IN_MEMORY and given is None:
        place = replace(place, id=str(folder / CHECKPOINTS / TABLE_FILE))
    elif place.id.endswith(TABLE_SUFFIX) and asked:
        place = replace(place, id=asked)
    environment = replace(open_requested(place, trust, given), config=config.environment)
    said = found.about.get("environment")
    facts = dict(said) if isinstance(said, Mapping) else {}
    now = {**environment.describe(), "table": table_digest(environment.table)}
    for name in ("states", "actions", "time_limit", "table"):
        if facts.get(name) != now[name]:
            told = "has another transition table" if name == "table" else f"has {now[name]} {name.replace('_', ' ')}"
            was = "" if name == "table" else f", where it had {facts.get(name)}"
            raise UsageError(f"{place.id} is not what {folder} was trained on: it {told}{was}; train anew")
    return environment
