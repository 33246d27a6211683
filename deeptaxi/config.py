"""Every setting of a training: its default, help text, check, and form in TOML and on the command line.

`TrainConfig` and its sections are frozen dataclasses, validated on construction. Each field carries its help text,
check and option name, so that the command line, the TOML reader and the reference docs cannot drift apart. Unknown
keys, wrong types and failed checks are usage errors that name the key as the user wrote it.

Configuration layers, later ones taking precedence: dataclass defaults, the preset (`presets`), settings requested by
the environment's table, the user's ``--config`` file, command-line options. The result is complete: saved as
`config.toml` in the run folder, it reproduces the run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from deeptaxi import arguments
from deeptaxi.errors import UsageError, nearest
from deeptaxi.io import safe_load
from deeptaxi.io.safe_load import check_lengths
from deeptaxi.optimizer_options import CLIPPING, check_options
from deeptaxi.presets import Preset, fitting, plain
from deeptaxi.renamed import SETTINGS, renamed_in
from deeptaxi.schema import Check, Checked, from_mapping, one_of, setting, to_mapping

POSITIVE = Check("a value above 0", lambda x: x > 0)
COUNT = Check("a value from 1 to 1,000,000,000", lambda x: 1 <= x <= 10**9)  # compiled programs count in 32 bits
NOT_NEGATIVE = Check("a value of 0 or more", lambda x: x >= 0)
FRACTION = Check("a value between 0 and 1", lambda x: 0 <= x <= 1)
RATE = Check("a value above 0 and at most 1", lambda x: 0 < x <= 1)
WORKERS = Check("a value from 0 to 1,024", lambda x: 0 <= x <= 1_024)
SIZES = Check("whole numbers above 0, such as 128,64", lambda sizes: all(x > 0 for x in sizes))

CAPACITY = Check(
    "at least 2 states, or 0 to number all combinations", lambda states: states == 0 or 2 <= states <= 10**9
)
RANGES = Check(
    'ranges low:high, such as -3:3,-3.5:3.5; ":" leaves a part its own bounds',
    lambda ranges: all(not one or (len(one) == 2 and one[0] < one[1]) for one in ranges),
)


MAX_HIDDEN = 256  # layers; a checkpoint has some twelve arrays per layer, and at most 4,096 are read
ENCODINGS = ("joint", "factored")
AGGREGATIONS = ("mean", "max", "none")
ACTIVATIONS = ("relu", "tanh", "elu", "gelu", "silu", "linear")
LOSSES = ("mse", "huber")
SCHEDULES = ("constant", "linear", "exponential", "cosine")
EPSILON_SCHEDULES = ("constant", "linear", "exponential")
OPTIMIZERS = (
    "adadelta", "adagrad", "adam", "adamax", "adamw",
    "ftrl", "lamb", "lion", "nadam", "rmsprop", "sgd",
)  # fmt: skip


OBJECT = "in-memory/"  # begins the id of an environment that is an object of Python


@dataclass(frozen=True)
class EnvironmentConfig(Checked):
    """The environment: a Gymnasium id, ``module:Name``, ``file.py:Name``, or the path of a ``.npz`` table."""

    id: str = setting("", "Gymnasium id, module:Id or .npz transition table")
    kwargs: Mapping[str, Any] = setting({}, "keyword arguments for gymnasium.make")
    time_limit: int | None = setting(None, "steps before an episode is cut", POSITIVE, "--time-limit")
    discover: bool | None = setting(
        None,
        "discover the transition table of an environment that has none, if that takes seconds (the default)",
        None,
        "--discover/--no-discover",
    )
    observation: str | None = setting(
        None, "one-hot: a vector of zeros and ones is a one-hot vector", one_of(("one-hot",)), "--observation"
    )
    bins: tuple[int, ...] | None = setting(
        None, "bins of each real part of an observation, or of all, e.g. 12,8,12,8", SIZES, "--bins"
    )
    bin_range: tuple[tuple[float, ...], ...] | None = setting(
        None, "where bins lie: of each real part, or of those without bounds, e.g. -3:3,-3.5:3.5", RANGES, "--bin-range"
    )
    action_bins: tuple[int, ...] | None = setting(
        None, "values to choose from of each real part of an action, or of all, e.g. 5", SIZES, "--action-bins"
    )
    state_capacity: int | None = setting(
        None,
        "number observations as they are first seen, up to this many states; the default above 10,000,000 combinations",
        CAPACITY,
        "--state-capacity",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bin_range and not self.bins:
            raise UsageError("--bin-range says where bins lie: say with --bins how many there are")
        try:
            check_lengths(self.kwargs)
        except ValueError as error:
            raise UsageError(f"an argument of the environment: {error}") from None
        object.__setattr__(self, "kwargs", arguments.plain(dict(self.kwargs)))

    @property
    def in_memory(self) -> bool:
        """Whether it was an object of Python, which no file holds."""
        return self.id.startswith(OBJECT)


OWN_KIND = "own"  # the kind of a network of the user's own
OWN = ("builder", "kwargs")  # settings of a network of the user's own
BUILDER = Check(
    "module:function or file.py:function, such as my_net:build", lambda name: ":" in name or name.startswith(OBJECT)
)


WITHOUT_NETWORK = "--network-arg is an argument of what --network names: add --network"


def without_builder(name: str) -> str:
    """Say that a network setting, named as its field, does not go with a model of the user's own."""
    option = next(item.metadata["option"] for item in dataclasses.fields(NetworkConfig) if item.name == name)
    return f"--network builds the whole network: leave out {option} (network.{name} in a file)"


@dataclass(frozen=True)
class NetworkConfig(Checked):
    """The network that is fitted. Without hidden layers or head it is the Q-table network.

    With a `builder` it is a Keras model of the user's own, and the settings of layers are empty.
    """

    hidden: tuple[int, ...] = setting((128,), "sizes of the hidden layers, e.g. 128,64", SIZES, "--hidden")
    dueling: bool = setting(True, "dueling head: Q = V + A - mean(A)", None, "--dueling/--no-dueling")
    aggregation: str = setting("mean", "what the dueling head subtracts from A", one_of(AGGREGATIONS), "--aggregation")
    activation: str = setting("relu", "activation of the hidden layers", one_of(ACTIVATIONS), "--activation")
    encoding: str = setting(
        "joint", "one-hot over all states, or over each factor of a state", one_of(ENCODINGS), "--encoding"
    )
    initial_value: float = setting(0.0, "initial Q value; high is optimistic", None, "--initial-value")
    builder: str | None = setting(
        None, "a Keras model of your own: module:function or file.py:function that builds it", BUILDER, "--network"
    )
    kwargs: Mapping[str, Any] | None = setting(None, "keyword arguments of that function")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kwargs is not None:
            if self.builder is None:
                raise UsageError(WITHOUT_NETWORK)
            try:
                check_lengths(self.kwargs)
            except ValueError as error:
                raise UsageError(f"an argument of the network: {error}") from None
            object.__setattr__(self, "kwargs", arguments.plain(dict(self.kwargs)) or None)
        if self.builder is not None:
            self._leave_to_builder()
        if len(self.hidden) > MAX_HIDDEN:
            raise UsageError(
                f"--hidden: expected at most {MAX_HIDDEN} layers, received {len(self.hidden):,}: "
                "files with more could not be read back"
            )
        if self.encoding == "factored" and self.kind == "q-table":
            raise UsageError(
                "--q-table has one row of weights per state: leave out --encoding factored, or add hidden layers"
            )

    def names(self) -> list[str]:
        """Return the names of the settings that have a meaning beside the others."""
        return [name for name in super().names() if self.builder is None or name in OWN]

    def _leave_to_builder(self) -> None:
        """Leave all other settings empty: the model has its own layers."""
        for item in dataclasses.fields(self):
            empty = {"hidden": (), "dueling": False}.get(item.name, item.default)
            if item.name not in OWN and getattr(self, item.name) not in (item.default, empty):
                raise UsageError(without_builder(item.name))
            if item.name not in OWN:
                object.__setattr__(self, item.name, empty)

    @property
    def in_memory(self) -> bool:
        """Whether it was an object of Python, which no file holds."""
        return self.builder is not None and self.builder.startswith(OBJECT)

    @property
    def kind(self) -> str:
        """``"q-table"``, ``"mlp"``, ``"dueling"`` or ``"own"``."""
        if self.builder is not None:
            return OWN_KIND
        if self.dueling:
            return "dueling"
        return "mlp" if self.hidden else "q-table"


@dataclass(frozen=True)
class OptimizerConfig(Checked):
    """The optimizer step. Exactly one of `learning_rate` and `tabular_step` is set."""

    name: str = setting("adam", "Keras optimizer", one_of(OPTIMIZERS), "--optimizer")
    learning_rate: float | None = setting(0.003, "initial learning rate", POSITIVE, "--learning-rate")
    tabular_step: float | None = setting(
        None,
        "step size α of one sample with plain SGD, 2·lr/(A·B), instead of a learning rate",
        POSITIVE,
        "--tabular-step",
    )
    schedule: str = setting("cosine", "learning-rate schedule", one_of(SCHEDULES), "--learning-rate-schedule")
    final_fraction: float = setting(
        0.01, "final learning rate as a fraction of the initial one", FRACTION, "--final-learning-rate-fraction"
    )
    loss: str = setting("mse", "loss function", one_of(LOSSES), "--loss")
    clip_norm: float | None = setting(
        None, "clip the global norm of the gradient to this value", POSITIVE, "--clip-norm"
    )
    row_sparse: bool = setting(
        True,
        "update only the kernel rows of the states in the minibatch",
        None,
        "--row-sparse/--dense",
    )
    options: Mapping[str, Any] = setting({}, "other arguments of the Keras optimizer")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.learning_rate is None) == (self.tabular_step is None):
            raise UsageError("set exactly one of learning_rate and tabular_step")
        if self.tabular_step is not None and (self.name, self.loss) != ("sgd", "mse"):
            raise UsageError("tabular_step is the step of plain SGD on the mse loss: set --optimizer sgd --loss mse")
        check_options(self.name, self.options)
        doubled = sorted(self.options.keys() & CLIPPING)
        if self.clip_norm is not None and doubled:
            raise UsageError(f"--clip-norm and the optimizer option {doubled[0]} both clip the gradient: leave one out")
        if self.schedule == "exponential" and self.final_fraction == 0:
            raise UsageError(
                "an exponential schedule never reaches 0: set --final-learning-rate-fraction above 0, or another "
                "--learning-rate-schedule"
            )


@dataclass(frozen=True)
class ExplorationConfig(Checked):
    """ε-greedy exploration: ε falls from `start` to `end` over the first `fraction` of the updates."""

    start: float = setting(1.0, "initial probability ε of a random action", FRACTION, "--epsilon-start")
    end: float = setting(0.5, "final probability ε of a random action", FRACTION, "--epsilon-end")
    fraction: float = setting(0.5, "fraction of the updates over which ε is annealed", RATE, "--epsilon-fraction")
    schedule: str = setting("linear", "schedule of ε", one_of(EPSILON_SCHEDULES), "--epsilon-schedule")
    exploring_starts: float = setting(
        0.0,
        "compiled loop: probability per step of restarting an environment in a random state",
        FRACTION,
        "--exploring-starts",
    )
    action_mask: bool = setting(
        False, "never take an action that the environment masks", None, "--action-mask/--no-action-mask"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule == "exponential" and 0 in (self.start, self.end):
            raise UsageError(
                "an exponential schedule never reaches 0: set --epsilon-start and --epsilon-end above 0, or "
                "--epsilon-schedule linear"
            )


@dataclass(frozen=True)
class ReplayConfig(Checked):
    """The replay buffer that minibatches are sampled from."""

    capacity: int = setting(500_000, "capacity of the replay buffer, in transitions", COUNT, "--replay-capacity")
    batch_size: int = setting(256, "transitions in a minibatch, B", COUNT, "--batch-size")
    start: int = setting(1_000, "transitions to collect before the first update", NOT_NEGATIVE, "--replay-start")
    prioritized: bool = setting(
        False, "sample transitions with a large td_error more often", None, "--prioritized/--uniform"
    )
    priority_exponent: float = setting(
        0.6, "prioritization exponent α: 0 is uniform, 1 is proportional to |td_error|", FRACTION, "--priority-exponent"
    )
    importance_exponent: float = setting(
        0.4,
        "initial importance-sampling exponent β, annealed to 1",
        FRACTION,
        "--importance-exponent",
    )


BACKUPS = ("sample", "expected")
CORRECTIONS = ("watkins", "none")


@dataclass(frozen=True)
class TargetConfig(Checked):
    """The td_target; every `period` updates the target network moves by `polyak` toward the online network."""

    double: bool = setting(
        False,
        "double DQN: the online network chooses the next action, the target network evaluates it",
        None,
        "--double/--no-double",
    )
    backup: str = setting(
        "sample",
        "next state in the td_target: the sampled one, or the expectation over all outcomes in the transition table",
        one_of(BACKUPS),
        "--backup",
    )
    n_step: int = setting(1, "rewards summed before the bootstrap", COUNT, "--n-step")
    n_step_correction: str = setting(
        "watkins",
        "off-policy correction of n steps: end the sum before the first action that is not greedy, or sum them all",
        one_of(CORRECTIONS),
        "--n-step-correction",
    )
    reward_scale: float = setting(
        1.0,
        "divide rewards by this while learning; saved Q values are in the original scale",
        POSITIVE,
        "--reward-scale",
    )

    polyak: float = setting(0.01, "soft-update coefficient τ of the target network; 1 is a hard copy", RATE, "--polyak")
    period: int = setting(1, "updates between two updates of the target network", COUNT, "--target-period")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backup == "expected" and self.n_step > 1:
            raise UsageError(f"--backup expected looks one step ahead: it cannot be used with --n-step {self.n_step}")

    @property
    def cuts(self) -> bool:
        """Whether n-step sums end before the first action that is not greedy."""
        return self.n_step > 1 and self.n_step_correction == "watkins"


@dataclass(frozen=True)
class InteractionConfig(Checked):
    """Environment steps per update: ``environments × steps_per_update``."""

    environments: int = setting(32, "number of parallel environments", COUNT, "--environments")
    steps_per_update: int = setting(1, "steps of each environment per update", COUNT, "--steps-per-update")
    workers: int | None = setting(
        None,
        "processes that step slow environments, outside the compiled loop; it changes nothing in the result",
        WORKERS,
        "--workers",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers == 0:  # which can be typed, to override a file or on resume
            object.__setattr__(self, "workers", None)


PATIENCE = 3  # consecutive evaluations that must find the policy optimal before the training stops early


@dataclass(frozen=True)
class EvaluationConfig(Checked):
    """When to compare the policy with the exact optimum, and whether to stop once it is optimal."""

    every: int = setting(500, "updates between two evaluations", POSITIVE, "--eval-every")
    early_stop: bool = setting(
        True, "stop when three evaluations in a row find the policy optimal", None, "--early-stop/--no-early-stop"
    )
    objective_discount: float = setting(
        0.99, "discount of the value by which policies are compared", FRACTION, "--objective-discount"
    )


LOOPS = ("compiled", "gymnasium", "fit")
# Facts about the run, in the table [run].
FACTS = ("log", "preset", "weights_digest", "deeptaxi", "versions", "table", "observations")
LITERALS = "literals"  # arguments of an environment or network that TOML cannot express


@dataclass(frozen=True)
class TrainConfig(Checked):
    """Everything that determines a training."""

    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    seed: int = setting(0, "random seed", NOT_NEGATIVE, "--seed")
    loop: str = setting("gymnasium", "training loop", one_of(LOOPS), "--loop")
    updates: int = setting(20_000, "total number of optimizer steps", COUNT, "--updates")
    schedule_updates: int | None = setting(
        None, "length of the learning-rate and ε schedules, in updates", COUNT, "--schedule-updates"
    )
    discount: float = setting(0.99, "discount of the td_target", FRACTION, "--discount")
    network: NetworkConfig = field(default_factory=NetworkConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    interaction: InteractionConfig = field(default_factory=InteractionConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @property
    def schedule_length(self) -> int:
        """Updates after which the schedules end; defaults to all updates."""
        return self.schedule_updates or self.updates


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the nested mapping `over` into `base`. Of the two ways to set the step, the later wins."""
    merged = dict(base)
    for key, value in over.items():
        nested = (
            isinstance(value, Mapping) and isinstance(merged.get(key), Mapping) and key not in ("kwargs", "options")
        )
        merged[key] = merge(merged[key], value) if nested else value
    for one, other in (("learning_rate", "tabular_step"), ("tabular_step", "learning_rate")):
        if one in over and other not in over:
            merged[other] = None
    return merged


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file of settings. The table ``[run]`` of a run folder's file is checked and dropped.

    Raises:
        UsageError: the file is missing, is not TOML, or has an unknown key.
    """
    return read_run(path)[0]


def read_run(path: Path) -> tuple[dict[str, Any], Any]:
    """Read a file of settings and its table ``[run]``, or None if it has none."""
    try:
        values = safe_load.read_toml(path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # not TOML, not UTF-8, or a number with thousands of digits
        raise UsageError(f"{path} is not a TOML file: {error}") from None
    run = values.pop("run", None)
    try:
        known_facts(run)
        values = with_literals(values)
        known_keys(values)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return values if run is None else with_former_defaults(values), run


def with_former_defaults(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Add to the configuration that a run saved what it meant before there was a key for it.

    The sums of n steps were not corrected before `target.n_step_correction`, which every run saves since.
    """
    target = saved.get("target", {})
    if isinstance(target, Mapping) and target.get("n_step", 1) != 1 and "n_step_correction" not in target:
        return merge(saved, {"target": {"n_step_correction": "none"}})
    return dict(saved)


def known_keys(values: Mapping[str, Any]) -> None:
    """Check only the names and types of the given keys; combinations are checked after all layers are merged."""
    if old := renamed_in(values, SETTINGS):
        raise UsageError(old)
    check_own_network(values.get("network"))
    optimizer = values.get("optimizer")
    if isinstance(optimizer, Mapping) and "name" not in optimizer:  # whose options they are is not known yet
        values = {**values, "optimizer": {key: value for key, value in optimizer.items() if key != "options"}}
    plain_sgd = {"optimizer": {"name": "sgd", "loss": "mse"}}  # both ways to set the step are valid with these
    from_mapping(TrainConfig, merge(merge(to_mapping(TrainConfig()), plain_sgd), values))


def check_own_network(network: Any) -> None:
    """Reject settings of layers beside a model of the user's own, and its arguments without it.

    Raises:
        UsageError: there is one.
    """
    if not isinstance(network, Mapping):
        return
    if network.get("kwargs") is not None and network.get("builder") is None:
        raise UsageError(WITHOUT_NETWORK)
    if network.get("builder") is not None:
        for item in dataclasses.fields(NetworkConfig):
            if item.name not in OWN and network.get(item.name) is not None:
                raise UsageError(without_builder(item.name))


def known_facts(about: Any) -> None:
    """Check the keys of the table ``[run]``.

    Raises:
        UsageError: a key is unknown.
    """
    for key in about if isinstance(about, Mapping) else ():
        if key not in FACTS:
            raise UsageError(f"unknown key 'run.{key}'{nearest(key, FACTS)}")


def to_toml(config: TrainConfig) -> dict[str, Any]:
    """Convert the configuration to its TOML form; arguments TOML cannot express go to a separate table.

    Raises:
        UsageError: an argument of the environment or network has no text form.
    """
    return without_literals(to_mapping(config))


def without_literals(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with arguments that TOML cannot express as text; undone by `with_literals`.

    Raises:
        UsageError: an argument of the environment or network has no text form.
    """
    written = dict(values)
    for section, whose in (("environment", "environment's"), ("network", "network's")):
        if "kwargs" in values.get(section, {}):
            kwargs, literals = arguments.to_toml(values[section]["kwargs"], whose)
            written[section] = {**values[section], "kwargs": kwargs, **({LITERALS: literals} if literals else {})}
    return written


def with_literals(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of a TOML file with arguments that `without_literals` wrote as text restored.

    Raises:
        UsageError: the texts are not literals.
    """
    restored = dict(values)
    for name in ("environment", "network"):
        section = values.get(name)
        if isinstance(section, Mapping) and LITERALS in section and isinstance(section.get("kwargs", {}), Mapping):
            rest = {key: value for key, value in section.items() if key != LITERALS}
            kwargs = arguments.from_toml(rest.get("kwargs", {}), section[LITERALS], name)
            restored[name] = {**rest, "kwargs": kwargs}
    return restored


def dump_toml(config: TrainConfig, run: Mapping[str, Any]) -> str:
    """Format the resolved configuration as TOML, with the facts about the run in a table ``[run]``."""
    return tomli_w.dumps({**to_toml(config), "run": dict(run)})


def kind_of(values: Mapping[str, Any]) -> str:
    """Return the kind of network requested by `values`."""
    return str(from_mapping(NetworkConfig, values.get("network", {}), "network.").kind)


def encoding_of(values: Mapping[str, Any]) -> str:
    """Return the state encoding requested by `values`."""
    return str(values.get("network", {}).get("encoding", NetworkConfig.encoding))


def resolve(
    values: Mapping[str, Any], problem: Mapping[str, Any] | None = None, preset: Preset | None = None
) -> TrainConfig:
    """Complete the user's `values` from the other layers.

    Args:
        values: the user's nested settings.
        problem: settings requested by the environment; they override the preset, and `values` override them.
        preset: None for the packaged one that matches the environment and network.

    Raises:
        UsageError: a key, type or value is wrong, or two settings exclude each other.
    """
    known_keys(values)
    environment, kind = values.get("environment", {}), kind_of(values)
    if preset is None:
        preset = fitting(environment.get("id", ""), environment.get("kwargs", {}), kind, encoding_of(values))
    base: dict[str, Any] = to_mapping(TrainConfig())
    for layer in (plain(kind).settings, preset.settings if preset else {}, problem or {}):
        base = merge(base, layer)
    if values.get("network", {}).get("builder") is not None:  # no layers of a preset
        base["network"] = to_mapping(NetworkConfig())
    base = merge(base, for_typed_targets(values.get("target", {})))
    check_typed_optimizer(base["optimizer"], values.get("optimizer", {}))
    if merge(base, values)["loop"] != "compiled":
        base = merge(base, for_other_loops(base))
    config: TrainConfig = from_mapping(TrainConfig, merge(base, values))
    check_together(config)
    return config


def for_other_loops(base: Mapping[str, Any]) -> dict[str, Any]:
    """Return replacements for preset settings that only the compiled loop supports or can afford.

    In the compiled loop an additional environment costs almost nothing; elsewhere Python steps each one.
    """
    copies = min(base["interaction"]["environments"], InteractionConfig().environments)
    return {"exploration": {"exploring_starts": 0.0}, "interaction": {"environments": copies}}


def for_typed_targets(typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return replacements for a preset's settings of the td_target that those of the user exclude."""
    if typed.get("n_step", 1) > 1 and "backup" not in typed:
        return {"target": {"backup": "sample"}}
    if typed.get("backup") == "expected" and "n_step" not in typed:
        return {"target": {"n_step": 1}}
    return {}


def check_typed_optimizer(base: Mapping[str, Any], typed: Mapping[str, Any]) -> None:
    """Raise a `UsageError` if the user sets an optimizer or a loss that the preset's `tabular_step` does not fit."""
    if base.get("tabular_step") is None or typed.keys() & {"tabular_step", "learning_rate"}:
        return
    for key, option, fitting_value in (("name", "--optimizer", "sgd"), ("loss", "--loss", "mse")):
        if typed.get(key, fitting_value) != fitting_value:
            raise UsageError(
                f"{option} {typed[key]} does not go with the preset's step, --tabular-step {base['tabular_step']:g} of "
                f"plain SGD on the mse loss: set a --learning-rate too, such as 0.01, or leave out {option}"
            )


def requested_environment(config: TrainConfig) -> EnvironmentConfig:
    """Return the environment of a training, to be opened: a network that sees factors numbers all combinations."""
    environment = config.environment
    if config.network.encoding == "factored" and environment.state_capacity is None:
        return dataclasses.replace(environment, state_capacity=0)
    return environment


def check_together(config: TrainConfig) -> None:
    """Raise a `UsageError` if settings from different tables exclude each other.

    This is not checked when a `TrainConfig` is constructed: a file may hold one setting, and an option the other.
    """
    if config.network.encoding == "factored" and config.environment.state_capacity:
        raise UsageError(
            "--encoding factored sees the parts of an observation, and --state-capacity numbers whole ones as they are "
            "met: leave one out"
        )
    if config.exploration.exploring_starts > 0 and config.loop != "compiled":
        raise UsageError(
            f"--exploring-starts sets the environment's state, which --loop {config.loop} cannot do: "
            "use --loop compiled, or leave it out"
        )
    copies, steps = config.interaction.environments, config.target.n_step
    if config.replay.capacity < copies * steps:
        raise UsageError(
            f"{copies} environments and {steps}-step targets need --replay-capacity {copies * steps} or more, "
            f"and it is {config.replay.capacity}"
        )
