"""``deeptaxi solve``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options


@click.command("solve")
@click.argument("env")
@options.env_arg_option
@options.time_limit_option
@options.objective_discount_option("the table's own, else 0.99")
@click.option("--out", type=options.PATH, metavar="FILE", help="Write Q* and the optimal policy: .csv, .npz or .json.")
@options.force_option
@options.json_option
@options.shared
def command(
    env: str,
    env_args: dict[str, Any],
    time_limit: int | None,
    objective_discount: float | None,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Compute the exact optimum of ENV from its transition table: return, value and policy, without learning."""
    from deeptaxi.errors import UsageError
    from deeptaxi.mdp.environment import open_environment
    from deeptaxi.presentation import console, verdict

    check_out(out, env, force)
    environment = open_environment(options.environment_config(env, env_args, time_limit))
    if environment.table is None:
        raise UsageError(f"{env} has no true table to solve: {environment.table_missing}")
    solution = solved(environment, objective_discount)
    if out is not None:
        write(out, solution.q_star, environment)
    if as_json:
        more = {"starts_estimated_from_resets": environment.start_resets}
        options.print_json({"environment": environment.describe(), **solution.to_dict(), **more})
        return
    console.print_wide(verdict.optimum_table(environment.config.id, solution.to_dict()), console.FACTS)
    if out is not None:
        console.out().print(f"Wrote {out}", soft_wrap=True)


def check_out(out: Path | None, env: str, force: bool) -> None:
    """Refuse a file that cannot be written, before anything is computed.

    Raises:
        UsageError: its ending is unknown, it is there already, or it is the table itself.
    """
    from deeptaxi.artifacts.files import check_free
    from deeptaxi.artifacts.tables import WRITERS
    from deeptaxi.errors import UsageError

    if out is None:
        return
    if out.suffix[1:] not in WRITERS:
        raise UsageError(f"--out {out}: expected a name that ends in .csv, .npz or .json")
    if out.resolve() == Path(env).resolve():
        raise UsageError(f"--out {out} is the transition table itself; choose another name")
    check_free(out, force, replaceable=out.is_file())


def solved(environment: Any, discount: float | None) -> Any:
    """Return the exact solution at the given discount, else at the table's, showing that something happens."""
    from deeptaxi.evaluation.solution import solve
    from deeptaxi.mdp.environment import objective_discount
    from deeptaxi.presentation.console import err

    with err().status("solving …"):
        chosen = objective_discount(environment.table) if discount is None else discount
        return solve(environment.table, environment.horizon, chosen)


def write(path: Path, q_star: Any, environment: Any) -> None:
    """Write Q* and the optimal policy as a table."""
    from deeptaxi.artifacts.files import written_aside
    from deeptaxi.artifacts.tables import WRITERS, labels_of

    with written_aside(path) as aside:
        WRITERS[path.suffix[1:]][0](aside, q_star, labels_of(environment))
