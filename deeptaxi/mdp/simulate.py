"""A Gymnasium environment based on a transition table, to run, render and train on."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from deeptaxi.mdp.remembered_values import once
from deeptaxi.mdp.table import TransitionTable, is_large


class TableEnv(gymnasium.Env[np.int64, np.int64]):
    """Samples each outcome from the table by inverting its cumulative probabilities.

    It has no time limit of its own: wrap it in `gymnasium.wrappers.TimeLimit`. If the table has an action mask,
    ``info["action_mask"]`` is its row; a masked action that is taken anyway has the table's outcomes.
    """

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012  # Gymnasium declares it an instance variable

    def __init__(self, table: TransitionTable, render_mode: str | None = None) -> None:
        self.table = table
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Discrete(table.states)
        self.action_space = gymnasium.spaces.Discrete(table.actions)
        self.state = 0
        self._cumulative = (
            None if is_large(table) else once(table, "cumulative", lambda: inverse_table(table.probability))
        )
        self._start = once(table, "cumulative start", lambda: inverse_table(table.start))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.int64, dict[str, Any]]:
        """Sample a start state."""
        super().reset(seed=seed, options=options)
        self.state = int(np.searchsorted(self._start, self.np_random.random(), side="right"))
        return np.int64(self.state), self._info()

    def step(self, action: np.int64) -> tuple[np.int64, float, bool, bool, dict[str, Any]]:
        """Sample an outcome of (state, action)."""
        row = (self.state, int(action))
        k = self._sample(row, self.np_random.random())
        outcome = (*row, k)
        self.state = int(self.table.next_state[outcome])
        return (
            np.int64(self.state),
            float(self.table.reward[outcome]),
            bool(self.table.terminated[outcome]),
            False,
            self._info(),
        )

    def _sample(self, row: tuple[int, int], draw: float) -> int:
        """Return the number of the outcome of a pair that a `draw` from [0, 1) means."""
        if self._cumulative is not None:
            return int(np.searchsorted(self._cumulative[row], draw, side="right"))
        chances = self.table.probability[row]
        found = int(np.searchsorted(np.cumsum(chances), draw, side="right"))
        return found if found < len(chances) and chances[found] > 0 else int(np.flatnonzero(chances)[-1])

    def render(self) -> str | None:
        """Return the name or number of the current state."""
        if self.render_mode is None:
            return None
        names = self.table.state_names
        return names[self.state] if names else f"state {self.state}"

    def _info(self) -> dict[str, Any]:
        mask = self.table.action_mask
        return {} if mask is None else {"action_mask": mask[self.state].astype(np.int8)}


def inverse_table(probability: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return cumulative probabilities along the last axis such that a sample in [0, 1) finds no impossible outcome.

    From the last possible outcome on they are exactly 1, so that rounding cannot push a sample past it.
    """
    cumulative = np.cumsum(probability, axis=-1)
    possible_later = np.flip(np.cumsum(np.flip(probability, -1), axis=-1), -1) - probability > 0
    cumulative[~possible_later] = 1.0
    return cumulative
