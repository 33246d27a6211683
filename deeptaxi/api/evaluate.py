"""Evaluate a model exactly and by sampled episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from deeptaxi import arguments
from deeptaxi.api.environments import EnvLike, EnvSpec
from deeptaxi.api.load import Model, as_run
from deeptaxi.api.rich_repr import RichRepr
from deeptaxi.api.sampling import sample_episodes
from deeptaxi.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, repr=False)
class Evaluation(RichRepr):
    """The result of evaluating a model.

    Attributes:
        model: name of the model.
        environment: id, arguments, sizes and time limit of the environment.
        exact: the exact verdict, keyed as in the JSON; None without a transition table.
        exact_unavailable: why there is no exact verdict, or None.
        episodes: results of the sampled episodes: count, mean_return, ci95, mean_length, terminated_fraction, and the
            numbers of truncated ones; None if none were played.
    """

    model: str
    environment: Mapping[str, Any]
    exact: Mapping[str, Any] | None
    exact_unavailable: str | None
    episodes: Mapping[str, Any] | None

    @property
    def optimal(self) -> bool | None:
        """Whether the policy is optimal from every start state; None if unknown."""
        return None if self.exact is None else self.exact["optimal"]

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `deeptaxi evaluate --json` prints."""
        return asdict(self)

    def __repr__(self) -> str:
        from deeptaxi.storage.model_card import describe_verdict

        verdict = describe_verdict(self.exact, self.exact_unavailable)
        if self.episodes:
            verdict += f"; {self.episodes['count']:,} episodes returned {self.episodes['mean_return']:.4f} on average"
        return f"Evaluation({self.model} on {arguments.title(self.environment)}: {verdict})"

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
    """Evaluate a model exactly, if there is a transition table, and by sampled episodes.

    Args:
        model: a run folder, a `.keras` file, a `Run`, or a Keras model that maps state numbers to Q values.
        env: environment to evaluate on, instead of the model's own.
        episodes: number of episodes to play as well; 0 for none.
        seed: seed of the episodes.
        objective_discount: discount that defines optimality; None for the run's own, else the table's, else 0.99.
        env_args: arguments for `gymnasium.make`; they override the model's own.
        time_limit: steps after which an episode is truncated, instead of the environment's own limit.
        trust_env: whether to import the environment module that the run names, which executes its code.

    Raises:
        UsageError: the model does not exist, its environment is unknown, or it does not fit.
        DeepTaxiError: the model is damaged, or its Q values are NaN or +∞.
    """
    if episodes < 0 or seed < 0:
        raise UsageError(f"episodes = {episodes}, seed = {seed}: expected 0 or more")
    run = as_run(model, EnvSpec(env, env_args or {}, time_limit, trust_env))
    verdict = run.exact_at(objective_discount)
    played = sample_episodes(run, episodes, seed)
    return Evaluation(
        run.name,
        run.environment.describe(),
        verdict,
        None if verdict else run.exact_unavailable,
        None if played is None else played.to_dict(),
    )
