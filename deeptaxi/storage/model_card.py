"""Model cards: what a model is, its exact verdict, how it was trained, and its limitations.

`card.json` holds the facts; `card.md` is the same as a page, with the front matter that model hubs read. The page is
made from the facts alone, so that a card can be read, completed and rewritten without the model.
"""

from __future__ import annotations

import json
import math
import platform
import re
import shlex
import textwrap
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from deeptaxi.arguments import short_words, title
from deeptaxi.backend.exactness import chosen_backend, flags, versions
from deeptaxi.config import OBJECT, EnvironmentConfig, NetworkConfig, TrainConfig, to_toml
from deeptaxi.errors import DeepTaxiError, nearest, printable
from deeptaxi.io.safe_load import OPTIONAL, TOML_BYTES, Line, Seed, fault_of, read_json
from deeptaxi.machine import processor
from deeptaxi.mdp.files import is_table_file
from deeptaxi.metrics import Finished, decimals, describe_estimate, finite, to_json
from deeptaxi.renamed import CARD, renamed_in
from deeptaxi.storage.formats import FORMATS
from deeptaxi.storage.run_folder import CARD_FILE, CARD_JSON, CONFIG_FILE

if TYPE_CHECKING:
    import jinja2


def training_command(folder: Path, config: TrainConfig, stop_after: int | None = None) -> str:
    """Return the command that trains the configuration of a run folder, to its end or to `stop_after`.

    For an environment or network that was an object in memory, this and the others are lines of Python: no command can
    name it.
    """
    if in_memory(config):
        end = f", stop_after={stop_after}" if stop_after else ""
        return f"deeptaxi.train({objects(config)}config={str(folder / CONFIG_FILE)!r}{end})"
    end = f" --stop-after {stop_after}" if stop_after else ""
    return f"deeptaxi train --config {shlex.quote(str(folder / CONFIG_FILE))}{trusting(config)}{end}"


def resuming_command(folder: Path, config: TrainConfig) -> str:
    """Return the command that resumes a run."""
    if in_memory(config):
        return f"deeptaxi.train({objects(config)}resume={str(folder)!r})"
    return f"deeptaxi train --resume {shlex.quote(str(folder))}{trusting(config)}"


def evaluate_command(folder: Path, config: TrainConfig) -> str:
    """Return the command that evaluates a run."""
    if in_memory(config):
        return f"deeptaxi.evaluate({str(folder)!r}{', env' if config.environment.in_memory else ''})"
    return f"deeptaxi evaluate {shlex.quote(str(folder))}{trusting(config)}"


def report_command(folder: Path, config: TrainConfig) -> str:
    """Return the command that writes the page about a run, on which episodes can be played."""
    return f"deeptaxi report {shlex.quote(str(folder))}{trusting(config)}"


def in_memory(config: TrainConfig) -> bool:
    """Return whether the environment or the network was an object in memory."""
    return config.environment.in_memory or config.network.in_memory


def objects(config: TrainConfig) -> str:
    """Return the arguments of Python that stand for the objects in memory, each with a comma."""
    env = "env, " if config.environment.in_memory else ""
    return f"{env}network=network, " if config.network.in_memory else env


def trusting(config: TrainConfig) -> str:
    """Return the ``--trust-env`` option if the environment or network is in a module, else an empty string."""
    return " --trust-env" if ":" in config.environment.id or ":" in (config.network.builder or "") else ""


def describe_origin(config: EnvironmentConfig) -> dict[str, str]:
    """Return where an environment came from that is not everybody's, for its facts; empty for an id or a table."""
    if config.in_memory:
        return {"origin": "an object in memory: the run opens only in Python, with env=…"}
    module = config.id.rpartition(":")[0]
    return {"origin": f"code, of {'the file' if module.endswith('.py') else 'the module'} {module}"} if module else {}


def describe_network(config: TrainConfig) -> str:
    """Describe the network in a few words, such as ``dueling, hidden 128, joint encoding``."""
    network = config.network
    if network.in_memory:
        return f"own, an object in memory: {str(network.builder).removeprefix(OBJECT)}"
    if network.builder is not None:
        return f"own, of {network.builder} {short_words(network.kwargs or {})}".strip()
    hidden = ", hidden " + " × ".join(map(str, config.network.hidden)) if config.network.hidden else ""
    return f"{config.network.kind}{hidden}, {config.network.encoding} encoding"


def module_of(network: NetworkConfig) -> str | None:
    """Return the module that a network of the user's own is built by, as it is imported; None of any other."""
    if network.builder is None or network.in_memory:
        return None
    module = network.builder.rpartition(":")[0]
    return Path(module).stem if module.endswith(".py") else module


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
    seen = f" seen in {resets:,} resets" if resets else ""
    starts = f"{exact['optimal_start_states']} of {exact['start_states']} start states{seen}"
    known = exact.get("estimated")
    estimated = f"; {describe_interval(known)}" if known else ""
    return (
        f"{words[exact['optimal']]}{equal}: {starts}; "
        f"return {decimals(exact['return'])} of {decimals(exact['optimal_return'])}, "
        f"value {figure(exact['value'])} of {decimals(exact['optimal_value'])} at discount {exact['discount']}"
        f"{estimated}"
    )


def describe_interval(estimated: Mapping[str, Any]) -> str:
    """Say what a verdict is estimated from, and the interval of its value, if there is one."""
    text, found = describe_estimate(estimated), estimated.get("value_interval")
    return f"{text}, value from {decimals(found[0])} to {decimals(found[1])} (95 %)" if found else text


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
    others = f"; {describe_shared_state(episodes)}" if episodes.get("steps_in_shared_state") else ""
    if low == high:
        return f"each of {episodes['count']:,} episodes returned {episodes['mean_return']:.4f}{others}"
    return (
        f"{episodes['count']:,} episodes returned {episodes['mean_return']:.4f} on average "
        f"(95 % interval {low:.4f} to {high:.4f}){others}"
    )


def describe_shared_state(episodes: Mapping[str, Any]) -> str:
    """Say in how many steps the policy had no number for the observation."""
    return (
        f"in {episodes['steps_in_shared_state']:,} of {episodes['steps']:,} steps the observation has no number of its "
        "own, and the policy takes the action of all such observations"
    )


def limits_of_numbering(environment: Mapping[str, Any]) -> list[str]:
    """Say which observations have a state, if they are numbered as they are first seen."""
    numbered, last = (environment.get("observation") or {}).get("numbering"), environment["states"] - 1
    if not numbered:
        return []
    seen, combinations = f"{numbered['seen']:,} observations", f"{numbered['combinations']} combinations"
    if numbered["complete"]:
        return [
            f"Its states are the {seen} of its discovered table, of {combinations}: it has no action for any other."
        ]
    return [
        f"Its states are numbered as training saw them: {seen} of {combinations}, of at most {last:,}. All others "
        f"share state {last} and one action, which means nothing unless they came in training too."
    ]


def limits(facts: Mapping[str, Any]) -> list[str]:
    """List the limitations of a model and its verdict, one sentence each."""
    place = facts["environment"]
    where = f"`{describe_environment(place)}`"
    sentences = [
        f"It is made for the state numbers 0 … {place['states'] - 1} of {where}, and means nothing for others."
    ]
    if str(place["id"]).startswith(OBJECT):
        sentences.append(
            "Its environment was an object in memory, which is not kept here: `env` in the commands stands for it."
        )
    builder = (facts["configuration"].get("network") or {}).get("builder")
    if str(builder).startswith(OBJECT):
        sentences.append(
            "Its network was built in memory: only with the same model or function, as `network` in the command, it is "
            "trained again or resumed. Classes of its own must be registered before the file opens."
        )
    elif builder is not None:
        sentences.append(
            f"Its network comes of code, `{builder}`, which is not kept here; where its layers are classes of its own, "
            "the file opens only after they were imported."
        )
    sentences += limits_of_numbering(place)
    if facts["exact"] is not None:
        sentences += limits_of_verdict(facts["exact"], where)
    elif facts.get("episodes"):
        sentences.append("How good it is was sampled, not computed: `deeptaxi evaluate` plays more episodes with it.")
    else:
        sentences.append("Nothing here says how good it is: `deeptaxi evaluate` plays episodes with it.")
    return sentences + limits_of_training(facts)


def limits_of_verdict(exact: Mapping[str, Any], where: str) -> list[str]:
    """Say what an exact verdict on the environment described as `where` does not cover."""
    sentences = [
        f"The verdict holds for {where} with {exact['horizon']:,} steps at most and discount {exact['discount']}: "
        "other arguments, another time limit or another discount ask for another verdict.",
        "It is about the start states. States that no start leads to may be played badly.",
    ]
    if exact["optimal"] and exact["gap"] > 0:
        sentences.append(
            f"The best mean return is {decimals(exact['gap'])} higher: it takes a policy that watches the clock, or "
            "one for another discount."
        )
    if exact.get("starts_estimated_from_resets"):
        spread = exact.get("return_uncertainty")
        off = f", so the mean returns are known to ± {spread:.2g} (95 %)" if spread else ""
        sentences.append(
            f"The start states were estimated from {exact['starts_estimated_from_resets']:,} resets{off}. "
            "A start state that never occurred in them may be played badly."
        )
    if exact.get("estimated"):
        sentences.append(
            f"The problem itself was {describe_estimate(exact['estimated'])}: the verdict is exact for that estimate. "
            "What was never tried is unknown, and a policy that was chosen by a log looks better on it than it is."
        )
    return sentences


def limits_of_training(facts: Mapping[str, Any]) -> list[str]:
    """Say what became of a training, and how far it can be repeated."""
    training, sentences = facts["training"], []
    if training.get("failure"):
        sentences.append(f"The training failed: {' '.join(training['failure'].split())}.")
    elif training["stopped"] == "interrupted":
        sentences.append("The training was interrupted; the command trains to its end.")
    if training.get("disturbed"):
        sentences.append(
            "The training was resumed where it could not continue bit for bit, or had come to its end: "
            "the command may lead to other weights."
        )
    flags = " and flags" if facts.get("flags") else ""
    sentences.append(
        f"The same digest comes of the same command on the same machine with the same versions{flags}; elsewhere the "
        "last bits may differ, and the same verdict is all to expect."
    )
    return sentences


TASK = "reinforcement-learning"


def front_matter(card: Mapping[str, Any]) -> str:
    """Return the front matter of a card, including both ``---`` lines.

    Without an exact verdict, ``model-index`` is omitted, because there is no result to report.
    """
    import yaml  # only what writes a card needs it

    known = {"license": card["license"]} if card.get("license") else {}
    results = {"model-index": [index_entry(card)]} if card["exact"] else {}
    head = {**known, "library_name": "keras", "pipeline_tag": TASK, "tags": tags(card), **results}
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=math.inf)
    return f"---\n{text}---\n"


def tags(card: Mapping[str, Any]) -> list[str]:
    """Return the search tags of a card."""
    place = card["environment"]["id"]
    named = [] if is_table_file(place) or place.startswith(OBJECT) else [place]
    return [TASK, "deeptaxi", "q-learning", card["network"]["kind"], *named]


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


def markdown(facts: Mapping[str, Any]) -> str:
    """Render a card as a page: front matter, then text. Whatever comes from the facts is escaped."""
    from markupsafe import Markup

    optional = dict.fromkeys(("episodes", "exports", "flags"))
    head = Markup(front_matter(facts))  # noqa: S704  # YAML has its own escapes
    return str(template().render({**optional, **facts, "front_matter": head}))


@cache
def template() -> jinja2.Template:
    """Return the template of the page; compiling it takes as long as saving a model."""
    import jinja2  # only what writes a card needs it
    from markupsafe import Markup

    page = jinja2.Environment(  # noqa: S701  # HTML's escapes are not Markdown's
        loader=jinja2.PackageLoader("deeptaxi.storage"),
        finalize=lambda value: value if isinstance(value, Markup) else escape(str(value)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    page.filters.update(
        code=lambda text: Markup(textwrap.indent(text, "    ")),  # noqa: S704  # Markdown shows it as it is
        count=lambda number: f"{number:,}",
        listed=describe_versions,
        numbered=lambda environment: Markup(numbering(environment)),  # noqa: S704  # escaped there
        sampled=describe_episodes,
        title=describe_environment,
        toml=lambda values: Markup(tomli_w.dumps(without_none(values)).rstrip()),  # noqa: S704  # in a block of code
    )
    return page.get_template("card.md.jinja")


def numbering(environment: Mapping[str, Any]) -> str:
    """Return how observations of several parts become states, and actions of several parts come of their numbers."""
    openings = {"observation": "The state of an observation is", "action": "The number of an action is"}
    sentences = [
        f"{opening} the row-major index of the numbers of its parts: {'; '.join(map(part_rule, parts))}."
        for name, opening in openings.items()
        if (parts := (environment.get(name) or {}).get("parts"))
    ]
    return "".join(f"\n{escape(text)}\n" for text in sentences)


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


def escape(text: str) -> str:
    """Escape a text for a line or a table cell of Markdown."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")


def without_none(value: Any) -> Any:
    """Remove None from nested mappings and lists, because TOML has no null."""
    if isinstance(value, Mapping):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return [without_none(item) for item in value if item is not None] if isinstance(value, list) else value


CARD_VERSION = 1
CARD_BYTES = 16 * TOML_BYTES  # a card takes 4 KB, and repeats the arguments of an environment several times
PARTS = {
    "space": Line,
    "numbering?": {"seen": int, "combinations": Line, "complete": bool, "digest": Line},
    "parts?": [{"part": Line, "first?": float, "size?": int, "bins?": int, "levels?": int, "low?": float,
                "high?": float, "one_hot?": bool}],
}  # fmt: skip
KINDS = {  # the types that the page and the list of agents rely on
    "name": Line, "verdict": Line, "exact": dict | None, "preset": Line, "seed": Seed, "weights_digest": Line,
    "made": Line, "configuration": dict, "signature": dict[str, Line], "outside": dict[str, Line],
    "limits": list[Line], "versions": dict[str, Line],
    "environment": {
        "id": Line, "kwargs": dict, "states": int, "actions": int, "time_limit": int | None, "discovered?": int,
        "observation?": PARTS, "action?": PARTS, "origin?": Line,
    },
    "network": {"kind": Line, "description": Line, "module?": Line},
    "training": {
        "updates": int, "best_update": int, "environment_steps": int, "train_seconds": float, "stopped": Line,
        "failure?": str,
    },
    "machine": {"architecture": Line, "processor": Line},
    "commands": {"train": Line, "evaluate": Line},
    "card?": int, "flags?": dict[str, Line], "license?": Line, "exact_unavailable?": str,
    "episodes?": {"count": int, "mean_return": float, "ci95": tuple[float, float]},
    "exports?": [{"file": Line, "format": Line, "max_difference": float, "outside": Line}],
}  # fmt: skip
EXACT_KINDS = {
    "optimal": bool | None, "return": float, "optimal_return": float, "gap": float, "horizon": int, "discount": float,
    "value": float | None, "optimal_value": float, "normalized_score?": float | None,
    "start_states": int, "optimal_start_states": int,
    "estimated?": {"transitions": int, "episodes": int, "prior": float, "value_interval?": tuple[float, float]},
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
    module = module_of(config.network)
    facts = {
        "card": CARD_VERSION,
        "name": folder.resolve().name,
        "made": (made or datetime.now(UTC)).isoformat(timespec="seconds"),
        "environment": {
            **environment,
            "arguments": short_words(config.environment.kwargs),
            **describe_origin(config.environment),
        },
        "verdict": describe_verdict(finished.exact, finished.exact_unavailable),
        "exact": finished.exact,
        "exact_unavailable": finished.exact_unavailable,
        "episodes": None,
        "network": {
            "kind": config.network.kind,
            "description": describe_network(config),
            **({} if module is None else {"module": module}),
        },
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
    """Read the `card.json` of a run folder; None if it is missing, as in runs of early versions.

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
        raise DeepTaxiError(f"{path} was written by an earlier deeptaxi: {old}; train it again")
    kinds = KINDS | ({"exact": EXACT_KINDS} if isinstance(facts, dict) and facts.get("exact") is not None else {})
    fault = fault_of(facts, kinds) or misspelled_key(facts) if isinstance(facts, dict) else "it is not a JSON object"
    if version != CARD_VERSION or fault:
        raise DeepTaxiError(f"{path} is damaged: {fault or 'it has no version that is known'}")
    return dict(facts)


def misspelled_key(facts: Mapping[str, Any]) -> str | None:
    """Report a key that resembles a known one, or None. Other unknown keys may be a newer deeptaxi's."""
    known = [key.removesuffix(OPTIONAL) for key in KINDS]
    found = ((key, nearest(key, known)) for key in facts if key not in known)
    return next((f"unknown key '{printable(key)}'{near}" for key, near in found if near), None)


def signature(environment: Mapping[str, Any]) -> dict[str, str]:
    """Return the inputs and outputs that all exports of the model share."""
    actions = environment["actions"]
    return {"state": "int32 [B]", "q_values": f"float32 [B, {actions}]", "action": "int32 [B]"}
