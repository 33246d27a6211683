"""The loop over Gymnasium environments: step a vector of environments, then make one update.

Order of one update, as the tests record it: choose ε-greedy actions, step all environments, store the transitions,
reset the environments whose episode ended, sample a minibatch, update. The observation after a reset belongs to no
transition. Rewards are stored in units of the reward scale; reported returns are unscaled.

**Resuming.** An environment does not expose its state, so unfinished episodes are replayed: each began from a seed, or
from known states of the environment's random number generators (those among its attributes), and the actions since then
are recorded. If the replay ends in the same state, with the same rewards and the same generator states, the environment
is restored exactly. If not (it carries something across episodes, or draws from another source), it starts a new
episode, and the resumed run is not bit-for-bit identical.
"""

from __future__ import annotations

import random
from array import array as numbers
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from deeptaxi.mdp.contract import ContractError, blaming, closing
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.numbering import NumberingCodec
from deeptaxi.mdp.vector_env import VectorEnv
from deeptaxi.metrics import NOT_EXACT, Warned

KINDS = (np.random.Generator, np.random.RandomState, random.Random)


def generators_of(env: Any) -> dict[str, Any]:
    """Return the JSON-serializable states of an environment's generators, keyed by attribute name.

    Reading `np_random` of a Gymnasium environment that has drawn nothing yet would create a randomly seeded generator.
    """
    return {name: state_of(generator) for name, generator in hold_generators(env).items()}


def set_generators_of(env: Any, states: Any) -> None:
    """Set the states of an environment's generators.

    Raises:
        StateMismatchError: a state does not fit its generator.
    """
    states = states if isinstance(states, Mapping) else {}
    if "_np_random" in states:
        getattr(env.unwrapped, "np_random", None)  # reading the property creates the generator
    for name, generator in hold_generators(env).items():
        if name in states:
            set_state(generator, states[name])


def hold_generators(env: Any) -> dict[str, Any]:
    """Return the generators among an environment's attributes, except `SystemRandom`, which has no state."""
    attributes: Mapping[str, Any] = getattr(env.unwrapped, "__dict__", {})
    found = {name: value for name, value in attributes.items() if isinstance(value, KINDS)}
    return {name: value for name, value in found.items() if not isinstance(value, random.SystemRandom)}


def state_of(generator: Any) -> Any:
    """Return the state of a generator as lists and integers."""
    if isinstance(generator, random.Random):
        version, numbers, gauss = generator.getstate()
        return [version, list(numbers), gauss]
    return plain(generator.get_state(legacy=False) if is_old(generator) else generator.bit_generator.state)


def set_state(generator: Any, state: Any) -> None:
    """Set a generator to a state returned by `state_of`."""
    try:
        if isinstance(generator, random.Random):
            generator.setstate((state[0], tuple(state[1]), state[2]))
        elif is_old(generator):
            generator.set_state(state)
        else:
            generator.bit_generator.state = state
    except (TypeError, ValueError, LookupError, OverflowError) as error:
        raise StateMismatchError(f"no state of a {type(generator).__name__}: {error}") from None


def is_old(generator: Any) -> bool:
    """Return whether the generator is NumPy's legacy `RandomState`."""
    return isinstance(generator, np.random.RandomState)


def plain(state: Any) -> Any:
    """Convert the arrays in nested mappings to lists."""
    if isinstance(state, Mapping):
        return {name: plain(part) for name, part in state.items()}
    return state.tolist() if isinstance(state, np.ndarray) else state


OBSERVATIONS = "observations"  # in a saved state
FULL = "states-full"  # the finding that observations share a state
COUNTED = 256  # steps of all environments whose visits are counted at once
LONGEST = 1_000_000  # recorded steps per episode; longer episodes cannot be replayed


@dataclass
class Episode:
    """What is needed to replay an unfinished episode."""

    begin: dict[str, Any] | None = None  # generator states before the reset; None if it was seeded
    actions: numbers[int] = field(default_factory=lambda: numbers("i"))  # a list takes 8 bytes each

    def add(self, action: int) -> None:
        """Record the next action."""
        if len(self.actions) <= LONGEST:
            self.actions.append(action)


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
    """Steps a vector environment and tracks the unfinished episodes.

    Args:
        environment: the environment.
        vector: N instances of it, without automatic resets.
        seeds: one per instance.
        masks: table of allowed actions, updated from ``info["action_mask"]``.
    """

    def __init__(self, environment: Environment, vector: VectorEnv, seeds: list[int], masks: ActionMaskTable) -> None:
        self._environment = environment
        self._vector = vector
        self._masks = masks
        self._totals = np.zeros(vector.num_envs)
        self._episodes = [Episode() for _ in seeds]
        with blaming(environment.config.id):
            self.states = self._read(*vector.reset(seed=list(seeds)))

    def step(self, actions: NDArray[np.int32]) -> tuple[Transitions, list[float]]:
        """Step all environments; return the N transitions and the returns of the episodes that ended.

        Raises:
            EnvironmentFailedError: the environment failed or violated its contract.
        """
        with blaming(self._environment.config.id):
            return self._step(actions)

    def _step(self, actions: NDArray[np.int32]) -> tuple[Transitions, list[float]]:
        for episode, action in zip(self._episodes, actions.tolist(), strict=True):
            episode.add(action)
        observation, reward, terminated, truncated, info = self._vector.step(actions + self._environment.first_action)
        reached = self._read(observation, info)
        transitions = Transitions(
            self.states,
            actions.astype(np.int32),
            reward.astype(np.float32),
            reached,
            terminated,
            truncated,
        )
        self._totals += reward
        over = terminated | truncated
        returns: list[float] = self._totals[over].tolist()
        if over.any():
            self._totals[over] = 0.0
            for copy in np.flatnonzero(over):
                self._episodes[copy] = Episode(generators_of(self._vector.envs[copy]))
            reached = self._read(*self._vector.reset(over=over))
        self.states = reached
        return transitions, returns

    def _read(self, observation: NDArray[np.int64], info: dict[str, Any]) -> NDArray[np.int32]:
        self._masks.note(observation, info)
        return np.array(observation, np.int32)

    def state_dict(self) -> TrainingState:
        """Return the unfinished episodes: `states`, `totals` and `steps` `[N]`, and all `actions` `[Σ steps]`."""
        arrays: dict[str, NDArray[Any]] = {
            "runner.states": self.states.copy(),
            "runner.totals": self._totals.copy(),
            "runner.actions": np.concatenate([np.array(episode.actions, np.int32) for episode in self._episodes]),
            "runner.steps": np.array([len(episode.actions) for episode in self._episodes], np.int64),
        }
        facts = {
            "begins": [episode.begin for episode in self._episodes],
            "generators": [generators_of(env) for env in self._vector.envs],
        }
        return TrainingState(arrays, facts)

    def load_state_dict(self, saved: TrainingState) -> list[int]:
        """Replay the unfinished episodes; return the indices of environments that had to start a new one.

        Raises:
            StateMismatchError: the state belongs to other environments.
        """
        count = len(self._episodes)
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
        self._episodes = [Episode(*pair) for pair in zip(begins, played, strict=True)]
        seeded, self.states, self._totals = self.states, states.copy(), totals.copy()
        with blaming(self._environment.config.id):
            return [copy for copy in range(count) if not self._again(copy, int(seeded[copy]), generators[copy])]

    def _again(self, copy: int, seeded: int, states: Any) -> bool:
        """Replay the episode of one environment; start a new one and return False if the outcome differs."""
        env = self._vector.envs[copy]
        try:
            reached = self._replayed(env, self._episodes[copy], seeded)
        except ContractError:
            raise
        except (Exception, SystemExit):  # in another state, its code may reject the actions
            reached = None
        if reached == (self.states[copy], self._totals[copy], states):
            return True
        set_generators_of(env, states)
        self.states[copy], info = env.reset()
        self._totals[copy] = 0.0
        self._masks.note(self.states[[copy]], {name: [info[name]] for name in ("action_mask",) if name in info})
        self._episodes[copy] = Episode(states)
        return False

    def _replayed(self, env: Any, episode: Episode, seeded: int) -> tuple[int, float, Any] | None:
        """Return the final state, total reward and generator states of a replay; None if the episode ends early.

        `seeded` is the state that the environment was reset to by its seed.
        """
        state, total, first = seeded, 0.0, self._environment.first_action
        if len(episode.actions) > LONGEST:
            return None
        if episode.begin is not None:
            set_generators_of(env, episode.begin)
            state = env.reset()[0]
        for action in episode.actions:
            state, reward, terminated, truncated, _ = env.step(np.int64(action + first))
            if terminated or truncated:
                return None
            total += float(reward)
        return state, total, generators_of(env)


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
        with (
            growing(self._numbering),
            closing(self._environment.make_vector(count, masks=self._masks.gathers)) as vector,
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
                yield from self._tell_if_full(update + 1)

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

    def _tell_if_full(self, update: int) -> Generator[Warned]:
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
