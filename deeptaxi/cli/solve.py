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
@options.objective_discount_option
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
    from deeptaxi.artifacts.files import check_free
    from deeptaxi.artifacts.tables import WRITERS
    from deeptaxi.errors import UsageError
    from deeptaxi.mdp.environment import open_environment
    from deeptaxi.records import to_json

    if out is not None and out.suffix[1:] not in WRITERS:
        raise UsageError(f"--out {out}: expected a name that ends in .csv, .npz or .json")
    if out is not None:
        check_free(out, force, replaceable=out.is_file())
    environment = open_environment(options.environment_config(env, env_args, time_limit))
    if environment.table is None:
        raise UsageError(f"{env} has no true table to solve: {environment.table_missing}")
    solution, q_star = solve(environment, objective_discount)
    if out is not None:
        write(out, q_star, solution["environment"])
    if as_json:
        click.echo(to_json(solution, indent=2))
        return
    from deeptaxi.presentation import console, verdict

    console.out().print(verdict.optimum_table(env, solution))
    if out is not None:
        console.out().print(f"Wrote {out}", soft_wrap=True)


def solve(environment: Any, discount: float | None) -> tuple[dict[str, Any], Any]:
    """Return the optimum under the names of the JSON, and Q* `[S, A]`."""
    from deeptaxi.evaluation.exact import snap
    from deeptaxi.mdp import planning

    table, horizon = environment.table, environment.horizon
    if discount is None:
        discount = table.discount if table.discount is not None and table.discount < 1 else 0.99
    best = planning.optimal_horizon(table, horizon, table.action_mask)
    optimum = planning.value_iteration(table, discount, table.action_mask)
    policy = planning.greedy_policy(optimum.q)
    episode = planning.evaluate_horizon(table, policy, horizon)
    random = planning.evaluate_policy(table, planning.uniform_policy(table, table.action_mask), discount)
    start = table.start
    solution = {
        "environment": environment.describe(),
        "horizon": horizon,
        "optimal_return": float(start @ best.returns),
        "return_bound": best.bound,
        "discount": discount,
        "optimal_value": float(start @ optimum.value),
        "value_bound": optimum.bound,
        "iterations": optimum.iterations,
        "random_value": float(start @ random.value),
        "policy_return": float(start @ episode.returns),
        "termination_probability": snap(float(start @ episode.termination), 1.0),
        "mean_episode_length": float(start @ episode.length),
        "start_states": int((start > 0).sum()),
        "starts_estimated_from_resets": environment.start_resets,
        "value": optimum.value.tolist(),
        "policy": policy.tolist(),
        "optimal_actions": [row.nonzero()[0].tolist() for row in planning.optimal_actions(optimum.q)],
    }
    return solution, optimum.q


def write(path: Path, q_star: Any, environment: dict[str, Any]) -> None:
    """Write Q* and the optimal policy as a table."""
    from deeptaxi.artifacts.files import written_aside
    from deeptaxi.artifacts.tables import WRITERS

    with written_aside(path) as aside:
        WRITERS[path.suffix[1:]][0](aside, q_star, {"environment": environment})
