"""Model cards: what a model is, its exact verdict, how it was trained, and its limitations.

`card.json` holds the facts; `card.md` is the same as a page, with the front matter that model hubs read. The page is
made from the facts alone, so that a card can be read, completed and rewritten without the model.
"""

from __future__ import annotations

import json
import platform
import re
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomli_w

from deeptaxi.arguments import short_words, title
from deeptaxi.backend.exactness import chosen_backend, flags, processor, versions
from deeptaxi.config import TrainConfig, to_toml
from deeptaxi.errors import DeepTaxiError, nearest, printable
from deeptaxi.io.safe_load import LARGEST, TOML_BYTES, read_json
from deeptaxi.metrics import Finished, decimals, finite, to_json
from deeptaxi.renamed import CARD, renamed_in
from deeptaxi.storage.formats import FORMATS
from deeptaxi.storage.run_folder import CARD_FILE, CARD_JSON, CONFIG_FILE


def training_command(folder: Path, config: TrainConfig, stop_after: int | None = None) -> str:
    """Return the command that trains the configuration of a run folder, to its end or to `stop_after`."""
    end = f" --stop-after {stop_after}" if stop_after else ""
    return f"deeptaxi train --config {shlex.quote(str(folder / CONFIG_FILE))}{trusting(config)}{end}"


def resuming_command(folder: Path, config: TrainConfig) -> str:
    """Return the command that resumes a run."""
    return f"deeptaxi train --resume {shlex.quote(str(folder))}{trusting(config)}"


def evaluate_command(folder: Path, config: TrainConfig) -> str:
    """Return the command that evaluates a run."""
    return f"deeptaxi evaluate {shlex.quote(str(folder))}{trusting(config)}"


def trusting(config: TrainConfig) -> str:
    """Return the ``--trust-env`` option if the environment is in a module, else an empty string."""
    return " --trust-env" if ":" in config.environment.id else ""


def describe_network(config: TrainConfig) -> str:
    """Describe the network in a few words, such as ``dueling, hidden 128, joint encoding``."""
    hidden = ", hidden " + " × ".join(map(str, config.network.hidden)) if config.network.hidden else ""
    return f"{config.network.kind}{hidden}, {config.network.encoding} encoding"


def describe_environment(environment: Mapping[str, Any]) -> str:
    """Describe an environment with its arguments in ``--env-arg`` syntax: ``Taxi-v4 is_rainy=true``."""
    known = environment.get("arguments")  # JSON has no tuples; cards of early versions have no such text
    return f"{environment['id']} {known}".strip() if isinstance(known, str) else title(environment)


def describe_versions(versions: Mapping[str, str]) -> str:
    """Format versions in one line."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def describe_verdict(exact: Mapping[str, Any] | None, unavailable: str | None) -> str:
    """Describe the exact verdict in one sentence."""
    if exact is None:
        return f"no exact verdict: {unavailable}"
    words = {True: "optimal", False: "not optimal", None: f"not known to be optimal ({reason(exact)})"}
    equal = f" (but {exact['all_policies_equal']})" if exact.get("all_policies_equal") else ""
    resets = exact.get("starts_estimated_from_resets")
    seen = f" that came in {resets:,} resets" if resets else ""
    starts = f"{exact['optimal_start_states']} of {exact['start_states']} start states{seen}"
    return (
        f"{words[exact['optimal']]}{equal}: {starts}; "
        f"return {decimals(exact['return'])} of {decimals(exact['optimal_return'])}, "
        f"value {figure(exact['value'])} of {decimals(exact['optimal_value'])} at discount {exact['discount']}"
    )


def figure(value: float | None) -> str:
    """Format a value; at a discount of 1, it is −∞ for a policy that loses forever, which is null in JSON."""
    return "−∞" if value is None or value == float("-inf") else decimals(value)


def reason(exact: Mapping[str, Any]) -> str:
    """Return why it is unknown whether a policy is optimal; an empty string if it is known."""
    why = exact.get("optimal_unknown")
    return str(why["reason"]) if why else ""


def describe_episodes(episodes: Mapping[str, Any]) -> str:
    """Describe the sampled verdict in one sentence."""
    low, high = episodes["ci95"]
    if low == high:
        return f"each of {episodes['count']:,} episodes returned {episodes['mean_return']:.4f}"
    return (
        f"{episodes['count']:,} episodes returned {episodes['mean_return']:.4f} on average "
        f"(95 % interval {low:.4f} to {high:.4f})"
    )


def limits(facts: Mapping[str, Any]) -> list[str]:
    """List the limitations of the verdict, one sentence each."""
    place, exact = facts["environment"], facts["exact"]
    where = f"`{describe_environment(place)}`"
    last = place["states"] - 1
    said = [f"It is made for the state numbers 0 … {last} of {where}, and means nothing for others."]
    if exact is None and facts.get("episodes"):
        said.append("How good it is was sampled, not computed: `deeptaxi evaluate` plays more episodes with it.")
    elif exact is None:
        said.append("Nothing here says how good it is: `deeptaxi evaluate` plays episodes with it.")
    else:
        said.append(
            f"The verdict holds for {where} with {exact['horizon']:,} steps at most and discount {exact['discount']}: "
            "other arguments, another time limit or another discount ask for another verdict."
        )
        said.append("It is about the start states. States that no start leads to may be played badly.")
    if exact and exact["optimal"] and exact["gap"] > 0:
        said.append(
            f"The best mean return is {decimals(exact['gap'])} higher: it takes a policy that watches the clock, or "
            "one for another discount."
        )
    if exact and exact.get("starts_estimated_from_resets"):
        spread = exact.get("return_uncertainty")
        off = f", so the mean returns are known to ± {spread:.2g} (95 %)" if spread else ""
        said.append(
            f"The start states were estimated from {exact['starts_estimated_from_resets']:,} resets{off}. "
            "A start that never came in them may be played badly."
        )
    if facts["training"].get("failure"):
        said.append(f"The training failed: {' '.join(facts['training']['failure'].split())}.")
    elif facts["training"]["stopped"] == "interrupted":
        said.append("The training was interrupted; the command trains to its end.")
    if facts["training"].get("disturbed"):
        said.append(
            "The training was resumed where it could not continue bit for bit, or had come to its end: "
            "the command may lead to other weights."
        )
    flags = " and flags" if facts.get("flags") else ""
    said.append(
        f"The same digest comes of the same command on the same machine with the same versions{flags}; elsewhere the "
        "last bits may differ, and the same verdict is all to expect."
    )
    return said


TASK = "reinforcement-learning"
WORD = re.compile(r"[A-Za-z][\w./-]*\Z", re.ASCII)
READ_AS_SOMETHING_ELSE = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}


def front_matter(card: Mapping[str, Any]) -> str:
    """Return the front matter of a card, including both ``---`` lines.

    Without an exact verdict, ``model-index`` is omitted, because there is no result to report.
    """
    known = {"license": card["license"]} if card.get("license") else {}
    results = {"model-index": [index_entry(card)]} if card["exact"] else {}
    head = {**known, "library_name": "keras", "pipeline_tag": TASK, "tags": tags(card), **results}
    return f"---\n{yaml(head)}---\n"


def tags(card: Mapping[str, Any]) -> list[str]:
    """Return the search tags of a card."""
    place = card["environment"]["id"]
    return [TASK, "deeptaxi", "q-learning", card["network"]["kind"], *([] if place.endswith(".npz") else [place])]


def index_entry(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``model-index`` entry: the exact figures and the environment they hold for.

    The hub sets ``verified`` only for results that it computed itself.
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
    """Format nested mappings, lists and scalars as a YAML block; scalars and empty ones stay on the line."""
    space = " " * indent
    if isinstance(value, Mapping) and value:
        return "".join(f"{space}{scalar(key)}:{below(item, indent)}" for key, item in value.items())
    if isinstance(value, list) and value:
        return "".join(f"{space}- {yaml(item, indent + 2).removeprefix(space + '  ')}" for item in value)
    return f"{space}{scalar(value)}\n"


def below(value: Any, indent: int) -> str:
    """Format the value after a key's colon, on the same line or as a block."""
    if isinstance(value, Mapping | list) and value:
        return "\n" + yaml(value, indent if isinstance(value, list) else indent + 2)
    return f" {scalar(value)}\n"


def scalar(value: Any) -> str:
    """Format a scalar as JSON, which is YAML except for numbers such as 1e-07, which YAML 1.1 reads as text."""
    if isinstance(value, str) and WORD.match(value) and value.lower() not in READ_AS_SOMETHING_ELSE:
        return value
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if isinstance(value, float) and "e" in text:
        return text if "." in text else text.replace("e", ".0e")
    return text


def markdown(facts: Mapping[str, Any]) -> str:
    """Render a card as a page: front matter, then text."""
    place, training, machine = facts["environment"], facts["training"], facts["machine"]
    limit = f"time limit {place['time_limit']}" if place["time_limit"] else "no time limit"
    sizes = f"{place['states']:,} states, {place['actions']} actions, {limit}"
    rows = {
        "Environment": f"`{describe_environment(place)}`: {sizes}",
        "Verdict": facts["verdict"],
        **({"Sampled": describe_episodes(facts["episodes"])} if facts.get("episodes") else {}),
        "Network": facts["network"]["description"],
        "Preset": facts["preset"],
        "Training": f"{training['updates']:,} updates, {training['environment_steps']:,} environment steps, "
        f"{training['train_seconds']:.1f} s; stopped: {training['stopped']}; "
        f"weights of update {training['best_update']:,}",
        "Seed": str(facts["seed"]),
        "Weights digest": f"`{facts['weights_digest']}`",
        "Versions": describe_versions(facts["versions"]),
        "Machine": ", ".join(filter(None, [machine["architecture"], machine["processor"]])),
        **({"Flags": describe_versions(facts["flags"])} if facts.get("flags") else {}),
        "Made": facts["made"],
    }
    table = "\n".join(f"| {name} | {cell(value)} |" for name, value in rows.items())
    return f"""{front_matter(facts)}
# {cell(facts["name"])}

A Q-network on `{place["id"]}`, trained with deeptaxi.

| | |
|---|---|
{table}

To train it again, to the same digest on the same machine and versions:

{block(facts["commands"]["train"])}

To evaluate it:

{block(facts["commands"]["evaluate"])}
{exports(facts) if facts.get("exports") else usage(facts)}
## Limits

{"".join(f"- {cell(sentence)}{chr(10)}" for sentence in facts["limits"])}
## Configuration

```toml
{tomli_w.dumps(without_none(facts["configuration"])).rstrip()}
```
"""


def cell(text: str) -> str:
    """Escape a text for a Markdown table cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def block(text: str) -> str:
    """Format a text as a Markdown code block."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def usage(facts: Mapping[str, Any]) -> str:
    """Return the section on how to use the model."""
    takes, *gives = (f"`{name}` {shape}" for name, shape in facts["signature"].items())
    rows = "\n".join(f"| `{form}` | {answer} |" for form, answer in facts["outside"].items())
    return f"""
## Use
{numbering(facts["environment"])}
```python
import deeptaxi.network.layers, keras

q_values = keras.saving.load_model("model.keras")(states)  # integers [B] in, [B, {facts["environment"]["actions"]}] out
```

`deeptaxi export` writes it for others, who need no deeptaxi: {takes} in, {" and ".join(gives)} out.
A state outside 0 … {facts["environment"]["states"] - 1} gives, in each format:

| format | a state outside |
|---|---|
{rows}

In `npz` that is so of −1 and the first number that is no state; NumPy counts other negative numbers from the end, so
keep them out.
"""


def numbering(environment: Mapping[str, Any]) -> str:
    """Return how observations of several parts become states, and actions of several parts come of their numbers."""
    told = [
        f"{opening} the row-major index of the numbers of {'its' if name == 'observation' else 'their'} parts; "
        f"{'; '.join(map(part_rule, parts))}.\n"
        for name, opening in (("observation", "The state of an observation is"), ("action", "Numbers of actions are"))
        if (parts := (environment.get(name) or {}).get("parts"))
    ]
    return "\n" + "\n".join(cell(text) + "\n" for text in told) if told else ""


def part_rule(part: Mapping[str, Any]) -> str:
    """Say how one part becomes a number."""
    name, size, first = f"`{part['part']}`", part.get("size") or 0, part.get("first") or 0
    bounds = f"from {part.get('low') or 0:g} to {part.get('high') or 0:g}"
    if part.get("one_hot"):
        return f"{name} is the place of the 1 among {size}"
    if part.get("bins"):
        return f"{name} is in one of {part['bins']} bins of equal width {bounds}, else in the nearest"
    if part.get("levels"):
        return f"{name} is one of {part['levels']} values, evenly {bounds}"
    return f"{name} counts from {first:g} to {first + size - 1:g}"


def exports(facts: Mapping[str, Any]) -> str:
    """Return the section on how to use the exports in a folder."""
    takes, *gives = (f"`{name}` {shape}" for name, shape in facts["signature"].items())
    rows = "\n".join(
        f"| `{one['file']}` | {one['format']} | {one['max_difference']:g} | {one['outside']} |"
        for one in facts["exports"]
    )
    return f"""
## Exports
{numbering(facts["environment"])}
The same agent in forms that need no deeptaxi (but for `model.keras`, which needs its layers): {takes} in,
{" and ".join(gives)} out, the greedy action of each state. `q_values` is −∞ for actions that may not be taken.
Each was read back by itself and compared with the trained network on all states.

| file | format | max difference | a state outside 0 … {facts["environment"]["states"] - 1} |
|---|---|---|---|
{rows}
"""


def without_none(value: Any) -> Any:
    """Remove None from nested mappings and lists, because TOML has no null."""
    if isinstance(value, Mapping):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value if item is not None] if isinstance(value, list) else value


CARD_VERSION = 1
CARD_BYTES = 16 * TOML_BYTES  # a card takes 4 KB, and repeats the arguments of an environment several times
NUMBER, NOTHING = (int, float), type(None)
ANY_TEXT = (str,)  # any text; `str` means one line that is safe to print on a terminal
EACH, OPTIONAL = "*", "?"  # matches every key; marks a key that may be missing or null
Kinds = Mapping[str, Any]  # types that the page and the agent list rely on: one, several, or those of a mapping
PARTS: Kinds = {
    "space": str,
    "parts?": [
        {"part": str, "first?": NUMBER, "size?": int, "bins?": int, "levels?": int, "low?": NUMBER, "high?": NUMBER,
         "one_hot?": bool},
    ],
}  # fmt: skip
KINDS: Kinds = {
    "name": str, "verdict": str, "exact": (dict, NOTHING), "preset": str, "seed": int, "weights_digest": str,
    "made": str, "configuration": dict, "signature": {EACH: str}, "outside": {EACH: str}, "limits": [str],
    "versions": {EACH: str},
    "environment": {"id": str, "kwargs": dict, "states": int, "actions": int, "time_limit": (int, NOTHING),
                    "observation?": PARTS, "action?": PARTS},
    "network": {"kind": str, "description": str},
    "training": {
        "updates": int, "best_update": int, "environment_steps": int, "train_seconds": NUMBER, "stopped": str,
        "failure?": ANY_TEXT,
    },
    "machine": {"architecture": str, "processor": str},
    "commands": {"train": str, "evaluate": str},
    "card?": int, "flags?": {EACH: str}, "license?": str, "exact_unavailable?": ANY_TEXT,
    "episodes?": {"count": int, "mean_return": NUMBER, "ci95": [NUMBER, NUMBER]},
    "exports?": [{"file": str, "format": str, "max_difference": NUMBER, "outside": str}],
}  # fmt: skip
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
    """Build the card of a run.

    Args:
        folder: the run folder, as written in the commands.
        environment: result of `Environment.describe`.
        config: the complete configuration.
        finished: final training record, which has the verdict.
        preset: name of the preset used.
        made: time of creation; None for now.
        disturbed: whether the run was resumed in a way that is not bit-for-bit exact.
    """
    backend = chosen_backend()
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
        "versions": versions(backend),
        "machine": {"architecture": platform.machine(), "processor": processor()},
        "flags": flags(backend),
        "commands": {"train": training_command(folder, config, end), "evaluate": evaluate_command(folder, config)},
        "signature": signature(environment),
        "outside": {form.name: form.outside for form in FORMATS.values()},
        "configuration": to_toml(config),
    }
    # An argument of an environment may be any TOML value, such as a date.
    plain = json.loads(json.dumps(finite(facts), default=str))
    return {**plain, "limits": limits(plain)}


def write_card(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `card.md` and `card.json` into a temporary folder."""
    (folder / CARD_FILE).write_text(markdown(facts), encoding="utf-8")
    (folder / CARD_JSON).write_text(to_json(facts, indent=2) + "\n", encoding="utf-8")


def read_card(folder: Path) -> dict[str, Any] | None:
    """Read the `card.json` of a run folder; None if there is none, as in runs of early versions.

    Raises:
        DeepTaxiError: it is damaged, or was written by a newer or an incompatible earlier deeptaxi.
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
    fault = fault_of(facts) or misspelled_key(facts) if isinstance(facts, dict) else "it holds no object"
    if version != CARD_VERSION or fault:
        raise DeepTaxiError(f"{path} is damaged: {fault or 'it has no version that is known'}")
    return dict(facts)


def misspelled_key(facts: Mapping[str, Any]) -> str | None:
    """Report a key that resembles a known one, or None. Other unknown keys may be a newer deeptaxi's."""
    known = [key.removesuffix(OPTIONAL) for key in KINDS]
    found = ((key, nearest(key, known)) for key in facts if key not in known)
    return next((f"unknown key '{printable(key)}'{near}" for key, near in found if near), None)


def fault_of(facts: Mapping[str, Any], kinds: Kinds | None = None, where: str = "") -> str | None:
    """Return the first key that is missing or has the wrong type, as a message; None if there is none."""
    if kinds is None:
        kinds = KINDS if facts.get("exact") is None else {**KINDS, **EXACT_KINDS}
    if EACH in kinds:
        kinds = dict.fromkeys(facts, kinds[EACH])
    for known, kind in kinds.items():
        key = known.removesuffix(OPTIONAL)
        value, name = facts.get(key), f"{where}{key}"
        if value is None and key != known:
            continue
        if key not in facts or not is_of(value, kind):
            return f"'{name}' is missing or of the wrong kind"
        fault = fault_of(facts[key], kind, f"{name}.") if isinstance(kind, Mapping) else None
        if fault:
            return fault
    return None


def is_of(value: Any, kind: Any) -> bool:
    """Return whether a value has a type. A list of one type has any length; `str` has no control characters."""
    if kind is str:
        return isinstance(value, str) and printable(value) == value
    if isinstance(kind, list):
        if not isinstance(value, list) or len(kind) not in (1, len(value)):
            return False
        items = zip(value, kind * len(value) if len(kind) == 1 else kind, strict=True)
        return all(is_of(item, of) and (not isinstance(of, dict) or fault_of(item, of) is None) for item, of in items)
    if isinstance(value, bool):
        return bool in (kind if isinstance(kind, tuple) else (kind,))
    if isinstance(value, int | float) and not abs(value) <= LARGEST:  # nor is it NaN
        return False
    if isinstance(value, int) and value < 0 and kind in (int, (int, NOTHING)):  # counts, sizes and the seed
        return False
    return isinstance(value, dict if isinstance(kind, Mapping) else kind)


def signature(environment: Mapping[str, Any]) -> dict[str, str]:
    """Return the inputs and outputs that all exports of the model share."""
    actions = environment["actions"]
    return {"state": "int32 [B]", "q_values": f"float32 [B, {actions}]", "action": "int32 [B]"}
