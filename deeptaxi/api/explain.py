"""Show how a network learns, with every number: `explanation.update` and `explanation.gradients`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from deeptaxi.api.environments import EnvSpec, name_of
from deeptaxi.api.load import Model, as_run
from deeptaxi.api.networks import GivenNetwork, with_network
from deeptaxi.api.rich_repr import RichRepr
from deeptaxi.api.run import Run
from deeptaxi.api.run_options import NetworkOptions, UpdateOptions
from deeptaxi.api.settings import Config, TrainSettings, merge_settings
from deeptaxi.api.status import status
from deeptaxi.api.train_run import plan
from deeptaxi.backend import keras_backend
from deeptaxi.config import AGGREGATIONS, OWN_KIND, TrainConfig, merge, resolve
from deeptaxi.errors import UsageError
from deeptaxi.io.atomic import check_free, write_text
from deeptaxi.learning.action_mask import ActionMaskTable
from deeptaxi.learning.resolve import configure
from deeptaxi.mdp.describe import names_of
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.table import Bools
from deeptaxi.metrics import to_json
from deeptaxi.presets import NONE, Preset
from deeptaxi.schema import to_mapping

if TYPE_CHECKING:
    from rich.console import RenderableType

    from deeptaxi.api.environments import EnvLike
    from deeptaxi.api.load import Model


@dataclass(frozen=True)
class Subject:
    """The network to update, with its environment and configuration."""

    environment: Environment
    config: TrainConfig
    preset: str
    network: Any
    allowed: Bools  # [S, A]
    model: str | None


def untrained_subject(network_options: NetworkOptions) -> Subject:
    """Return the initial network and settings of a training run."""
    name, opened = name_of(network_options.spec.env)
    values = merge_settings(
        name, network_options.spec.kwargs, network_options.config, network_options.q_table, network_options.given
    )
    if network_options.preset is None and not values.get("environment", {}).get("id"):
        raise UsageError("specify the environment with --env, or a MODEL: a run folder or a .keras file")
    trust = network_options.spec.trust
    given = GivenNetwork.of(network_options.given, network_options.network, trust)
    planned = plan(values, network_options.preset, trust or network_options.spec.env is not None, opened, given)
    with status("starting Keras …"):
        keras_backend.start()
    from deeptaxi.learning.initial_network import initial_network

    environment, config = planned.environment, with_batch_size_one(planned.config, network_options)
    if environment.numbering is not None and not environment.numbering.complete:  # it begins with this explanation
        environment = environment.with_codec(environment.numbering.renew(growing=True))
    network = initial_network(config, environment, planned.network)
    return Subject(environment, config, planned.configured.preset, network, allowed_in(environment, config), None)


def trained_subject(model: Model, network_options: NetworkOptions) -> Subject:
    """Return a trained network and the settings of its run, with overrides applied.

    Raises:
        UsageError: settings are given that apply only to a fresh network.
    """
    check_trained_options(model, network_options)
    limit = network_options.given.get("environment", {}).get("time_limit")
    run = as_run(model, replace(network_options.spec, time_limit=limit))
    from deeptaxi.network.build import without_mask
    from deeptaxi.network.inspect import is_ours
    from deeptaxi.network.own import copy_network, scale_q_values

    own = run.config is not None and run.config.network.kind == OWN_KIND
    if not is_ours(run.network) and not (own and is_on_states(run.network)):
        raise UsageError(f"{run.name} is not a deeptaxi network, the only kind that can be explained")
    network, mask = without_mask(run.network)
    config, preset = settings_of(run, network, network_options.given)
    if run is model:
        network = copy_network(network)
    network = scale_q_values(network, 1 / config.target.reward_scale)  # saved networks are in unscaled units
    allowed = allowed_in(run.environment, config) if mask is None else mask
    return Subject(run.environment, with_batch_size_one(config, network_options), preset, network, allowed, run.name)


def check_trained_options(model: Model, network_options: NetworkOptions) -> None:
    """Reject settings that apply only to a fresh network."""
    others = {"config": network_options.config, "preset": network_options.preset, "q-table": network_options.q_table}
    refused = [f"--{name}" for name, value in others.items() if value]
    own = {"builder": "network", "kwargs": "network-arg"}
    refused += [f"--{own.get(name, name.replace('_', '-'))}" for name in network_options.given.get("network", {})]
    if refused:
        name = model.name if isinstance(model, Run) else model
        raise UsageError(f"{refused[0]} configures a fresh network, but {name} is trained: leave one of the two out")


def is_on_states(network: Any) -> bool:
    """Return whether a network takes state numbers `[B]`, as any that was trained does."""
    return network is not None and [tuple(one.shape) for one in network.inputs] == [(None,)]


def settings_of(run: Run, network: Any, given: Mapping[str, Any]) -> tuple[TrainConfig, str]:
    """Return the run's configuration, else the one that training such a network would use, and the preset."""
    from deeptaxi.network import build

    environment = {"environment": to_mapping(run.environment.config)}
    if run.config is not None:
        if run.config.network.kind != OWN_KIND:
            check_named_options(run, build.settings_of(network))
        return resolve(merge(merge(to_mapping(run.config), given), environment), preset=Preset(NONE)), NONE
    known = {"network": build.settings_of(network)}
    found = configure(run.environment, merge(merge(given, known), environment))
    return found.config, found.preset


def check_named_options(run: Run, found: Mapping[str, Any]) -> None:
    """Reject a run whose model does not match its configuration: its update would be explained wrongly.

    Raises:
        UsageError: they differ; the message says in what.
    """
    described = to_mapping(run.config).get("network", {})
    for name, value in found.items():
        if described.get(name, value) != value:
            raise UsageError(
                f"{run.name}: its config.toml describes a network with {name} = {described[name]}, but its model has "
                f"{value}; give its model.keras and --env instead"
            )


def with_batch_size_one(config: TrainConfig, network_options: NetworkOptions) -> TrainConfig:
    """Set the minibatch size to 1, unless another size is given."""
    size = network_options.given.get("replay", {}).get("batch_size") or 1
    return replace(config, replay=replace(config.replay, batch_size=size))


def allowed_in(environment: Environment, config: TrainConfig) -> Bools:
    """Return the allowed actions of each state, bool `[S, A]`."""
    masks = ActionMaskTable(environment, config.exploration.action_mask)
    return masks.of(np.arange(environment.states)).copy()


VECTOR_ACTIONS = (1, 2, 3, 4, 6, 16, 64)


def explain_update(
    model: Model | None,
    network_options: NetworkOptions,
    update_options: UpdateOptions,
    target_noise: float | None,
    comparing: bool,
) -> dict[str, Any]:
    """Make the update and return every number of it."""
    subject = untrained_subject(network_options) if model is None else trained_subject(model, network_options)
    from deeptaxi.learning.example import choose
    from deeptaxi.learning.update_trace import trace_update

    environment, config = subject.environment, subject.config
    asked = (update_options.state, update_options.action, update_options.transitions, update_options.seed)
    choice = choose(environment, subject.network, subject.allowed, config.target.n_step, *asked)
    agent = build_agent(subject, target_noise, update_options.seed)
    names, anatomy = names_of(environment), trace_update(agent, choice.transitions, subject.allowed, comparing)
    return {
        "model": subject.model,
        "environment": environment.describe(),
        "preset": subject.preset,
        "seed": update_options.seed if subject.model else config.seed,
        "network": {"kind": config.network.kind, **to_mapping(config.network)},
        "optimizer": to_mapping(config.optimizer),
        "discount": config.discount,
        "double": config.target.double,
        "n_step": config.target.n_step,
        "n_step_correction": config.target.n_step_correction,
        "backup": config.target.backup,
        "reward_scale": config.target.reward_scale,
        "target_noise": target_noise,
        "outcome": choice.how,
        "action_names": list(names.actions),
        "state_name": names.state(anatomy.state),
        "next_state_name": names.state(anatomy.td_target.next_state),
        **anatomy.to_dict(),
    }


def build_agent(subject: Subject, target_noise: float | None, seed: int | None) -> Any:
    """Build a fresh agent whose target network equals the online network, plus noise if given."""
    from deeptaxi.learning.agent import FitAgent
    from deeptaxi.network.own import copy_network, differs_in_training

    if differs_in_training(subject.network, np.arange(min(8, subject.environment.states), dtype=np.int32)):
        raise UsageError(
            "an update is explained for one sample without chance, and this network computes otherwise while it is "
            "fitted (dropout, batch normalization, regularizers): explain it without those layers"
        )
    target = copy_network(subject.network)
    agent = FitAgent(subject.network, target, subject.config)
    if target_noise is not None:
        rng = np.random.default_rng([seed or 0, 1])
        target.set_weights([w + rng.normal(0, target_noise, w.shape).astype(w.dtype) for w in target.get_weights()])
    return agent


def explain_gradients(
    actions: int, aggregation: str, seed: int, gradient: Sequence[float] | None, vectors: Path | None, force: bool
) -> dict[str, Any]:
    """Return all gradients at one random point, as plain numbers; write test vectors if a file is given."""
    if vectors is not None:
        check_free(vectors, force, replaceable=vectors.is_file(), option="--vectors")
    with status("starting Keras …"):
        keras_backend.start()
        found = {"seed": seed, **gradients_at(actions, aggregation, seed, gradient)}
    if vectors is not None:
        write_vectors(vectors, seed, force)
    return {**found, "vectors": None if vectors is None else str(vectors)}


def gradients_at(actions: int, aggregation: str, seed: int, gradient: Sequence[float] | None = None) -> dict[str, Any]:
    """Return all gradients at one random point, as plain numbers."""
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


def write_vectors(path: Path, seed: int, force: bool) -> None:
    """Write test vectors for several N and every aggregation."""
    vectors = [gradients_at(count, name, seed) for name in AGGREGATIONS for count in VECTOR_ACTIONS]
    about = "gradients of a dueling head, float64; docs/dueling-gradient.md of deeptaxi describes the keys"
    write_text(path, to_json({"format": 1, "about": about, "seed": seed, "vectors": vectors}, indent=1) + "\n", force)


__all__ = ("Explanation", "gradients", "update")

LIMIT = 1e-6  # largest discrepancy allowed between the four gradients
DEFAULT_ACTIONS, MOST_ACTIONS = 4, 1024
LARGEST = 1e300  # limit of |dE/dQ|, so that sums and differences stay finite


@dataclass(frozen=True, repr=False)
class Explanation(RichRepr):
    """Every number of an update or of a gradient check; printed, it is the command line's explanation.

    Attributes:
        what: `"update"` or `"gradients"`.
        numbers: the numbers, keyed as in the JSON.
    """

    what: str
    numbers: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `deeptaxi explain --json` prints."""
        return dict(self.numbers)

    def __getitem__(self, key: str) -> Any:
        return self.numbers[key]

    def __repr__(self) -> str:
        if self.what == "update":
            where = f"state {self.numbers['state']}, action {self.numbers['action']}"
            return f"Explanation(update of {self.numbers['environment']['id']}, {where}; print it, or see to_dict())"
        found = self.numbers["discrepancy"]["largest"]
        return f"Explanation(gradients of {self.numbers['actions']} actions, largest discrepancy {found:.1e})"

    def __rich__(self) -> RenderableType:
        from deeptaxi.display import explanation

        return (explanation.of_update if self.what == "update" else explanation.gradient_check)(self.numbers)


def update(
    model: Model | None = None,
    env: EnvLike | None = None,
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
    network_args: Mapping[str, Any] | None = None,
    trust_env: bool = False,
    **settings: Unpack[TrainSettings],
) -> Explanation:
    """Explain one update: every number from the predictions to the changed weights.

    Without `model`, the network is the one that `train` would start with, given the same settings. The model itself is
    not changed. B is 1 unless `batch_size` says that the transition is part of a larger minibatch.

    Args:
        model: a run folder, a `.keras` file or a `Run`; None for a fresh network.
        env: environment, as `train` takes it; overrides the model's own.
        state: state of the transition; the outcome is the most likely in the table, or sampled if `seed` is given.
        action: action taken in `state`; None for the greedy one.
        transitions: explicit transition, (state, action, reward, next state[, terminated]); n in a row for n-step
            targets. Without it and without `state`, a transition is sampled with `seed`.
        compare: whether to compare the overwrite rule with the masked gradient.
        target_noise: standard deviation of the noise added to the target network's weights, as if it lagged behind.
        q_table: whether to use a network without hidden layers or biases, whose weights are the Q table.
        preset: name of a preset, see `listing.presets`; None for the one that fits.
        config: a TOML file, a mapping of the same form, or the `config` of a run.
        env_args: arguments for `gymnasium.make`.
        network_args: arguments of what builds the `network`, as `train` takes them.
        trust_env: whether to import the module of an environment or network that a file names, which executes its code.
        **settings: training settings, as `train` takes them.

    Raises:
        UsageError: something requested does not exist, or options exclude each other.
        DeepTaxiError: the model is damaged.
    """
    if target_noise is not None and not (target_noise > 0 and math.isfinite(target_noise)):
        raise UsageError(f"target_noise = {target_noise}: expected a number above 0")
    update_options = UpdateOptions(state, action, tuple(map(transition, transitions)), settings.get("seed"))
    update_options.check()
    spec = EnvSpec(env, env_args or {}, trust=trust_env)
    own, value = with_network(settings, network_args)
    network_options = NetworkOptions(spec, config, preset, q_table, own, value)
    return make_explanation(model, network_options, update_options, target_noise, compare)


def make_explanation(
    model: Model | None,
    network_options: NetworkOptions,
    update_options: UpdateOptions,
    target_noise: float | None,
    comparing: bool,
) -> Explanation:
    """Explain the requested update."""
    return Explanation("update", explain_update(model, network_options, update_options, target_noise, comparing))


def transition(row: Sequence[Any]) -> tuple[Any, ...]:
    """Return a transition as a tuple of five.

    Raises:
        UsageError: it has the wrong length, its reward is not finite, or `terminated` is not 0 or 1.
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
        actions: N; None for the length of `gradient`, else 4.
        seed: seed of V, A and dE/dQ.
        aggregation: what the head subtracts from A: `"mean"`, `"max"` or `"none"`.
        gradient: dE/dQ, one number per action; None for random numbers.
        vectors: JSON file to write test vectors for several N to.
        force: whether to overwrite that file.

    Returns:
        The gradients; `["discrepancy"]["largest"]` is the largest difference between the four, `["limit"]` its limit.

    Raises:
        UsageError: `actions` contradicts `gradient`, or the file exists.
    """
    if aggregation not in AGGREGATIONS:
        raise UsageError(f"aggregation = {aggregation}: expected one of {', '.join(AGGREGATIONS)}")
    count = check_count(actions, gradient)
    path = None if vectors is None else Path(vectors)
    found = explain_gradients(count, aggregation, seed, gradient, path, force)
    written = found.pop("vectors")
    return Explanation("gradients", {**found, "limit": LIMIT, "vectors": written})


def check_count(actions: int | None, gradient: Sequence[float] | None) -> int:
    """Return N, the number of actions.

    Raises:
        UsageError: `actions` contradicts `gradient` or is out of range, or the gradient is not finite or too large.
    """
    if gradient is not None and not all(abs(number) <= LARGEST for number in gradient):
        raise UsageError(
            f"--gradient {list(gradient)}: expected finite numbers of at most {LARGEST:g}, such as 0,8,0,0"
        )
    if gradient is not None and actions not in (None, len(gradient)):
        raise UsageError(f"--gradient has {len(gradient)} numbers, but --actions is {actions}")
    count = len(gradient) if gradient is not None else DEFAULT_ACTIONS if actions is None else actions
    if not 1 <= count <= MOST_ACTIONS:
        raise UsageError(f"actions = {count}: expected from 1 to {MOST_ACTIONS:,}")
    return count
