"""The host's side of the compiled loop: makes the program, runs it piece by piece, and reads what it reports.

A piece ends at the next evaluation, or earlier if the clock says so: pieces are made as long as fit into a quarter of a
second. Where they end changes nothing in the result (`loops.compiled`).
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace

import keras
import numpy as np

from deeptaxi.config import EnvironmentConfig, EvaluationConfig, TrainConfig
from deeptaxi.learning.coverage import Counts, Coverage, count_pairs
from deeptaxi.learning.loops.compiled import ANYWHERE, REPORTS, CompiledLoop
from deeptaxi.learning.mask import MaskBook
from deeptaxi.learning.moment import Moment, UnfitError, check_range, count, filled, named, steps_in
from deeptaxi.learning.schedules import exploration
from deeptaxi.learning.ticks import REPORTS as RECORDS
from deeptaxi.learning.ticks import Tick, report_every
from deeptaxi.learning.weights import Updater
from deeptaxi.learning.world import Sizes, build_world
from deeptaxi.mdp.describe import encoded_factors
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.planning import reachable
from deeptaxi.network import functional
from deeptaxi.program import borrowed, shapes_of

PIECE_SECONDS = 0.25
SMALL_KERNEL = 2**14  # entries


def settings_of_program(config: TrainConfig) -> TrainConfig:
    """Return the settings that a program is made from; the others, which it never sees, are as they are by default.

    So trainings that differ only in their seed, environment, length or evaluations share a program. The table and the
    seed are in its world; of the length it knows how long the schedules are and how often it reports.
    """
    return replace(
        config,
        environment=EnvironmentConfig(),
        seed=0,
        updates=report_every(config) * RECORDS,
        schedule_updates=config.schedule_length,
        evaluation=EvaluationConfig(),
    )


class CompiledLearner:
    """A training in the compiled loop.

    Args:
        online: the network; it gets the weights that were learned by `synchronize`.
        config: the training.
        environment: with a transition table.
        masks: the allowed actions, known of all states.
        seed: of all random numbers of the loop.
    """

    def __init__(
        self, online: keras.Model, config: TrainConfig, environment: Environment, masks: MaskBook, seed: int
    ) -> None:
        if environment.table is None:
            raise ValueError("the compiled loop needs a transition table")
        table = environment.table
        factors = encoded_factors(environment, config.network)
        sizes = Sizes(table.states, table.actions, table.probability.shape[2], environment.time_limit)
        self.online = online
        self._config = config
        self._shape, self._outcomes = (table.states, table.actions), sizes.outcomes
        weights = functional.weights_of(online, config.network)
        # One pass over a small kernel is done sooner than rows are looked up; so is one that a minibatch would fill.
        pays = weights.kernel.size >= SMALL_KERNEL and table.states > config.replay.batch_size
        sparse = config.optimizer.row_sparse and factors is None and pays
        compiled = settings_of_program(config)
        self._updater = Updater(compiled, table.actions, factors, sparse)
        self._loop = CompiledLoop(compiled, self._updater, sizes)
        # Which states can be reached takes seconds to find out where there are a million.
        anywhere = reachable(table, masks.allowed) if config.exploration.exploring_starts > 0 else table.start > 0
        world = build_world(table, config.target.reward_scale, masks.allowed, anywhere, seed)
        learnt = self._updater.initial(weights)
        kind = (repr(compiled), factors, sparse, sizes, shapes_of(world))
        functions = {"warm": self._loop.warm, "run": self._loop.run}
        self._program = borrowed(kind, functions, self._loop.initial(learnt), self)
        self._world = self._program.arguments(world)
        self._told = np.zeros(4)  # what ticks have told of the report under way
        self._next: int | None = None  # the next update; None before the steps that fill the memory
        self.remarks: list[str] = []  # nothing here can keep a training from going on exactly

    def warm_up(self, filling: bool = True) -> float:
        """Compile everything, changing nothing; return the seconds that this took.

        `filling` is whether the memory is still to be filled: a training that goes on has that behind it. What both
        kinds of training compile comes first, as what was traced before is part of a program's name in the cache.
        """
        start = time.perf_counter()
        self._call("run", 0, 0)
        if filling:
            self._call("warm", 0)
        return time.perf_counter() - start

    def synchronize(self) -> None:
        """Give the network the weights learned so far."""
        functional.assign(self.online, self._config.network, self._updater.online(self._program.state.learnt))

    @property
    def visits(self) -> Counts:
        """How often each pair was tried so far, `[S, A]`."""
        return np.array(self._program.state.visits, np.int64).reshape(self._shape)

    def coverage(self) -> Coverage:
        """Return what was tried, and what of it the memory still holds."""
        ring = self._program.state.ring
        entries = np.array(ring.entries)[: int(np.asarray(ring.size))]
        outcomes = np.where(entries < 0, -1 - entries, entries)
        return Coverage(self.visits, count_pairs(outcomes // self._outcomes, *self._shape))

    def moment(self) -> Moment:
        """Return the state of the program between two pieces."""
        return Moment(named("program", self._program.state), {"next": self._next})

    def restore(self, moment: Moment) -> None:
        """Put the program into the state of a moment.

        Raises:
            UnfitError: it is of another program.
        """
        state = filled("program", self._program.state, moment)
        outcomes, capacity = self._outcomes * int(np.prod(self._shape)), self._loop.replay.capacity
        highest = {"copies.states": self._shape[0], "ring.position": capacity, "ring.size": capacity + 1}
        for name, high in highest.items():
            check_range(moment, f"program.{name}", 0, high)
        check_range(moment, "program.ring.entries", -outcomes, outcomes)
        check_range(moment, "program.copies.times", ANYWHERE, 2**31)
        check_range(moment, "program.visits", 0, min(steps_in(self._config) + 1, 2**31))
        self._next = count(moment, "next", self._config.updates)
        if self._next != moment.facts.get("update", self._next):
            raise UnfitError(f"'next' is {self._next}, and 'update' is not")
        self._program.reset(state)
        self._told = np.array(state.reports[self._next // self._loop.report % REPORTS], np.float64)

    def ticks(self, last: int) -> Generator[Tick]:
        """Run the updates that are left until `last`; yield a tick for every report, and where an evaluation is due."""
        if self._next is None:
            self._call("warm", self._loop.warm_steps)
            self._next = 0
        length = 1
        while self._next < last:
            first, end = self._next, min(self._next + length, self._end(self._next), last)
            start = time.perf_counter()
            self._call("run", first, end)
            seconds = max(time.perf_counter() - start, 1e-6)
            self._next = end
            yield from self._reports(first, end)
            length = max(1, int((end - first) * min(PIECE_SECONDS / seconds, 10)))

    def _end(self, first: int) -> int:
        """Return where a piece that begins at `first` must end: at an evaluation, before reports are overwritten."""
        every, report = self._config.evaluation.every, self._loop.report
        return min((first // every + 1) * every, (first // report + REPORTS) * report)

    def _reports(self, first: int, last: int) -> Generator[Tick]:
        """Yield what updates `first` … `last` − 1 added to each report: a tick for each, the last one at `last`."""
        every = self._loop.report
        rows = np.asarray(self._program.state.reports).astype(np.float64)
        for number in range(first // every, (last - 1) // every + 1):
            begin, end = max(first, number * every), min(last, (number + 1) * every)
            told = self._told if begin % every else np.zeros(4)  # of a report that the piece before had begun
            self._told = rows[number % REPORTS]
            with np.errstate(invalid="ignore"):  # ∞ − ∞, where the training diverges: its loss is no number
                fresh = (self._told - told).tolist()
            yield self._tick(end, end == last, end - begin, *fresh)

    def _tick(
        self, update: int, settled: bool, count: int, loss: float, error: float, episodes: float, returns: float
    ) -> Tick:
        steps = self._loop.copies * (self._loop.warm_steps + update * self._loop.steps)
        chance = exploration(self._config, (update - 1) / self._config.schedule_length)
        return Tick(update, steps, chance, count, loss, error, round(episodes), returns, settled)

    def _call(self, function: str, *numbers: int) -> None:
        self._program(function, self._world, *(self._program.arguments(np.int32(number)) for number in numbers))
