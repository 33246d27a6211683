"""What the commands on a trained model share: find it, open its environment, load it, tabulate it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import click

from deeptaxi.cli import options


class Opened(NamedTuple):
    """A model beside the environment that it is looked at on."""

    source: Any  # artifacts.models.ModelSource
    environment: Any  # mdp.environment.Environment
    network: Any
    q_values: Any  # float32 [S, A], −∞ where the agent may not act

    def discount(self, asked: float | None = None) -> float:
        """Return the objective's discount: the one that is asked for, else the run's, else the table's."""
        from deeptaxi.mdp.environment import DEFAULT_DISCOUNT, objective_discount

        if asked is not None:
            return asked
        if self.source.config:
            return float(self.source.config.judgement.objective_discount)
        return objective_discount(self.environment.table) if self.environment.table else DEFAULT_DISCOUNT

    def reference(self, asked: float | None = None) -> Any:
        """Return the optima that the model is measured by (`evaluation.exact`); None without a true table."""
        if self.environment.table is None:
            return None
        from deeptaxi.evaluation import exact

        training_discount = self.source.config.discount if self.source.config else None
        mask = self.q_values > float("-inf")
        return exact.reference(
            self.environment.table, self.environment.horizon, self.discount(asked), training_discount, mask
        )


def model_options(purpose: str) -> Any:
    """Add the argument MODEL and the options that say which environment it is looked at on."""

    def add(function: options.Function) -> options.Function:
        for decorate in (
            options.trust_option,
            options.time_limit_option,
            options.env_arg_option,
            click.option("--env", help=f"Environment to {purpose}.  [default: the run's own]"),
            click.argument("model", type=options.PATH),
        ):
            function = decorate(function)
        return function

    return add


def open_model(model: Path, env: str | None, env_args: dict[str, Any], time_limit: int | None, trust: bool) -> Opened:
    """Open MODEL, a run folder or a `.keras` file, and its environment or the one that is named.

    Raises:
        UsageError: there is no such model, its environment is not known, or it does not fit.
        DeepTaxiError: the model or the run folder is damaged.
    """
    from deeptaxi.artifacts.models import find_model
    from deeptaxi.mdp.environment import open_environment

    source = find_model(model)
    place = environment_of(source, env, env_args, time_limit)
    return load_model(source, open_environment(place, trust_module=trust or env is not None))


def load_model(source: Any, environment: Any) -> Opened:
    """Load a model that was found, beside an environment that is open.

    Raises:
        UsageError: it does not fit the environment.
        DeepTaxiError: the model is damaged.
    """
    from deeptaxi.artifacts.models import check_fits, load_network
    from deeptaxi.presentation import console

    with console.err().status("loading the model …"):
        network = load_network(source.path)
        check_fits(network, environment, source.name)
        from deeptaxi.network.build import tabulate

        return Opened(source, environment, network, tabulate(network))


def environment_of(source: Any, env: str | None, env_args: dict[str, Any], time_limit: int | None) -> Any:
    """Return the environment to look at: the one that is named, else the run's, with what is changed of it.

    Raises:
        UsageError: neither is known.
    """
    from deeptaxi.errors import UsageError

    if env is not None:
        return options.environment_config(env, env_args, time_limit)
    if source.environment is None:
        raise UsageError(f"{source.name} does not say what it was trained on: name it with --env")
    changes: dict[str, Any] = {"kwargs": {**source.environment.kwargs, **env_args}}
    if time_limit:
        changes["time_limit"] = time_limit
    return dataclasses.replace(source.environment, **changes)
