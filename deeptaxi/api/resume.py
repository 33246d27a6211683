"""Resume an interrupted or finished training run.

The checkpoint determines the settings. Only the total number of updates, early stopping and the number of workers may
be changed; all other settings, if given, must equal those of the run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deeptaxi.api.environments import IN_MEMORY, Opened, open_requested
from deeptaxi.arguments import words
from deeptaxi.backend.exactness import chosen_backend, flags, versions
from deeptaxi.config import (
    PATIENCE,
    TrainConfig,
    check_together,
    known_facts,
    merge,
    requested_environment,
    to_toml,
    with_former_defaults,
    with_literals,
)
from deeptaxi.errors import DeepTaxiError, UsageError, printable
from deeptaxi.io.locks import remove_stale
from deeptaxi.io.safe_load import parse_toml
from deeptaxi.learning.memory import check_size
from deeptaxi.learning.resolve import Configured
from deeptaxi.learning.state import TrainingState
from deeptaxi.machine import processor
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.files import is_table_file
from deeptaxi.mdp.workers import check_workers
from deeptaxi.metrics import NOT_EXACT, Evaluated, Warned, finite
from deeptaxi.renamed import SETTINGS, renamed_in
from deeptaxi.schema import coerce, from_mapping, leaf_settings, show, to_mapping, value_at
from deeptaxi.storage import checkpoints, runs
from deeptaxi.storage.checkpoints import Checkpoint, table_digest
from deeptaxi.storage.logs import LOG_FILE, LOGS, LogPrefix, Position, place_of, read_log_until
from deeptaxi.storage.model_card import read_card
from deeptaxi.storage.run_folder import CHECKPOINTS, TABLE_FILE
from deeptaxi.storage.runs import check_room

MAY_CHANGE = {("updates",), ("evaluation", "early_stop"), ("interaction", "workers")}


def check_same(folder: Path, config: TrainConfig, values: Mapping[str, Any]) -> None:
    """Reject settings that differ from those of the run.

    Raises:
        UsageError: a setting differs; the message names it.
    """
    for path, item, hint in leaf_settings(TrainConfig):
        asked = value_at(values, path)
        if asked is None or path in MAY_CHANGE or (path[-1] == "kwargs" and not asked):
            continue
        has, wanted = value_at(config, path), coerce(asked, hint, ".".join(path))
        if path[-1] == "kwargs":  # arguments that are not given again stay as they are
            has = has or {}
            wanted, has = words({**has, **wanted}), words(has)
        if wanted != has and not (path[-1] == "id" and is_named(str(has), str(asked))):
            unnamed = {"id": "ENV", "kwargs": "--network-arg" if path[0] == "network" else "--env-arg"}
            name = item.metadata["option"] or unnamed.get(path[-1], ".".join(path))
            raise UsageError(
                f"cannot change {name.partition('/')[0]} on resume: {folder} uses {show(has) or 'none'}, not "
                f"{show(wanted)}; omit it, or start a new run with --out"
            )


def is_named(environment: str, asked: str) -> bool:
    """Return whether `asked` may name this environment, which adds its version; a table file may have moved.

    A version must be a number: an untrusted file could append anything else, such as the name of a module.
    """
    version = environment.removeprefix(f"{asked}-v")
    is_version = version != environment and version.isdecimal()
    return is_version or (is_table_file(environment) and Path(environment).suffix == Path(asked).suffix)


def check_backend(folder: Path, found: Checkpoint) -> None:
    """Reject a backend other than the run's.

    Raises:
        UsageError: the backend differs.
    """
    was = str(found.about.get("backend"))
    if was != chosen_backend():
        raise UsageError(f"{folder} was trained on {was}, and this is {chosen_backend()}: set KERAS_BACKEND={was}")


def check_unfinished(folder: Path, found: Checkpoint, before: TrainConfig, config: TrainConfig) -> None:
    """Raise if the run is finished and no further updates are requested.

    Raises:
        UsageError: the run is finished.
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
    if stopped == "interrupted":  # it may have made all updates without their evaluation
        return
    if stopped == "optimal" and config.evaluation.early_stop:
        raise UsageError(
            f"{folder} stopped after update {found.update:,} because its policy is optimal: "
            f"resume with --no-early-stop, or with more --updates than {before.updates}"
        )
    if found.update >= before.updates:
        raise UsageError(f"{folder} has made all its {before.updates:,} updates: resume with more --updates")


def is_of(card: Mapping[str, Any], config: TrainConfig) -> bool:
    """Return whether a card has this configuration; a table that was in memory is now in the run folder."""
    now = json.loads(json.dumps(finite(to_toml(config)), default=str))
    then = with_former_defaults(card["configuration"])
    if config.environment.id == IN_MEMORY:
        now["environment"] = then.get("environment")
    return bool(then == now)


def open_saved_environment(
    folder: Path,
    found: Checkpoint,
    config: TrainConfig,
    trust: bool,
    given: Opened | None = None,
    asked: str | None = None,
) -> Environment:
    """Open the environment of the run; `asked` is the current path of its table file.

    Raises:
        UsageError: the environment has changed.
    """
    requested = requested_environment(config)
    if requested.id == IN_MEMORY and given is None:
        requested = replace(requested, id=str(folder / CHECKPOINTS / TABLE_FILE))
    elif is_table_file(requested.id) and asked:
        requested = replace(requested, id=asked)
    said = found.about.get("environment")
    facts = dict(said) if isinstance(said, Mapping) else {}
    if facts.get("table") is None:  # it was trained without one, and may have none to discover
        requested = replace(requested, discover=False)
    environment = replace(open_requested(requested, trust, given), config=config.environment)
    now = {**environment.describe(), "table": table_digest(environment.table)}
    for name in ("states", "actions", "time_limit", "table"):
        if facts.get(name) != now[name]:
            change = "has another transition table" if name == "table" else f"has {now[name]} {name.replace('_', ' ')}"
            was = "" if name == "table" else f", where it had {facts.get(name)}"
            raise UsageError(
                f"{requested.id} is not what {folder} was trained on: it {change}{was}; start a new training"
            )
    return environment


EARLY_STOP_OFF = "early-stop-off"


@dataclass(frozen=True)
class ResumePoint:
    """The point that a run resumes from.

    Attributes:
        checkpoint: the newest valid checkpoint.
        state: training state; None before the first update.
        log: the log up to this point; None to start a new one.
        warnings: for the user.
    """

    checkpoint: Checkpoint
    state: TrainingState | None
    log: LogPrefix | None
    warnings: tuple[Warned, ...]


@contextmanager
def open_for_resume(
    folder: Path,
    values: Mapping[str, Any],
    trust: bool,
    logs: Path | None = None,
    stop_after: int | None = None,
    given: Opened | None = None,
) -> Iterator[tuple[Environment, Configured, runs.RunFolder, ResumePoint]]:
    """Reopen a run folder to resume its training for the duration of the block.

    Args:
        folder: the run folder.
        values: nested settings of the user.
        trust: whether the environment module that the run names may be imported.
        logs: folder of logs; None for the location of the run's log.
        stop_after: update to stop after, if it is not the last.
        given: the environment, as a table or opened by the caller.

    Raises:
        UsageError: there is no checkpoint, the run is finished, or a setting differs from the run's.
        DeepTaxiError: the checkpoints are damaged, or written by a newer deeptaxi.
    """
    runs.check_resumable(folder)
    with ExitStack() as undoing:
        runs.lock_folder(folder, undoing, "--resume")
        found = checkpoints.newest(folder)
        before = config_of(found)
        check_same(folder, before, values)
        check_backend(folder, found)
        config = changed(before, values, was_optimal(found.state, before))
        try:
            check_unfinished(folder, found, before, config)
        except UsageError:
            remove_stale(log_folder(folder, found))  # left by a process that was killed after it wrote the model
            raise
        if stop_after is not None and stop_after <= found.update:
            raise UsageError(f"--stop-after {stop_after}: {folder} has made {found.update:,} updates already")
        asked = values.get("environment", {}).get("id")
        environment = open_saved_environment(folder, found, config, trust, given, asked)
        check_size(config, environment.states, environment.actions)
        check_workers(config, environment)
        check_room(folder, environment.describe(), config)
        log = (logs / folder.resolve().name) if logs else log_folder(folder, found)
        runs.hold_log(log, folder, undoing, "--logs")
        earlier_log = log_before(folder, log, found)
        reserved = runs.RunFolder(folder, log / LOG_FILE, undoing)
        state = reset_early_stop(found.state, before, config)
        named_texts = [
            *exactness_warnings(found, before, config),
            *lost_log(found, earlier_log, log),
            *stop_warnings(before, config, found.state, earlier_log),
        ]
        warnings = tuple(Warned(found.update, name, f"{name}: {text}") for name, text in named_texts)
        configured = Configured(config, str(found.about.get("preset", "none")))
        yield environment, configured, reserved, ResumePoint(found, state, earlier_log, warnings)


def config_of(found: Checkpoint) -> TrainConfig:
    """Return the configuration stored in a checkpoint.

    Raises:
        DeepTaxiError: the configuration is invalid.
    """
    try:
        said = parse_toml(str(found.about.get("config")))
        known_facts(said.pop("run", {}))
        if old := renamed_in(said, SETTINGS):
            raise DeepTaxiError(
                f"{found.path} was written by an earlier deeptaxi: {old}; train it again, without --resume"
            )
        said = with_former_defaults(with_literals(said))
        config: TrainConfig = from_mapping(TrainConfig, merge(to_mapping(TrainConfig()), said))
        check_together(config)
    except (UsageError, ValueError) as error:
        raise DeepTaxiError(f"{found.path} is damaged: {error}") from None
    if found.update > config.updates:
        raise DeepTaxiError(f"{found.path} is damaged: 'update' is {found.update}, expected 0 … {config.updates}")
    own = bool(found.about.get("own_table"))
    return replace(config, environment=replace(config.environment, id=IN_MEMORY)) if own else config


def position_of(found: Checkpoint) -> Position | None:
    """Return the log position stored in a checkpoint; None if the log had not been started."""
    said = found.about.get("position")
    try:
        return None if said is None else Position(str(said["head"]), checkpoints.whole(said["lines"], "lines", 0))
    except (KeyError, TypeError, ValueError) as error:
        why = f": {error}" if isinstance(error, ValueError) else ""
        raise DeepTaxiError(f"{found.path} is damaged: it does not say where the log stood{why}") from None


def changed(config: TrainConfig, values: Mapping[str, Any], optimal: bool) -> TrainConfig:
    """Apply the requested changes to the configuration; schedules keep their length.

    If the run was stopped because its policy was `optimal`, further updates are made without early stopping, unless it
    is requested.

    Raises:
        UsageError: fewer updates are requested than before.
    """
    updates = values.get("updates", config.updates)
    early_stop = values.get("evaluation", {}).get("early_stop")
    if early_stop is None and optimal and updates > config.updates:
        early_stop = False
    if updates < config.updates:
        raise UsageError(
            f"--updates {updates} is less than the {config.updates} that the training has in all: "
            "--stop-after ends it earlier"
        )
    if updates > config.updates:
        config = replace(config, updates=updates, schedule_updates=config.schedule_length)
    if early_stop is not None:
        config = replace(config, evaluation=replace(config.evaluation, early_stop=early_stop))
    if (workers := values.get("interaction", {}).get("workers")) is not None:
        config = replace(config, interaction=replace(config.interaction, workers=workers))
    return config


def log_folder(folder: Path, found: Checkpoint) -> Path:
    """Return the recorded log folder if it exists and has the name of the run, else the one in `logs/`."""
    said = place_of(folder, str(found.about.get("log")))
    name = folder.resolve().name
    return said if said.name == name and said.is_dir() else LOGS / name


def log_before(folder: Path, log: Path, found: Checkpoint) -> LogPrefix | None:
    """Return the log up to the checkpoint; None if it was not started, is missing, or has lost lines.

    Raises:
        UsageError: the log of another run is in its place.
    """
    position = position_of(found)
    earlier_log = read_log_until(log, position) if position else None
    if earlier_log is None and (log / LOG_FILE).exists():
        runs.check_ours(folder, log / LOG_FILE)
    return earlier_log


def in_a_row(state: TrainingState | None) -> int:
    """Return how many consecutive evaluations had found the policy optimal in a saved state."""
    evaluator = state.facts.get("evaluator") if state else None
    count = evaluator.get("in_a_row") if isinstance(evaluator, dict) else None
    return count if isinstance(count, int) else 0


def was_optimal(state: TrainingState | None, config: TrainConfig) -> bool:
    """Return whether training stopped at a saved state because the policy was optimal."""
    return config.evaluation.early_stop and in_a_row(state) >= PATIENCE


def reset_early_stop(state: TrainingState | None, before: TrainConfig, config: TrainConfig) -> TrainingState | None:
    """Reset the count of consecutive optimal evaluations if more updates are to be made with early stopping."""
    goes_on = config.updates > before.updates and config.evaluation.early_stop
    if state is None or not goes_on or in_a_row(state) < PATIENCE:
        return state
    return state._replace(facts={**state.facts, "evaluator": {**state.facts["evaluator"], "in_a_row": 0}})


def lost_log(found: Checkpoint, earlier_log: LogPrefix | None, log: Path) -> Iterator[tuple[str, str]]:
    """Warn if the log is missing or has a gap."""
    if earlier_log is None and found.about.get("position") is not None:
        yield "lost-log", f"the log of the training is not in {log}, or has lost lines: a new one begins there"
    elif isinstance(lost := found.about.get("log_lost"), str):
        yield "lost-log", f"the log of the training has a gap up to here: {printable(' '.join(lost.split())[:300])}"


def stop_warnings(
    before: TrainConfig, config: TrainConfig, state: TrainingState | None, earlier_log: LogPrefix | None
) -> Iterator[tuple[str, str]]:
    """Warn if early stopping is now off, or training continues past the point where a fresh run would have stopped."""
    if was_optimal(state, before) and not config.evaluation.early_stop:
        yield (
            EARLY_STOP_OFF,
            f"the run had stopped because its policy was optimal; it now makes {config.updates:,} updates in all and "
            "still keeps the best weights (--early-stop lets it stop again)",
        )
    changed = config.updates > before.updates or not before.evaluation.early_stop
    optimal = in_a_row(state) >= PATIENCE or stopped_early(before, earlier_log)
    if config.evaluation.early_stop and changed and optimal:
        yield NOT_EXACT, "its policy was optimal, where the same settings from the beginning would have stopped"


def stopped_early(before: TrainConfig, earlier_log: LogPrefix | None) -> bool:
    """Return whether early stopping, had it been on, would have stopped the run, by the evaluations in its log."""
    found = [record.optimal for record in earlier_log.records if isinstance(record, Evaluated)] if earlier_log else []
    rows = [found[first : first + PATIENCE] for first in range(len(found) - PATIENCE + 1)]
    return not before.evaluation.early_stop and any(all(row) for row in rows)


def others(was: Any, now: Mapping[str, str]) -> list[str]:
    """List the entries of a checkpoint that differ from the current ones; empty if it has none."""
    if not isinstance(was, dict):
        return []
    return [
        f"{name} {was.get(name, 'none')} → {now.get(name, 'none')}"
        for name in (*now, *(name for name in was if name not in now))
        if was.get(name) != now.get(name)
    ]


def exactness_warnings(found: Checkpoint, before: TrainConfig, config: TrainConfig) -> Iterator[tuple[str, str]]:
    """Yield warnings for the user as (name, text)."""
    for fault in found.passed_over:
        yield "older-checkpoint", f"{fault}; training continues from {found.path.name}, after update {found.update:,}"
    on = chosen_backend()
    other = [
        *others(found.about.get("versions"), {**versions(on), "processor": processor()}),
        *others(found.about.get("flags", {}), flags(on)),
    ]
    if other and found.state is not None:
        yield (
            NOT_EXACT,
            f"this is not what the training was started with ({', '.join(other)}), so the last bits may differ",
        )
    if config.updates > before.updates:
        yield (
            "schedules-kept",
            f"learning rate and ε keep their schedules over {config.schedule_length:,} updates, and then stay constant",
        )
