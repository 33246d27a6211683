"""Environments of real numbers, from training to resuming."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import deeptaxi
from tests.cli.conftest import QUICK, refused

CAR = ["MountainCar-v0", "--bins", "6,4", *QUICK, "--time-limit", "40"]


def test_bins_are_part_of_the_model_from_training_to_resuming(type_in):
    trained = type_in("train", *CAR, "--updates", 20, "--stop-after", 10, "--json", "--out", "car")
    document = json.loads(trained.stdout)
    assert (document["environment"]["states"], document["exact"]) == (24, None)
    assert [part["bins"] for part in document["environment"]["observation"]["parts"]] == [6, 4]
    assert json.loads(type_in("train", "--resume", "car", "--json").stdout)["updates"] == 20
    refused(
        type_in("train", "--resume", "car", "--bins", "6,5"), 2, "cannot change --bins on resume: car uses 6,4, not 6,5"
    )
    run = deeptaxi.load("car")
    assert run.config.network.encoding == "factored"
    observation = np.array([-0.5, 0.01], np.float32)
    state = 2 * 4 + 2  # −0.5 is 0.39 of the way from −1.2 to 0.6, 0.01 is 0.57 of the way from −0.07 to 0.07
    assert run.act(observation) == run.act((-0.5, 0.01)) == run.policy[state]
    moved = json.loads(type_in("evaluate", "car", "--env", "MountainCar-v0", "--episodes", 2, "--json").stdout)
    assert moved["episodes"]["mean_length"] == 200  # the limit is the environment's own, the bins are the model's
    assert "`[0]` is in one of 6 bins of equal width from -1.2 to 0.6" in Path("car/card.md").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["MountainCar-v0"], "MountainCar-v0 observes Box([-1.2 -0.07], [0.6 0.07], (2,), float32), 2 real numbers: "),
        (
            ["CartPole-v1", "--preset", "none"],
            "of which [1], [3] without bounds: divide them into bins with --bins 8 --bin-r",
        ),
        (["MountainCar-v0", "--bins", "0"], "bins = 0: expected whole numbers above 0"),
        (["MountainCar-v0", "--bins", "6,x"], "expected whole numbers such as 128,64, received '6,x'"),
        (["MountainCar-v0", "--bins", "6", "--bin-range", "1"], "bin_range = 1.0: expected ranges low:high"),
        (["MountainCar-v0", "--bin-range", "0:1"], "say with --bins how many there are"),
        (["Taxi-v4", "--bins", "6"], "--bins: Taxi-v4 has no real numbers to divide in Discrete(500): leave it out"),
        (
            ["Taxi-v4", "--action-bins", "6"],
            "--action-bins: Taxi-v4 has no real numbers to divide in Discrete(6): leave",
        ),
        (
            ["Taxi-v4", "--observation", "one-hot"],
            "--observation one-hot: Taxi-v4 has no vector of zeros and ones in D",
        ),
    ],
)
def test_bins_that_are_lacking_or_do_not_fit_are_refused(type_in, words, said):
    result = type_in("train", *words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_q_table_sees_bins_together(type_in):
    result = type_in("train", *CAR, "--q-table", "--updates", 10, "--json")
    assert result.exit_code == 0, result.output
    run = deeptaxi.load(json.loads(result.stdout)["run"])
    assert (run.config.network.encoding, run.q_values.shape) == ("joint", (24, 3))


def test_cartpole_has_its_bins_from_its_preset(type_in):
    row = json.loads(type_in("envs", "CartPole-v1", "--json").stdout)[0]
    assert (row["states"], row["table"]) == (16 * 32**3, False)
