"""``deeptaxi explain gradients``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from deeptaxi.cli import options
from deeptaxi.sections import AGGREGATIONS

LIMIT = 1e-6
DEFAULT_ACTIONS = 4
VECTOR_ACTIONS = (1, 2, 3, 4, 6, 16, 64)


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
    from deeptaxi.errors import DeepTaxiError

    count = check_count(actions, gradient)
    if vectors is not None:
        from deeptaxi.artifacts.files import check_free

        check_free(vectors, force, replaceable=vectors.is_file(), option="--vectors")
    from deeptaxi import backend
    from deeptaxi.presentation import console

    with console.err().status("starting Keras …"):
        backend.start()
        summary = {"seed": seed, **compute(count, aggregation, seed, gradient)}
    if vectors is not None:
        write(vectors, seed)
    report({**summary, "limit": LIMIT, "vectors": None if vectors is None else str(vectors)}, as_json)
    found = summary["discrepancy"]["largest"]
    if not found <= LIMIT:
        raise DeepTaxiError(f"the gradients differ by {found:.1e}, more than {LIMIT:g}: the closed form is wrong here")


def check_count(actions: int | None, gradient: list[float] | None) -> int:
    """Return N.

    Raises:
        UsageError: it is given twice, and not alike.
    """
    from deeptaxi.errors import UsageError

    if gradient is None:
        return actions or DEFAULT_ACTIONS
    if actions not in (None, len(gradient)):
        raise UsageError(f"--gradient has {len(gradient)} numbers, --actions {actions} asks for {actions}")
    return len(gradient)


def compute(actions: int, aggregation: str, seed: int, gradient: list[float] | None = None) -> dict[str, Any]:
    """Return all gradients at one random point, as plain numbers."""
    import numpy as np

    from deeptaxi.network.gradients import random_gradients

    g = None if gradient is None else np.array([gradient])
    found = random_gradients(actions, aggregation, batch=1, seed=seed, g=g)
    check = found.check
    ways = {"nested": found.nested, "autodiff": found.autodiff, "central_differences": found.differences}
    advantage = {name: pair[1][0].tolist() for name, pair in ways.items()}
    shared = None if found.shared is None else found.shared[0].tolist()
    return {
        "actions": actions,
        "aggregation": aggregation,
        "V": float(found.value[0, 0]),
        "A": found.advantage[0].tolist(),
        "Q": found.q_values[0].tolist(),
        "dE_dQ": found.g[0].tolist(),
        "dE_dV": {name: float(pair[0][0, 0]) for name, pair in ways.items()},
        "dE_dA": {"nested": advantage.pop("nested"), "shared": shared, **advantage},
        "discrepancy": {
            "shared": check.shared_sum,
            "autodiff": check.autodiff,
            "central_differences": check.finite_differences,
            "largest": check.largest,
        },
    }


def write(path: Path, seed: int) -> None:
    """Write test vectors of several N and every aggregation."""
    from deeptaxi.artifacts.files import write_text
    from deeptaxi.records import to_json

    vectors = [compute(count, name, seed) for name in AGGREGATIONS for count in VECTOR_ACTIONS]
    about = "gradients of a dueling head, float64; docs/dueling-gradient.md of deeptaxi describes the keys"
    write_text(path, to_json({"format": 1, "about": about, "seed": seed, "vectors": vectors}, indent=1) + "\n")


def report(summary: dict[str, Any], as_json: bool) -> None:
    """Print what came out."""
    if as_json:
        options.print_json(summary)
        return
    from deeptaxi.presentation import console, gradients

    console.print_wide(gradients.explanation(summary))
