"""``deeptaxi report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options


@click.command("report")
@click.argument("runs", type=options.PATH, nargs=-1, required=True, metavar="MODEL...")
@click.option("--env", help="Environment of model files, which do not say it.  [default: the run's own]")
@options.env_arg_option
@options.time_limit_option
@click.option("--out", "-o", type=options.PATH, metavar="FILE", help="Page to write.  [default: the run's name.html]")
@click.option("--figures", type=options.PATH, metavar="DIR", help="Also write its pictures, as PNG and SVG files.")
@click.option("--cure", is_flag=True, help="Also train with the likeliest cures, and show what each reached.")
@options.budget_option
@options.force_option
@options.trust_option
@options.json_option
@options.shared_options
def command(
    runs: tuple[Path, ...],
    env: str | None,
    env_args: dict[str, Any],
    time_limit: int | None,
    out: Path | None,
    figures: Path | None,
    cure: bool,
    budget: float | None,
    force: bool,
    trust_env: bool,
    as_json: bool,
) -> int:
    """Write an HTML page about MODEL, a run folder or a model file, or about several on the same environment.

    It is one self-contained file: the verdict, the learning curves beside the optimum, the policy (on a map if the
    environment is a grid), a player of episodes beside an optimal agent, Q beside Q*, visits, findings, the
    configuration and how to reproduce it. For several runs it shows the median and the range, and details of the one
    farthest from the optimum. For a folder that holds runs, it is the page of `deeptaxi compare`: groups with
    intervals, and details of the best run. With --cure, it shows what cures reached.
    """
    path = out or Path(f"{runs[0].resolve().name}.html" if len(runs) == 1 else "report.html")
    from deeptaxi.api.compare import compare
    from deeptaxi.api.environments import EnvSpec
    from deeptaxi.api.load import load_comparable
    from deeptaxi.api.report import check_places, report
    from deeptaxi.cli.diagnose_command import diagnose_with_cures
    from deeptaxi.display.console import err
    from deeptaxi.display.console import out as screen
    from deeptaxi.errors import UsageError
    from deeptaxi.storage.run_results import holds_runs

    options.check_budget(cure, budget)
    check_places(path, figures, force)
    if cure and (len(runs) > 1 or holds_runs(runs[0])):
        raise UsageError("--cure is for one run: write a report on each")
    signal_number, diagnosis = 0, None
    if len(runs) == 1 and holds_runs(runs[0]):
        if env is not None or env_args or time_limit is not None:
            raise UsageError(f"--env, --env-arg and --time-limit are for a model file; {runs[0]} holds runs")
        made = compare(runs[0]).report(path, figures=figures, force=force, trust_env=trust_env)
    else:
        loaded = load_comparable(runs, EnvSpec(env, env_args, time_limit, trust_env))
        if cure:
            found, signal_number = diagnose_with_cures(loaded[0], budget)
            diagnosis = found.to_dict()
        made = report(loaded, path, figures, force, diagnosis)
    for remark in made.remarks:
        err().print(f"Note: {remark}", soft_wrap=True)
    if as_json:
        options.print_json(made.to_dict())
    else:
        more = f", and {len(made.figures)} pictures in {figures}" if made.figures else ""
        screen().print(f"Wrote {path} ({made.bytes / 1000:.0f} KB){more}", soft_wrap=True)
    return 128 + signal_number if signal_number else 0
