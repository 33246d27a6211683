"""The agent of loops whose transitions come from environments: replay buffer and update as one compiled program.

It is the compiled loop's own update and replay buffer, fed with transitions instead of outcomes of a table. A call to
the program takes longer than what it computes, and each array that it takes or returns adds to that; so a step of the
loop is a single call, with one array of int32 each way. Real numbers travel as their bits:

    there    transitions `[N, 5]` · states to act in `[N]` · ε-greedy draws `[N]` and noise `[N, A]`
             · random bits of the minibatch `[B]` · ε · learning rate · importance exponent · position · size · update
    back     actions `[N]` · loss · mean |td_error|

The order is that of the loop: store the transitions, sample, update, then act in the states that the environments
have reached.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from deeptaxi.backend import xla
from deeptaxi.backend.nested_arrays import Answer
from deeptaxi.backend.program import aligned_buffer, borrow_program, shapes_of
from deeptaxi.config import TrainConfig
from deeptaxi.learning.action_mask import ActionMaskTable
from deeptaxi.learning.agent import Acting, Updated
from deeptaxi.learning.compiled.hyperparameters import Hyperparameters, numbers_of, settings_of_program
from deeptaxi.learning.compiled.model_update import build_update
from deeptaxi.learning.compiled.ring_buffer import COLUMNS, TRUNCATED, Ring, TransitionReplayBuffer, rows_of
from deeptaxi.learning.compiled.update import AgentState, CompiledUpdate
from deeptaxi.learning.expected import outcomes_of
from deeptaxi.learning.replay_buffer import Transitions, random_bits
from deeptaxi.learning.schedules import importance_exponent, learning_rate
from deeptaxi.learning.state import (
    TrainingState,
    array,
    check_range,
    count,
    fact,
    fill_arrays,
    generator_state,
    named_arrays,
    set_generator,
)
from deeptaxi.mdp.environment import Environment
from deeptaxi.recipe import epsilon_greedy


class Known(NamedTuple):
    """What is known of the environment; None where there is nothing to look up."""

    allowed: Any  # bool [S, A]
    expected: Any  # the `ExpectedOutcomes` of expected updates


class Inputs(NamedTuple):
    """What the program gets besides the message."""

    known: Known
    constant: Hyperparameters


class ProgramState(NamedTuple):
    """The state of the program; where the next entry goes, and how many there are, the host counts."""

    agent: AgentState
    entries: Any  # int32 [C, 5]
    tree: Any  # as in `Ring`
    largest: Any


class Message(NamedTuple):
    """What the host sends to the program, unpacked."""

    rows: Any  # int32 [N, 5]
    states: Any  # int32 [N]
    draws: Any  # [N]
    noise: Any  # [N, A]
    bits: Any  # int32 [B]
    epsilon: Any
    rate: Any
    exponent: Any
    position: Any  # int32
    size: Any  # int32
    number: Any  # int32, of updates before this one


ENTRIES = "program.entries"  # in a saved state
REAL = ("draws", "noise", "epsilon", "rate", "exponent")


class AgentProgram:
    """The functions of the program.

    Args:
        config: the training.
        rule: one update.
        actions: A.
    """

    def __init__(self, config: TrainConfig, rule: CompiledUpdate, actions: int) -> None:
        self.rule = rule
        self.replay = TransitionReplayBuffer(config, actions)
        self.cuts = config.target.cuts
        copies = config.interaction.environments
        self.shapes: list[tuple[int, ...]] = [
            *((copies, COLUMNS), (copies,), (copies,), (copies, actions), (config.replay.batch_size,)),
            *[()] * (len(Message._fields) - 5),
        ]
        self.ends = np.cumsum([0, *(int(np.prod(shape)) for shape in self.shapes)]).tolist()

    def initial(self, agent: AgentState) -> ProgramState:
        """Return the state before the first step."""
        ring = self.replay.initial()
        return ProgramState(agent, ring.entries, ring.tree, ring.largest)

    def pack(self, message: Message, packed: NDArray[np.int32]) -> None:
        """Write a message to `packed`, int32 `[M]`, for M its numbers."""
        real = packed.view(np.float32)
        for name, part, (begin, end) in zip(Message._fields, message, pairwise(self.ends), strict=True):
            (real if name in REAL else packed)[begin:end] = part if isinstance(part, int | float) else part.ravel()

    def unpack(self, packed: Any) -> Message:
        """Undo `pack`, in the program; `packed` is int32 `[M]`."""
        parts = [
            ops.reshape(packed[begin:end], shape) if shape else xla.at(packed, begin)
            for (begin, end), shape in zip(pairwise(self.ends), self.shapes, strict=True)
        ]
        message = Message(*parts)
        real = {name: xla.as_float(getattr(message, name)) for name in REAL}
        return message._replace(**real)

    def act(self, state: ProgramState, inputs: Inputs, packed: Any) -> Answer:
        """Answer actions, int32 `[N]`."""
        return Answer(state, self.choose(state.agent, inputs.known, self.unpack(packed)))

    def collect(self, state: ProgramState, inputs: Inputs, packed: Any) -> Answer:
        """Store transitions, then answer actions, int32 `[N]`."""
        message = self.unpack(packed)
        ring = self.replay.put(self.ring_of(state, message), message.rows)
        return Answer(self.with_ring(state, ring), self.choose(state.agent, inputs.known, message))

    def update(self, state: ProgramState, inputs: Inputs, packed: Any) -> Answer:
        """Store transitions, make an update, then answer actions, loss and mean |td_error|, int32 `[N + 2]`."""
        message, agent, known = self.unpack(packed), state.agent, inputs.known
        now = inputs.constant._replace(learning_rate=message.rate, importance_exponent=message.exponent)
        ring = self.replay.put(self.ring_of(state, message), message.rows)

        def greedy(states: Any, actions: Any) -> Any:
            return self.rule.greedy(agent, states, actions, known.allowed, now, message.number)

        asked = greedy if self.cuts else None
        indices, batch = self.replay.sample(ring, known, message.bits, now, asked)
        agent, losses, errors = self.rule.update(agent, batch, known.allowed, now, message.number)
        state = self.with_ring(state, self.replay.update_priorities(ring, indices, errors, now))._replace(agent=agent)
        sums = xla.as_bits(ops.stack([ops.sum(losses), ops.mean(ops.abs(errors))]))
        return Answer(state, ops.concatenate([self.choose(agent, known, message), sums]))

    def choose(self, agent: AgentState, known: Known, message: Message) -> Any:
        """Return ε-greedy actions, int32 `[N]`."""
        allowed = None if known.allowed is None else xla.gather(known.allowed, message.states)
        q_values = self.rule.q_online(agent, message.states)
        return ops.cast(epsilon_greedy(q_values, message.epsilon, message.draws, message.noise, allowed), "int32")

    def ring_of(self, state: ProgramState, message: Message) -> Ring:
        """Return the replay buffer before the transitions of a message are stored."""
        return Ring(state.entries, message.position, message.size, state.tree, state.largest)

    def with_ring(self, state: ProgramState, ring: Ring) -> ProgramState:
        """Return the state with another replay buffer."""
        return state._replace(entries=ring.entries, tree=ring.tree, largest=ring.largest)


class CompiledAgent:
    """An agent with its replay buffer, compiled; an `Agent`.

    Args:
        online: the network, with its initial weights.
        config: the training.
        environment: the environment.
        masks: table of allowed actions, which may grow.
        seeds: of the minibatches.
    """

    def __init__(
        self,
        online: keras.Model,
        config: TrainConfig,
        environment: Environment,
        masks: ActionMaskTable,
        seeds: np.random.SeedSequence,
    ) -> None:
        self._network, self._config, self._masks = online, config, masks
        self._outcomes = outcomes_of(config, environment.table)
        self._states, self._actions = environment.states, environment.actions
        self._rng = np.random.default_rng(seeds)
        compiled = settings_of_program(config)
        rule, computes = build_update(online, compiled, environment)
        self._traced = AgentProgram(compiled, rule, environment.actions)
        self._capacity = self._traced.replay.capacity
        self._constant = numbers_of(config, environment.actions).constant
        inputs = shapes_of(Inputs(Known(masks.allowed, self._outcomes), self._constant))
        kind = None if computes is None else ("agent", repr(compiled), computes, environment.states, inputs)
        functions = {"act": self._traced.act, "collect": self._traced.collect, "update": self._traced.update}
        self._program = borrow_program(kind, functions, self._traced.initial(rule.begin(online)), self)
        self._masks_known = -1
        self._inputs: Any = None
        self._buffer = aligned_buffer(self._traced.ends[-1], np.int32)
        self._nothing = np.zeros((config.interaction.environments, COLUMNS), np.int32)
        self._no_bits = np.zeros(config.replay.batch_size, np.int32)
        self.updates = self.added = 0

    @property
    def online(self) -> keras.Model:
        """The online network, with the weights learned so far."""
        rule = self._traced.rule
        rule.assign(self._program.read(lambda state: rule.online(state.agent)), self._network)
        return self._network

    def act(self, acting: Acting) -> NDArray[np.int32]:
        """Return ε-greedy actions `[N]`."""
        return self._call("act", self._nothing, acting, self._no_bits)

    def collect(self, new: Transitions, acting: Acting) -> NDArray[np.int32]:
        """Store transitions, then act."""
        actions = self._call("collect", rows_of(new), acting, self._no_bits)
        self.added += len(new.states)
        return actions

    def update(self, new: Transitions, acting: Acting) -> Updated:
        """Store transitions, make an update, then act."""
        returned = self._call("update", rows_of(new), acting, self._bits())
        self.added += len(new.states)
        self.updates += 1
        loss, td_error = returned[-2:].view(np.float32).tolist()
        return Updated(returned[:-2], loss, td_error)

    def compile(self) -> float:
        """Compile everything by running it once, then undo the changes; return the seconds taken."""
        start = time.perf_counter()
        state = self._program.state
        before = fill_arrays("program", state, TrainingState(named_arrays("program", state), {}))
        copies = self._config.interaction.environments
        real = np.zeros((copies, self._actions), np.float32)
        acting = Acting(np.zeros(copies, np.int32), 1.0, real[:, 0], real)
        for function in ("update", "act", "collect"):
            self._call(function, self._nothing, acting, self._no_bits)
        self._program.reset(before)
        return time.perf_counter() - start

    def pairs(self) -> NDArray[np.int64]:
        """Return the pair indices s·A + a of all `n` entries of the replay buffer, int64 `[n]`."""
        entries = np.array(self._program.read(lambda state: state.entries))[: min(self.added, self._capacity)].astype(
            np.int64
        )
        return entries[:, 0] * self._actions + entries[:, 1]

    def cut(self, copies: list[int]) -> None:
        """Mark the newest entry of each of these environments as truncated."""
        state, width = self._program.state, self._config.interaction.environments
        entries = np.array(state.entries)
        for copy in copies:
            entries[(self.added - width + copy) % self._capacity, -1] |= TRUNCATED
        kept = fill_arrays("program", state, TrainingState(named_arrays("program", state), {}))
        self._program.reset(kept._replace(entries=entries))

    def state_dict(self) -> TrainingState:
        """Return the state of the program, with the `n` transitions stored so far, `[n, 5]`, and the counters."""
        facts = {"updates": self.updates, "added": self.added, "sampling": generator_state(self._rng)}
        arrays = named_arrays("program", self._program.state)
        arrays[ENTRIES] = arrays[ENTRIES][: min(self.added, self._capacity)].copy()
        return TrainingState(arrays, facts)

    def load_state_dict(self, saved: TrainingState) -> None:
        """Load a saved state.

        Raises:
            StateMismatchError: it belongs to another program.
        """
        self.updates = count(saved, "updates", self._config.updates)
        self.added = count(saved, "added", 2**53)
        set_generator(self._rng, fact(saved, "sampling", dict))
        entries = array(saved, ENTRIES, (min(self.added, self._capacity), COLUMNS), np.int32)
        whole = np.zeros((self._capacity, COLUMNS), np.int32)
        whole[: len(entries)] = entries
        state = fill_arrays("program", self._program.state, saved._replace(arrays={**saved.arrays, ENTRIES: whole}))
        checked = ((0, "states", self._states), (1, "actions", self._actions), (3, "next_states", self._states))
        for column, name, high in checked:
            check_range(TrainingState({f"entries.{name}": entries[:, column]}, {}), f"entries.{name}", 0, high)
        self._program.reset(state)

    def _bits(self) -> NDArray[np.int32]:
        """Return the random bits of a minibatch, int32 `[B]`."""
        return random_bits(self._rng, self._config.replay.batch_size)

    def _call(
        self, function: str, rows: NDArray[np.int32], acting: Acting, bits: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """Call a function of the program; return what it answers, int32."""
        config, progress = self._config, self.updates / self._config.schedule_length
        message = Message(
            rows,
            acting.states,
            acting.draws,
            acting.noise,
            bits,
            acting.epsilon,
            learning_rate(config, self._actions, progress),
            importance_exponent(config.replay.importance_exponent, progress),
            self.added % self._capacity,
            min(self.added, self._capacity),
            self.updates,
        )
        self._traced.pack(message, self._buffer)
        if self._inputs is None or self._masks.known != self._masks_known:
            self._masks_known = self._masks.known
            inputs = Inputs(Known(self._masks.allowed, self._outcomes), self._constant)
            self._inputs = self._program.arguments(inputs)
        return np.asarray(self._program(function, self._inputs, self._program.argument(self._buffer)))
