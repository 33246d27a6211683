"""Resolve user settings and an open environment to the configuration of a training. Does not import Keras.

The preset is the one named; else the one tuned for the environment and network; else, if there is a transition table,
settings derived from it; else none.

**Settings from a table** for which no preset was tuned. `docs/presets.md` explains each of them. With γ the table's
discount, at most `LONGEST` unless that is too short-sighted (`far_sighted`):

    value range     the largest |r|, times the number of rewards in an episode: one if all rewards come at the end,
                    else 1/(1 − γ) or the time limit
    reward_scale    the power of two (scaling back is exact) that brings the value range to about `RANGE`
    initial_value   if no episode terminates, the value of the mean reward forever: Q values need not climb there
    updates, environments, minibatch   by the number of pairs S·A, and by whether transitions are random
    evaluation      as often as it costs no more than the updates in between

**Large tables**, of more than `LARGE` pairs. A hidden layer's output weights are shared by all states, so that each
update moves the values of thousands of states that are not in the minibatch: no setting was found by which 64 hidden
units learn 10,000 states. So the network has none: its weights are a Q table, or a table under a dueling head. Its
targets are free of chance (`expected`), hence a constant step of SGD. With B samples an update:

    updates         a value travels one step when its pair is in the minibatch, every S·A/B updates, and when the target
                    network follows, in 1/polyak updates; it must travel `horizon_steps` steps
    tabular step    1/2, or less where a pair occurs several times in a minibatch, whose steps add: with 1, three of a
                    pair would overshoot by the whole error, which the max spreads; under a dueling head by states
    polyak          1; under a dueling head, where a sample moves the other actions of its state too, so slowly that a
                    state is sampled `VISITS` times in the meantime
    initial value   of a Q table the lowest possible: then a value is right as soon as that of its best action is, where
                    from above all the others would have to come down first
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from deeptaxi.config import OWN_KIND, OptimizerConfig, TrainConfig, encoding_of, kind_of, merge, resolve
from deeptaxi.errors import UsageError
from deeptaxi.learning.memory import check_size, too_large, too_many
from deeptaxi.mdp import planning
from deeptaxi.mdp.environment import Environment, known_mask
from deeptaxi.mdp.numbering import CAPACITY
from deeptaxi.mdp.spaces import MAX_STATES
from deeptaxi.mdp.table import Floats, TransitionTable
from deeptaxi.mdp.total_reward import UndefinedError
from deeptaxi.mdp.workers import check_workers
from deeptaxi.presets import NONE, TABLE, Preset, fitting, preset_named

RANGE = 16.0
BATCH = 512
LONGEST = 0.99  # a larger discount takes hundreds of thousands of updates; see `docs/presets.md`
LONGER = (0.999, 0.9999, 0.99999)
GOOD = 0.99  # normalized score
PLAIN_DISCOUNT = 0.99
LARGE = 10_000  # pairs
LARGE_BATCH, LARGE_COPIES = 4_096, 2_048
VISITS = 8
NEGLECTED = 1e-4  # share of a value's range that the last of the steps it travels still adds


def power_of_two(value: float) -> float:
    """Return the power of two nearest to `value` > 0 on a logarithmic scale."""
    return 2.0 ** round(math.log2(value))


def clip(low: float, value: float, high: float) -> float:
    """Clip `value` to the range from `low` to `high`."""
    return min(max(value, low), high)


_discounts: WeakKeyDictionary[TransitionTable, float] = WeakKeyDictionary()


def learning_discount(table: TransitionTable) -> float:
    """Return the discount to learn with."""
    asked = PLAIN_DISCOUNT if table.discount is None else table.discount
    if asked <= LONGEST or table.states > planning.DIRECT or table.states * table.actions > LARGE:
        return min(asked, LONGEST)
    if table not in _discounts:
        _discounts[table] = far_sighted(table, asked)
    return _discounts[table]


def far_sighted(table: TransitionTable, asked: float) -> float:
    """Return the least of `LONGEST` and `LONGER` whose optimal policy scores `GOOD` at the discount `asked`."""
    try:
        random = start_value(table, planning.uniform_policy(table, table.action_mask), asked)
        best = planning.value_iteration(table, 1.0, table.action_mask).value if asked == 1 else None
        policy = planning.greedy_policy(table.expected_reward, table.action_mask)
        if best is None:
            policy = planning.improve_policy(table, asked, policy, table.action_mask)
            best = planning.evaluate_policy(table, policy, asked).value
        gain = mean_at_start(table, best) - random
        if not math.isfinite(gain) or gain <= 1e-9 * (1 + abs(random)):
            return LONGEST
        for discount in (LONGEST, *(longer for longer in LONGER if longer < asked)):
            policy = planning.improve_policy(table, discount, policy, table.action_mask)
            if start_value(table, policy, asked) - random >= GOOD * gain:
                return discount
    except UndefinedError:
        pass
    return LONGEST


def start_value(table: TransitionTable, policy: Any, discount: float) -> float:
    """Return the value of a policy `[S]` or `[S, A]` where episodes start."""
    return mean_at_start(table, planning.evaluate_policy(table, policy, discount).value)


def mean_at_start(table: TransitionTable, value: Floats) -> float:
    """Return the mean of values `[S]` where episodes start; those of other states may be infinite."""
    starts = table.start > 0
    return float(table.start[starts] @ value[starts])


def ends_only(table: TransitionTable) -> bool:
    """Return whether only the last step of an episode is rewarded."""
    return not (table.reward * table.continuation).any()


def is_random(table: TransitionTable) -> bool:
    """Return whether some (state, action) has several outcomes."""
    return bool((table.probability > 0).sum(axis=-1).max() > 1)


def never_ends(table: TransitionTable) -> bool:
    """Return whether no transition terminates."""
    return bool((table.continuation == table.probability).all())


def value_range(table: TransitionTable) -> float:
    """Return a bound on |V|: the largest reward, summed over an episode."""
    largest = float(np.abs(table.reward * (table.probability > 0)).max())
    if ends_only(table):
        return largest
    return largest * min(1 / (1 - learning_discount(table)), table.time_limit or math.inf)


def mean_value(table: TransitionTable) -> float:
    """Return the value of receiving the mean reward forever; 0 if episodes terminate, where it is no guide."""
    if not never_ends(table):
        return 0.0
    allowed = np.ones(table.expected_reward.shape, bool) if table.action_mask is None else table.action_mask
    return float(table.expected_reward[allowed].mean()) / (1 - learning_discount(table))


def eval_every(table: TransitionTable, updates: int) -> int:
    """Return the evaluation interval: the updates that take as long as one evaluation, at 25 per millisecond."""
    states, outcomes = table.states, table.probability.shape[2]
    steps = table.time_limit or (5_000 if never_ends(table) else 1_000)
    walk = steps * (5 + states * outcomes * 0.01) / 1_000 if states > 256 else 1.0  # milliseconds
    return int(clip(250, 250 * round((10 + walk + (states / 200) ** 3) * 25 / 250), updates // 8))


def large_eval_every(table: TransitionTable, updates: int) -> int:
    """Return the evaluation interval of a large table: an eighth of the updates; a quarter where evaluations take long.

    Between the two, evaluations take 0.4 times as long as the updates. Both were measured on grids of 10^4 to 10^6
    states: an update of `LARGE_BATCH` samples takes 0.5 ms and 2.2 ns for every state; a sweep of a policy 0.02 ms
    and 2.5 ns for each of its outcomes; an evaluation makes one sweep for every step of an episode, and for every step
    that a value travels three.
    """
    states, _, outcomes = table.probability.shape
    discounted = 3 * math.log(NEGLECTED) / math.log(learning_discount(table)) if learning_discount(table) > 0 else 1.0
    sweeps = discounted + (table.time_limit or 1_000)
    evaluation, update = sweeps * (2e-5 + 2.5e-9 * states * outcomes), 5e-4 + 2.2e-9 * states
    return 250 * math.ceil(clip(max(500, updates / 8), evaluation / update / 0.4, max(500, updates / 4)) / 250)


def table_rate(table: TransitionTable) -> float:
    """Return the learning rate of a Q table, whose entries move only when their pair is in the minibatch."""
    return clip(0.02, 0.02 * table.states * table.actions / BATCH, 0.2)


def horizon_steps(table: TransitionTable) -> float:
    """Return the number of steps after which a reward adds less than `NEGLECTED` of it to a value."""
    discount = learning_discount(table)
    discounted = math.log(NEGLECTED) / math.log(discount) if discount > 0 else 1.0
    return min(discounted, table.time_limit or math.inf)


def lowest_value(table: TransitionTable) -> float:
    """Return the value of the worst mean reward forever, or 0; if no episode terminates, that of the mean reward."""
    if never_ends(table):
        return mean_value(table)
    allowed = np.ones(table.expected_reward.shape, bool) if table.action_mask is None else table.action_mask
    return min(0.0, float(table.expected_reward[allowed].min())) / (1 - learning_discount(table))


def large_settings(table: TransitionTable, kind: str) -> dict[str, Any]:
    """Return settings by which a network without hidden layers learns a large table; see above."""
    pairs = table.states * table.actions
    every = pairs / LARGE_BATCH  # updates between two updates of a pair
    if kind == "q-table":
        step, polyak = min(0.5, every / 4), 1.0
    else:
        step, polyak = min(0.4, table.states / LARGE_BATCH), min(0.05, LARGE_BATCH / (VISITS * table.states))
    updates = 1_000 * math.ceil(horizon_steps(table) * (max(every, 1.0) + 1 / polyak) / 1_000)
    return {
        "updates": updates,
        "network": {"initial_value": lowest_value(table)} if kind == "q-table" else {"hidden": []},
        "exploration": {"exploring_starts": 1.0, "start": 1.0, "end": 1.0},
        "interaction": {"environments": LARGE_COPIES},
        "replay": {"batch_size": LARGE_BATCH, "capacity": 500_000},
        "optimizer": {"name": "sgd", "tabular_step": step, "schedule": "constant"},
        "target": {"polyak": polyak},
        "evaluation": {"every": large_eval_every(table, updates)},
    }


def takes_large_settings(table: TransitionTable, values: Mapping[str, Any]) -> bool:
    """Whether a table takes the settings of large ones: not if the user asks for another network or optimizer."""
    network, optimizer = values.get("network", {}), values.get("optimizer", {})
    joint = network.get("encoding", "joint") == "joint"
    asked = network.get("hidden") or not joint or kind_of(values) in ("mlp", OWN_KIND)
    return table.states * table.actions > LARGE and not asked and not optimizer


def table_settings(table: TransitionTable, kind: str, compiled: bool, large: bool = False) -> dict[str, Any]:
    """Return training settings derived from `table`, nested as in a configuration.

    Args:
        table: the transition table.
        kind: network kind, ``"q-table"`` or another.
        compiled: whether the compiled loop is used; otherwise an update takes a millisecond and states cannot be set.
        large: whether to learn without hidden layers, as `large_settings` says; only with the compiled loop.
    """
    bound = value_range(table)
    settings: dict[str, Any] = {
        "discount": learning_discount(table),
        "target": {
            "reward_scale": power_of_two(bound / RANGE) if bound else 1.0,
            "polyak": 0.05 if kind == "q-table" else 0.02,
        },
        "network": {"initial_value": mean_value(table), **({} if kind == "q-table" else {"hidden": [64]})},
    }
    if not compiled:
        return settings
    if is_random(table):  # what the table says of chance need not be sampled
        settings["target"]["backup"] = "expected"
    if large:
        return merge(settings, large_settings(table, kind))
    updates = 40_000 if is_random(table) else 20_000
    return {
        **settings,
        "updates": updates,
        "exploration": {"exploring_starts": 0.2},
        "interaction": {"environments": int(clip(32, power_of_two(2_048 / table.actions), 256))},
        "replay": {"batch_size": BATCH, "capacity": 500_000},
        "optimizer": {
            "learning_rate": table_rate(table) if kind == "q-table" else 0.003,
            "schedule": "exponential",
            "final_fraction": 0.001,
        },
        "evaluation": {"every": eval_every(table, updates)},
    }


COMPILING = ("tensorflow", "jax")
OPTIMIZER_OPTIONS: dict[str, dict[str, Any]] = {  # of the optimizers in `compiled.optimizers`, with Keras' defaults
    "sgd": {"momentum": 0.0, "nesterov": False},
    "adam": {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7},
}


def why_not_compiled(config: TrainConfig, environment: Environment) -> str | None:
    """Return why the compiled loop cannot run this training; None if it can."""
    if environment.table is None:
        return f"it needs a transition table, and {environment.config.id} has none: {environment.table_missing}"
    if (running := os.environ.get("KERAS_BACKEND") or "tensorflow") not in COMPILING:
        return f"it runs on {' and '.join(COMPILING)}, not on KERAS_BACKEND={running}"
    if config.exploration.action_mask and known_mask(environment) is None:
        return "it needs the action mask of all states in advance, and this environment only reveals it step by step"
    return too_large(*environment.table.probability.shape) or too_many(config, environment.actions)


def has_pure_optimizer(config: OptimizerConfig) -> bool:
    """Return whether the optimizer is one of `compiled.optimizers`, with options that it has there."""
    return config.options.keys() <= OPTIMIZER_OPTIONS.get(config.name, {}).keys() and config.name in OPTIMIZER_OPTIONS


@dataclass(frozen=True)
class Configured:
    """A configuration, and the name of the preset that affected it; ``none`` if the user set everything."""

    config: TrainConfig
    preset: str

    @property
    def explanation(self) -> str:
        """One line on where the settings come from."""
        objective = self.config.evaluation.objective_discount
        slower = f"; it learns at discount {self.config.discount:g}, where values travel faster than at {objective:g}"
        expected = ""
        if self.config.target.backup == "expected":
            expected = "; its td_targets are expectations over the table's outcomes (--backup sample: sampled ones)"
        explanations = {
            NONE: "none: plain defaults, and what was set",
            TABLE: "table: settings from the numbers of the transition table"
            + (slower if self.config.discount < objective else ""),
        }
        named = f"{self.preset} (`deeptaxi presets` lists them, --preset chooses)"
        return explanations.get(self.preset, named) + expected


def choose(values: Mapping[str, Any], name: str | None) -> Preset | None:
    """Return the preset called `name`; None if `name` is None.

    Raises:
        UsageError: it does not exist, or conflicts with `values`.
    """
    if name is None:
        return None
    network = values.get("network", {})
    preset = preset_named(name, kind_of(values))
    clash = next((key for key in ("hidden", "dueling", "builder") if network.get(key)), None)
    if preset.network == "q-table" and clash:
        typed = "network" if clash == "builder" else clash
        raise UsageError(
            f"--preset {preset.name} is for the Q table, which has neither hidden layers nor a head: "
            f"leave out --{typed}, or take --preset {preset.name.removesuffix('.q-table')}"
        )
    return preset


def with_environment(values: Mapping[str, Any], preset: Preset | None) -> dict[str, Any]:
    """Add the preset's own environment to `values` if the user names none."""
    asked = values.get("environment", {})
    if preset is None or asked.get("id"):
        return dict(values)
    place = merge(preset.environment, asked)
    if preset.environment:
        place["kwargs"] = {**preset.environment["kwargs"], **asked.get("kwargs", {})}
    return merge(values, {"environment": place})


def preset_for(environment: Environment, values: Mapping[str, Any], preset: Preset | None) -> Preset:
    """Return the named preset, else the one tuned for this, else one derived from the table, else none.

    Raises:
        UsageError: ``table`` is requested without a transition table.
    """
    kind = kind_of(values)
    if preset is None:
        preset = fitting(environment.config.id, environment.config.kwargs, kind, encoding_of(values))
    table = environment.table
    if preset is None and table is not None:
        preset = Preset(TABLE)
    if preset is None or preset.name != TABLE:
        return preset or Preset(NONE)
    if table is None:
        raise UsageError(f"--preset table: {environment.config.id} has no true table: {environment.table_missing}")
    table = replace(table, time_limit=environment.time_limit)
    return Preset(
        TABLE, settings=table_settings(table, kind, values["loop"] == "compiled", takes_large_settings(table, values))
    )


def configure(environment: Environment, values: Mapping[str, Any], preset: Preset | None = None) -> Configured:
    """Complete the user's settings for an open environment.

    Args:
        environment: the environment that `values` name.
        values: nested settings of the user.
        preset: the named preset, or None.

    Raises:
        UsageError: the settings conflict with each other or the environment, or need too much memory.
    """
    if preset is None and defaults_to_q_table(environment, values):
        values = merge(values, {"network": {"hidden": [], "dueling": False}})
    named_values = merge(values, {"environment": decided_on_opening(environment)})
    asked = environment.asked_settings()
    if kind_of(values) == "q-table":  # its weights are a table over all states
        asked.pop("network", None)
    starts = values.get("exploration", {}).get("exploring_starts")
    if starts or "loop" not in values:
        unable = why_not_compiled(resolve({**named_values, "loop": "compiled"}, asked, preset), environment)
        if starts and unable:
            raise UsageError(
                f"--exploring-starts needs the compiled loop, which cannot run here: {unable}; "
                "leave out --exploring-starts"
            )
        named_values.setdefault("loop", "gymnasium" if unable else "compiled")
    chosen = preset_for(environment, named_values, preset)
    if chosen.name == TABLE:  # derived from the same table, and may learn with a discount below the table's
        asked = merge(asked, chosen.settings)
    config = resolve(named_values, asked, chosen)
    if config.target.backup == "expected" and environment.table is None:
        raise UsageError(no_expectation(environment, values, chosen))
    check_tabulable(environment, config)
    check_size(config, environment.states, environment.actions)
    check_workers(config, environment)
    masked = environment.table is not None and environment.table.action_mask is not None
    if masked and not config.exploration.action_mask:
        raise UsageError("the table excludes actions, so its mask cannot be left out: leave out --no-action-mask")
    silent = config == without_preset(named_values, environment)
    return Configured(config, NONE if silent else chosen.name)


def no_expectation(environment: Environment, values: Mapping[str, Any], chosen: Preset) -> str:
    """Say that expected updates need a table, who asks for them, and what to do."""
    missing = f"and {environment.config.id} has none: {environment.table_missing}"
    if "backup" not in values.get("target", {}):
        return f"preset {chosen.name} learns from the outcomes in a transition table, {missing}; add --backup sample"
    instead = "leave out --no-discover, or" if environment.config.discover is False else "leave out"
    return f"--backup expected needs a transition table, {missing}; {instead} --backup expected"


def decided_on_opening(environment: Environment) -> dict[str, Any]:
    """Return the settings of an environment that were resolved when it was opened."""
    config = environment.config
    found: dict[str, Any] = {"id": config.id}  # with its version
    if config.state_capacity is not None:
        found["state_capacity"] = config.state_capacity
    if environment.numbering is not None and environment.table is None:
        found["discover"] = False  # a table that is discovered later has other numbers
    return found


def check_tabulable(environment: Environment, config: TrainConfig) -> None:
    """Reject a one-hot network over more states than one takes.

    Raises:
        UsageError: there are more.
    """
    if not environment.tabulated and config.network.kind == OWN_KIND:
        raise UsageError(
            f"{environment.config.id} has {environment.states:,} states, and --network takes at most {MAX_STATES:,}: "
            f"number only those that occur, --state-capacity {CAPACITY}"
        )
    if not environment.tabulated and config.network.encoding != "factored":
        raise UsageError(
            f"{environment.config.id} has {environment.states:,} states; a one-hot network takes at most "
            f"{MAX_STATES:,}: let it see the parts of a state by themselves, --encoding factored, or only those that "
            f"occur, --state-capacity {CAPACITY}"
        )


def defaults_to_q_table(environment: Environment, values: Mapping[str, Any]) -> bool:
    """Whether the network is a Q table by default: of observations numbered as they are first seen, without a table.

    One-hot over 100,000 states, a hidden layer would share nothing between them, and take ten times as long.
    """
    asked = values.get("network", {})
    own = environment.numbering is not None and environment.table is None
    return own and not any(name in asked for name in ("hidden", "dueling", "encoding", "builder"))


def without_preset(values: Mapping[str, Any], environment: Environment) -> TrainConfig | None:
    """Return the configuration without any preset; None if `values` are valid only with one."""
    try:
        return resolve(values, environment.asked_settings(), Preset(NONE))
    except UsageError:
        return None
