"""Compute the exact optimum of an environment: `solve`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeptaxi.api.environments import EnvLike, EnvSpec
from deeptaxi.api.status import planning_status
from deeptaxi.errors import UsageError
from deeptaxi.evaluation import solution
from deeptaxi.evaluation.solution import Solution
from deeptaxi.exports.q_tables import WRITERS, labels_of
from deeptaxi.io.atomic import check_free, write_atomic
from deeptaxi.io.safe_archive import format_bytes
from deeptaxi.mdp.environment import objective_discount
from deeptaxi.mdp.sparse_rows import PLANNING_BYTES
from deeptaxi.mdp.table import TransitionTable, is_large


def solve(
    env: EnvLike,
    discount: float | None = None,
    *,
    env_args: Mapping[str, Any] | None = None,
    time_limit: int | None = None,
    out: str | Path | None = None,
    force: bool = False,
) -> Solution:
    """Compute the exact optimum of an environment from its transition table, without learning.

    Args:
        env: an environment, as `train` takes it.
        discount: discount of the value; None for the table's own, else 0.99.
        env_args: arguments for `gymnasium.make`; what a table of another form does not say, such as `start`.
        time_limit: steps that returns are summed over, instead of the environment's own limit.
        out: file to write Q* and the optimal policy to: `.csv`, `.npz` or `.json`.
        force: whether to overwrite that file.

    Returns:
        The optimum: `optimal_return`, `optimal_value`, `value` `[S]`, `policy` `[S]`, `q_star` `[S, A]`, …

    Raises:
        UsageError: the environment does not exist or has no transition table, or `out` cannot be written.
    """
    path = None if out is None else Path(out)
    if path is not None:
        check_out(path, env, force)
    environment = EnvSpec(env, env_args or {}, time_limit).open()
    table = environment.table
    if table is None:
        raise UsageError(f"{environment.config.id} has no true table to solve: {environment.table_missing}")
    with planning_status(f"solving{memory_note(table)} …"):
        chosen = objective_discount(table) if discount is None else discount
        found = solution.solve(table, environment.horizon, chosen, environment.start_resets)
    if path is not None:
        with write_atomic(path, force) as aside:
            WRITERS[path.suffix[1:]](aside, found.q_star, labels_of(environment), None)
    return found


def memory_note(table: TransitionTable) -> str:
    """Return how much memory planning on a large table takes, in brackets; nothing for a small one."""
    if not is_large(table):
        return ""
    return f" (it takes about {format_bytes(PLANNING_BYTES * table.probability.size)} of memory)"


def check_out(out: Path, env: EnvLike, force: bool) -> None:
    """Reject an output file that cannot be written, before anything is computed.

    Raises:
        UsageError: its extension is unknown, it exists, or it is the table itself.
    """
    if out.suffix[1:] not in WRITERS:
        raise UsageError(f"--out {out}: expected a name that ends in .csv, .npz or .json")
    if isinstance(env, str | Path) and out.resolve() == Path(env).resolve():
        raise UsageError(f"--out {out} is the transition table itself; choose another name")
    check_free(out, force, replaceable=out.is_file())
