"""``deeptaxi sweep``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from deeptaxi.api.run_options import EVERY
from deeptaxi.cli import options, signals
from deeptaxi.errors import UsageError
from deeptaxi.schema import value_at

if TYPE_CHECKING:
    from deeptaxi.api.sweep import SweepResult

ID, BUILDER = ("environment", "id"), ("network", "builder")  # settings that may name code


@click.command("sweep", cls=options.SectionedCommand)
@click.argument("spec", required=False, type=options.PATH, metavar="[SWEEP]")
@click.option("--env", "environments", multiple=True, metavar="ENV", help="Environment to train on (repeatable).")
@options.env_arg_option
@options.network_arg_option
@click.option(
    "--grid",
    "axes",
    multiple=True,
    metavar="NAME=VALUE,VALUE",
    help="Values of a setting, each of which is trained: learning_rate=0.001,0.003 or hidden=64,128x64 (repeatable).",
)
@click.option("--seeds", metavar="SEEDS", help="Seeds of each combination, such as 0-9 or 0-3,7.  [default: 0]")
@click.option("--config", "config_file", type=options.PATH, metavar="FILE", help="TOML file of settings of all jobs.")
@click.option("--preset", metavar="NAME", help="Settings of `deeptaxi presets`.  [default: the one that fits each]")
@click.option("--q-table", is_flag=True, help="No hidden layer, no bias: the weights are the Q table.")
@click.option(
    "--workers", type=click.IntRange(0), metavar="N", help="Processes; 0 for none but this one.  [default: processors]"
)
@click.option("--scheduler", metavar="ADDRESS", help="Dask scheduler whose workers train, such as tcp://host:8786.")
@click.option("--cluster", type=click.Choice(("slurm", "kubernetes")), help="Start Dask there, with --workers N.")
@click.option(
    "--cluster-options",
    type=options.PATH,
    metavar="FILE",
    help="TOML file of what to ask of --cluster: queue, memory, image and so on.",
)
@click.option(
    "--out", type=options.PATH, metavar="FOLDER", help="Folder of the sweep.  [default: a free name in models/]"
)
@click.option("--logs", type=options.PATH, metavar="FOLDER", help="Where logs go.  [default: logs]")
@click.option("--tensorboard/--no-tensorboard", default=True, help="Log for TensorBoard as well.  [default: yes]")
@click.option("--resume", type=options.PATH, metavar="FOLDER", help="Continue the sweep of a folder.")
@click.option(
    "--checkpoint-every",
    type=options.FiniteRange(0, min_open=True),
    metavar="SECONDS",
    default=EVERY,
    help=f"Time from one checkpoint of a training to the next.  [default: {EVERY:g}]",
)
@click.option("--quiet", is_flag=True, help="Show no progress; errors and the result still.")
@options.trust_option
@options.json_option
@options.shared_options
@partial(options.training_options, without=("--workers",))  # here they train the jobs
def command(
    spec: Path | None,
    environments: tuple[str, ...],
    env_args: dict[str, Any],
    axes: tuple[str, ...],
    seeds: str | None,
    config_file: Path | None,
    preset: str | None,
    q_table: bool,
    workers: int | None,
    scheduler: str | None,
    cluster: str | None,
    cluster_options: Path | None,
    out: Path | None,
    logs: Path | None,
    tensorboard: bool,
    resume: Path | None,
    checkpoint_every: float,
    quiet: bool,
    trust_env: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Train every combination of environments, values and seeds, on all processors.

    SWEEP is a TOML file with environments, grid, seeds and settings; options add to it, or replace what it says.
    Each job is an ordinary run, with the weights that `deeptaxi train` gives it. A job that fails does not stop the
    others, and a sweep that was interrupted continues with --resume.
    """
    from deeptaxi.api.settings import merge_settings
    from deeptaxi.experiments.grid import parse_axis, parse_seeds

    typed = options.given_settings(given)
    grid = dict(map(parse_axis, axes))
    if len(grid) < len(axes):
        raise UsageError("--grid names a setting twice: give all its values at once, such as learning_rate=0.001,0.003")
    named = None if seeds is None else parse_seeds(seeds)
    merge_settings(None, env_args, config_file, q_table, typed)  # reports a fault before NumPy is imported
    from deeptaxi.api.status import shown_by
    from deeptaxi.api.sweep import sweep
    from deeptaxi.display.console import err
    from deeptaxi.display.sweep_table import SweepProgress
    from deeptaxi.storage.logs import LOGS

    with (
        signals.stopping_gently() as received,
        SweepProgress(err(quiet)) as progress,
        shown_by(progress.status),
    ):
        result = sweep(
            spec,
            env=environments,
            grid=grid,
            seeds=named,
            q_table=q_table,
            preset=preset,
            config=config_file,
            env_args=env_args,
            network_args=typed.get("network", {}).get("kwargs"),
            out=out,
            logs=logs or LOGS,
            resume=resume,
            workers=workers,
            scheduler=scheduler,
            cluster=cluster,
            cluster_options=cluster_options,
            tensorboard=tensorboard,
            trust_env=trust_env,
            checkpoint_every=checkpoint_every,
            stop=lambda: bool(received()),
            watch=progress,
            warn=progress.warn,
            **cast("Any", options.settings_by_name(given)),
        )
    remote = (
        f" --scheduler {scheduler}" if scheduler else f" --cluster {cluster} --workers {workers}" if cluster else ""
    )
    return report(result, as_json, received(), command_that_resumes("sweep", result, logs) + remote)


def command_that_resumes(name: str, result: SweepResult, logs: Path | None, track: Sequence[str] = ()) -> str:
    """Return the command that continues a sweep, or the seeds of `train`, as it was begun."""
    from deeptaxi.experiments.grid import find_setting

    grid = result.grid
    builders = [value for key, values in grid.axes.items() if find_setting(key)[0] == BUILDER for value in values]
    named = [*grid.environments, *builders, value_at(grid.settings, ID), value_at(grid.settings, BUILDER)]
    trust = " --trust-env" if any(":" in name for name in named if name) else ""
    where = "" if logs is None else f" --logs {shlex.quote(str(logs))}"
    trackers = "".join(f" --track {tracker}" for tracker in track)
    return f"deeptaxi {name} --resume {shlex.quote(str(result.folder))}{trust}{where}{trackers}"


def report(result: SweepResult, as_json: bool, signal_number: int, resuming: str) -> int:
    """Print the result; return the exit code. The runs are saved, so a closed output pipe is no failure."""
    from deeptaxi.display import console

    if result.interrupted and result.folder is not None:
        console.err().print(f"Resume with: {resuming}", soft_wrap=True)
    try:
        if as_json:
            options.print_json(result.to_dict())
        else:
            console.print_wide(result.__rich__())
    except OSError as error:
        if not signals.reader_gone(error):
            raise
        signals.stop_printing()
    if signal_number:
        return 128 + signal_number
    return 1 if result.failed else 0
