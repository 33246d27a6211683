"""How a network learns, with every number: `explain.update` and `explain.gradients`.

The module's top imports neither NumPy nor Gymnasium.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from deeptaxi.api.requests import Request, Wish
from deeptaxi.api.settings import Config, Settings, nested
from deeptaxi.api.shown import Shown
from deeptaxi.config import AGGREGATIONS
from deeptaxi.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from deeptaxi.api.models import Model
    from deeptaxi.api.places import Place

__all__ = ("Explanation", "gradients", "update")

LIMIT = 1e-6  # of the discrepancy between the ways to a gradient
DEFAULT_ACTIONS, MOST_ACTIONS = 4, 1024
LARGEST = 1e300  # of dE/dQ: their sum and its differences must be finite too


@dataclass(frozen=True, repr=False)
class Explanation(Shown):
    """Every number of an update, or of a check of gradients; printed, it is the command line's explanation.

    Attributes:
        what: `"update"` or `"gradients"`.
        numbers: under the names of the JSON.
    """

    what: str
    numbers: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return what `deeptaxi explain --json` says."""
        return dict(self.numbers)

    def __getitem__(self, key: str) -> Any:
        return self.numbers[key]

    def __repr__(self) -> str:
        if self.what == "update":
            place = f"state {self.numbers['state']}, action {self.numbers['action']}"
            return f"Explanation(update of {self.numbers['environment']['id']}, {place}; print it, or see to_dict())"
        found = self.numbers["discrepancy"]["largest"]
        return f"Explanation(gradients of {self.numbers['actions']} actions, largest discrepancy {found:.1e})"

    def __rich__(self) -> RenderableType:
        from deeptaxi.display import explain

        return (explain.of_update if self.what == "update" else explain.gradient_check)(self.numbers)


def update(
    model: Model | None = None,
    env: Place | None = None,
    *,
    state: int | None = None,
    action: int | None = None,
    transitions: Sequence[Sequence[Any]] = (),
    compare: bool = False,
    target_noise: float | None = None,
    q_table: bool = False,
    preset: str | None = None,
    config: Config | None = None,
    env_args: Mapping[str, Any] | None = None,
    trust_env: bool = False,
    **settings: Unpack[Settings],
) -> Explanation:
    """Take one update apart: every number from the predictions to the weights that change.

    Without `model`, the network is the one that `train` with the same settings would start with. The model itself is
    left as it is. B is 1 unless `batch_size` says that the sample is one of more.

    Args:
        model: a run folder, a `.keras` file or a `Run`; None for a fresh network.
        env: the environment, as `train` takes it; of a model instead of its own.
        state: of the transition; its outcome is the likeliest in the table, with `seed` it is drawn.
        action: that is taken there; None for the greedy one.
        transitions: the transition written down, (state, action, reward, next state[, terminated]); n in a row for
            n-step targets. Without it and without `state` one is drawn by `seed`.
        compare: whether to set the masked gradient beside the overwrite recipe.
        target_noise: the spread of noise that is added to the target network's weights, as if it lagged behind.
        q_table: no hidden layer, no bias: the weights are the Q table.
        preset: settings of `listing.presets`; None for the one that fits.
        config: a TOML file, a mapping of the same form, or the `config` of a run.
        env_args: arguments of `gymnasium.make`.
        trust_env: whether to import the environment module that a file names; it is code.
        **settings: settings of the training, as `train` takes them.

    Raises:
        UsageError: what is asked for does not exist, or excludes each other.
        DeepTaxiError: the model is damaged.
    """
    if target_noise is not None and not (target_noise > 0 and math.isfinite(target_noise)):
        raise UsageError(f"target_noise = {target_noise}: expected a number above 0")
    wish = Wish(state, action, tuple(map(transition, transitions)), settings.get("seed"))
    wish.check()
    request = Request(env, env_args or {}, config, preset, q_table, trust_env, nested(settings))
    return explained(model, request, wish, target_noise, compare)


def explained(
    model: Model | None, request: Request, wish: Wish, target_noise: float | None, comparing: bool
) -> Explanation:
    """Return the explanation of a request."""
    from deeptaxi.api.explaining import explain_update

    return Explanation("update", explain_update(model, request, wish, target_noise, comparing))


def transition(row: Sequence[Any]) -> tuple[Any, ...]:
    """Return a transition of five parts.

    Raises:
        UsageError: it has another number of parts, its reward is not finite, or `terminated` is no truth value.
    """
    row = tuple(row)
    if len(row) not in (4, 5) or not math.isfinite(row[2]) or row[4:] not in ((), (0,), (1,)):
        raise UsageError(f"expected (state, action, reward, next state[, terminated]), received {row}")
    return (*row[:4], bool(row[4]) if len(row) == 5 else False)


def gradients(
    actions: int | None = None,
    *,
    seed: int = 0,
    aggregation: str = "mean",
    gradient: Sequence[float] | None = None,
    vectors: str | Path | None = None,
    force: bool = False,
) -> Explanation:
    """Compute the gradients of a dueling head, Q = V + A − mean(A), in four ways, in float64.

    Args:
        actions: N; 4 unless `gradient` says how many.
        seed: of V, A and dE/dQ.
        aggregation: what the head subtracts from A: `"mean"`, `"max"` or `"none"`.
        gradient: dE/dQ, one number an action; None for random ones.
        vectors: a file for test vectors, as JSON, of several N.
        force: whether to replace that file.

    Returns:
        The gradients; `["discrepancy"]["largest"]` is how far the ways are apart, `["limit"]` how far they may be.

    Raises:
        UsageError: the number of actions is given twice and not alike, or the file is there.
    """
    from deeptaxi.api.explaining import explain_gradients

    if aggregation not in AGGREGATIONS:
        raise UsageError(f"aggregation = {aggregation}: expected one of {', '.join(AGGREGATIONS)}")
    count = check_count(actions, gradient)
    path = None if vectors is None else Path(vectors)
    found = explain_gradients(count, aggregation, seed, gradient, path, force)
    written = found.pop("vectors")
    return Explanation("gradients", {**found, "limit": LIMIT, "vectors": written})


def check_count(actions: int | None, gradient: Sequence[float] | None) -> int:
    """Return N.

    Raises:
        UsageError: it is given twice, and not alike, it is out of range, or the gradient is not finite or too large.
    """
    if gradient is not None and not all(abs(number) <= LARGEST for number in gradient):
        raise UsageError(
            f"--gradient {list(gradient)}: expected finite numbers of at most {LARGEST:g}, such as 0,8,0,0"
        )
    if gradient is not None and actions not in (None, len(gradient)):
        raise UsageError(f"--gradient has {len(gradient)} numbers, --actions {actions} asks for {actions}")
    count = len(gradient) if gradient is not None else DEFAULT_ACTIONS if actions is None else actions
    if not 1 <= count <= MOST_ACTIONS:
        raise UsageError(f"actions = {count}: expected from 1 to {MOST_ACTIONS:,}")
    return count
