"""``deeptaxi tune``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from deeptaxi.api.run_options import are_given, refuse_with_resume
from deeptaxi.cli import options, signals
from deeptaxi.errors import UsageError

if TYPE_CHECKING:
    from deeptaxi.api.tune import TuneResult


@click.command("tune", cls=options.SectionedCommand)
@click.argument("env", required=False)
@options.env_arg_option
@options.network_arg_option
@click.option("--trials", type=click.IntRange(1), metavar="N", default=100, help="Trials of the study.  [default: 100]")
@click.option("--seeds", metavar="SEEDS", help="Seeds that each trial trains, such as 0-9.  [default: 0-4]")
@click.option(
    "--space", type=options.PATH, metavar="FILE", help="TOML file of the settings that are searched, and their ranges."
)
@click.option("--sampler-seed", type=click.IntRange(0), metavar="N", help="Seed of what Optuna proposes.  [default: 0]")
@click.option("--config", "config_file", type=options.PATH, metavar="FILE", help="TOML file of settings of all trials.")
@click.option("--preset", metavar="NAME", help="Settings to begin with.  [default: the preset that fits]")
@click.option("--q-table", is_flag=True, help="No hidden layer, no bias: the weights are the Q table.")
@click.option("--out", type=options.PATH, metavar="FOLDER", help="Folder to write.  [default: a free name in models/]")
@click.option("--storage", metavar="URL", help="Database of a study that several processes or machines share.")
@click.option("--study", metavar="NAME", help="Name of the study in --storage, to begin or to continue.")
@click.option("--resume", type=options.PATH, metavar="FOLDER", help="Continue the search of a folder.")
@click.option("--quiet", is_flag=True, help="Show no progress; errors and the result still.")
@options.trust_option
@options.json_option
@options.shared_options
@options.training_options
def command(
    env: str | None,
    env_args: dict[str, Any],
    trials: int,
    seeds: str | None,
    space: Path | None,
    sampler_seed: int | None,
    config_file: Path | None,
    preset: str | None,
    q_table: bool,
    out: Path | None,
    storage: str | None,
    study: str | None,
    resume: Path | None,
    quiet: bool,
    trust_env: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Search for settings that solve ENV on the most seeds, in the fewest updates.

    Each trial trains an agent for each seed, and is given up where its exact value is below the median of others. The
    best settings so far are in best.toml of the folder, for `deeptaxi train --config`. Ctrl-C keeps what is found, and
    --resume continues.
    """
    typed = options.given_settings(given)
    if resume is not None:
        fixed = {"config": config_file, "preset": preset, "q_table": q_table, "sampler_seed": sampler_seed}
        arguments = {"env_arg": env_args, "network_arg": given.get("network__kwargs")}
        settings = are_given(options.settings_by_name(given))
        refuse_with_resume(env=env, seeds=seeds, space=space, **fixed, **arguments, **settings)
    if "seed" in typed:
        raise UsageError("a search has several seeds: give --seeds")
    from deeptaxi.api.settings import merge_settings

    merge_settings(None, env_args, config_file, q_table, typed)  # reports a fault before NumPy is imported
    from deeptaxi.api.tune import SEEDS, tune
    from deeptaxi.display.console import err
    from deeptaxi.display.tune_table import TuneProgress

    with signals.stopping_gently() as received, TuneProgress(err(quiet)) as progress:
        result = tune(
            env,
            trials=trials,
            seeds=seeds or SEEDS,
            space=space,
            sampler_seed=sampler_seed or 0,
            q_table=q_table,
            preset=preset,
            config=config_file,
            env_args=env_args,
            network_args=typed.get("network", {}).get("kwargs"),
            out=out,
            storage=storage,
            study=study,
            resume=resume,
            trust_env=trust_env,
            stop=lambda: bool(received()),
            watch=progress,
            **cast("Any", options.settings_by_name(given)),
        )
    return report(result, as_json, received())


def report(result: TuneResult, as_json: bool, signal_number: int) -> int:
    """Print the result and the best settings; return the exit code."""
    from deeptaxi.display import console

    if result.interrupted and result.folder is not None:
        console.err().print(f"Resume with: deeptaxi tune --resume {shlex.quote(str(result.folder))}", soft_wrap=True)
    try:
        if as_json:
            options.print_json(result.to_dict())
        else:
            console.print_wide(result.__rich__())
            if result.best_toml:
                click.echo(f"\n{result.best_toml}", nl=False)
    except OSError as error:
        if not signals.reader_gone(error):
            raise
        signals.stop_printing()
    if signal_number:
        return 128 + signal_number
    return 0 if result.best is not None else 1
