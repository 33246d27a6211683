"""From MODEL to a case for `diagnose`: its network, its environment, its log, and what can be computed of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from deeptaxi.cli.models import environment_of


class Asked(NamedTuple):
    """What the user asks for beside MODEL."""

    env: str | None = None
    env_args: Mapping[str, Any] = {}
    time_limit: int | None = None
    trust_env: bool = False
    objective_discount: float | None = None
    discount: float | None = None  # of the training, where no configuration tells it
    episodes: int = 100
    seed: int = 0


def open_case(model: Path, asked: Asked) -> tuple[Any, str]:
    """Return the `Case` of MODEL, a run folder, a `.keras` file or a log folder, and what it is called.

    Raises:
        UsageError: there is no such model, its environment is not known, or the model cannot be tabulated.
        DeepTaxiError: the model, the run folder or the log is damaged.
    """
    from deeptaxi.artifacts.models import find_model

    log = lone_log(model)
    if log is not None:
        return case_of_log(log, asked), str(model)
    source = find_model(model)
    from deeptaxi.mdp.environment import open_environment

    place = environment_of(source, asked.env, dict(asked.env_args), asked.time_limit)
    environment = open_environment(place, trust_module=asked.trust_env or asked.env is not None)
    network, q_values, why = load(source, environment)
    return build_case(source, environment, network, q_values, asked, why), source.name


def lone_log(model: Path) -> Path | None:
    """Return the log file that MODEL is, or that is all that a folder holds; None where there is a model."""
    from deeptaxi.artifacts.logs import FAILED_FILE, LOG_FILE
    from deeptaxi.artifacts.models import MODEL_FILE

    if model.suffix == ".jsonl":
        return model
    if (model / MODEL_FILE).exists():
        return None
    return next((model / name for name in (LOG_FILE, FAILED_FILE) if (model / name).is_file()), None)


def load(source: Any, environment: Any) -> tuple[Any, Any, dict[str, str]]:
    """Return the network, its Q values `[S, A]`, and why there are none where its sizes are not the environment's."""
    from deeptaxi.artifacts.models import load_network
    from deeptaxi.errors import UsageError
    from deeptaxi.presentation.console import err

    with err().status("loading the model …"):
        network = load_network(source.path, foreign=True, states=environment.states)
        from deeptaxi.network.inspect import check_foreign, is_ours, tabulate_any

        if is_ours(network):
            from deeptaxi.network.build import sizes

            if sizes(network) != (environment.states, environment.actions):
                states, actions = sizes(network)
                return None, None, {"q": f"the model has {states} states and {actions} actions"}
        else:
            try:
                check_foreign(network, environment.states, environment.actions)
            except ValueError as error:
                raise UsageError(f"{source.name} cannot be looked into: it has {error}") from None
        return network, tabulate_any(network, environment.states), {}


def build_case(
    source: Any, environment: Any, network: Any, q_values: Any, asked: Asked, why: Mapping[str, str] | None = None
) -> Any:
    """Return the case of an opened model.

    Args:
        source: `artifacts.models.ModelSource`.
        environment: `mdp.environment.Environment`.
        network: None where its sizes do not fit.
        q_values: `[S, A]`, None likewise.
        asked: discounts, episodes and seed.
        why: what is known not to be known.
    """
    from deeptaxi.evaluation.diagnosis import Case
    from deeptaxi.mdp.environment import DEFAULT_DISCOUNT, objective_discount
    from deeptaxi.mdp.names import names_of

    table, config = environment.table, source.config
    objective = asked.objective_discount
    if objective is None and config is not None:
        objective = config.judgement.objective_discount
    elif objective is None:
        objective = objective_discount(table) if table else DEFAULT_DISCOUNT
    logged, missing = of_log(source, (environment.states, environment.actions)) if config else ({}, BARE)
    case = Case(
        environment.config,
        environment.states,
        environment.actions,
        environment.horizon,
        objective,
        table=table,
        q=q_values,
        config=config,
        action_names=names_of(environment).actions,
        training_discount=asked.discount if asked.discount is not None else config.discount if config else None,
        why={"table": environment.table_missing or "", **missing, **(why or {})},
        **logged,
    )
    return with_network(with_sample(with_verdict(case), environment, asked), environment, network)


BARE = {
    "history": "a bare .keras file has no log",
    "visits": "a bare .keras file has no record of what its training tried",
    "replay": "a bare .keras file has no record of what its training tried",
}


def of_log(source: Any, shape: tuple[int, int]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the log of a run and what its training tried, `shape` `[S, A]`, and why what is missing is."""
    from deeptaxi.artifacts.logs import LOG_FILE, find_log, read_visits
    from deeptaxi.errors import DeepTaxiError
    from deeptaxi.records import read_history

    known: dict[str, Any] = {}
    try:
        folder = find_log(source.path.parent)
        known["history"] = read_history(folder / LOG_FILE)
        tried = read_visits(folder)
    except DeepTaxiError as error:
        reason = str(error)
        return known, {name: reason for name in BARE if name not in known}
    if tried is not None and tried.visits.shape == shape:
        known |= {"visits": tried.visits, "replay": tried.replay}
    return known, {}


def with_verdict(case: Any) -> Any:
    """Add the exact verdict, where there are a table and Q values that are numbers."""
    from deeptaxi.evaluation import exact
    from deeptaxi.presentation.console import err

    if case.table is None:
        return case
    with err().status("computing the exact verdict …"):
        mask = None if case.q is None or case.broken else case.allowed
        reference = exact.reference(case.table, case.horizon, case.discount, case.training_discount, mask)
        verdict = exact.judge(reference, case.q) if mask is not None else None
        return dataclasses.replace(case, reference=reference, verdict=verdict)


def with_sample(case: Any, environment: Any, asked: Asked) -> Any:
    """Add what an environment without a table does in episodes, and for a bad policy the tables of related problems."""
    from deeptaxi.evaluation.diagnosis.sample import play_sample
    from deeptaxi.mdp.related import related_tables
    from deeptaxi.presentation.console import err

    if case.harmful:
        return dataclasses.replace(case, siblings=related_tables(environment))
    if case.table is not None or asked.episodes == 0:
        return case
    sound = case.q is not None and not case.broken
    with err().status(f"playing {asked.episodes:,} episodes …"):
        sample = play_sample(
            environment, case.policy if sound else None, case.allowed if sound else None, asked.episodes, asked.seed
        )
    return dataclasses.replace(case, sample=sample)


def with_network(case: Any, environment: Any, network: Any) -> Any:
    """Add what the network's units do over the states that an agent can come to, as far as those are known."""
    import numpy as np

    if network is None:
        return case
    from deeptaxi.network.inspect import look_into

    if case.table is not None and not case.broken:
        states = np.flatnonzero(case.reached)
    elif case.visits is not None:
        states = np.flatnonzero(case.visits.sum(axis=1))
    else:
        states = np.arange(case.states)
    return dataclasses.replace(case, network=look_into(network, states, environment.states))


def case_of_log(path: Path, asked: Asked) -> Any:
    """Return the case of a log without a model.

    Raises:
        UsageError: the log cannot be read, or an environment is named, of which a log can say nothing.
        DeepTaxiError: it holds no record.
    """
    from deeptaxi.artifacts.logs import read_visits
    from deeptaxi.errors import DeepTaxiError, UsageError
    from deeptaxi.evaluation.diagnosis import Case
    from deeptaxi.records import read_history
    from deeptaxi.sections import EnvironmentConfig

    if asked.env is not None:
        raise UsageError(f"{path} is a log without a model, which cannot be looked at on {asked.env}: leave out --env")
    history = read_history(path)
    begun = history.started
    if begun is None:
        raise DeepTaxiError(f"{path} does not say what was trained: its first record is missing")
    tried = read_visits(path.parent)
    why = {"table": "MODEL is a log, and a log does not tell the environment's arguments: name the run instead"}
    return Case(
        EnvironmentConfig(begun.environment),
        begun.states,
        begun.actions,
        asked.time_limit or 0,
        asked.objective_discount or 0.99,
        history=history,
        visits=tried.visits if tried else None,
        replay=tried.replay if tried else None,
        why={**why, "config": "a log does not hold the configuration", "sample": why["table"]},
    )
