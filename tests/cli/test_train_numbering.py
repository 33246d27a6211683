"""Boards and pictures, from training to resuming."""

from __future__ import annotations

import json

from tests.boards import Picture, Wander
from tests.cli.conftest import QUICK, refused
from tests.problems import registered


def test_that_observations_are_numbered_as_they_are_met_is_told_in_a_line(type_in):
    with registered("Wander-v0", Wander) as name:
        trained = type_in("train", name, *QUICK, "--updates", 40, "--stop-after", 20, "--json", "--out", "wander")
        assert json.loads(trained.stdout)["environment"]["states"] == 100_000
        lines = [line for line in trained.stderr.splitlines() if "numbered as they are first seen" in line]
        assert len(lines) == 1
        assert lines[0].startswith("Wander-v0 has more than 10^20 combinations of observations: they are numbered as")
        changed = type_in("train", "--resume", "wander", "--state-capacity", 50)
        refused(changed, 2, "cannot change --state-capacity on resume: wander uses 100000, not 50")
        assert json.loads(type_in("train", "--resume", "wander", "--json").stdout)["updates"] == 40
        played = json.loads(type_in("evaluate", "wander", "--episodes", 3, "--json").stdout)["episodes"]
        assert played["steps"] > 0
        assert played["steps_in_shared_state"] == 0


def test_what_cannot_be_numbered_is_refused_with_what_to_type(type_in):
    with registered("Picture-v0", Picture) as name:
        line = refused(
            type_in("train", name, "--encoding", "factored"), 2, "--encoding factored and --state-capacity 0 would"
        )
        assert "leave them out, and observations are numbered as they are first seen" in line
        refused(
            type_in("train", name, "--encoding", "factored", "--state-capacity", 9),
            2,
            "numbers whole ones",
            "leave one",
        )
        refused(type_in("train", name, "--state-capacity", 1), 2, "at least 2 states, or 0 to number all combinations")
