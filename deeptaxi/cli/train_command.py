"""``deeptaxi train``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deeptaxi.api.run_options import (
    EVERY,
    RunOptions,
    are_given,
    check_compact,
    refuse_alone,
    refuse_with_resume,
    refuse_with_seeds,
)
from deeptaxi.api.status import shown_by
from deeptaxi.cli import options, signals
from deeptaxi.metrics import Record, Started, Warned
from deeptaxi.tracking.tracker import TRACKERS

if TYPE_CHECKING:
    from rich.console import Console

    from deeptaxi.api.run import Run
    from deeptaxi.api.train_run import Plan

# Options of `RunOptions`.
RUN_OPTIONS = ("stop_after", "checkpoints", "checkpoint_every", "tensorboard", "track", "vectorized")
PRESET_HELP = (
    "Settings of `deeptaxi presets`; without ENV its environment too. `table` derives them from the transition table, "
    "`none` takes the plain defaults.  [default: the one that fits]"
)


@click.command("train", cls=options.SectionedCommand)
@click.argument("env", required=False)
@options.env_arg_option
@options.network_arg_option
@click.option(
    "--config", "config_file", type=options.PATH, metavar="FILE", help="TOML file of settings, such as a run's."
)
@click.option("--preset", metavar="NAME", help=PRESET_HELP)
@click.option("--q-table", is_flag=True, help="No hidden layer, no bias: the weights are the Q table.")
@click.option("--seeds", metavar="SEEDS", help="Train an agent for each seed, such as 0-63 or 0-3,7.")
@click.option("--compact", is_flag=True, help="Save the agents of --seeds in one file, not in a folder for each.")
@click.option(
    "--vectorized/--no-vectorized",
    default=None,
    help="Train the agents of --seeds at once, as one program of JAX.  [default: on accelerators]",
)
@click.option("--out", type=options.PATH, metavar="FOLDER", help="Run folder.  [default: a free name in models/]")
@click.option("--logs", type=options.PATH, metavar="FOLDER", help="Where logs go.  [default: logs]")
@click.option("--tensorboard/--no-tensorboard", default=True, help="Log for TensorBoard as well.  [default: yes]")
@click.option(
    "--track",
    type=click.Choice(list(TRACKERS)),
    multiple=True,
    help="Track the run with MLflow or Weights & Biases as well (repeatable).",
)
@click.option("--resume", type=options.PATH, metavar="RUN", help="Continue the training of a run folder.")
@click.option("--stop-after", type=click.IntRange(1), metavar="UPDATE", help="End after this update, to resume later.")
@click.option(
    "--checkpoint-every",
    type=options.FiniteRange(0, min_open=True),
    metavar="SECONDS",
    default=EVERY,
    help=f"Time from one checkpoint to the next; it changes nothing in the result.  [default: {EVERY:g}]",
)
@click.option("--checkpoints/--no-checkpoints", default=True, help="Write checkpoints for --resume.  [default: yes]")
@click.option("--quiet", is_flag=True, help="Show no progress; errors and the result still.")
@options.force_option
@options.trust_option
@options.json_option
@options.shared_options
@options.training_options
def command(
    env: str | None,
    env_args: dict[str, Any],
    config_file: Path | None,
    preset: str | None,
    q_table: bool,
    seeds: str | None,
    compact: bool,
    out: Path | None,
    logs: Path | None,
    resume: Path | None,
    quiet: bool,
    force: bool,
    trust_env: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Train a Q-network on ENV and save it with its exact verdict.

    ENV is a Gymnasium id (Taxi-v4), module:Class or file.py:Class for an environment of your own, a .npz transition
    table, or a table of another form (`deeptaxi convert`).
    Settings come from the preset that fits (`deeptaxi presets`), then --config, then the options below.
    """
    from deeptaxi.api import settings
    from deeptaxi.experiments.results import is_sweep

    if seeds is not None or (resume is not None and is_sweep(resume)):
        return train_seeds(
            seeds,
            env,
            env_args,
            {"config": config_file, "preset": preset, "q_table": q_table, "out": out, "force": force},
            compact,
            given,
            logs,
            resume,
            quiet,
            trust_env,
            as_json,
        )
    refuse_alone(compact=compact, vectorized=given["vectorized"])
    if resume is not None:
        refuse_with_resume(preset=preset, config=config_file, out=out, force=force)
    run_options = RunOptions(**{name: given.pop(name) for name in RUN_OPTIONS})
    typed = options.given_settings(given)
    values = settings.merge_settings(env, env_args, config_file, q_table, typed)
    from deeptaxi.api.networks import GivenNetwork
    from deeptaxi.api.train_run import plan, reserve_run_folder, resume_plan
    from deeptaxi.errors import DeepTaxiError
    from deeptaxi.storage.logs import LOGS

    trust, network = trust_env or env is not None, GivenNetwork.of(typed, None, trust_env)
    if resume is not None:
        reserving = resume_plan(resume, values, trust, logs, run_options.stop_after, given=network)
    else:
        planned = plan(values, preset, trust, given=network)
        reserving = reserve_run_folder(planned, out or True, logs or LOGS, force, run_options.checkpoints)
    with reserving as planned:
        run, signal_number = train(planned, run_options, quiet)
    report(run, as_json)
    if run.failure:
        raise DeepTaxiError(f"{run.failure}; {run.folder} has the best weights before that")
    return 128 + signal_number if signal_number else 0


def train_seeds(
    seeds: str | None,
    env: str | None,
    env_args: dict[str, Any],
    fixed: dict[str, Any],
    compact: bool,
    given: dict[str, Any],
    logs: Path | None,
    resume: Path | None,
    quiet: bool,
    trust_env: bool,
    as_json: bool,
) -> int:
    """Train an agent for each seed; `fixed` are options that are fixed when they are resumed, `given` all others."""
    from deeptaxi.api.settings import merge_settings
    from deeptaxi.cli.sweep_command import command_that_resumes, report
    from deeptaxi.experiments.grid import Grid, parse_seeds

    run_options = {name: given.pop(name) for name in RUN_OPTIONS}
    typed = options.given_settings(given)
    compact = check_compact(compact, resume, logs=logs)
    refuse_with_seeds(seed=typed.get("seed"), stop_after=run_options["stop_after"], force=fixed.pop("force"))
    if resume is not None:
        arguments = {"env_arg": env_args, "network_arg": given.get("network__kwargs")}
        own = are_given(options.settings_by_name(given))
        refuse_with_resume(env=env, seeds=seeds, **fixed, **arguments, **own)
    else:
        settings = merge_settings(env, env_args, fixed["config"], fixed["q_table"], typed)
        grid = Grid(parse_seeds(seeds or "0"), settings=settings, preset=fixed["preset"])
    from deeptaxi.api import train as public
    from deeptaxi.api.job_runner import JobRunner
    from deeptaxi.api.networks import GivenNetwork
    from deeptaxi.display.console import err
    from deeptaxi.display.sweep_table import SweepProgress
    from deeptaxi.experiments.results import read_sweep
    from deeptaxi.storage.logs import LOGS

    with (
        signals.stopping_gently() as received,
        SweepProgress(err(quiet)) as progress,
        shown_by(progress.status),
    ):
        run_settings = RunOptions(**run_options, stop=lambda: bool(received()))
        network, before, folder = GivenNetwork.of(typed, None, trust_env), None, resume
        runner = JobRunner(None, LOGS, run_settings, trust_env or env is not None, None, network)
        if resume is not None:
            grid, before = read_sweep(resume)
        else:
            folder = public.folder_of_seeds(grid, runner, fixed["out"] or True)
        result = public.train_seeds(grid, before, runner, folder, logs or LOGS, None, compact, progress)
    resuming = command_that_resumes("train", result, logs, run_options["track"])
    return report(result, as_json, received(), resuming)


def train(planned: Plan, run_options: RunOptions, quiet: bool) -> tuple[Run, int]:
    """Train with a progress display; return the run and the signal that ended it, or 0."""
    from deeptaxi.api.train_run import resume_hint, run_training
    from deeptaxi.backend import keras_backend
    from deeptaxi.display.console import err
    from deeptaxi.display.training import TrainingProgress
    from deeptaxi.learning.callbacks import each_record
    from deeptaxi.mdp.sweeps import reported_to

    console = err(quiet)
    with console.status("starting Keras …"):
        keras_backend.start()
    with (
        shown_by(None),
        signals.stopping_gently() as received,
        TrainingProgress(console) as progress,
        reported_to(progress.show_sweeps),
    ):
        notes = filter(None, [planned.environment.numbering_note, f"Preset: {planned.configured.explanation}"])
        show = announce(progress.show, console, list(notes))
        run = run_training(planned, [each_record(show)], replace(run_options, stop=lambda: bool(received())))
    if received() and planned.run_folder is not None and run.finished is not None:
        evaluated = run.environment.table is None or run.exact is not None
        kept = "the best weights are kept" if evaluated else "the weights are kept, not evaluated yet"
        err().print(f"Interrupted after update {run.finished.updates:,}; {kept}.", soft_wrap=True)
    if (
        planned.run_folder is not None
        and run.finished is not None
        and run.finished.stopped in ("interrupted", "stop-after")
    ):
        err().print(resume_hint(planned, run_options), soft_wrap=True)
    return run, received()


def announce(show: Callable[[Record], object], console: Console, notes: list[str]) -> Callable[[Record], None]:
    """Wrap `show` so that it also prints `notes` once the first updates are made."""
    waiting = notes.copy()

    def watch(record: Record) -> None:
        while waiting and not isinstance(record, Started | Warned):
            console.print(waiting.pop(0), soft_wrap=True)
        show(record)

    return watch


def report(run: Run, as_json: bool) -> None:
    """Print the result. The run is already saved, so a closed output pipe is not a failure."""
    from deeptaxi.arguments import title
    from deeptaxi.display import console, tables
    from deeptaxi.storage.model_card import report_command

    summary = run.to_dict()
    network = f"{summary['network']['kind']}, seed {summary['seed']}"
    try:
        if as_json:
            options.print_json(summary)
        else:
            page = None
            if run.folder is not None and run.config is not None:
                page = report_command(run.folder, run.config)
            table = tables.training_table(f"{title(summary['environment'])}, {network}", summary, page)
            console.print_wide(table, console.FACTS)
    except OSError as error:
        if not signals.reader_gone(error):
            raise
        signals.stop_printing()
