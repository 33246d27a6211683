"""Resume a training that was broken off, or one that came to its end.

What it is is said by its checkpoint. What may be said anew is how many updates it makes in all, and whether it stops
when its policy is optimal; what else is asked for must be what it is already.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deeptaxi.api.environments import IN_MEMORY, open_requested
from deeptaxi.arguments import words
from deeptaxi.config import (
    PATIENCE,
    TrainConfig,
    check_together,
    coerce,
    from_mapping,
    known_facts,
    leaf_settings,
    merge,
    show,
    to_mapping,
    to_toml,
    with_literals,
)
from deeptaxi.errors import DeepTaxiError, UsageError, printable
from deeptaxi.exactness import chosen_backend, flags, processor, versions
from deeptaxi.io.locks import remove_stale
from deeptaxi.io.safe_load import parse_toml
from deeptaxi.learning.resolve import Configured, check_size
from deeptaxi.learning.state import TrainingState
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.table import TransitionTable
from deeptaxi.metrics import NOT_EXACT, Evaluated, Warned, finite
from deeptaxi.renamed import SETTINGS, renamed_in
from deeptaxi.storage import checkpoints, runs
from deeptaxi.storage.checkpoints import Checkpoint, table_digest
from deeptaxi.storage.logs import LOG_FILE, LOGS, Kept, Position, place_of, take_up
from deeptaxi.storage.model_card import read_card
from deeptaxi.storage.room import check_room
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
                f"cannot change {name.partition('/')[0]} on resume: {folder} uses {show(has) or 'none'}, not "
                f"{show(wanted)}; omit it, or start a new run with --out"
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


def open_saved_environment(
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


EARLY_STOP_OFF = "early-stop-off"


@dataclass(frozen=True)
class ResumePoint:
    """What a training goes on from.

    Attributes:
        checkpoint: its latest that is sound.
        state: of the training; None where it had made no update.
        kept: its log up to there; None where it begins a new one.
        remarks: what the user should know.
    """

    checkpoint: Checkpoint
    state: TrainingState | None
    kept: Kept | None
    remarks: tuple[Warned, ...]


@contextmanager
def open_for_resume(
    folder: Path,
    values: Mapping[str, Any],
    trust: bool,
    logs: Path | None = None,
    stop_after: int | None = None,
    given: TransitionTable | Environment | None = None,
) -> Iterator[tuple[Environment, Configured, runs.Run, ResumePoint]]:
    """Take a run folder to go on with its training, while the block runs.

    Args:
        folder: the run folder.
        values: nested settings of the user.
        trust: whether the environment module that the run names may be imported.
        logs: the folder of logs; None for where the run's log is.
        stop_after: the update to end after, if it is not the last.
        given: the environment, where a script has it as a table or open.

    Raises:
        UsageError: there is nothing to go on from, the training is at its end, or something else is asked for than it
            is.
        DeepTaxiError: its checkpoints are damaged, or of a newer deeptaxi.
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
            remove_stale(log_folder(folder, found))  # of a process that was killed when its model was written already
            raise
        if stop_after is not None and stop_after <= found.update:
            raise UsageError(f"--stop-after {stop_after}: {folder} has made {found.update:,} updates already")
        asked = values.get("environment", {}).get("id")
        environment = open_saved_environment(folder, found, config, trust, given, asked)
        check_size(config, environment.states, environment.actions)
        check_room(folder, environment.describe(), config)
        log = (logs / folder.resolve().name) if logs else log_folder(folder, found)
        runs.hold_log(log, folder, undoing, "--logs")
        kept = kept_log(folder, log, found)
        place = runs.Run(folder, log / LOG_FILE, undoing)
        state = reset_early_stop(found.state, before, config)
        told = [
            *remarks_on(found, before, config),
            *lost_log(found, kept, log),
            *stop_warnings(before, config, found.state, kept),
        ]
        remarks = tuple(Warned(found.update, name, f"{name}: {text}") for name, text in told)
        configured = Configured(config, str(found.about.get("preset", "none")))
        yield environment, configured, place, ResumePoint(found, state, kept, remarks)


def config_of(found: Checkpoint) -> TrainConfig:
    """Return the configuration of a checkpoint's training.

    Raises:
        DeepTaxiError: it is not sound.
    """
    try:
        said = parse_toml(str(found.about.get("config")))
        known_facts(said.pop("run", {}))
        if old := renamed_in(said, SETTINGS):
            raise DeepTaxiError(f"{found.path} is of an earlier deeptaxi: {old}; train it again, without --resume")
        said = with_literals(said)
        config: TrainConfig = from_mapping(TrainConfig, merge(to_mapping(TrainConfig()), said))
        check_together(config)
    except (UsageError, ValueError) as error:
        raise DeepTaxiError(f"{found.path} is damaged: {error}") from None
    if found.update > config.updates:
        raise DeepTaxiError(f"{found.path} is damaged: 'update' is {found.update}, expected 0 … {config.updates}")
    own = bool(found.about.get("own_table"))
    return replace(config, environment=replace(config.environment, id=IN_MEMORY)) if own else config


def position_of(found: Checkpoint) -> Position | None:
    """Return how far the log had come; None where it had not begun."""
    said = found.about.get("position")
    try:
        return None if said is None else Position(str(said["head"]), checkpoints.whole(said["lines"], "lines", 0))
    except (KeyError, TypeError, ValueError) as error:
        why = f": {error}" if isinstance(error, ValueError) else ""
        raise DeepTaxiError(f"{found.path} is damaged: it does not say where the log stood{why}") from None


def changed(config: TrainConfig, values: Mapping[str, Any], optimal: bool) -> TrainConfig:
    """Return the configuration with what is asked for anew; schedules keep the length that they had.

    Where an `optimal` policy has stopped the training, more updates are made without stopping early again, unless that
    is asked for.

    Raises:
        UsageError: the updates are fewer than before.
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
    return config


def log_folder(folder: Path, found: Checkpoint) -> Path:
    """Return where the log of a run is: where it says, if that is a log folder of this name, else in `logs/`."""
    said = place_of(folder, str(found.about.get("log")))
    name = folder.resolve().name
    return said if said.name == name and said.is_dir() else LOGS / name


def kept_log(folder: Path, log: Path, found: Checkpoint) -> Kept | None:
    """Return what the log held at the checkpoint; None where it had not begun, is gone, or has lost lines.

    Raises:
        UsageError: the log of another run stands in its place.
    """
    position = position_of(found)
    kept = take_up(log, position) if position else None
    if kept is None and (log / LOG_FILE).exists():
        runs.check_ours(folder, log / LOG_FILE)
    return kept


def in_a_row(state: TrainingState | None) -> int:
    """Return how many evaluations in a row have found the policy optimal by a saved state."""
    evaluator = state.facts.get("evaluator") if state else None
    count = evaluator.get("in_a_row") if isinstance(evaluator, dict) else None
    return count if isinstance(count, int) else 0


def was_optimal(state: TrainingState | None, config: TrainConfig) -> bool:
    """Whether a training stopped at a saved state because its policy was optimal."""
    return config.evaluation.early_stop and in_a_row(state) >= PATIENCE


def reset_early_stop(state: TrainingState | None, before: TrainConfig, config: TrainConfig) -> TrainingState | None:
    """Return the state to go on from: a policy that has shown itself optimal must do so again in more updates."""
    goes_on = config.updates > before.updates and config.evaluation.early_stop
    if state is None or not goes_on or in_a_row(state) < PATIENCE:
        return state
    return state._replace(facts={**state.facts, "evaluator": {**state.facts["evaluator"], "in_a_row": 0}})


def lost_log(found: Checkpoint, kept: Kept | None, log: Path) -> Iterator[tuple[str, str]]:
    """Yield a remark where there should have been a log."""
    if kept is None and found.about.get("position") is not None:
        yield "lost-log", f"the log of the training is not in {log}, or has lost lines: a new one begins there"
    elif isinstance(lost := found.about.get("log_lost"), str):
        yield "lost-log", f"the log of the training has a gap up to here: {printable(' '.join(lost.split())[:300])}"


def stop_warnings(
    before: TrainConfig, config: TrainConfig, state: TrainingState | None, kept: Kept | None
) -> Iterator[tuple[str, str]]:
    """Warn where training does not stop early any more, or continues past the point where a fresh run would have."""
    if was_optimal(state, before) and not config.evaluation.early_stop:
        yield (
            EARLY_STOP_OFF,
            f"the run had stopped because its policy was optimal; it now makes {config.updates:,} updates in all and "
            "still keeps the best weights (--early-stop lets it stop again)",
        )
    changed = config.updates > before.updates or not before.evaluation.early_stop
    optimal = in_a_row(state) >= PATIENCE or stopped_early(before, kept)
    if config.evaluation.early_stop and changed and optimal:
        yield NOT_EXACT, "its policy was optimal, where the same settings from the beginning would have stopped"


def stopped_early(before: TrainConfig, kept: Kept | None) -> bool:
    """Whether a training that did not stop early would have, by the evaluations in its log."""
    found = [record.optimal for record in kept.records if isinstance(record, Evaluated)] if kept else []
    rows = [found[first : first + PATIENCE] for first in range(len(found) - PATIENCE + 1)]
    return not before.evaluation.early_stop and any(all(row) for row in rows)


def others(was: Any, now: Mapping[str, str]) -> list[str]:
    """Return what is said otherwise in a checkpoint than it is now; nothing where it says nothing of it."""
    if not isinstance(was, dict):
        return []
    return [
        f"{name} {was.get(name, 'none')} → {now.get(name, 'none')}"
        for name in (*now, *(name for name in was if name not in now))
        if was.get(name) != now.get(name)
    ]


def remarks_on(found: Checkpoint, before: TrainConfig, config: TrainConfig) -> Iterator[tuple[str, str]]:
    """Yield what the user should know, by name."""
    for fault in found.passed_over:
        yield "older-checkpoint", f"{fault}; the training goes on from {found.path.name}, after update {found.update:,}"
    on = chosen_backend()
    other = [
        *others(found.about.get("versions"), {**versions(on), "processor": processor()}),
        *others(found.about.get("flags", {}), flags(on)),
    ]
    if other and found.state is not None:
        yield (
            NOT_EXACT,
            f"this is not what the training was begun with ({', '.join(other)}), so the last bits may differ",
        )
    if config.updates > before.updates:
        yield (
            "schedules-kept",
            f"learning rate and ε take their course over {config.schedule_length:,} updates, as before, "
            "and stay where they are then",
        )
