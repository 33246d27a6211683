"""Diagnose a model: build a case from it, with everything that can be computed, and name what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from deeptaxi.api.build_case import DiagnoseOptions, OpenedModel, build_case
from deeptaxi.api.environments import EnvLike, EnvSpec
from deeptaxi.api.load import Model, number_alike, number_as_saved, run_of_object
from deeptaxi.api.rich_repr import RichRepr
from deeptaxi.api.run import Run
from deeptaxi.api.run_data import BARE, find_log_file, read_training_log, training_now
from deeptaxi.api.run_options import never
from deeptaxi.api.status import status
from deeptaxi.api.try_cures import BUDGET, Trials, describe_trials, try_cures
from deeptaxi.arguments import title
from deeptaxi.config import EnvironmentConfig, TrainConfig
from deeptaxi.diagnosis import Case
from deeptaxi.diagnosis import diagnose as findings_of
from deeptaxi.diagnosis.case import Diagnosis
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.evaluation.resampling import describe_log
from deeptaxi.mdp.environment import Environment, check_tabulated
from deeptaxi.metrics import History, read_history
from deeptaxi.storage.arrays import check_decisions
from deeptaxi.storage.foreign import check_network, read_model
from deeptaxi.storage.logs import read_visits
from deeptaxi.storage.models import find_model

if TYPE_CHECKING:
    from rich.console import RenderableType


def open_case(model: Model, asked: DiagnoseOptions) -> tuple[Case, str, Environment | None]:
    """Build the case of a model and return it with the model's name, and its environment if it is open.

    Args:
        model: a run folder, a model file, a log folder, a log file, a `Run`, a Keras model, or an array.
        asked: environment, discounts, episodes and seed.

    Raises:
        UsageError: the model does not exist, its environment is unknown, or it cannot be tabulated.
        DeepTaxiError: the model, the run folder or the log is damaged.
    """
    if isinstance(model, str | Path):
        log = find_log_file(Path(model))
        if log is not None:
            return case_of_log(log, asked), str(model), None
        looked_at = look_at_file(Path(model), asked)
    else:
        looked_at = look_at_run(model, asked)
    return build_case(looked_at, asked), looked_at.name, looked_at.environment


def look_at_file(model: Path, asked: DiagnoseOptions) -> OpenedModel:
    """Open a model file and the environment to diagnose it on."""
    source = find_model(model, asked.spec.trust)
    environment = number_as_saved(asked.spec.open_for(source.environment, source.name), source)
    with status("loading the model …"):
        network, array = read_model(source, environment, fitting=False)
        found = opened(source.name, environment, network, array, source.config)
    log = read_training_log(source.path.parent) if source.config else BARE
    return found._replace(log=log)


def look_at_run(model: Run | Any, asked: DiagnoseOptions) -> OpenedModel:
    """Pair a run, a Keras model or an array with the environment to diagnose it on."""
    run = model if isinstance(model, Run) else run_of_object(model, asked.spec)
    environment = asked.spec.open_for(run.environment, run.name) if run is model else run.environment
    if environment is not run.environment:
        environment = number_alike(environment, run.environment)
    array = run.array
    if array is not None and environment is not run.environment:
        array = check_decisions(array, environment, run.name)
    return opened(run.name, environment, run.network, array, run.config)._replace(log=run.log)


def opened(
    name: str, environment: Environment, network: Any, array: NDArray[Any] | None, config: TrainConfig | None
) -> OpenedModel:
    """Return a model, a `network` or an `array`, with all that can be tabulated on an environment.

    Raises:
        UsageError: a network from elsewhere has other inputs or outputs.
        DeepTaxiError: the environment has too many states for a table.
    """
    check_tabulated(environment)
    model = OpenedModel(name, environment, config, BARE, network, array)
    if network is None:
        return model
    from deeptaxi.network.build import sizes
    from deeptaxi.network.encodings import parts_for
    from deeptaxi.network.inspect import difference_alone, find_training_mode, is_ours
    from deeptaxi.network.tabulate import MixedStatesError, tabulate

    if is_ours(network) and sizes(network) != (environment.states, environment.actions):
        states, actions = sizes(network)
        return model._replace(network=None, misfit=f"the model has {states} states and {actions} actions")
    check_network(network, environment, name)
    parts = parts_for(network, environment)
    try:
        return model._replace(decisions=tabulate(network, environment.states, parts))
    except MixedStatesError as error:
        mixing = difference_alone(network, environment.states, parts)
        mode = find_training_mode(network, environment.states, parts)
        return model._replace(network=None, mixing=(str(error), mixing), training_mode=mode)


def case_of_log(path: Path, asked: DiagnoseOptions) -> Case:
    """Build the case of a log without a model.

    Raises:
        UsageError: the log cannot be read, or an environment is given, which a log cannot be diagnosed on.
        DeepTaxiError: the log is empty.
    """
    if asked.spec.env is not None:
        raise UsageError(
            f"{path} is a log without a model, which cannot be diagnosed on {asked.spec.env}: leave out --env"
        )
    history = read_history(path)
    begun = history.started
    if begun is None:
        raise DeepTaxiError(f"{path} does not record what was trained: its first record is missing")
    tried = read_visits(path.parent)
    why = {"table": "MODEL is a log, and a log does not record the environment's arguments: give the run instead"}
    return Case(
        EnvironmentConfig(begun.environment),
        begun.states,
        begun.actions,
        asked.spec.time_limit or 0,
        asked.objective_discount or 0.99,
        history=history,
        running=training_now(path),
        visits=tried.visits if tried else None,
        replay=tried.replay if tried else None,
        why={**why, "config": "a log does not contain the configuration", "sample": why["table"]},
    )


@dataclass(frozen=True, repr=False)
class Diagnosed(RichRepr, Diagnosis):
    """All findings about a model, worst first, and the checks that could not be made.

    Attributes:
        model: name of the model.
        environment: id, arguments and sizes of the environment.
        optimal: whether the exact verdict is optimal; None if there is no verdict.
        history: the log that was examined, or None.
        estimated: what the table is estimated from, under the names of `evaluate`'s JSON; None if it is exact.
        trials: what cures reached, if they were tried.
    """

    model: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    optimal: bool | None = None
    history: History | None = None
    estimated: Mapping[str, Any] | None = None
    trials: Trials | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `deeptaxi diagnose --json` prints."""
        known = {"model": self.model, "environment": dict(self.environment), **super().to_dict()}
        known |= {"estimated": dict(self.estimated)} if self.estimated else {}
        return known | ({"cures": self.trials.to_dict()} if self.trials else {})

    def __repr__(self) -> str:
        names = ", ".join(f"{finding.name} ({finding.severity})" for finding in self.findings)
        return f"Diagnosed({self.model} on {title(self.environment)}: {names or 'no problems found'})"

    def __rich__(self) -> RenderableType:
        from deeptaxi.display.tables import findings_page

        lines = None if self.trials is None else describe_trials(self.trials)
        return findings_page(f"{self.model} on {title(self.environment)}", self.to_dict(), self.optimal, lines)


def diagnose(
    model: Model,
    env: EnvLike | None = None,
    *,
    env_args: Mapping[str, Any] | None = None,
    time_limit: int | None = None,
    trust_env: bool = False,
    objective_discount: float | None = None,
    discount: float | None = None,
    episodes: int = 100,
    seed: int = 0,
    cure: bool = False,
    budget: float = BUDGET,
    stop: Callable[[], bool] | None = None,
) -> Diagnosed:
    """Name what is wrong with a model, with evidence, likely cause and cure.

    With `cure`, the two likeliest cures and the settings that are usual for the problem are tried by training with each
    in memory; nothing is written.

    Args:
        model: a run folder, a model file (as for `load`), a log folder, a log file, a `Run`, a Keras model that maps
            states to Q values, or an array with Q values `[S, A]` or a policy `[S]`.
        env: environment to diagnose on, instead of the model's own.
        env_args: arguments for `gymnasium.make`; they override the model's own.
        time_limit: steps after which an episode is truncated, instead of the environment's own limit.
        trust_env: whether to import the environment module that the run names, which executes its code.
        objective_discount: discount that defines optimality; None for the run's own, else the table's, else 0.99.
        discount: discount of the training, if no configuration gives it.
        episodes: number of episodes to play if there is no table.
        seed: seed of the episodes.
        cure: whether to try cures.
        budget: seconds for all of these trainings together.
        stop: called between their updates; once it returns True, what they reached so far is returned.

    Returns:
        `findings`, each with `name`, `severity`, `summary`, `evidence`, `cause` and `cure`; `not_checked`; `severe`;
        with `cure`, `trials`.

    Raises:
        UsageError: the model does not exist, its environment is unknown, or it cannot be tabulated.
        DeepTaxiError: the model, the run folder or the log is damaged.
    """
    if episodes < 0 or seed < 0:
        raise UsageError(f"episodes = {episodes}, seed = {seed}: expected 0 or more")
    if not budget > 0:
        raise UsageError(f"budget = {budget}: expected a number of seconds above 0")
    spec = EnvSpec(env, env_args or {}, time_limit, trust_env)
    asked = DiagnoseOptions(spec, objective_discount, discount, episodes, seed)
    case, name, opened_environment = open_case(model, asked)
    found, environment = findings_of(case), case.environment
    trials = try_cures(found.findings, case, name, opened_environment, budget, stop or never) if cure else None
    estimate = None if case.table is None else describe_log(case.table)
    return Diagnosed(
        found.findings,
        found.not_checked,
        name,
        {"id": environment.id, "kwargs": dict(environment.kwargs), "states": case.states, "actions": case.actions},
        case.verdict.optimal if case.verdict else None,
        case.history,
        asdict(estimate) if estimate else None,
        trials,
    )
