"""Build the case of an opened model: everything that a diagnosis looks at.

That includes environments that are easily confused with the model's: the same size, but other dynamics, such as Taxi
with and without rain. They come from the packaged presets.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import NDArray

from deeptaxi.api.environments import EnvSpec
from deeptaxi.api.run_data import TrainingLog, training_now
from deeptaxi.api.status import planning_status, status
from deeptaxi.arguments import words
from deeptaxi.config import OWN_KIND, EnvironmentConfig, TrainConfig
from deeptaxi.diagnosis.case import Case, play_random_sample, play_sample
from deeptaxi.errors import DeepTaxiError
from deeptaxi.evaluation import exact
from deeptaxi.learning.resolve import configure
from deeptaxi.mdp.describe import names_of
from deeptaxi.mdp.environment import DEFAULT_DISCOUNT, Environment, objective_discount, open_environment
from deeptaxi.mdp.table import TransitionTable
from deeptaxi.network.facts import TrainingMode
from deeptaxi.presets import Problem, listed_presets
from deeptaxi.schema import to_mapping


class DiagnoseOptions(NamedTuple):
    """Options of a diagnosis."""

    spec: EnvSpec = EnvSpec()
    objective_discount: float | None = None
    discount: float | None = None  # the training's, if no configuration gives it
    episodes: int = 100
    seed: int = 0


class OpenedModel(NamedTuple):
    """A model paired with an environment that it may not fit."""

    name: str
    environment: Environment
    config: TrainConfig | None
    log: TrainingLog
    network: Any  # None if missing, or not to be tabulated
    decisions: NDArray[Any] | None = None  # Q values [S, A], or a policy [S]; None if it cannot be tabulated
    misfit: str | None = None  # its sizes, if they are not the environment's
    mixing: tuple[str, float] | None = None  # if its answers mix states: the error, and the difference that makes
    training_mode: TrainingMode | None = None  # if it mixes states; else it is looked for in the network


def build_case(opened: OpenedModel, asked: DiagnoseOptions) -> Case:
    """Build the case of an opened model: known facts, verdict, sampled episodes and network units."""
    environment, config, decisions = opened.environment, opened.config, opened.decisions
    is_policy = decisions is not None and decisions.ndim == 1
    table = environment.table
    objective = asked.objective_discount
    if objective is None and config is not None:
        objective = config.evaluation.objective_discount
    elif objective is None:
        objective = objective_discount(table) if table else DEFAULT_DISCOUNT
    case = Case(
        environment.config,
        environment.states,
        environment.actions,
        environment.horizon,
        objective,
        table=table,
        q=None if is_policy else decisions,
        given=decisions if is_policy else None,
        misfit=opened.misfit,
        mixing=opened.mixing,
        training_mode=opened.training_mode,
        config=config,
        usual=usual_config(environment, config),
        binned=environment.binned,
        action_names=names_of(environment).actions,
        training_discount=asked.discount if asked.discount is not None else config.discount if config else None,
        why={"table": environment.table_missing or "", **opened.log.missing, **reasons(opened, is_policy)},
        **logged(opened.log, (environment.states, environment.actions)),
    )
    return with_network(with_sample(with_verdict(case), environment, asked), opened)


def usual_config(environment: Environment, config: TrainConfig | None) -> TrainConfig | None:
    """Return what `deeptaxi train` takes for an environment and a kind of network if nothing is set; None if unknown.

    The loop, the state encoding, the mask and the objective are those of `config`, as are the seed and a network of the
    user's own.
    """
    values: dict[str, Any] = {"environment": to_mapping(environment.config)}
    if config is not None:
        values |= {
            "seed": config.seed,
            "loop": config.loop,
            "network": kind_of_network(config),
            **({"exploration": {"action_mask": True}} if config.exploration.action_mask else {}),
            "evaluation": {"objective_discount": config.evaluation.objective_discount},
        }
    try:
        return configure(environment, values).config
    except DeepTaxiError:
        return None


def kind_of_network(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that decide the kind of network, and nothing else of it."""
    network = config.network
    if network.kind == OWN_KIND:
        return to_mapping(network)
    if network.kind == "q-table":
        return {"hidden": [], "dueling": False}
    encoding = {"encoding": network.encoding} if network.encoding != "joint" else {}
    return encoding | ({} if network.dueling else {"dueling": False})


def reasons(opened: OpenedModel, is_policy: bool) -> dict[str, str]:
    """Return why the Q values or the network of a model are unknown."""
    if opened.misfit is not None:
        return {"q": opened.misfit}
    if opened.mixing is not None:
        return {"q": "the network has no Q values of a state alone: it mixes states"}
    if is_policy:
        return {"q": "a policy has no Q values", "network": "a policy has no network"}
    return {"network": "there is no network that could be looked into, only its Q values"} if not opened.network else {}


def logged(log: TrainingLog, shape: tuple[int, int]) -> dict[str, Any]:
    """Return the fields of a case that come from its log; `shape` is `[S, A]`."""
    known: dict[str, Any] = {"history": log.history, "running": training_now(log.history.path if log.history else None)}
    if log.coverage is not None and log.coverage.visits.shape == shape:
        known |= {"visits": log.coverage.visits, "replay": log.coverage.replay}
    return known


def with_verdict(case: Case) -> Case:
    """Add the reference if there is a transition table, and the exact verdict if the Q values are valid."""
    if case.table is None:
        return case
    with planning_status("computing the exact verdict …"):
        mask = None if case.q is None or case.broken else case.allowed
        reference = exact.reference(case.table, case.horizon, case.discount, case.training_discount, mask)
        decisions = case.given if case.q is None else case.q
        verdict = exact.evaluate_greedy(reference, decisions) if decisions is not None and not case.broken else None
        return dataclasses.replace(case, reference=reference, verdict=verdict)


def with_sample(case: Case, environment: Environment, asked: DiagnoseOptions) -> Case:
    """Add sampled episodes if there is no table, and the tables of related problems for a harmful policy."""
    if case.harmful:
        return dataclasses.replace(case, siblings=related_tables(environment))
    if case.table is not None or asked.episodes == 0:
        return case
    sound = case.given is not None or (case.q is not None and not case.broken)
    with status(f"playing {asked.episodes:,} episodes …"):
        sample = play_sample(
            environment, case.policy if sound else None, case.allowed if sound else None, asked.episodes, asked.seed
        )
        random_play = play_random_sample(environment, case.allowed if sound else None, asked.seed)
    return dataclasses.replace(case, sample=sample, random_play=random_play)


def with_network(case: Case, opened: OpenedModel) -> Case:
    """Add the activity of the network's units over the reachable states, as far as known, and what varies in it."""
    if opened.network is None:
        return case
    from deeptaxi.network.encodings import parts_for
    from deeptaxi.network.inspect import find_training_mode, look_into

    if case.table is not None and not case.broken:
        states = np.flatnonzero(case.reached)
    elif case.visits is not None and case.visits.any():
        states = np.flatnonzero(case.visits.sum(axis=1))
    else:
        states = np.arange(case.states)
    parts = parts_for(opened.network, opened.environment)
    facts = look_into(opened.network, states, case.states, parts)
    mode = find_training_mode(opened.network, case.states, parts)
    return dataclasses.replace(case, network=facts, training_mode=mode)


def related_tables(environment: Environment) -> dict[str, TransitionTable]:
    """Return the tables of the other problems of the environment's class with as many states and actions."""
    if environment.config.id.endswith(".npz"):
        return {}
    found: dict[str, TransitionTable] = {}
    seen: list[Problem] = []
    for problem in (problem for preset in listed_presets() for problem in preset.problems):
        same_class = entry_point(problem.id) == entry_point(environment.config.id) is not None
        if problem in seen or not same_class or problem.is_meant(environment.config.id, environment.config.kwargs):
            continue
        seen.append(problem)
        other = open_environment(EnvironmentConfig(problem.id, problem.kwargs))
        if other.table is not None and other.table.probability.shape[:2] == (environment.states, environment.actions):
            found[f"{problem.id} {words(problem.kwargs)}".strip()] = other.table
    return found


def entry_point(name: str) -> str | None:
    """Return the class of a registered environment as text, or None."""
    spec = gymnasium.registry.get(name.rpartition(":")[2])
    return str(spec.entry_point) if spec is not None else None
