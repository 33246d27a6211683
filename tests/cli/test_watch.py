"""``deeptaxi watch``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import pytest
from PIL import Image

from deeptaxi.mdp.table import save_table
from tests.cli.conftest import LAKE, QUICK, refused, run
from tests.problems import chain


def test_a_plain_episode_is_the_same_for_the_same_seed_and_holds_no_escape_codes(lake_run):
    first, again = (run("watch", lake_run, "--plain", "--seed", 1) for _ in range(2))
    assert first.exit_code == 0
    assert first.stdout == again.stdout
    assert "\x1b" not in first.stdout
    text = first.stdout
    assert text.startswith(
        "▶ greedy, = tied with it, ✓ optimal\nEpisode 1, step 0: return 0\nState 0: row 0, column 0\n"
    )
    assert "SFFF\nFHFH\nFFFH\nHFFG\n" in text
    assert text.count("▶ ✓ ") == 6  # the run is optimal: the shortest way has six steps
    assert text.rstrip().endswith("Episode 1 terminated after 6 steps, return 1.")


def test_the_json_has_every_step(lake_run):
    found = json.loads(run("watch", lake_run, "--json", "--episodes", 2).stdout)
    assert found["environment"]["id"] == "FrozenLake-v1"
    assert found["actions"] == ["left", "down", "right", "up"]
    assert [(episode["return"], episode["length"], episode["ending"]) for episode in found["episodes"]] == [
        (1.0, 6, "terminated")
    ] * 2
    steps = found["episodes"][0]["steps"]
    assert [step["state"] for step in steps[1:]] == [step["next_state"] for step in steps[:-1]]
    assert all(step["action"] in step["optimal_actions"] for step in steps)
    assert all(step["q_values"][step["action"]] == max(step["q_values"]) for step in steps)
    assert [step["reward"] for step in steps] == [0, 0, 0, 0, 0, 1]


def test_an_episode_can_start_anywhere(lake_run):
    assert "\nState 14: row 3, column 2\n" in run("watch", lake_run, "--plain", "--state", 14).stdout
    for form in ("--json", "--plain"):
        refused(run("watch", lake_run, form, "--state", 16), 2, "--state 16: expected a state from 0 to 15")


def test_the_frames_become_a_gif(lake_run, tmp_path):
    gif = tmp_path / "out" / "lake.gif"
    result = run("watch", lake_run, "--gif", gif, "--speed", 10)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == ["Episode 1 terminated after 6 steps, return 1.", f"Wrote {gif}."]
    with Image.open(gif) as image:
        assert (image.n_frames, image.info["duration"], image.info["loop"]) == (7, 100, 0)
        colors = {image.seek(frame) or image.convert("RGB").tobytes() for frame in range(7)}
    assert len(colors) == 7  # the elf is somewhere else in each
    refused(run("watch", lake_run, "--gif", gif), 2, "exists", "--force", "another --gif")
    assert run("watch", lake_run, "--gif", gif, "--force").exit_code == 0
    refused(run("watch", lake_run, "--gif", tmp_path / "lake.mp4"), 2, ".gif")


def test_a_table_has_names_and_no_frames(type_in):
    save_table(chain(), Path("own.npz"))
    words = ["--loop", "gymnasium", "--q-table", *QUICK, "--updates", 20]
    assert run("train", "own.npz", *words, "--out", "a", "--quiet").exit_code == 0
    lines = run("watch", "a").stdout.splitlines()
    assert "State 0" in lines
    assert "state 0" not in lines
    refused(run("watch", "a", "--gif", "a.gif"), 2, "own.npz renders no images", "--gif")
    assert not Path("a.gif").exists()


def test_a_missing_package_for_frames_is_named(lake_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)  # as if it were not installed
    gif = tmp_path / "lake.gif"
    refused(run("watch", lake_run, "--gif", gif), 2, "FrozenLake-v1", "pip install 'deeptaxi[render]'")
    assert not gif.exists()


def test_a_policy_that_loops_is_cut_at_the_time_limit_and_reported(type_in):
    words = ["train", *LAKE, "--q-table", *QUICK, "--updates", 1, "--learning-rate", "1e-9", "--out", "a", "--quiet"]
    assert run(*words, "--initial-value", 1, "--loop", "gymnasium").exit_code == 0
    network = keras.saving.load_model("a/model.keras")
    network.set_weights([weight * 0 + [1.0, 0, 0, 0] for weight in network.get_weights()])  # left, against the wall
    network.save("left.keras")
    text = run("watch", "left.keras", "--env", "FrozenLake-v1", "--env-arg", "is_slippery=false", "--plain").stdout
    assert text.rstrip().endswith(
        "Episode 1 was cut by the time limit after 100 steps, return 0. The policy loops: "
        "state 0 was met at step 0 already, and every step since was deterministic."
    )


@pytest.mark.parametrize("width", [20, 40, 100])
def test_every_width_of_terminal_is_drawn_on(lake_run, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "12")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    result = run("watch", lake_run, "--speed", 1000)
    assert result.exit_code == 0
    assert "\x1b" in result.stdout
    assert "█" in result.stdout or width < 40


def test_keys_need_a_terminal(lake_run):
    refused(run("watch", lake_run, "--step"), 2, "--step waits for a key")
