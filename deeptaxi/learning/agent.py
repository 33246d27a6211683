"""The agent: an online and a target network, an optimizer, and one update.

`UpdateRule` is the computation of an update: targets, overwrite, loss, gradient and optimizer step, then the target
network update

    w_target ← w_target + τ · (w_online − w_target)        every `period` updates; τ = 1 is a hard copy.

`DQNAgent` runs it compiled. `FitAgent` does the same with `predict` and `fit`, and is the oracle that `DQNAgent` is
tested against.

`FitAgent` is **the literal algorithm**: predict, overwrite, fit, one minibatch at a time, using only Keras' public
methods. It is slow on purpose, and runs on every Keras backend.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from deeptaxi.backend import keras_backend
from deeptaxi.config import OptimizerConfig, TrainConfig
from deeptaxi.errors import UsageError, nearest
from deeptaxi.learning.expected import ExpectedOutcomes, expect
from deeptaxi.learning.replay_buffer import Batch, Transitions
from deeptaxi.learning.schedules import initial_learning_rate
from deeptaxi.learning.state import TrainingState, array, count
from deeptaxi.recipe import epsilon_greedy, is_greedy, loss_of, overwrite, td_targets

REFUSED_OPTIONS = {"learning_rate", "loss_scale_factor", "use_ema"}
REFUSED_OPTIONS_WHY = (
    "the learning rate has its own setting, loss scaling is for float16, and averaging is the target's"
)


class UpdateResult(NamedTuple):
    """The result of one update."""

    loss: float
    td_error: float  # mean |td_error| over the minibatch
    td_errors: NDArray[np.float32] = np.zeros(0, np.float32)  # |td_error| per sample, `[B]`


class TDTargets(NamedTuple):
    """The targets of an update and the Q values they are computed from, without gradients."""

    q_online: Any  # of the states, before the step, [B, A]
    q_target: Any  # of the next states, [B, A]; with expected updates [B, K, A]
    choosing_q: Any  # double DQN: the online network's Q values of the next states, of that shape; else None
    td_targets: Any  # [B]
    targets: Any  # `q_online` with the entries of the actions taken overwritten, [B, A]


def build_optimizer(config: OptimizerConfig, learning_rate: float, updates: int) -> Any:
    """Build the Keras optimizer with its learning rate schedule over `updates` steps.

    Raises:
        UsageError: the optimizer does not accept the options.
    """
    classes = {name.lower(): item for name, item in vars(keras.optimizers).items() if isinstance(item, type)}
    for name in REFUSED_OPTIONS & config.options.keys():
        raise UsageError(f"optimizer option {name} is refused: {REFUSED_OPTIONS_WHY}")
    check_truths(classes[config.name], config)
    clipping = {} if config.clip_norm is None else {"global_clipnorm": config.clip_norm}
    rate = learning_rate_schedule(config, learning_rate, updates)
    try:
        return classes[config.name](learning_rate=rate, **clipping, **config.options)
    except (TypeError, ValueError) as error:
        known = inspect.signature(classes[config.name].__init__).parameters  # type: ignore[misc]
        near = next((nearest(key, known) for key in config.options if key not in known), "")
        raise UsageError(
            f"optimizer {config.name} does not take options {dict(config.options)}: {error}{near}"
        ) from None


def check_truths(optimizer: type, config: OptimizerConfig) -> None:
    """Reject numbers for Boolean optimizer options, and vice versa.

    Raises:
        UsageError: an option has the wrong type.
    """
    parameters = inspect.signature(optimizer.__init__).parameters  # type: ignore[misc]
    for name, value in config.options.items():
        default = parameters[name].default if name in parameters else value
        if name != "name" and isinstance(value, bool) != isinstance(default, bool):
            expected = "true or false" if isinstance(default, bool) else "a number"
            raise UsageError(f"[optimizer.options] {name} = {value!r}: expected {expected}")


def learning_rate_schedule(config: OptimizerConfig, start: float, updates: int) -> Any:
    """Return `schedules.anneal` over `updates` steps, from `start` to its final fraction, as a Keras schedule."""
    schedules = keras.optimizers.schedules
    if config.schedule == "linear":
        return schedules.PolynomialDecay(start, updates, start * config.final_fraction)
    if config.schedule == "exponential":
        return Exponential(start, updates, config.final_fraction)
    if config.schedule == "cosine":
        return schedules.CosineDecay(start, updates, config.final_fraction)
    return start


class Exponential(keras.optimizers.schedules.ExponentialDecay):
    """Keras' exponential decay, held at its final value after `decay_steps` like the other schedules."""

    def __call__(self, step: Any) -> Any:
        """Return the learning rate at `step`."""
        return super().__call__(ops.minimum(step, self.decay_steps))


class UpdateRule:
    """The computation of an update, on two networks and an optimizer.

    Everything it depends on, except the values of the variables, is an argument here and part of `kinds`.

    Args:
        online: the network that acts and is trained; states `[B]` to Q values `[B, A]`.
        target: a network of the same shape.
        optimizer: built on the trainable variables of `online`.
        loss: its name, as for `loss_of`.
        double: whether the online network chooses the next action (double DQN).
        polyak: τ, the weight of the online network in an update of the target network.
    """

    def __init__(
        self, online: keras.Model, target: keras.Model, optimizer: Any, loss: str, double: bool, polyak: float
    ) -> None:
        self.online, self.target, self.optimizer = online, target, optimizer
        self._loss, self._double, self._polyak = loss, double, polyak

    @property
    def kinds(self) -> dict[str, Hashable]:
        """For each function a key shared by all rules with the same computation, whatever their variables."""
        online, target = (repr(without_initializers(network.get_config())) for network in (self.online, self.target))
        steps = {**self.optimizer.get_config(), "name": type(self.optimizer).__name__}  # Keras numbers instance names
        return {
            "act": online,
            "greedy": online if self._double else target,
            "update": (online, target, repr(steps), self._loss, self._double),
            "move": (online, target, self._polyak),
        }

    def state(self) -> list[Any]:
        """Return all variables that an update may read or write."""
        return [*self.online.variables, *self.target.variables, *self.optimizer.variables]

    def act(self, states: Any, epsilon: Any, draws: Any, noise: Any, allowed: Any) -> Any:
        """Return ε-greedy actions `[N]`; the arguments are those of `epsilon_greedy`, for states `[N]`."""
        return epsilon_greedy(self.online(states, training=False), epsilon, draws, noise, allowed)

    @property
    def choosing(self) -> keras.Model:
        """The network that chooses the action that a bootstrap takes."""
        return self.online if self._double else self.target

    def greedy(self, states: Any, actions: Any, allowed: Any) -> Any:
        """Return whether `actions` are those that a bootstrap from `states` would choose, bool `[B, n]`."""
        return is_greedy(q_values(self.choosing, states), actions, allowed)

    def update(
        self, states: Any, actions: Any, rewards: Any, next_states: Any, discounts: Any, weights: Any, next_allowed: Any
    ) -> tuple[Any, Any]:
        """Take one optimizer step; return the loss, a scalar, and the |td_error| of each sample, `[B]`."""
        found = self.compute_targets(states, actions, rewards, next_states, discounts, next_allowed)
        loss, gradients = self.loss_gradients(states, found.targets, weights)
        self.optimizer.apply(gradients, self.online.trainable_variables)
        return loss, ops.sum(ops.abs(found.targets - found.q_online), axis=-1)

    def compute_targets(
        self, states: Any, actions: Any, rewards: Any, next_states: Any, discounts: Any, next_allowed: Any
    ) -> TDTargets:
        """Return the targets of an update on these samples; the arguments are those of `update`."""
        next_q = ops.stop_gradient(q_values(self.target, next_states))
        choosing_q = ops.stop_gradient(q_values(self.online, next_states)) if self._double else None
        targets = td_targets(rewards, discounts, next_q, next_allowed, choosing_q)
        q_before = ops.stop_gradient(self.online(states, training=False))
        return TDTargets(q_before, next_q, choosing_q, targets, overwrite(q_before, actions, targets))

    def loss_gradients(self, states: Any, targets: Any, weights: Any) -> tuple[Any, list[Any]]:
        """Return the loss of all outputs against `targets` `[B, A]`, and its gradients by trainable variable."""
        return keras_backend.gradients(
            lambda: loss_of(self._loss, self.online(states, training=True), targets, weights),
            self.online.trainable_variables,
        )

    def move(self) -> None:
        """Move the target network toward the online network by τ."""
        for old, new in zip(self.target.variables, self.online.variables, strict=True):
            old.assign(old + self._polyak * (new - old))


def q_values(network: keras.Model, states: Any) -> Any:
    """Return the Q values `[B, A]` of `states` `[B]`, or `[B, K, A]` of `[B, K]`."""
    if len(states.shape) == 1:
        return network(states, training=False)
    flat = network(ops.reshape(states, (-1,)), training=False)
    return ops.reshape(flat, (*states.shape, flat.shape[-1]))


def without_initializers(config: Any) -> Any:
    """Remove the initializers from a Keras configuration: they are irrelevant once the variables exist."""
    if isinstance(config, Mapping):
        return {key: without_initializers(value) for key, value in config.items() if not key.endswith("_initializer")}
    return [without_initializers(item) for item in config] if isinstance(config, list | tuple) else config


class Acting(NamedTuple):
    """What an agent needs to act in N environments."""

    states: NDArray[np.int32]  # [N]
    epsilon: float
    draws: NDArray[np.float32]  # [N] and [N, A], as for `epsilon_greedy`
    noise: NDArray[np.float32]


class Updated(NamedTuple):
    """What a step of the loop with an update returns."""

    actions: NDArray[np.int32]  # [N], chosen after the update
    loss: float
    td_error: float  # mean |td_error| over the minibatch


class Agent(Protocol):
    """What learns from environments: it stores transitions, acts, and updates itself from what it has stored."""

    @property
    def online(self) -> keras.Model:
        """The online network, states `[B]` to Q values `[B, A]`."""

    @property
    def updates(self) -> int:
        """The number of updates made so far."""

    @property
    def added(self) -> int:
        """The number of transitions stored so far, including overwritten ones."""

    def act(self, acting: Acting) -> NDArray[np.int32]:
        """Return ε-greedy actions `[N]`."""

    def collect(self, new: Transitions, acting: Acting) -> NDArray[np.int32]:
        """Store N transitions, then act."""

    def update(self, new: Transitions, acting: Acting) -> Updated:
        """Store N transitions, make an update on a minibatch, then act."""

    def compile(self) -> float:
        """Compile everything without changing the state; return the seconds taken."""

    def pairs(self) -> NDArray[np.int64]:
        """Return the pair indices s·A + a of all `n` entries of the replay buffer, int64 `[n]`."""

    def cut(self, copies: list[int]) -> None:
        """Mark the newest entry of each of these environments as truncated."""

    def state_dict(self) -> TrainingState:
        """Return the state between two updates."""

    def load_state_dict(self, saved: TrainingState) -> None:
        """Load a saved state."""


class DQNAgent:
    """Two networks and the optimizer, compiled.

    Args:
        online: the network that acts and is trained; states `[B]` to Q values `[B, A]`.
        target: a network of the same shape; its weights are overwritten with those of `online`.
        config: loss, optimizer, choice of the next action (double DQN) and target updates.
        environments: N, the number of states per call of `act`.
    """

    def __init__(self, online: keras.Model, target: keras.Model, config: TrainConfig, environments: int) -> None:
        self.online = online
        self.target = target
        self.config = config
        self.environments = environments
        self.actions = int(online.outputs[0].shape[-1])
        self.updates = 0
        rate = initial_learning_rate(config, self.actions)
        self.optimizer = build_optimizer(config.optimizer, rate, config.schedule_length)
        self.optimizer.build(online.trainable_variables)
        loss, moves = config.optimizer.loss, config.target
        self.rule = UpdateRule(online, target, self.optimizer, loss, moves.double, moves.polyak)
        self.copy_weights()
        self.prepare()

    def prepare(self) -> None:
        """Compile the functions, each once for all agents in which it computes the same."""
        rule = self.rule
        functions: dict[str, tuple[Callable[..., Any], Sequence[Any]]] = {
            "act": (rule.act, rule.online.variables),
            "greedy": (rule.greedy, rule.choosing.variables),
            "update": (rule.update, rule.state()),
            "move": (rule.move, rule.online.variables + rule.target.variables),
        }
        self._act, self._greedy, self._update, self._move = (
            keras_backend.compiled(function, state, (name, rule.kinds[name]))
            for name, (function, state) in functions.items()
        )

    def act(
        self,
        states: NDArray[np.int32],
        epsilon: float,
        draws: NDArray[np.float32],
        noise: NDArray[np.float32],
        allowed: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        """Return ε-greedy actions `[N]` of the online network; the arguments are those of `epsilon_greedy`."""
        chosen = self._act(states, np.float32(epsilon), draws, noise, allowed)
        return np.asarray(ops.convert_to_numpy(chosen), np.int64)

    def greedy(
        self, states: NDArray[np.int32], actions: NDArray[np.int32], allowed: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Return whether `actions` are those that a bootstrap from `states` would choose, bool `[B, n]`.

        Args:
            states: `[B, n]`.
            actions: `[B, n]`.
            allowed: bool `[B, n, A]`.
        """
        return np.asarray(ops.convert_to_numpy(self._greedy(states, actions, allowed)), np.bool_)

    def update(self, batch: Batch, next_allowed: NDArray[np.bool_]) -> UpdateResult:
        """Take one optimizer step on the minibatch, then update the target network if due.

        Args:
            batch: B samples.
            next_allowed: the actions allowed in the next states, bool `[B, A]`.
        """
        loss, found = self._update(*batch, next_allowed)
        self.updates += 1
        self.move_target()
        td_errors = np.asarray(ops.convert_to_numpy(found))
        return UpdateResult(float(loss), float(td_errors.mean()), td_errors)

    def move_target(self) -> None:
        """Update the target network every `period` updates."""
        if self.updates % self.config.target.period == 0:
            if self.config.target.polyak == 1:
                self.copy_weights()
            else:
                self._move()

    def copy_weights(self) -> None:
        """Copy the online network's weights to the target network."""
        for old, new in zip(self.target.variables, self.online.variables, strict=True):
            old.assign(ops.copy(new))  # `fit` donates the online arrays: a shared JAX array would be deleted

    def state_dict(self) -> TrainingState:
        """Return all variables, in the order of `rule.state`, and the number of updates."""
        arrays = {f"agent.{i}": np.array(ops.convert_to_numpy(item)) for i, item in enumerate(self.rule.state())}
        return TrainingState(arrays, {"updates": self.updates})

    def load_state_dict(self, saved: TrainingState) -> None:
        """Restore networks, optimizer and counters.

        Raises:
            StateMismatchError: they belong to other networks or another optimizer.
        """
        for i, item in enumerate(self.rule.state()):
            kind = keras.backend.standardize_dtype(item.dtype)
            item.assign(array(saved, f"agent.{i}", tuple(item.shape), kind))
        self.updates = count(saved, "updates", self.config.updates)

    def compile(self, outcomes: ExpectedOutcomes | None = None) -> float:
        """Compile everything by running it once, then undo the changes; return the seconds taken."""
        start = time.perf_counter()
        before = [ops.convert_to_numpy(variable).copy() for variable in self.rule.state()]
        updates = self.updates
        self.updates = self.config.target.period - 1  # so that the target update is compiled as well
        whole, real, matrix = zeros(self.environments, self.actions)
        self.act(whole, 1.0, real, matrix, matrix == 0)
        whole, real, matrix = zeros(self.config.replay.batch_size, self.actions)
        batch, allowed = Batch(whole, whole, real, whole, real, real), matrix == 0
        if self.config.target.cuts:
            later = np.zeros((len(whole), self.config.target.n_step - 1), np.int32)
            self.greedy(later, later, np.ones((*later.shape, self.actions), np.bool_))
        if outcomes is not None:
            batch = expect(batch, outcomes, self.actions)
            allowed = np.ones((*batch.next_states.shape, self.actions), np.bool_)
        self.update(batch, allowed)
        for variable, value in zip(self.rule.state(), before, strict=True):
            variable.assign(value)
        self.updates = updates
        return time.perf_counter() - start


def zeros(rows: int, actions: int) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Return zeros of the types an agent takes: int32 `[rows]`, float32 `[rows]` and `[rows, actions]`."""
    return np.zeros(rows, np.int32), np.zeros(rows, np.float32), np.zeros((rows, actions), np.float32)


def predict(network: keras.Model, states: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the Q values `[B, A]` of `states` `[B]`, or `[B, K, A]` of `[B, K]`."""
    flat = np.asarray(network.predict(states.reshape(-1), batch_size=states.size, verbose=0))
    return flat.reshape(*states.shape, -1)


class FitAgent(DQNAgent):
    """An agent whose update is `predict`, overwrite, `fit`."""

    def prepare(self) -> None:
        """Leave compilation to Keras."""
        loss = keras.losses.Huber() if self.config.optimizer.loss == "huber" else keras.losses.MeanSquaredError()
        self.online.compile(optimizer=self.optimizer, loss=loss)
        self._act = lambda states, *rest: epsilon_greedy(predict(self.online, states), *rest)
        self._greedy = lambda states, *rest: is_greedy(predict(self.rule.choosing, states), *rest)

    def update(self, batch: Batch, next_allowed: NDArray[np.bool_]) -> UpdateResult:
        """Take one optimizer step: copy the predictions, overwrite the entries of the actions taken, fit."""
        q_online = predict(self.online, batch.states)
        q_target = predict(self.target, batch.next_states)
        choosing = predict(self.online, batch.next_states) if self.config.target.double else None

        td_target = td_targets(batch.rewards, batch.discounts, q_target, next_allowed, choosing)
        targets = ops.convert_to_numpy(overwrite(q_online, batch.actions, td_target))

        loss = self.fit(batch, targets)
        self.updates += 1
        self.move_target()
        with np.errstate(invalid="ignore"):  # divergence is detected elsewhere
            td_errors = np.abs(targets - q_online).sum(axis=1)
        return UpdateResult(loss, float(td_errors.mean()), td_errors)

    def fit(self, batch: Batch, targets: NDArray[np.float32]) -> float:
        """Fit the online network to `targets` `[B, A]` in one step; return the loss. Sample weights are ignored."""
        # One minibatch, one step: the default batch size of 32 would take several.
        history = self.online.fit(
            batch.states, targets, batch_size=len(batch.states), epochs=1, shuffle=False, verbose=0
        )
        return float(history.history["loss"][0])

    def move_target(self) -> None:
        """Update the target network every `period` updates."""
        share = self.config.target.polyak
        if self.updates % self.config.target.period == 0:
            pairs = zip(self.target.get_weights(), self.online.get_weights(), strict=True)
            self.target.set_weights([new if share == 1 else old + share * (new - old) for old, new in pairs])
