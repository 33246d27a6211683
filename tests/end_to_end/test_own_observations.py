"""An environment of one's own whose observations have other types than Gymnasium's have, from training to resuming."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete, Tuple

from tests.cli.conftest import QUICK, refused
from tests.problems import registered

FORMS = {
    "bool": lambda place, flag: (place, flag),
    "list": lambda place, flag: [np.int64(place), int(flag)],
    "float": lambda place, flag: (float(place), int(flag)),
}


class Hand(gymnasium.Env):
    """Draws up to three times; the flag is up from the second draw on."""

    observation_space, action_space = Tuple((Discrete(4), Discrete(2))), Discrete(2)
    form = "bool"

    def look(self):
        return FORMS[self.form](self.place, self.place > 1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return self.look(), {}

    def step(self, action):
        self.place = min(self.place + int(self.np_random.integers(2)), 3)
        return self.look(), float(action), bool(self.place == 3), False, {}


def test_an_own_environment_is_trained_watched_explained_and_resumed(type_in):
    words = ["train", "Hand-v0", *QUICK, "--updates", 40, "--q-table", "--json", "--out"]
    with registered("Hand-v0", Hand):
        trained = type_in(*words, "a", "--stop-after", 30)
        assert json.loads(trained.stdout)["updates"] == 30, trained.output
        watched = type_in("watch", "a", "--plain", "--trust-env")
        assert "terminated after" in watched.stdout, watched.output
        explained = type_in("explain", "update", "a", "--random", "--trust-env", "--json")
        assert json.loads(explained.stdout)["transitions"], explained.output
        more = type_in("train", "--resume", "a", "--trust-env", "--json")
        assert json.loads(more.stdout)["updates"] == 40, more.output
        straight = type_in(*words, "b")
        assert json.loads(straight.stdout)["weights_digest"] == json.loads(more.stdout)["weights_digest"]
        assert type_in("diagnose", "a", "--trust-env").exit_code in (0, 3)
        played = json.loads(type_in("evaluate", "a", "--episodes", 20, "--trust-env", "--json").stdout)["episodes"]
        assert (played["count"], played["asked"], played["terminated_fraction"]) == (20, 20, 1)


def test_observations_outside_the_space_are_refused_by_every_command(type_in):
    said = (
        "the environment Hand-v0 failed: reset() returned the observation (0.0, 0), whose part [0] is 0.0: expected an"
    )
    with registered("Hand-v0", Hand):
        words = ["train", "Hand-v0", *QUICK, "--updates", 40, "--q-table", "--stop-after", 30, "--out", "a"]
        assert type_in(*words).exit_code == 0
    with registered("Hand-v0", type("Hand", (Hand,), {"form": "float"})):
        refused(type_in("train", "Hand-v0", *QUICK, "--q-table", "--out", "b"), 1, said)
        for words in (
            ["watch"],
            ["evaluate"],
            ["diagnose"],
            ["explain", "update"],
            ["train", "--updates", 40, "--resume"],
        ):
            refused(type_in(*words, "a", "--trust-env"), 1, said)


def test_a_policy_that_never_ends_is_evaluated_and_reported_as_a_loop(type_in):
    from pathlib import Path

    from deeptaxi.mdp.table import save_table
    from tests.problems import loop

    save_table(loop(2), Path("own.npz"))
    words = ["--loop", "gymnasium", "--q-table", *QUICK, "--updates", 5, "--out", "a", "--quiet"]
    assert type_in("train", "own.npz", *words).exit_code == 0
    text = type_in("evaluate", "a", "--episodes", 50).stdout
    assert "50 episodes: the policy never ends one from state 0 on" in " ".join(text.split())
    found = json.loads(type_in("evaluate", "a", "--episodes", 50, "--json").stdout)["episodes"]
    assert (found["endless"], found["mean_return"], found["count"]) == (50, 10_000, 50)
