"""The compiled loop: environment, exploration, replay and update as one program, and the host that runs it.

Order of one update, as in the gymnasium loop: choose ε-greedy actions, step all environments, store the transitions,
sample a minibatch, update. An environment whose episode ended is set to a start state at its next step.

**Blocks.** Updates are numbered from 0; block b is the updates b·L … (b+1)·L − 1. All random numbers of a block are
drawn at once, keyed by the seed and b; learning rate and ε of an update depend on its number alone. So running updates
i … j−1 gives the same result in one call or in many: timing decides how often the host looks, but not what is learned.

**Pieces.** The host runs the program piece by piece and reads its reports. A piece ends at the next evaluation, or
earlier: pieces are sized to take a quarter of a second, but for trainings that run together. Where they end does not
affect the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from deeptaxi.backend import xla
from deeptaxi.backend.nested_arrays import arrays_of, pack_as
from deeptaxi.backend.program import borrow_program, shapes_of
from deeptaxi.config import TrainConfig
from deeptaxi.learning.action_mask import ActionMaskTable
from deeptaxi.learning.compiled.hyperparameters import (
    SCHEDULED,
    Hyperparameters,
    Numbers,
    hyperparameters_at,
    numbers_of,
    settings_of_program,
)
from deeptaxi.learning.compiled.mdp import CompiledMDP, Sizes, any_state, compile_mdp, outcome, start_state
from deeptaxi.learning.compiled.model_update import build_update
from deeptaxi.learning.compiled.ring_buffer import CompiledReplayBuffer, Ring
from deeptaxi.learning.compiled.update import AgentState, CompiledUpdate
from deeptaxi.learning.coverage import Counts, Coverage, count_pairs
from deeptaxi.learning.expected import outcomes_of
from deeptaxi.learning.progress import StepMetrics, updates_per_record
from deeptaxi.learning.replay_buffer import Batch
from deeptaxi.learning.schedules import exploration
from deeptaxi.learning.state import (
    StateMismatchError,
    TrainingState,
    check_range,
    count,
    fill_arrays,
    named_arrays,
    steps_in,
)
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.planning import reachable
from deeptaxi.recipe import epsilon_greedy

BLOCK = 100  # updates; fewer if they take more random numbers than NUMBERS
NUMBERS = 2**20
REPORTS = 64  # that the program can hold before the host must read them
PREFILL = 2**30  # block numbers of the prefill start here
AT_START, ANYWHERE = -1, -2  # times of an environment that begins an episode with its next step


class EnvState(NamedTuple):
    """The vectorized environments."""

    states: Any  # int32 [N]
    times: Any  # int32 [N], steps since the episode started
    totals: Any  # float32 [N], return so far; NaN if the episode did not begin at a start state


class State(NamedTuple):
    """The state of the program."""

    agent: AgentState
    envs: EnvState
    ring: Ring
    visits: Any  # int32 [S·A], visits of each pair
    reports: Any  # float32 [REPORTS, 4]: sums of loss, |td_error|, episodes ended, their returns


class RandomDraws(NamedTuple):
    """The random numbers of one step of all environments; integers are nonnegative, the others in [0, 1)."""

    explore: Any  # [N]
    start: Any  # int32 [N]
    start_share: Any  # [N]
    outcome: Any  # int32 [N]
    outcome_share: Any  # [N]
    restart: Any  # [N]
    anywhere: Any  # int32 [N]
    order: Any  # [N, A]


class Stepped(NamedTuple):
    """What one step of all environments did."""

    pairs: Any  # int32 [N], s·A + a of the actions taken
    returns: Any  # float32 [N], of the episodes that ended; NaN elsewhere


class Updated(NamedTuple):
    """What one update did, or all of a block: an axis more.

    It is counted when the block is done: one by one, that would take as long as the update of a small network.
    """

    steps: Stepped  # [n·N] each, of the n steps of an update
    losses: Any  # float32, the parts of the loss
    errors: Any  # float32 [B]


class LoopProgram:
    """The functions of the program.

    Args:
        config: the training; its numbers are arguments of the functions (`hyperparameters`).
        rule: one update.
        sizes: of the environment.
    """

    def __init__(self, config: TrainConfig, rule: CompiledUpdate, sizes: Sizes) -> None:
        self.config = config
        self.rule = rule
        self.sizes = sizes
        self.environments = config.interaction.environments
        self.steps = config.interaction.steps_per_update
        self.replay = CompiledReplayBuffer(config, sizes.actions, sizes.outcomes)
        self.block = min(BLOCK, max(1, NUMBERS // (self.steps * self.width + config.replay.batch_size)))

    def initial(self, agent: AgentState) -> State:
        """Return the state before the first step."""
        zeros = np.zeros(self.environments, np.int32)
        envs = EnvState(zeros, np.full_like(zeros, AT_START), zeros.astype(np.float32))
        visits = np.zeros(self.sizes.states * self.sizes.actions, np.int32)
        return State(agent, envs, self.replay.initial(), visits, np.zeros((REPORTS, 4), np.float32))

    def prefill(self, state: State, mdp: CompiledMDP, numbers: Numbers, steps: Any) -> State:
        """Step all environments `steps` times without updates."""

        def step(i: Any, state: State) -> State:
            bits = xla.random_bits(mdp.seed, PREFILL + i, (self.width,))
            state, stepped = self.step_environments(state, mdp, numbers.constant, bits)
            return state._replace(visits=xla.scatter_add(state.visits, stepped.pairs, ops.ones_like(stepped.pairs)))

        after: State = xla.loop(0, steps, step, state)
        return after

    def run(self, state: State, mdp: CompiledMDP, numbers: Numbers, first: Any, last: Any) -> State:
        """Run updates `first` … `last` − 1."""

        def block(b: Any, state: State) -> State:
            start = b * self.block
            bits = xla.random_bits(mdp.seed, b, (self.block, self.steps * self.width + self.config.replay.batch_size))
            scheduled = hyperparameters_at(self.config, numbers, start + ops.arange(self.block, dtype="int32"))

            def update(i: Any, so_far: tuple[State, Updated]) -> tuple[State, Updated]:
                now = scheduled._replace(**{name: xla.at(getattr(scheduled, name), i) for name in SCHEDULED})
                state, updated = self.update(so_far[0], mdp, now, start + i, xla.at(bits, i))
                rows = zip(arrays_of(so_far[1]), arrays_of(updated), strict=True)
                return state, pack_as(updated, [xla.put(whole, i, ops.expand_dims(row, 0)) for whole, row in rows])

            begin, end = ops.maximum(first - start, 0), ops.minimum(last - start, self.block)
            state, updated = xla.loop(begin, end, update, (state, self.nothing_done()))
            return self.add_up(state, updated, start, begin, end, numbers)

        after: State = xla.loop(first // self.block, (last + self.block - 1) // self.block, block, state)
        return after

    def update(
        self, state: State, mdp: CompiledMDP, now: Hyperparameters, number: Any, bits: Any
    ) -> tuple[State, Updated]:
        """Run update `number`: step all environments, then take one optimizer step."""
        steps = []
        for step in range(self.steps):
            of_step = bits[step * self.width : (step + 1) * self.width]
            state, stepped = self.step_environments(state, mdp, now, of_step)
            steps.append(stepped)
        indices, batch = self.sample(state, mdp, now, number, bits[self.steps * self.width :])
        agent, losses, errors = self.rule.update(state.agent, batch, mdp.allowed, now, number)
        ring = self.replay.update_priorities(state.ring, indices, errors, now)
        together = Stepped(*map(ops.concatenate, zip(*steps, strict=True)))
        return state._replace(agent=agent, ring=ring), Updated(together, losses, errors)

    def nothing_done(self) -> Updated:
        """Return what a block did before its first update."""
        steps, batch = (self.block, self.steps * self.environments), (self.block, self.config.replay.batch_size)
        parts = (self.block, self.rule.loss_parts)
        return Updated(Stepped(ops.zeros(steps, "int32"), ops.zeros(steps)), ops.zeros(parts), ops.zeros(batch))

    def sample(self, state: State, mdp: CompiledMDP, now: Hyperparameters, number: Any, bits: Any) -> tuple[Any, Batch]:
        """Sample the minibatch of update `number`; the rest is as for `CompiledReplayBuffer.sample`."""

        def greedy(states: Any, actions: Any) -> Any:
            return self.rule.greedy(state.agent, states, actions, mdp.allowed, now, number)

        return self.replay.sample(state.ring, mdp, bits, now, greedy if self.config.target.cuts else None)

    def add_up(self, state: State, updated: Updated, start: Any, begin: Any, end: Any, numbers: Numbers) -> State:
        """Add what updates `start` + `begin` … `start` + `end` − 1 did to the visits and the reports.

        The first update of a report clears it.
        """
        row = ops.arange(self.block, dtype="int32")
        made = ops.logical_and(row >= begin, row < end)
        (pairs, returns), losses, errors = updated
        pairs = ops.reshape(ops.where(ops.expand_dims(made, 1), pairs, state.visits.shape[0]), (-1,))
        visits = xla.scatter_add(state.visits, pairs, ops.ones_like(pairs))

        ended = returns == returns
        totals = xla.sum_rows(ops.where(ended, returns, 0.0)) * numbers.constant.reward_scale
        episodes = ops.sum(ops.cast(ended, "float32"), axis=1)
        mean = xla.sum_rows(ops.abs(errors)) * (1.0 / errors.shape[1])
        sums = ops.stack([xla.sum_rows(losses), mean, episodes, totals], axis=1)
        report, of_report = xla.divide(start + row, numbers.schedules.record)
        report = ops.where(made, xla.divide(report, REPORTS)[1], REPORTS)  # or past the end
        begun = ops.where(of_report == 0, report, REPORTS)
        reports = xla.scatter(state.reports, begun, ops.zeros_like(sums))
        return state._replace(visits=visits, reports=xla.scatter_add(reports, report, sums))

    @property
    def width(self) -> int:
        """The number of random numbers per step of all environments."""
        return self.environments * (len(RandomDraws._fields) - 1 + self.sizes.actions)

    def random_draws(self, bits: Any) -> RandomDraws:
        """Convert bits to the random numbers of one step."""
        bits = ops.reshape(bits, (-1, self.environments))
        kinds = zip(RandomDraws._fields[:-1], range(bits.shape[0]), strict=False)
        whole = {"start", "outcome", "anywhere"}
        rows = {name: (xla.naturals if name in whole else xla.fractions)(bits[row]) for name, row in kinds}
        return RandomDraws(**rows, order=ops.transpose(xla.fractions(bits[len(rows) :])))

    def step_environments(
        self, state: State, mdp: CompiledMDP, now: Hyperparameters, bits: Any
    ) -> tuple[State, Stepped]:
        """Step all environments once."""
        draws = self.random_draws(bits)
        states, times, totals = self.reset_ended(state.envs, mdp, draws)
        allowed = None if mdp.allowed is None else xla.gather(mdp.allowed, states)
        q_values = self.rule.q_online(state.agent, states)
        actions = ops.cast(epsilon_greedy(q_values, now.epsilon, draws.explore, draws.order, allowed), "int32")
        drawn = outcome(mdp, self.sizes, states, actions, draws.outcome, draws.outcome_share)

        terminated = xla.gather(mdp.terminated, drawn)
        times, totals = times + 1, totals + xla.gather(mdp.reward, drawn)
        limit = self.sizes.time_limit
        truncated = ops.zeros_like(terminated) if limit is None else times >= limit
        over = ops.logical_or(terminated, truncated)
        returns = ops.where(over, totals, float("nan"))
        times = ops.where(over, AT_START, times)
        if self.config.exploration.exploring_starts > 0:
            restart = draws.restart < now.restart
            times = ops.where(restart, ANYWHERE, times)
            truncated = ops.logical_or(truncated, restart)
        cut = ops.logical_and(truncated, ops.logical_not(terminated))
        envs = EnvState(xla.gather(mdp.next_state, drawn), times, totals)
        ring = self.replay.store(state.ring, drawn, cut)
        pairs = drawn if self.sizes.outcomes == 1 else xla.divide(drawn, self.sizes.outcomes)[0]
        return state._replace(envs=envs, ring=ring), Stepped(pairs, returns)

    def reset_ended(self, envs: EnvState, mdp: CompiledMDP, draws: RandomDraws) -> EnvState:
        """Set environments whose episode ended to the first state of their next one."""
        fresh = envs.times < 0
        begin = start_state(mdp, draws.start, draws.start_share)
        totals = ops.where(fresh, 0.0, envs.totals)
        if self.config.exploration.exploring_starts > 0:
            anywhere = envs.times == ANYWHERE
            begin = ops.where(anywhere, any_state(mdp, draws.anywhere), begin)
            totals = ops.where(anywhere, float("nan"), totals)
        return EnvState(ops.where(fresh, begin, envs.states), ops.maximum(envs.times, 0), totals)


PIECE_SECONDS = 0.25


def prefill_steps(config: TrainConfig) -> int:
    """Return the steps of all environments before the first update, so that it has something to sample."""
    copies, replay = config.interaction.environments, config.replay
    wanted = max(
        1,
        min(replay.start, replay.capacity // copies * copies),
        copies * (config.target.n_step - config.interaction.steps_per_update),
    )
    return -(-wanted // copies)


class CompiledLoop:
    """Environment, replay buffer and updates as one compiled program; a `Loop`.

    Args:
        online: the network, with its initial weights.
        config: the training.
        environment: an environment with a transition table.
        masks: the allowed actions, known for all states.
        seed: of all random numbers in the loop.
    """

    def __init__(
        self, online: keras.Model, config: TrainConfig, environment: Environment, masks: ActionMaskTable, seed: int
    ) -> None:
        if environment.table is None:
            raise ValueError("the compiled loop needs a transition table")
        table = environment.table
        sizes = Sizes(table.states, table.actions, table.probability.shape[2], environment.time_limit)
        self._network = online
        self._config = config
        self._shape, self._outcomes = (table.states, table.actions), sizes.outcomes
        compiled = settings_of_program(config)
        self._rule, computes = build_update(online, compiled, environment)
        self._traced = LoopProgram(compiled, self._rule, sizes)
        # With a million states, finding the reachable ones takes seconds.
        anywhere = reachable(table, masks.allowed) if config.exploration.exploring_starts > 0 else table.start > 0
        expected = outcomes_of(config, table)
        numbers = numbers_of(config, table.actions)
        mdp = compile_mdp(table, config.target.reward_scale, masks.allowed, anywhere, seed, expected)
        agent = self._rule.begin(online)
        kind = None if computes is None else (repr(compiled), computes, sizes, shapes_of(mdp), shapes_of(numbers))
        functions: dict[str, Callable[..., Any]] = {"prefill": self._traced.prefill, "run": self._traced.run}
        self._program = borrow_program(kind, functions, self._traced.initial(agent), self)
        self._arguments = self._program.arguments((mdp, numbers))
        self._record, self._prefill_steps = updates_per_record(config), prefill_steps(config)
        self._yielded = np.zeros(4)  # the part of the current report already yielded
        self._next: int | None = None  # the next update; None before the prefill

    def compile(self) -> float:
        """Compile everything without changing the state; return the seconds taken.

        The prefill is compiled if it is still to come. The function needed in any case comes first, because earlier
        tracing affects a program's cache key.
        """
        start = time.perf_counter()
        self._call("run", 0, 0)
        if self._next is None:
            self._call("prefill", 0)
        return time.perf_counter() - start

    @property
    def network(self) -> keras.Model:
        """The network, with the weights learned so far."""
        self._rule.assign(self._program.read(lambda state: self._rule.online(state.agent)), self._network)
        return self._network

    @property
    def visits(self) -> Counts:
        """Visits of each pair so far, `[S, A]`."""
        return np.array(self._program.read(lambda state: state.visits), np.int64).reshape(self._shape)

    def coverage(self) -> Coverage:
        """Return the visit counts of the training and of the replay buffer."""
        ring = self._program.read(lambda state: state.ring)
        entries = np.array(ring.entries)[: int(np.asarray(ring.size))]
        outcomes = np.where(entries < 0, -1 - entries, entries)
        return Coverage(self.visits, count_pairs(outcomes // self._outcomes, *self._shape))

    def state_dict(self) -> TrainingState:
        """Return the state of the program between two pieces."""
        return TrainingState(named_arrays("program", self._program.state), {"next": self._next})

    def load_state_dict(self, saved: TrainingState) -> None:
        """Load a saved state into the program.

        Raises:
            StateMismatchError: the state belongs to another program.
        """
        state = fill_arrays("program", self._program.state, saved)
        outcomes, capacity = self._outcomes * int(np.prod(self._shape)), self._traced.replay.capacity
        highest = {"envs.states": self._shape[0], "ring.position": capacity, "ring.size": capacity + 1}
        for name, high in highest.items():
            check_range(saved, f"program.{name}", 0, high)
        check_range(saved, "program.ring.entries", -outcomes, outcomes)
        check_range(saved, "program.envs.times", ANYWHERE, 2**31)
        check_range(saved, "program.visits", 0, min(steps_in(self._config) + 1, 2**31))
        self._next = count(saved, "next", self._config.updates)
        if self._next != saved.facts.get("update", self._next):
            raise StateMismatchError(f"'next' is {self._next}, and 'update' is not")
        self._program.reset(state)
        self._yielded = np.array(state.reports[self._next // self._record % REPORTS], np.float64)

    def run(self, last: int) -> Generator[StepMetrics]:
        """Run the remaining updates up to `last`; yield step metrics for every report and due evaluation."""
        if self._next is None:
            self._call("prefill", self._prefill_steps)
            self._next = 0
        length = last if self._program.in_step else 1
        while self._next < last:
            first, end = self._next, min(self._next + length, self._end(self._next), last)
            start = time.perf_counter()
            self._call("run", first, end)
            seconds = max(time.perf_counter() - start, 1e-6)
            self._next = end
            yield from self._reports(first, end)
            if not self._program.in_step:
                length = max(1, int((end - first) * min(PIECE_SECONDS / seconds, 10)))

    def _end(self, first: int) -> int:
        """Return where a piece from `first` must end: at an evaluation, and before reports are overwritten."""
        every, report = self._config.evaluation.every, self._record
        return min((first // every + 1) * every, (first // report + REPORTS) * report)

    def _reports(self, first: int, last: int) -> Generator[StepMetrics]:
        """Yield what updates `first` … `last` − 1 added, one `StepMetrics` per report, the final one at `last`."""
        every = self._record
        numbers = range(first // every, (last - 1) // every + 1)
        reports = np.asarray(self._program.read(lambda state: state.reports)).astype(np.float64)
        rows = reports[np.array(numbers) % REPORTS]
        before, self._yielded = self._yielded, rows[-1].copy()
        if first % every:  # the previous piece began this report
            with np.errstate(invalid="ignore"):  # ∞ − ∞ if training diverges: the loss is NaN
                rows[0] -= before
        for number, sums in zip(numbers, rows.tolist(), strict=True):
            begin, end = max(first, number * every), min(last, (number + 1) * every)
            yield self._metrics(end, end == last, end - begin, *sums)

    def _metrics(
        self, update: int, settled: bool, count: int, loss: float, error: float, episodes: float, returns: float
    ) -> StepMetrics:
        steps = self._traced.environments * (self._prefill_steps + update * self._traced.steps)
        chance = exploration(self._config, (update - 1) / self._config.schedule_length)
        return StepMetrics(update, steps, chance, count, loss, error, round(episodes), returns, settled)

    def _call(self, function: str, *numbers: int) -> None:
        self._program(function, *self._arguments, *(self._program.arguments(np.int32(number)) for number in numbers))
