"""``deeptaxi explain gradients``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options
from deeptaxi.config import AGGREGATIONS


class Numbers(click.ParamType):
    """Numbers, such as ``0,8,0,0``."""

    name = "g1,g2,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        """Split at commas."""
        if isinstance(value, list):
            return value
        try:
            numbers = [float(part) for part in str(value).split(",")]
        except ValueError:
            numbers = [math.nan]
        if not all(map(math.isfinite, numbers)):
            self.fail(f"expected finite numbers such as 0,8,0,0, received '{value}'", param, ctx)
        return numbers


@click.command("gradients")
@click.option("--actions", type=click.IntRange(1, 1024), help="N, the number of actions.  [default: 4]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of V, A and dE/dQ.")
@click.option(
    "--aggregation",
    type=click.Choice(AGGREGATIONS),
    default="mean",
    show_default=True,
    help="What the dueling head subtracts from A.",
)
@click.option("--gradient", type=Numbers(), help="dE/dQ, one number an action.  [default: random]")
@click.option("--vectors", type=options.PATH, metavar="FILE", help="Write test vectors as JSON, of several N.")
@options.force_option
@options.json_option
@options.shared
def command(
    actions: int | None,
    seed: int,
    aggregation: str,
    gradient: list[float] | None,
    vectors: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Check the gradients of a dueling head, Q = V + A − mean(A), in four ways.

    \b
    nested sum            dE/dA_i = Σ_j g_j · (δ_ij − 1/N),  with g = dE/dQ
    shared sum            dE/dA_i = g_i − (1/N)·Σ_j g_j,  dE/dV = Σ_j g_j: one sum, used twice
    autodiff              the backend's automatic differentiation
    central differences   (E(x + h) − E(x − h)) / 2h

    Exit code 1 if the largest discrepancy is above 1e-6. All is computed in float64.
    """
    from deeptaxi.api import explain
    from deeptaxi.errors import DeepTaxiError

    found = explain.gradients(
        actions, seed=seed, aggregation=aggregation, gradient=gradient, vectors=vectors, force=force
    )
    if as_json:
        options.print_json(found.to_dict())
    else:
        from deeptaxi.display import console

        console.print_wide(found.__rich__())
    largest, limit = found["discrepancy"]["largest"], found["limit"]
    if not largest <= limit:
        raise DeepTaxiError(
            f"the gradients differ by {largest:.1e}, more than {limit:g}: the closed form is wrong here"
        )
