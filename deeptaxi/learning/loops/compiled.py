"""The loop as one compiled program: environment, exploration, replay, targets and update, on a transition table.

Order of one update, as in the gymnasium loop: choose actions by ε-greedy, step all copies, store the transitions, draw
a minibatch, update. A copy whose episode ended is set to a start state at its next step.

**Blocks.** Updates are numbered from 0; block b is the updates b·L … (b+1)·L − 1. All random numbers of a block are
drawn at once, keyed by the seed and b; learning rate and ε of an update depend on its number alone. So a program that
runs updates i … j−1 gives the same result whether it is called once or in many pieces: how often the host looks is
decided by the clock, what is learned is not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from deeptaxi import xla
from deeptaxi.config import TrainConfig
from deeptaxi.learning.ring import Ring, RingReplay
from deeptaxi.learning.schedules import exploration, importance_exponent, learning_rate
from deeptaxi.learning.targets import epsilon_greedy
from deeptaxi.learning.ticks import report_every
from deeptaxi.learning.weights import Learnt, Updater
from deeptaxi.learning.world import Sizes, World, any_state, outcome, start_state

BLOCK = 100  # updates; fewer where they take more random numbers than NUMBERS
NUMBERS = 2**20
REPORTS = 64  # that the program can hold before the host must look
WARM = 2**30  # numbers of the blocks before the first update start here
AT_START, ANYWHERE = -1, -2  # times of a copy that begins an episode with its next step


class Copies(NamedTuple):
    """The copies of the environment."""

    states: Any  # int32 [N]
    times: Any  # int32 [N], steps since the episode started
    totals: Any  # float32 [N], the sum of its rewards so far; NaN where it did not begin at a start state


class State(NamedTuple):
    """Everything that changes."""

    learnt: Learnt
    copies: Copies
    ring: Ring
    visits: Any  # int32 [S·A], how often each pair was tried
    reports: Any  # float32 [REPORTS, 4]: sums of loss, |td_error|, episodes ended, their returns


class Numbers(NamedTuple):
    """The random numbers of one step of all copies; integers are from 0 on, the others in [0, 1)."""

    explore: Any  # [N]
    start: Any  # int32 [N]
    start_share: Any  # [N]
    outcome: Any  # int32 [N]
    outcome_share: Any  # [N]
    restart: Any  # [N]
    anywhere: Any  # int32 [N]
    order: Any  # [N, A]


class CompiledLoop:
    """The functions that are compiled.

    Args:
        config: the training.
        updater: one update.
        sizes: of the world.
    """

    def __init__(self, config: TrainConfig, updater: Updater, sizes: Sizes) -> None:
        self.config = config
        self.updater = updater
        self.sizes = sizes
        self.copies = config.interaction.environments
        self.steps = config.interaction.steps_per_update
        self.replay = RingReplay(config)
        self.report = report_every(config)
        self.block = min(BLOCK, max(1, NUMBERS // (self.steps * self.width + config.replay.batch_size)))

    @property
    def warm_steps(self) -> int:
        """Steps of all copies before the first update, so that it finds something to draw."""
        wanted = max(
            1,
            min(self.config.replay.start, self.replay.capacity),
            self.copies * (self.config.target.n_step - self.steps),
        )
        return -(-wanted // self.copies)

    def initial(self, learnt: Learnt) -> State:
        """Return the state before the first step."""
        zeros = np.zeros(self.copies, np.int32)
        copies = Copies(zeros, np.full_like(zeros, AT_START), zeros.astype(np.float32))
        visits = np.zeros(self.sizes.states * self.sizes.actions, np.int32)
        return State(learnt, copies, self.replay.initial(), visits, np.zeros((REPORTS, 4), np.float32))

    def warm(self, state: State, world: World, steps: Any) -> State:
        """Play `steps` steps of all copies without an update."""

        def step(i: Any, state: State) -> State:
            bits = xla.random_bits(world.seed, WARM + i, (self.width,))
            return self.play(state, world, bits, self.config.exploration.start)[0]

        return xla.loop(0, steps, step, state)

    def run(self, state: State, world: World, first: Any, last: Any) -> State:
        """Run updates `first` … `last` − 1."""

        def block(b: Any, state: State) -> State:
            start = b * self.block
            bits = xla.random_bits(world.seed, b, (self.block, self.steps * self.width + self.config.replay.batch_size))
            progress = ops.cast(start + ops.arange(self.block, dtype="int32"), "float32") / self.config.schedule_length
            chances = exploration(self.config, progress)
            rates = learning_rate(self.config, self.sizes.actions, progress)
            exponents = importance_exponent(self.config.replay.importance_exponent, progress)

            def update(i: Any, state: State) -> State:
                of_update = [xla.at(values, i) for values in (bits, chances, rates, exponents)]
                return self.update(state, world, start + i, *of_update)

            return xla.loop(ops.maximum(first - start, 0), ops.minimum(last - start, self.block), update, state)

        return xla.loop(first // self.block, (last + self.block - 1) // self.block, block, state)

    def update(
        self, state: State, world: World, number: Any, bits: Any, chance: Any, rate: Any, exponent: Any
    ) -> State:
        """Make update `number`: steps of all copies, then one step of the optimizer."""
        episodes = returns = 0.0
        for step in range(self.steps):
            of_step = bits[step * self.width : (step + 1) * self.width]
            state, ended, total = self.play(state, world, of_step, chance)
            episodes, returns = episodes + ended, returns + total
        places, batch = self.replay.draw(state.ring, world, bits[self.steps * self.width :], exponent)
        allowed = None if world.allowed is None else xla.gather(world.allowed, batch.next_states)
        learnt, loss, errors = self.updater.update(state.learnt, batch, allowed, rate, number)
        sums = ops.stack([loss, ops.mean(ops.abs(errors)), episodes, returns])
        return state._replace(
            learnt=learnt,
            ring=self.replay.rated(state.ring, places, errors),
            reports=self.reported(state.reports, number, sums),
        )

    def reported(self, reports: Any, number: Any, sums: Any) -> Any:
        """Add to the report that update `number` belongs to; its first update clears it."""
        row = number // self.report % REPORTS
        going_on = ops.cast(number % self.report > 0, "float32")
        return xla.put(reports, row, ops.expand_dims(xla.at(reports, row) * going_on + sums, 0))

    @property
    def width(self) -> int:
        """How many random numbers one step of all copies takes."""
        return self.copies * (len(Numbers._fields) - 1 + self.sizes.actions)

    def numbers(self, bits: Any) -> Numbers:
        """Make the random numbers of one step out of its bits."""
        bits = ops.reshape(bits, (-1, self.copies))
        kinds = zip(Numbers._fields[:-1], range(bits.shape[0]), strict=False)
        whole = {"start", "outcome", "anywhere"}
        rows = {name: (xla.naturals if name in whole else xla.fractions)(bits[row]) for name, row in kinds}
        return Numbers(**rows, order=ops.transpose(xla.fractions(bits[len(rows) :])))

    def play(self, state: State, world: World, bits: Any, chance: Any) -> tuple[State, Any, Any]:
        """Step all copies once; also return how many episodes ended, and the sum of their returns."""
        numbers = self.numbers(bits)
        states, times, totals = self.begun(state.copies, world, numbers)
        allowed = None if world.allowed is None else xla.gather(world.allowed, states)
        q_values = self.updater.q_online(state.learnt, states)
        actions = ops.cast(epsilon_greedy(q_values, chance, numbers.explore, numbers.order, allowed), "int32")
        drawn = outcome(world, self.sizes, states, actions, numbers.outcome, numbers.outcome_share)

        terminated = xla.gather(world.terminated, drawn)
        times, totals = times + 1, totals + xla.gather(world.reward, drawn)
        limit = self.sizes.time_limit
        truncated = ops.zeros_like(terminated) if limit is None else times >= limit
        over = ops.logical_or(terminated, truncated)
        counted = ops.logical_and(over, totals == totals)
        returns = ops.sum(ops.where(counted, totals, 0.0)) * self.config.target.reward_scale
        times = ops.where(over, AT_START, times)
        if self.config.exploration.exploring_starts > 0:
            restart = numbers.restart < self.config.exploration.exploring_starts
            times = ops.where(restart, ANYWHERE, times)
            truncated = ops.logical_or(truncated, restart)
        cut = ops.logical_and(truncated, ops.logical_not(terminated))
        copies = Copies(xla.gather(world.next_state, drawn), times, totals)
        ring = self.replay.stored(state.ring, drawn, cut)
        visits = xla.scatter_add(state.visits, drawn // self.sizes.outcomes, ops.ones_like(drawn))
        return state._replace(copies=copies, ring=ring, visits=visits), ops.sum(ops.cast(counted, "float32")), returns

    def begun(self, copies: Copies, world: World, numbers: Numbers) -> Copies:
        """Set the copies whose episode ended to where the next one begins."""
        fresh = copies.times < 0
        begin = start_state(world, numbers.start, numbers.start_share)
        totals = ops.where(fresh, 0.0, copies.totals)
        if self.config.exploration.exploring_starts > 0:
            anywhere = copies.times == ANYWHERE
            begin = ops.where(anywhere, any_state(world, numbers.anywhere), begin)
            totals = ops.where(anywhere, float("nan"), totals)
        return Copies(ops.where(fresh, begin, copies.states), ops.maximum(copies.times, 0), totals)
