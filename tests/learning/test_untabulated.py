"""More states than anything is tabulated for: training, acting and episodes need no table."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete, MultiDiscrete

import deeptaxi
from deeptaxi.errors import DeepTaxiError, UsageError
from tests.problems import registered


class Cells(gymnasium.Env):
    """Twelve cells of four colors, redrawn at every step; the color of the first one is the action that is rewarded."""

    observation_space, action_space = MultiDiscrete([4] * 12), Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cells = self.np_random.integers(0, 4, 12)
        return self.cells.copy(), {}

    def step(self, action):
        reward = float(action == self.cells[0])
        self.cells = self.np_random.integers(0, 4, 12)
        return self.cells.copy(), reward, False, False, {}


SETTINGS = {"time_limit": 10, "discount": 0.0, "hidden": (), "learning_rate": 0.05, "environments": 8, "batch_size": 64}


def test_four_to_the_twelfth_states_are_trained_by_their_parts():
    with registered("Cells-v0", Cells) as name:
        run = deeptaxi.train(name, encoding="factored", updates=200, replay_start=100, **SETTINGS)
        assert run.environment.states == 4**12
        assert [run.act((color, *range(4), *range(4), 0, 1, 2)) for color in range(4)] == [0, 1, 2, 3]
        assert run.policy[np.array([[0, 4**11], [2 * 4**11, 4**12 - 1]])].tolist() == [[0, 1], [2, 3]]
        assert deeptaxi.evaluate(run, episodes=5).episodes["mean_return"] == 10
        assert "of more than 10,000,000 states nothing is tabulated" in run.exact_unavailable
        with pytest.raises(
            DeepTaxiError, match="Cells-v0 has 16,777,216 states; of more than 10,000,000 states nothing"
        ):
            _ = run.q_values


def test_what_tabulates_says_at_once_that_there_are_too_many_states(tmp_path):
    with registered("Cells-v0", Cells) as name:
        kept = tmp_path / "run"
        deeptaxi.train(name, encoding="factored", updates=5, out=kept, logs=tmp_path / "logs", **SETTINGS)
        run = deeptaxi.load(kept)
        for judge in (
            lambda: deeptaxi.diagnose(kept),
            lambda: deeptaxi.diagnose(run),
            lambda: deeptaxi.export(kept, "csv", tmp_path / "q.csv"),
            lambda: deeptaxi.export(run, "plain", tmp_path / "plain.keras"),
        ):
            with pytest.raises(DeepTaxiError, match="Cells-v0 has 16,777,216 states; of more than 10,000,000 states"):
                judge()
        assert "nothing is tabulated" in deeptaxi.train(resume=kept, updates=8).exact_unavailable
        assert 0 <= deeptaxi.evaluate(kept, episodes=2).episodes["mean_return"] <= 10  # of ten steps, each worth 0 or 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"state_capacity": 0},
            "a one-hot network takes at most 10,000,000: let it see the parts of a state by themselves, --enc",
        ),
        (
            {"encoding": "factored", "action_mask": True},
            "--action-mask is a table over all states, and Cells-v0 has too",
        ),
    ],
)
def test_what_needs_a_table_is_refused(settings, said):
    with registered("Cells-v0", Cells) as name, pytest.raises(UsageError, match=said):
        deeptaxi.train(name, updates=10, **SETTINGS, **settings)
