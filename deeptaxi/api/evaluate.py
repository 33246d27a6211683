"""Evaluate a model, exactly and by episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from deeptaxi import arguments
from deeptaxi.api.environments import EnvLike
from deeptaxi.api.load import Model, as_run
from deeptaxi.api.rich_repr import RichRepr
from deeptaxi.api.run import Run
from deeptaxi.api.status import status
from deeptaxi.errors import UsageError
from deeptaxi.evaluation.episodes import Episodes
from deeptaxi.evaluation.episodes import play as play_episodes

if TYPE_CHECKING:
    from rich.console import RenderableType

STEPS, STEPS_EACH = 500_000, 100  # of all episodes together: at least, and for each one that is asked for


@dataclass(frozen=True, repr=False)
class Evaluation(RichRepr):
    """The verdict on a model.

    Attributes:
        model: what it is called.
        environment: its id, arguments, sizes and time limit.
        exact: the exact verdict under the names of the JSON; None without a true table.
        exact_unavailable: why there is none, or None.
        episodes: what episodes came to: count, mean_return, ci95, mean_length, terminated_fraction, and what was cut of
            them; None without any.
    """

    model: str
    environment: Mapping[str, Any]
    exact: Mapping[str, Any] | None
    exact_unavailable: str | None
    episodes: Mapping[str, Any] | None

    @property
    def optimal(self) -> bool | None:
        """Whether every start state is played optimally; None where that cannot be known."""
        return None if self.exact is None else self.exact["optimal"]

    def to_dict(self) -> dict[str, Any]:
        """Return what `deeptaxi evaluate --json` says."""
        return asdict(self)

    def __repr__(self) -> str:
        from deeptaxi.storage.model_card import describe_verdict

        told = describe_verdict(self.exact, self.exact_unavailable)
        if self.episodes:
            told += f"; {self.episodes['count']:,} episodes returned {self.episodes['mean_return']:.4f} on average"
        return f"Evaluation({self.model} on {arguments.title(self.environment)}: {told})"

    def __rich__(self) -> RenderableType:
        from deeptaxi.display import tables

        title = f"{self.model} on {arguments.title(self.environment)}"
        return tables.verdict_table(title, self.exact, self.exact_unavailable, self.episodes)


def evaluate(
    model: Model,
    env: EnvLike | None = None,
    episodes: int = 1000,
    seed: int = 0,
    objective_discount: float | None = None,
    *,
    env_args: Mapping[str, Any] | None = None,
    time_limit: int | None = None,
    trust_env: bool = False,
) -> Evaluation:
    """Evaluate a model: exactly where a transition table exists, and by episodes.

    Args:
        model: a run folder, a `.keras` file, a `Run`, or a Keras model, from state numbers to Q values.
        env: the environment to evaluate it on, instead of its own.
        episodes: how many to play as well; 0 for none.
        seed: of the episodes.
        objective_discount: of the value that decides what is optimal; None for the run's own, else the
            table's, else 0.99.
        env_args: arguments of `gymnasium.make`, over those of its own.
        time_limit: steps before an episode is cut, instead of its own.
        trust_env: whether to import the environment module that the run names; it is code.

    Raises:
        UsageError: there is no such model, its environment is not known, or it does not fit.
        DeepTaxiError: it is damaged, or gives Q values that are no numbers.
    """
    if episodes < 0 or seed < 0:
        raise UsageError(f"episodes = {episodes}, seed = {seed}: expected 0 or more")
    run = as_run(model, env, env_args, time_limit, trust_env)
    verdict = run.exact_at(objective_discount)
    played = sample_episodes(run, episodes, seed)
    return Evaluation(
        run.name,
        run.environment.describe(),
        verdict,
        run.exact_unavailable,
        None if played is None else played.to_dict(),
    )


def sample_episodes(run: Run, count: int, seed: int) -> Episodes | None:
    """Play episodes by the greedy policy; None where none are asked for."""
    policy = run.policy
    if count == 0:
        return None
    with status(f"playing {count:,} episodes …"):
        return play_episodes(run.environment, policy, count, seed, max(STEPS, STEPS_EACH * count))
