"""Model cards: what a model is, how good it is exactly, how it was made, and what the verdict does not say.

`card.json` holds the facts, `card.md` the same as a page under the front matter that model hubs read. The page is made
of the facts alone, so that a card can be read, completed and written again without the model.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deeptaxi.arguments import short_words
from deeptaxi.artifacts.card_page import markdown
from deeptaxi.artifacts.card_words import (
    describe_network,
    describe_verdict,
    evaluate_command,
    limits,
    training_command,
)
from deeptaxi.artifacts.export.formats import FORMATS
from deeptaxi.artifacts.files import CARD_FILE, CARD_JSON
from deeptaxi.config import TrainConfig, to_toml
from deeptaxi.errors import DeepTaxiError, nearest, printable
from deeptaxi.exactness import flags, processor, versions
from deeptaxi.reading import LARGEST, TOML_BYTES, read_json
from deeptaxi.records import Finished, finite, to_json
from deeptaxi.renamed import CARD, renamed_in

CARD_VERSION = 1
CARD_BYTES = 16 * TOML_BYTES  # a card takes 4 KB, and tells the arguments of an environment several times
NUMBER, NOTHING = (int, float), type(None)
EACH = "*"  # stands for every key
Kinds = Mapping[str, Any]  # what the page and the list of agents rely on: a type, several, or kinds of a mapping
KINDS: Kinds = {
    "name": str, "verdict": str, "exact": (dict, NOTHING), "preset": str, "seed": int, "weights_digest": str,
    "made": str, "configuration": dict, "signature": {EACH: str}, "outside": {EACH: str}, "limits": [str],
    "versions": {EACH: str},
    "environment": {"id": str, "kwargs": dict, "states": int, "actions": int, "time_limit": (int, NOTHING)},
    "network": {"kind": str, "description": str},
    "training": {
        "updates": int, "best_update": int, "environment_steps": int, "train_seconds": NUMBER, "stopped": str,
    },
    "machine": {"architecture": str, "processor": str},
    "commands": {"train": str, "evaluate": str},
}  # fmt: skip
FLAG_KINDS: Kinds = {"flags": {EACH: str}}  # a card of an early deeptaxi has none
OPTIONAL = ("card", "exact_unavailable", "license", "exports", *FLAG_KINDS)
EXACT_KINDS: Kinds = {
    "exact": {
        "optimal": (bool, NOTHING), "return": NUMBER, "optimal_return": NUMBER, "gap": NUMBER, "horizon": int,
        "discount": NUMBER, "value": (*NUMBER, NOTHING), "optimal_value": NUMBER, "start_states": int,
        "optimal_start_states": int,
    }
}  # fmt: skip


def card(
    folder: Path,
    environment: Mapping[str, Any],
    config: TrainConfig,
    finished: Finished,
    preset: str = "none",
    made: datetime | None = None,
    disturbed: bool = False,
) -> dict[str, Any]:
    """Return the card of a run.

    Args:
        folder: the run folder, as it is to stand in the commands.
        environment: what `Environment.describe` says.
        config: the whole configuration.
        finished: the last record of the training, which has the verdict.
        preset: what had a say in the configuration.
        made: when; None for now.
        disturbed: whether the training was resumed where it could not go on to the bit.
    """
    from deeptaxi import backend  # the list of agents has no use for it

    ended = ("updates", "best_update", "environment_steps", "train_seconds", "stopped")
    end = finished.updates if finished.stopped == "stop-after" else None
    facts = {
        "card": CARD_VERSION,
        "name": folder.resolve().name,
        "made": (made or datetime.now(UTC)).isoformat(timespec="seconds"),
        "environment": {**environment, "arguments": short_words(config.environment.kwargs)},
        "verdict": describe_verdict(finished.exact, finished.exact_unavailable),
        "exact": finished.exact,
        "exact_unavailable": finished.exact_unavailable,
        "episodes": None,
        "network": {"kind": config.network.kind, "description": describe_network(config)},
        "preset": preset,
        "seed": config.seed,
        "training": {
            **{name: getattr(finished, name) for name in ended},
            "disturbed": disturbed,
            "failure": finished.failure,
        },
        "weights_digest": finished.weights_digest,
        "versions": versions(backend.chosen()),
        "machine": {"architecture": platform.machine(), "processor": processor()},
        "flags": flags(backend.chosen()),
        "commands": {"train": training_command(folder, config, end), "evaluate": evaluate_command(folder, config)},
        "signature": signature(environment),
        "outside": {form.name: form.outside for form in FORMATS.values()},
        "configuration": to_toml(config),
    }
    # An argument of an environment may be anything that TOML can say, such as a date.
    plain = json.loads(json.dumps(finite(facts), default=str))
    return {**plain, "limits": limits(plain)}


def write_card(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `card.md` and `card.json` into a folder that is being written aside."""
    (folder / CARD_FILE).write_text(markdown(facts), encoding="utf-8")
    (folder / CARD_JSON).write_text(to_json(facts, indent=2) + "\n", encoding="utf-8")


def read_card(folder: Path) -> dict[str, Any] | None:
    """Read the `card.json` of a run folder; None where there is none, as of a run of an early deeptaxi.

    Raises:
        DeepTaxiError: it is damaged, or of a newer or an earlier deeptaxi.
    """
    path = folder / CARD_JSON
    try:
        facts = read_json(path, CARD_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DeepTaxiError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise DeepTaxiError(f"{path} is damaged: {error}") from None
    version = facts.get("card") if isinstance(facts, dict) else None
    if isinstance(version, int) and version > CARD_VERSION:
        raise DeepTaxiError(f"{path} is of a newer deeptaxi (card version {version}): upgrade deeptaxi to read it")
    if isinstance(facts, dict) and (old := renamed_in(facts, CARD)):
        raise DeepTaxiError(f"{path} is of an earlier deeptaxi: {old}; train it again")
    fault = fault_of(facts) or misspelled(facts) if isinstance(facts, dict) else "it holds no object"
    if version != CARD_VERSION or fault:
        raise DeepTaxiError(f"{path} is damaged: {fault or 'it has no version that is known'}")
    return dict(facts)


def misspelled(facts: Mapping[str, Any]) -> str | None:
    """Return which key is nearly one of ours; None where there is none. Other keys may be a newer deeptaxi's."""
    known = (*KINDS, *OPTIONAL)
    found = ((key, nearest(key, known)) for key in facts if key not in known)
    return next((f"unknown key '{printable(key)}'{near}" for key, near in found if near), None)


def fault_of(facts: Mapping[str, Any], kinds: Kinds | None = None, where: str = "") -> str | None:
    """Return what a card lacks of what its readers rely on, or None."""
    if kinds is None:
        kinds = KINDS if facts.get("exact") is None else {**KINDS, **EXACT_KINDS}
        kinds = {**kinds, **FLAG_KINDS} if "flags" in facts else kinds
    if EACH in kinds:
        kinds = dict.fromkeys(facts, kinds[EACH])
    for key, kind in kinds.items():
        value, name = facts.get(key), f"{where}{key}"
        if key not in facts or not is_of(value, kind):
            return f"'{name}' is missing or of the wrong kind"
        fault = fault_of(value, kind, f"{name}.") if isinstance(kind, Mapping) else None
        if fault:
            return fault
    return None


def is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind. A text holds nothing that a terminal obeys."""
    if kind is str:
        return isinstance(value, str) and printable(value) == value
    if isinstance(kind, list):
        return isinstance(value, list) and all(is_of(item, kind[0]) for item in value)
    if isinstance(value, bool):
        return bool in (kind if isinstance(kind, tuple) else (kind,))
    if isinstance(value, int) and abs(value) > LARGEST:
        return False
    return isinstance(value, dict if isinstance(kind, Mapping) else kind)


def signature(environment: Mapping[str, Any]) -> dict[str, str]:
    """Return what every served form of the model takes and gives."""
    actions = environment["actions"]
    return {"state": "int32 [B]", "q_values": f"float32 [B, {actions}]", "action": "int32 [B]"}
