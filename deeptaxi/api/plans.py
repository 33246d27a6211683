"""Plan training runs: environment, configuration, and run folder.

`plan` opens the environment and completes the configuration, `reserve_run_folder` reserves a new run folder, and
`resume_plan` reopens an existing one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from deeptaxi.api.environments import open_requested
from deeptaxi.api.resume import ResumePoint, open_for_resume
from deeptaxi.api.save_run import checkpoint_metadata, own_table, point_to_checkpoint, point_to_log, pointing_to_table
from deeptaxi.config import TrainConfig, merge, resolve, to_mapping
from deeptaxi.errors import DeepTaxiError
from deeptaxi.learning.resolve import Configured, choose, configure, with_environment
from deeptaxi.learning.state import StateMismatchError
from deeptaxi.mdp import planning
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.table import TransitionTable
from deeptaxi.storage import checkpoints as checkpoint_files
from deeptaxi.storage import runs
from deeptaxi.storage.logs import LOGS
from deeptaxi.storage.room import check_room


@dataclass(frozen=True)
class Plan:
    """A training run before it starts: environment, configuration, run folder, and resume point."""

    environment: Environment
    configured: Configured
    place: runs.Run | None = None
    since: ResumePoint | None = None

    @property
    def config(self) -> TrainConfig:
        """The complete configuration."""
        return self.configured.config


def plan(
    values: Mapping[str, Any],
    preset: str | None = None,
    trust: bool = False,
    opened: TransitionTable | Environment | None = None,
) -> Plan:
    """Open the requested environment and complete the settings for it.

    Args:
        values: nested settings of the user.
        preset: name of the preset, or None for the one that fits.
        trust: whether the module of a `module:Id` may be imported.
        opened: the table or open environment that the id in `values` refers to, if any.

    Raises:
        UsageError: the settings contradict each other or the environment.
    """
    named = choose(values, preset)
    values = with_environment(values, named)
    # Report wrong settings before opening the environment, with the bins of its preset.
    requested = resolve({"loop": "compiled", **values}, preset=named).environment
    environment = open_requested(requested, trust, opened)
    if isinstance(opened, Environment):  # its id alone does not determine its arguments
        values = merge(values, {"environment": to_mapping(environment.config)})
    configured = configure(environment, values, named)
    check_objective(environment, configured.config)
    return Plan(environment, configured)


def check_objective(environment: Environment, config: TrainConfig) -> None:
    """Reject an objective discount of 1 if undiscounted values do not exist.

    Raises:
        UsageError: the values do not exist.
    """
    table = environment.table
    if table is not None and config.evaluation.objective_discount == 1:
        planning.value_iteration(table, 1.0, table.action_mask)


@contextmanager
def reserve_run_folder(
    planned: Plan,
    out: str | Path | Literal[True] | None,
    logs: str | Path = LOGS,
    force: bool = False,
    checkpoints: bool = True,
) -> Iterator[Plan]:
    """Reserve the run folder for the duration of the block; with `checkpoints`, write the first checkpoint.

    Raises:
        UsageError: the folder is taken.
        DeepTaxiError: the folder cannot be written to.
    """
    if out is None:
        yield planned
        return
    name = runs.default_name(planned.config) if out is True else out
    check_room(Path(name), planned.environment.describe(), planned.config)
    table = own_table(planned.environment) is not None
    if out is True:
        place = runs.claim_free(planned.config, Path(logs), table)
    else:
        place = runs.claim(Path(out), Path(logs), force, table)
    kept, first = replace(planned, place=place), 0
    try:
        kept = with_spare(kept)
        if checkpoints:
            first = checkpoint_files.begin(place.folder, plan_metadata(kept), own_table(planned.environment))
        yield kept
    except BaseException as error:
        if first:
            checkpoint_files.take_back(place.folder, first, error)
        point_to_log(error, place.log.parent)
        if first:
            point_to_checkpoint(error, kept.config, place.folder, first)
        raise
    finally:
        place.release()


@contextmanager
def resume_plan(
    folder: Path,
    values: Mapping[str, Any],
    trust: bool,
    logs: Path | None = None,
    stop_after: int | None = None,
    table: TransitionTable | Environment | None = None,
) -> Iterator[Plan]:
    """Reopen a run folder to resume its training for the duration of the block; see `resume.open_for_resume`."""
    with open_for_resume(folder, values, trust, logs, stop_after, table) as (environment, configured, place, since):
        try:
            yield with_spare(Plan(environment, configured, place, since))
        except StateMismatchError as error:
            raise DeepTaxiError(
                f"{since.checkpoint.path} does not fit its training: {error}; "
                "without that file, --resume continues from the previous one"
            ) from None
        except BaseException as error:
            point_to_log(error, place.log.parent)
            point_to_checkpoint(error, configured.config, folder)
            raise


def with_spare(planned: Plan) -> Plan:
    """Reserve disk space for the model of a plan."""
    if planned.place is None:
        return planned
    table = own_table(planned.environment)
    return replace(planned, place=planned.place.with_spare(planned.config, planned.environment, table))


def plan_metadata(planned: Plan) -> dict[str, Any]:
    """Return the checkpoint metadata of a plan; empty if it has no run folder, and so no checkpoints."""
    if planned.place is None:
        return {}
    own, where = own_table(planned.environment) is not None, with_saved_table(planned)
    return checkpoint_metadata(where.environment, where.config, planned.place, planned.configured.preset, own)


def with_saved_table(planned: Plan) -> Plan:
    """Point the config at the table saved in the run folder."""
    if planned.place is None:
        return planned
    table = own_table(planned.environment)
    environment, config = pointing_to_table(planned.place.folder, table, planned.environment, planned.config)
    return replace(planned, environment=environment, configured=replace(planned.configured, config=config))
