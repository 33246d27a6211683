"""What a run is called in words: its environment, network and verdict, the commands that make it, the limits of it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeptaxi.arguments import title
from deeptaxi.artifacts.files import CONFIG_FILE
from deeptaxi.config import TrainConfig
from deeptaxi.records import decimals


def training_command(folder: Path, config: TrainConfig, stop_after: int | None = None) -> str:
    """Return the command that trains what a run folder configures, to its end or to an update."""
    end = f" --stop-after {stop_after}" if stop_after else ""
    return f"deeptaxi train --config {shlex.quote(str(folder / CONFIG_FILE))}{trusting(config)}{end}"


def resuming_command(folder: Path, config: TrainConfig) -> str:
    """Return the command that goes on with a training."""
    return f"deeptaxi train --resume {shlex.quote(str(folder))}{trusting(config)}"


def evaluate_command(folder: Path, config: TrainConfig) -> str:
    """Return the command that evaluates a run."""
    return f"deeptaxi evaluate {shlex.quote(str(folder))}{trusting(config)}"


def trusting(config: TrainConfig) -> str:
    """Return the option without which files may not name an environment module."""
    return " --trust-env" if ":" in config.environment.id else ""


def describe_network(config: TrainConfig) -> str:
    """Return the network in a few words, such as ``dueling, hidden 128, joint encoding``."""
    hidden = ", hidden " + " × ".join(map(str, config.network.hidden)) if config.network.hidden else ""
    return f"{config.network.kind}{hidden}, {config.network.encoding} encoding"


def describe_environment(environment: Mapping[str, Any]) -> str:
    """Return an environment with its arguments, as ``--env-arg`` takes them: ``Taxi-v4 is_rainy=true``."""
    known = environment.get("arguments")  # JSON has no tuples; a card of an early deeptaxi has nothing else
    return f"{environment['id']} {known}".strip() if isinstance(known, str) else title(environment)


def describe_versions(versions: Mapping[str, str]) -> str:
    """Return versions in a line."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def describe_verdict(exact: Mapping[str, Any] | None, unavailable: str | None) -> str:
    """Return the exact verdict in one sentence."""
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
    """Return a value; at a discount of 1, that of a policy which loses without end is −∞, and null in JSON."""
    return "−∞" if value is None or value == float("-inf") else decimals(value)


def reason(exact: Mapping[str, Any]) -> str:
    """Return why it cannot be told whether a policy is optimal; nothing where it can."""
    why = exact.get("optimal_unknown")
    return str(why["reason"]) if why else ""


def describe_episodes(episodes: Mapping[str, Any]) -> str:
    """Return the sampled verdict in one sentence."""
    low, high = episodes["ci95"]
    if low == high:
        return f"each of {episodes['count']:,} episodes returned {episodes['mean_return']:.4f}"
    return (
        f"{episodes['count']:,} episodes returned {episodes['mean_return']:.4f} on average "
        f"(95 % interval {low:.4f} to {high:.4f})"
    )


def limits(facts: Mapping[str, Any]) -> list[str]:
    """Return what the verdict does not say, a sentence each."""
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
            "The training was resumed where it could not go on to the bit, or had come to its end: "
            "the command may lead to other weights."
        )
    flags = " and flags" if facts.get("flags") else ""
    said.append(
        f"The same digest comes of the same command on the same machine with the same versions{flags}; elsewhere the "
        "last bits may differ, and the same verdict is all to expect."
    )
    return said
