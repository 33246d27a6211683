"""A model card as a page: the front matter that model hubs read, then the text. It is made of the card alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomli_w

from deeptaxi.artifacts.card_words import describe_environment, describe_episodes, describe_versions
from deeptaxi.artifacts.front_matter import front_matter


def markdown(facts: Mapping[str, Any]) -> str:
    """Return a card as a page: front matter, then the text."""
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
    """Return a text as it can stand in a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def block(text: str) -> str:
    """Return a text as a block of code."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def usage(facts: Mapping[str, Any]) -> str:
    """Return the part of the page that says how to use the model."""
    takes, *gives = (f"`{name}` {shape}" for name, shape in facts["signature"].items())
    rows = "\n".join(f"| `{form}` | {answer} |" for form, answer in facts["outside"].items())
    return f"""
## Use

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


def exports(facts: Mapping[str, Any]) -> str:
    """Return the part of the page of a folder of exports that says how to use each."""
    takes, *gives = (f"`{name}` {shape}" for name, shape in facts["signature"].items())
    rows = "\n".join(
        f"| `{one['file']}` | {one['format']} | {one['max_difference']:g} | {one['outside']} |"
        for one in facts["exports"]
    )
    return f"""
## Exports

The same agent in forms that need no deeptaxi (but for `model.keras`, which needs its layers): {takes} in,
{" and ".join(gives)} out, the greedy action of each state. `q_values` is −∞ for actions that may not be taken.
Each was read back by itself and compared with the trained network on all states.

| file | format | max difference | a state outside 0 … {facts["environment"]["states"] - 1} |
|---|---|---|---|
{rows}
"""


def without_none(value: Any) -> Any:
    """Return nested mappings and lists without what is not set, for which TOML has no word."""
    if isinstance(value, Mapping):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value if item is not None] if isinstance(value, list) else value
