"""The sections of a configuration: one frozen dataclass for each table of `config.toml`, validated on construction.

Each field carries its help text, its check and the name of its option, so that the command line, the TOML reader and
the reference in the docs cannot drift apart. What belongs to no section, and how one lies over another, is in `config`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deeptaxi import arguments
from deeptaxi.bounds import check_lengths
from deeptaxi.errors import UsageError
from deeptaxi.settings import (
    COUNT,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    RATE,
    SIZES,
    Checked,
    one_of,
    setting,
)

MAX_HIDDEN = 256  # layers; a checkpoint has some twelve arrays of each, and 4,096 are read
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


@dataclass(frozen=True)
class EnvironmentConfig(Checked):
    """Which environment: a Gymnasium id, ``module:Id``, or the path of a ``.npz`` transition table."""

    id: str = setting("", "Gymnasium id, module:Id or .npz transition table")
    kwargs: Mapping[str, Any] = setting({}, "keyword arguments for gymnasium.make")
    time_limit: int | None = setting(None, "steps before an episode is cut", POSITIVE, "--time-limit")

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            check_lengths(self.kwargs)
        except ValueError as error:
            raise UsageError(f"an argument of the environment: {error}") from None
        object.__setattr__(self, "kwargs", arguments.plain(dict(self.kwargs)))


@dataclass(frozen=True)
class NetworkConfig(Checked):
    """The function that is fitted. Without hidden layers and head it is the Q-table network."""

    hidden: tuple[int, ...] = setting((128,), "sizes of the hidden layers, e.g. 128,64", SIZES, "--hidden")
    dueling: bool = setting(True, "dueling head: Q = V + A - mean(A)", None, "--dueling/--no-dueling")
    aggregation: str = setting("mean", "what the dueling head subtracts from A", one_of(AGGREGATIONS), "--aggregation")
    activation: str = setting("relu", "activation of the hidden layers", one_of(ACTIVATIONS), "--activation")
    encoding: str = setting(
        "joint", "one-hot over all states, or over each factor of a state", one_of(ENCODINGS), "--encoding"
    )
    initial_value: float = setting(0.0, "what all Q values start near; high is optimistic", None, "--initial-value")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.hidden) > MAX_HIDDEN:
            raise UsageError(
                f"--hidden: expected at most {MAX_HIDDEN} layers, received {len(self.hidden):,}: "
                "files of more could not be read again"
            )
        if self.encoding == "factored" and self.kind == "q-table":
            raise UsageError("--q-table has one weight a state: leave out --encoding factored, or add hidden layers")

    @property
    def kind(self) -> str:
        """``"q-table"``, ``"mlp"`` or ``"dueling"``."""
        if self.dueling:
            return "dueling"
        return "mlp" if self.hidden else "q-table"


@dataclass(frozen=True)
class OptimizerConfig(Checked):
    """The optimizer step. Exactly one of `learning_rate` and `tabular_step` is set."""

    name: str = setting("adam", "Keras optimizer", one_of(OPTIMIZERS), "--optimizer")
    learning_rate: float | None = setting(0.003, "learning rate at the start", POSITIVE, "--learning-rate")
    tabular_step: float | None = setting(
        None, "instead of a learning rate: the step of one sample of plain SGD, 2·lr/(A·B)", POSITIVE, "--tabular-step"
    )
    schedule: str = setting(
        "cosine", "course of the learning rate over the updates", one_of(SCHEDULES), "--learning-rate-schedule"
    )
    final_fraction: float = setting(
        0.01, "the schedule's last learning rate over its first", FRACTION, "--final-learning-rate-fraction"
    )
    loss: str = setting("mse", "loss of the fit", one_of(LOSSES), "--loss")
    clip_norm: float | None = setting(None, "largest norm of the whole gradient", POSITIVE, "--clip-norm")
    row_sparse: bool = setting(
        True, "compiled loop: a step moves only the weights of the minibatch's states", None, "--row-sparse/--dense"
    )
    options: Mapping[str, Any] = setting({}, "further arguments of the Keras optimizer")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.learning_rate is None) == (self.tabular_step is None):
            raise UsageError("set either learning_rate or tabular_step, not both and not neither")
        if self.tabular_step is not None and (self.name, self.loss) != ("sgd", "mse"):
            raise UsageError("tabular_step is the step of plain SGD on the mse loss: set --optimizer sgd --loss mse")
        for key, value in self.options.items():
            if not (
                isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)) or key == "name"
            ):
                raise UsageError(f"options.{key} = {value!r}: expected a finite number, or true or false")
        doubled = sorted({"clipnorm", "clipvalue", "global_clipnorm"} & self.options.keys())
        if self.clip_norm is not None and doubled:
            raise UsageError(f"--clip-norm and the optimizer option {doubled[0]} both clip the gradient: leave one out")
        if self.schedule == "exponential" and self.final_fraction == 0:
            raise UsageError("an exponential schedule never reaches 0: set a final_fraction above 0")


@dataclass(frozen=True)
class ExplorationConfig(Checked):
    """ε-greedy: ε falls from `start` to `end` over the first `fraction` of the updates."""

    start: float = setting(1.0, "chance of a random action (ε) at first", FRACTION, "--epsilon-start")
    end: float = setting(0.5, "chance of a random action (ε) in the end", FRACTION, "--epsilon-end")
    fraction: float = setting(0.5, "share of the updates over which ε falls", RATE, "--epsilon-fraction")
    schedule: str = setting("linear", "course of ε over the updates", one_of(EPSILON_SCHEDULES), "--epsilon-schedule")
    exploring_starts: float = setting(
        0.0,
        "compiled loop: chance, at every step, that a copy starts anew in a random state",
        FRACTION,
        "--exploring-starts",
    )
    action_mask: bool = setting(
        False, "never take an action that the environment's mask excludes", None, "--action-mask/--no-action-mask"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule == "exponential" and 0 in (self.start, self.end):
            raise UsageError("an exponential schedule never reaches 0: set an ε above 0, or a linear schedule")


@dataclass(frozen=True)
class ReplayConfig(Checked):
    """The memory of transitions that minibatches are drawn from."""

    capacity: int = setting(500_000, "transitions kept", COUNT, "--replay-capacity")
    batch_size: int = setting(256, "transitions in a minibatch, B", COUNT, "--batch-size")
    start: int = setting(1_000, "transitions gathered before the first update", NOT_NEGATIVE, "--replay-start")
    prioritized: bool = setting(
        False, "draw transitions with a large td_error more often", None, "--prioritized/--uniform"
    )
    priority_exponent: float = setting(
        0.6, "how much more often: 0 is uniform, 1 in proportion to |td_error|", FRACTION, "--priority-exponent"
    )
    importance_exponent: float = setting(
        0.4,
        "at first, how much of that the importance weights take back; 1 in the end",
        FRACTION,
        "--importance-exponent",
    )


@dataclass(frozen=True)
class TargetConfig(Checked):
    """What td_target is made of; every `period` updates the target network moves by `polyak` toward the online one."""

    double: bool = setting(
        False,
        "double DQN: the online network chooses the next action, the target network rates it",
        None,
        "--double/--no-double",
    )
    n_step: int = setting(1, "rewards summed before the bootstrap", COUNT, "--n-step")
    reward_scale: float = setting(
        1.0, "rewards are divided by it while learning; the saved Q values are in full", POSITIVE, "--reward-scale"
    )

    polyak: float = setting(0.01, "share by which the target network moves; 1 is a hard copy", RATE, "--polyak")
    period: int = setting(1, "updates between two moves of the target network", COUNT, "--target-period")


@dataclass(frozen=True)
class InteractionConfig(Checked):
    """How many environment steps go with an update: ``environments × steps_per_update``."""

    environments: int = setting(32, "copies of the environment, stepped together", COUNT, "--environments")
    steps_per_update: int = setting(1, "steps of every copy per update", COUNT, "--steps-per-update")


PATIENCE = 3  # evaluations in a row that must find the policy optimal, for the training to stop early


@dataclass(frozen=True)
class EvaluationConfig(Checked):
    """When the policy is compared with the exact optimum, and whether that may end the training."""

    every: int = setting(500, "updates between two evaluations", POSITIVE, "--eval-every")
    early_stop: bool = setting(
        True, "stop when three evaluations in a row find the policy optimal", None, "--early-stop/--no-early-stop"
    )
    objective_discount: float = setting(
        0.99, "discount of the value that decides what is optimal", FRACTION, "--objective-discount"
    )
