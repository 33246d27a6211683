"""The YAML at the head of a model card, in the form that model hubs read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from deeptaxi.artifacts.card_words import describe_environment

TASK = "reinforcement-learning"
WORD = re.compile(r"[A-Za-z][\w./-]*\Z", re.ASCII)
READ_AS_SOMETHING_ELSE = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}


def front_matter(card: Mapping[str, Any]) -> str:
    """Return the front matter of a card, from one ``---`` to the other.

    Without an exact verdict there is no ``model-index``: it would claim a result that nobody has.
    """
    known = {"license": card["license"]} if card.get("license") else {}
    results = {"model-index": [index_entry(card)]} if card["exact"] else {}
    head = {**known, "library_name": "keras", "pipeline_tag": TASK, "tags": tags(card), **results}
    return f"---\n{yaml(head)}---\n"


def tags(card: Mapping[str, Any]) -> list[str]:
    """Return what a card is found by."""
    place = card["environment"]["id"]
    return [TASK, "deeptaxi", "q-learning", card["network"]["kind"], *([] if place.endswith(".npz") else [place])]


def index_entry(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of ``model-index``: the exact figures, on the environment that they hold for.

    ``verified`` is the hub's own word, for results that it has computed itself.
    """
    place, exact = card["environment"], card["exact"]
    metrics = {
        "mean_reward": (exact["return"], f"exact mean return of {exact['horizon']} steps"),
        "optimal_return": (exact["optimal_return"], "the best mean return there is"),
        "optimal_start_states": (exact["optimal_start_states"], f"of {exact['start_states']} start states"),
    }
    return {
        "name": card["name"],
        "results": [
            {
                "task": {"type": TASK, "name": TASK},
                "dataset": {"name": describe_environment(place), "type": place["id"]},
                "metrics": [
                    {"type": kind, "value": value, "name": words, "verified": False}
                    for kind, (value, words) in metrics.items()
                ],
            }
        ],
    }


def yaml(value: Any, indent: int = 0) -> str:
    """Return nested mappings, lists and scalars as a YAML block; empty ones and scalars end the line they stand in."""
    space = " " * indent
    if isinstance(value, Mapping) and value:
        return "".join(f"{space}{scalar(key)}:{below(item, indent)}" for key, item in value.items())
    if isinstance(value, list) and value:
        return "".join(f"{space}- {yaml(item, indent + 2).removeprefix(space + '  ')}" for item in value)
    return f"{space}{scalar(value)}\n"


def below(value: Any, indent: int) -> str:
    """Return what follows the colon of a key: in the same line, or as a block of its own."""
    if isinstance(value, Mapping | list) and value:
        return "\n" + yaml(value, indent if isinstance(value, list) else indent + 2)
    return f" {scalar(value)}\n"


def scalar(value: Any) -> str:
    """Return one value. JSON is YAML, but for numbers such as 1e-07, which YAML 1.1 takes for text."""
    if isinstance(value, str) and WORD.match(value) and value.lower() not in READ_AS_SOMETHING_ELSE:
        return value
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if isinstance(value, float) and "e" in text:
        return text if "." in text else text.replace("e", ".0e")
    return text
