"""The loop over Gymnasium environments: step a vector of environments, then make one update.

Order of one update, as the tests record it: choose ε-greedy actions, step all environments, store the transitions,
reset the environments whose episode ended, sample a minibatch, update. The observation after a reset belongs to no
transition. Rewards are stored in units of the reward scale; reported returns are unscaled.

**Resuming.** An environment does not expose its state, so unfinished episodes are played again, see
`mdp.unfinished_episodes`. An environment that this does not restore starts a new episode, and the resumed run is not
bit-for-bit identical.

**Worker processes** may step the environments, see `mdp.workers`. They change nothing in the result.
"""

from __future__ import annotations

from array import array as numbers
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from deeptaxi.config import TrainConfig
from deeptaxi.errors import DeepTaxiError
from deeptaxi.learning.action_mask import ActionMaskTable
from deeptaxi.learning.agent import Acting, Agent
from deeptaxi.learning.coverage import Counts, Coverage, count_pairs
from deeptaxi.learning.progress import StepMetrics
from deeptaxi.learning.replay_buffer import Transitions
from deeptaxi.learning.schedules import exploration
from deeptaxi.learning.state import (
    StateMismatchError,
    TrainingState,
    array,
    check_range,
    fact,
    generator_state,
    merge_states,
    set_generator,
    steps_in,
)
from deeptaxi.mdp.contract import blaming, closing
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.numbering import NumberingCodec
from deeptaxi.mdp.unfinished_episodes import (
    LONGEST,
    Episode,
    GeneratorStateError,
    Replayed,
    RestorableEnvs,
)
from deeptaxi.mdp.workers import open_copies
from deeptaxi.metrics import NOT_EXACT, Warned

OBSERVATIONS = "observations"  # in a saved state
FULL = "states-full"  # the finding that observations share a state
GLOBAL_RANDOM_STATE = "global-random-state"  # the finding that the result depends on the number of workers
COUNTED = 256  # steps of all environments whose visits are counted at once


@contextmanager
def growing(codec: NumberingCodec | None) -> Iterator[None]:
    """Let a numbering of observations grow for the duration of the block."""
    if codec is None:
        yield
        return
    codec.numbering.open = True
    try:
        yield
    finally:
        codec.numbering.open = False


class VectorEnvRunner:
    """Steps the copies of an environment and sums up the rewards of their unfinished episodes.

    Args:
        environment: the environment.
        vector: N copies of it.
        seeds: one per copy.
        masks: table of allowed actions, updated from ``info["action_mask"]``.
    """

    def __init__(
        self, environment: Environment, vector: RestorableEnvs, seeds: list[int], masks: ActionMaskTable
    ) -> None:
        self._environment = environment
        self._vector = vector
        self._masks = masks
        self._totals = np.zeros(vector.num_envs)
        with blaming(environment.config.id):
            self.states = self._read(*vector.begin(seeds))

    def step(self, actions: NDArray[np.int32]) -> tuple[Transitions, list[float]]:
        """Step all environments; return the N transitions and the returns of the episodes that ended.

        Raises:
            EnvironmentFailedError: the environment failed or violated its contract.
        """
        with blaming(self._environment.config.id):
            return self._step(actions)

    def _step(self, actions: NDArray[np.int32]) -> tuple[Transitions, list[float]]:
        steps = self._vector.step_and_reset(actions)
        reached = self._read(steps.states, steps.shown)
        transitions = Transitions(
            self.states,
            actions.astype(np.int32),
            steps.rewards.astype(np.float32),
            reached,
            steps.terminated,
            steps.truncated,
        )
        self._totals += steps.rewards
        over = steps.terminated | steps.truncated
        returns: list[float] = self._totals[over].tolist()
        if steps.begun is not None:
            self._totals[over] = 0.0
            reached = self._read(steps.begun, steps.begun_shown)
        self.states = reached
        return transitions, returns

    def _read(self, states: NDArray[Any], shown: dict[str, Any]) -> NDArray[np.int32]:
        self._masks.note(states, shown)
        return np.array(states, np.int32)

    def draws_from_process(self) -> bool:
        """Return whether copies in workers drew from random numbers that they would share in one process."""
        return self._vector.draws_from_process()

    def state_dict(self) -> TrainingState:
        """Return the unfinished episodes: `states`, `totals` and `steps` `[N]`, and all `actions` `[Σ steps]`."""
        episodes, generators = zip(*self._vector.save(), strict=True)
        arrays: dict[str, NDArray[Any]] = {
            "runner.states": self.states.copy(),
            "runner.totals": self._totals.copy(),
            "runner.actions": np.concatenate([np.array(episode.actions, np.int32) for episode in episodes]),
            "runner.steps": np.array([len(episode.actions) for episode in episodes], np.int64),
        }
        facts = {"begins": [episode.begin for episode in episodes], "generators": list(generators)}
        return TrainingState(arrays, facts)

    def load_state_dict(self, saved: TrainingState) -> list[int]:
        """Replay the unfinished episodes; return the indices of environments that had to start a new one.

        Raises:
            StateMismatchError: the state belongs to other environments.
        """
        count = self._vector.num_envs
        states = array(saved, "runner.states", (count,), np.int32)
        totals = array(saved, "runner.totals", (count,), np.float64)
        lengths = array(saved, "runner.steps", (count,), np.int64)
        actions = array(saved, "runner.actions", (max(int(lengths.sum()), 0),), np.int32)
        check_range(saved, "runner.states", 0, self._environment.states)
        check_range(saved, "runner.actions", 0, self._environment.actions)
        check_range(saved, "runner.steps", 0, LONGEST + 2)
        begins, generators = fact(saved, "begins", list), fact(saved, "generators", list)
        if (len(begins), len(generators)) != (count, count):
            raise StateMismatchError(f"'begins' has {len(begins)} episodes, expected {count}")
        played = (numbers("i", own.tobytes()) for own in np.split(actions, np.cumsum(lengths)[:-1]))
        episodes = [Episode(*pair) for pair in zip(begins, played, strict=True)]
        self.states, self._totals = states.copy(), totals.copy()
        before = [Replayed(*known) for known in zip(states.tolist(), totals.tolist(), generators, strict=True)]
        with blaming(self._environment.config.id):
            now = self._vector.replay(episodes)
            restarted = [copy for copy in range(count) if now[copy] != before[copy]]
            for copy in restarted:
                self._restart(copy, generators[copy])
        return restarted

    def _restart(self, copy: int, generators: Any) -> None:
        """Start a new episode of one environment."""
        try:
            self.states[copy], shown = self._vector.restart(copy, generators)
        except GeneratorStateError as error:
            raise StateMismatchError(str(error)) from None
        self._totals[copy] = 0.0
        self._masks.note(self.states[[copy]], {name: [shown[name]] for name in ("action_mask",) if name in shown})


class GymnasiumLoop:
    """Alternates environment steps and updates; a `Loop`.

    Args:
        config: the training.
        environment: the environment.
        agent: acts and updates itself.
        masks: table of allowed actions.
        seeds: of the environments and of exploration.
    """

    def __init__(
        self,
        config: TrainConfig,
        environment: Environment,
        agent: Agent,
        masks: ActionMaskTable,
        seeds: Sequence[np.random.SeedSequence],
    ) -> None:
        self.agent = agent
        counted = environment.states if environment.tabulated else 0
        self._visits = np.zeros((counted, environment.actions), np.int64)
        self._visited: list[NDArray[np.int64]] = []  # pairs that are not counted yet
        self._config = config
        self._environment = environment
        self._masks = masks
        for_environments, for_exploration = seeds
        self._seeds = for_environments.generate_state(config.interaction.environments).tolist()
        self._exploring = np.random.default_rng(for_exploration)
        self._actions = np.zeros(0, np.int32)  # chosen, but not yet taken
        self._runner: VectorEnvRunner | None = None
        self._numbering = environment.numbering
        if self._numbering is not None and self._numbering.complete:
            self._numbering = None  # which does not grow
        self._full = False
        self._resumed_from: TrainingState | None = None

    @property
    def network(self) -> keras.Model:
        """The online network."""
        return self.agent.online

    @property
    def visits(self) -> Counts:
        """Visits of each pair so far, `[S, A]`."""
        self._count()
        return self._visits

    def _count(self) -> None:
        """Count the visits that are not counted yet: of many at once it takes a tenth of the time."""
        if self._visited:
            np.add.at(self._visits.reshape(-1), np.concatenate(self._visited), 1)
            self._visited.clear()

    def compile(self) -> float:
        """Compile the functions of the agent; return the seconds taken."""
        return self.agent.compile()

    def run(self, last: int) -> Generator[StepMetrics | Warned]:
        """Run the remaining updates up to `last`; yield one `StepMetrics` per update."""
        config, agent = self._config, self.agent
        count, per_update = config.interaction.environments, config.interaction.steps_per_update
        first = config.exploration.start
        returns: list[float] = []
        checked = config.interaction.workers is None
        with (
            growing(self._numbering),
            closing(open_copies(self._environment, count, self._masks.gathers, config.interaction.workers)) as vector,
        ):
            runner = self._runner = VectorEnvRunner(self._environment, vector, self._seeds, self._masks)
            yield from self._resume(runner)
            complete = count * (config.target.n_step - per_update)  # so that the first update has something to sample
            prefill = max(complete, min(config.replay.start, config.replay.capacity))
            if not self._actions.size:
                self._actions = agent.act(self._acting(runner.states, first if prefill > 0 else self._epsilon(0)))
            while agent.added < prefill:
                new = self._step(runner, returns)
                ready = agent.added + count >= prefill
                self._actions = agent.collect(new, self._acting(runner.states, self._epsilon(0) if ready else first))
            for update in range(agent.updates, last):
                epsilon = self._epsilon(update)
                for _ in range(per_update - 1):
                    self._actions = agent.collect(self._step(runner, returns), self._acting(runner.states, epsilon))
                new = self._step(runner, returns)
                self._actions, loss, td_error = agent.update(
                    new, self._acting(runner.states, self._epsilon(update + 1))
                )
                ended = (len(returns), sum(returns))
                yield StepMetrics(update + 1, agent.added, epsilon, 1, loss, td_error, *ended)
                returns.clear()
                yield from self._warn_if_full(update + 1)
                if not checked:
                    checked = True
                    yield from self._warn_of_global_random_state(runner, update + 1)

    def _epsilon(self, update: int) -> float:
        """Return ε of the steps before an update."""
        return float(exploration(self._config, update / self._config.schedule_length))

    def _acting(self, states: NDArray[np.int32], epsilon: float) -> Acting:
        """Return what the agent needs to act in `states` `[N]`."""
        draws = self._exploring.random(len(states), np.float32)
        noise = self._exploring.random((len(states), self._environment.actions), np.float32)
        return Acting(states, epsilon, draws, noise)

    def _step(self, runner: VectorEnvRunner, returns: list[float]) -> Transitions:
        """Step all environments by the actions chosen; return the transitions, and add returns of ended episodes."""
        new, ended = runner.step(self._actions)
        returns += ended
        if self._visits.size:
            self._visited.append(new.states * np.int64(self._environment.actions) + new.actions)
            if len(self._visited) >= COUNTED:
                self._count()
        return new._replace(rewards=new.rewards / np.float32(self._config.target.reward_scale))

    def _warn_if_full(self, update: int) -> Generator[Warned]:
        """Warn once if observations have come that there was no number left for."""
        codec = self._numbering
        if codec is None or self._full or not self.visits[-1].any():
            return
        self._full = True
        yield Warned(
            update,
            FULL,
            f"{FULL}: {codec.capacity - 1:,} observations are numbered, and all others share one state from here on: "
            f"--state-capacity {10 * codec.capacity} has room for more",
        )

    def _warn_of_global_random_state(self, runner: VectorEnvRunner, update: int) -> Generator[Warned]:
        """Warn if the result depends on the number of workers."""
        if runner.draws_from_process():
            text = (
                f"{self._environment.config.id} draws from the random numbers of its process (random, np.random), and "
                "each worker has its own: with another number of workers the result is another; draw from "
                "self.np_random, or leave out --workers"
            )
            yield Warned(update, GLOBAL_RANDOM_STATE, f"{GLOBAL_RANDOM_STATE}: {text}")

    def coverage(self) -> Coverage:
        """Return the visit counts of the training and of the replay buffer."""
        states, actions = self.visits.shape
        if not states:
            return Coverage(self.visits, self.visits)
        return Coverage(self.visits, count_pairs(self.agent.pairs(), states, actions))

    def state_dict(self) -> TrainingState:
        """Return the state of the loop between two updates."""
        facts = {"exploring": generator_state(self._exploring)}
        runner = self._runner.state_dict() if self._runner else TrainingState({}, {})
        chosen = {"actions": self._actions.copy()} if self._actions.size else {}
        own = TrainingState({"visits": self.visits.copy(), **chosen, **self._numbered()}, facts)
        return merge_states(self.agent.state_dict(), runner, own)

    def load_state_dict(self, saved: TrainingState) -> None:
        """Load a saved state; the environments are restored when the loop runs.

        Raises:
            StateMismatchError: the state belongs to another training.
        """
        self.agent.load_state_dict(saved)
        self._visits = array(saved, "visits", self._visits.shape, np.int64).copy()
        check_range(saved, "visits", 0, steps_in(self._config) + 1)
        set_generator(self._exploring, fact(saved, "exploring", dict))
        self._actions = array(saved, "actions", (self._config.interaction.environments,), np.int32).copy()
        check_range(saved, "actions", 0, self._environment.actions)
        self._full = self._numbering is not None and bool(self.visits[-1].any())
        self._load_numbering(saved)
        self._resumed_from = saved

    def _numbered(self) -> dict[str, NDArray[Any]]:
        """Return the observations that have a number, if they are numbered as they are first seen."""
        return {} if self._numbering is None else {OBSERVATIONS: self._numbering.observations()}

    def _load_numbering(self, saved: TrainingState) -> None:
        """Restore the numbers of observations.

        Raises:
            StateMismatchError: they are those of another space.
        """
        if self._numbering is None:
            return
        try:
            self._numbering.load(saved.arrays.get(OBSERVATIONS))
        except DeepTaxiError as error:
            raise StateMismatchError(f"'{OBSERVATIONS}' is damaged: {error}") from None

    def _resume(self, runner: VectorEnvRunner) -> Generator[Warned]:
        """Restore the unfinished episodes of a saved state, if there is one; warn of those that could not be."""
        if self._resumed_from is None:
            return
        restarted = runner.load_state_dict(self._resumed_from)
        if restarted:
            self.agent.cut(restarted)
            self._actions = self.agent.act(
                self._acting(runner.states, self._epsilon(self.agent.updates))
            )  # in their new states
            text = (
                f"{self._environment.config.id} keeps a state that seeds and actions do not bring back: "
                f"{len(restarted)} of {len(self._seeds)} episodes restart, and the result is not bit for bit that of "
                "an uninterrupted training"
            )
            yield Warned(self.agent.updates, NOT_EXACT, f"{NOT_EXACT}: {text}")
