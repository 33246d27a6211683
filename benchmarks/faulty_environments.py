"""Environments without a table that are wrong in one way each, for `benchmarks.unseen_faults`.

Each plays a table that it does not show, and answers as its fault makes it. Chance is drawn only where there is any, by
`choice`, so that `deeptaxi discover` could walk through all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

Answer = tuple[int, float, bool, bool, dict[str, Any]]


class Played(gymnasium.Env[int, int]):
    """A table that is played as it is. Its classes have the table, so that copies of an environment share it."""

    table: ClassVar[Any]
    parameter: ClassVar[int] = 0

    def __init__(self) -> None:
        self.observation_space, self.action_space = Discrete(self.table.states), Discrete(self.table.actions)
        self.at = self.time = 0

    def draw(self, probability: np.ndarray) -> int:
        """Draw an index by its probability, `[n]`."""
        likely = np.flatnonzero(probability)
        return int(likely[0] if len(likely) == 1 else self.np_random.choice(likely, p=probability[likely]))

    def reset(self, *, seed: int | None = None, **given: Any) -> tuple[int, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed, **given)
        self.at, self.time = self.draw(self.table.start), 0
        return self.at, {}

    def step(self, action: int) -> Answer:
        """Make a step of the table."""
        outcome = self.at, int(action), self.draw(self.table.probability[self.at, action])
        self.at, self.time = int(self.table.next_state[outcome]), self.time + 1
        return self.at, float(self.table.reward[outcome]), bool(self.table.terminated[outcome]), False, {}


class GoalTruncates(Played):
    """What pays most truncates; other ends terminate."""

    def step(self, action: int) -> Answer:
        """Make a step."""
        state, reward, terminated, truncated, info = super().step(action)
        goal = terminated and reward == self.table.reward[self.table.probability > 0].max()
        return state, reward, terminated and not goal, truncated or goal, info


class AllTruncates(Played):
    """Every end truncates."""

    def step(self, action: int) -> Answer:
        """Make a step."""
        state, reward, terminated, _, info = super().step(action)
        return state, reward, False, terminated, info


class FixedLimit(Played):
    """After as many steps as the parameter says, an episode terminates."""

    def step(self, action: int) -> Answer:
        """Make a step."""
        state, reward, terminated, truncated, info = super().step(action)
        return state, reward, terminated or self.time >= self.parameter, truncated, info


class DrawnLimit(Played):
    """After a number of steps that is drawn about the parameter, an episode terminates."""

    def reset(self, **given: Any) -> tuple[int, dict[str, Any]]:
        """Begin an episode."""
        answer = super().reset(**given)
        self.limit = int(self.np_random.integers(self.parameter // 2, 2 * self.parameter))
        return answer

    def step(self, action: int) -> Answer:
        """Make a step."""
        state, reward, terminated, truncated, info = super().step(action)
        return state, reward, terminated or self.time >= self.limit, truncated, info


class DrawnTruncation(DrawnLimit):
    """The same, by `truncated`."""

    def step(self, action: int) -> Answer:
        """Make a step."""
        state, reward, terminated, _, info = Played.step(self, action)
        return state, reward, terminated, self.time >= self.limit, info


class Fuel(Played):
    """Each step burns 1 or 2 of a tank that observations do not show; an empty one terminates the episode."""

    def reset(self, **given: Any) -> tuple[int, dict[str, Any]]:
        """Begin an episode."""
        self.fuel = self.parameter
        return super().reset(**given)

    def step(self, action: int) -> Answer:
        """Make a step."""
        state, reward, terminated, truncated, info = super().step(action)
        self.fuel -= int(self.np_random.integers(1, 3))
        return state, reward, terminated or self.fuel <= 0, truncated, info


class ObservationsLag(Played):
    """`step` returns the state before the action."""

    def step(self, action: int) -> Answer:
        """Make a step."""
        before = self.at
        return before, *super().step(action)[1:]


class ActionsLag(Played):
    """Each action takes effect one step late."""

    def reset(self, **given: Any) -> tuple[int, dict[str, Any]]:
        """Begin an episode."""
        self.pending = 0
        return super().reset(**given)

    def step(self, action: int) -> Answer:
        """Make a step."""
        now, self.pending = self.pending, int(action)
        return super().step(now)


class RewardsLate(Played):
    """Each reward comes one step late, so that the last of an episode never does."""

    def reset(self, **given: Any) -> tuple[int, dict[str, Any]]:
        """Begin an episode."""
        self.owed = 0.0
        return super().reset(**given)

    def step(self, action: int) -> Answer:
        """Make a step."""
        state, reward, *rest = super().step(action)
        paid, self.owed = self.owed, reward
        return state, paid, *rest


class NothingEarned(Played):
    """No step pays."""

    def step(self, action: int) -> Answer:
        """Make a step."""
        state, _, *rest = super().step(action)
        return state, 0.0, *rest


EPISODES, SHORTEST, LONGEST = 200, 4, 60  # of random episodes, and steps of one
KINDS: tuple[tuple[str, tuple[str, ...], type[Played]], ...] = (
    ("the goal truncates", ("termination-as-truncation",), GoalTruncates),
    ("every end truncates", ("termination-as-truncation",), AllTruncates),
    ("a hidden limit terminates", ("truncation-as-terminal", "hidden-time-limit"), FixedLimit),
    ("a drawn limit terminates", ("hidden-time-limit",), DrawnLimit),
    ("a drawn limit truncates", ("hidden-time-limit",), DrawnTruncation),
    ("a hidden tank runs empty", ("hidden-time-limit",), Fuel),
    ("observations lag", ("observations-lag",), ObservationsLag),
    ("actions lag", ("observations-lag",), ActionsLag),
    ("rewards late", ("rewards-late",), RewardsLate),
    ("nothing earned", ("no-reward-seen", "all-policies-equal"), NothingEarned),
)  # fmt: skip


def playing(kind: type[Played], table: Any, parameter: int = 0) -> type[Played]:
    """Return a class of environments of this kind that play a table."""
    return type(kind.__name__, (kind,), {"table": table, "parameter": parameter})


def random_length(table: Any, rng: np.random.Generator) -> int:
    """Return a number of steps that between a quarter and three quarters of all random episodes are longer than."""
    env = playing(Played, table)()
    env.reset(seed=int(rng.integers(2**31)))
    lengths = []
    for _ in range(EPISODES):
        env.reset()
        while env.time < LONGEST and not env.step(int(rng.integers(table.actions)))[2]:
            pass
        lengths.append(env.time)
    return max(SHORTEST, int(np.quantile(lengths, rng.uniform(0.25, 0.75))))


def faulty_environments(table: Any, seed: int) -> Iterator[tuple[str, tuple[str, ...], type[Played]]]:
    """Yield what is wrong with each environment, the right findings, and its class."""
    rng = np.random.default_rng(seed)
    possible = table.probability > 0
    at_ends = not (table.reward[possible & ~table.terminated] != 0).any()
    for name, causes, kind in KINDS:
        if kind is RewardsLate and at_ends:
            causes = ("no-reward-seen", "all-policies-equal")  # the only rewards are the last, which never come
        yield name, causes, playing(kind, table, random_length(table, rng))
