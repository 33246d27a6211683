"""``deeptaxi logs``."""

from __future__ import annotations

import json
import shutil

import pytest

from deeptaxi.metrics import Warned, to_line
from deeptaxi.storage.logs import find_log
from tests.cli.conftest import refused, run


@pytest.fixture
def log(lake_run, tmp_path):
    """A copy of a log, to be spoiled."""
    return shutil.copytree(find_log(lake_run), tmp_path / "log")


def screen(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # as on a terminal


def test_the_curves_the_warnings_and_the_end_are_shown(lake_run, log):
    with (log / "metrics.jsonl").open("a") as file:
        file.write(to_line(Warned(200, "one-action-collapse", "raise --epsilon-end")) + "\n")
    text = run("logs", log).stdout
    lines = text.splitlines()
    assert lines[0] == "FrozenLake-v1, q-table, compiled loop, seed 0"
    for name in ("value", "return while exploring", "TD error", "ε", "learning rate", "states tried", "pairs tried"):
        assert sum(line.startswith(f"{name}  ") for line in lines) == 1, name
    assert any(line.startswith("value  0.951 of 0.951 (optimum, dotted)") for line in lines)
    assert "Warning at update 200: raise --epsilon-end" in text
    assert "three evaluations in a row found it optimal" in text
    assert all(len(line) <= 100 for line in lines)


def test_a_run_and_its_log_show_the_same(lake_run):
    assert run("logs", lake_run).stdout == run("logs", find_log(lake_run)).stdout


@pytest.mark.parametrize("width", [40, 61])
def test_the_width_of_the_terminal_is_respected(lake_run, monkeypatch, width):
    screen(monkeypatch, width)
    monkeypatch.setenv("NO_COLOR", "1")
    lines = run("logs", lake_run).stdout.splitlines()
    assert any("⠀" in line for line in lines)
    assert (
        max(len(line.replace("\x1b[1m", "").replace("\x1b[2m", "").replace("\x1b[0m", "")) for line in lines) == width
    )


def test_a_terminal_too_narrow_for_charts_gets_text(lake_run, monkeypatch):
    screen(monkeypatch, 30)
    text = run("logs", lake_run).stdout
    assert "⠀" not in text
    assert "pairs tried: from " in text


def test_a_small_learning_rate_is_not_shown_as_zero(lake_run, log):
    lines = (log / "metrics.jsonl").read_text().splitlines()
    last = max(number for number, line in enumerate(lines) if json.loads(line)["kind"] == "progress")
    lines[last] = json.dumps(json.loads(lines[last]) | {"learning_rate": 2e-6})
    (log / "metrics.jsonl").write_text("\n".join(lines))
    assert "learning rate  2.00e-6" in run("logs", log).stdout


def test_the_json_has_the_series(lake_run):
    found = json.loads(run("logs", lake_run, "--json").stdout)
    assert found["started"]["environment"] == "FrozenLake-v1"
    assert found["finished"]["stopped"] == "optimal"
    updates = found["progress"]["update"]
    assert updates == sorted(updates)
    assert len(updates) == len(found["progress"]["td_error"])
    assert updates[-1] == found["finished"]["updates"]
    assert found["evaluations"]["update"] == found["snapshots"]["update"]
    assert found["evaluations"]["value_gap"][-1] == 0
    # From S of the lake, 11 of 16 states are neither a hole nor the goal, and all can be reached.
    assert found["snapshots"]["states_reachable"][-1] == 11
    assert found["snapshots"]["pairs_reachable"][-1] == 44
    assert (found["warnings"], found["skipped_lines"]) == ({}, [])


def test_corrupt_lines_are_skipped_and_counted(lake_run, log):
    lines = (log / "metrics.jsonl").read_text().splitlines()
    lines[3] = lines[3][:20]
    (log / "metrics.jsonl").write_text("\n".join([*lines, "[1]"]))
    result = run("logs", log, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["skipped_lines"] == [4, len(lines) + 1]
    assert f"line 4, {len(lines) + 1}, which are no record" in result.stderr
    assert run("logs", log).exit_code == 0


def test_an_unfinished_training_says_how_far_it_came(log):
    lines = (log / "metrics.jsonl").read_text().splitlines()
    (log / "metrics.jsonl").write_text("\n".join(lines[:20]))
    assert "Incomplete: the log stops after update" in run("logs", log).stdout


def test_the_log_of_a_training_that_failed_is_named_by_its_file(log):
    failed = (log / "metrics.jsonl").rename(log / "metrics.failed.jsonl")
    assert "FrozenLake-v1, q-table" in run("logs", failed).stdout
    lines = failed.read_text().splitlines()
    failed.write_text("\n".join(lines[:20]))
    assert "Failed after update" in run("logs", failed).stdout
    assert "Failed after update" in run("logs", log).stdout


def test_a_run_without_a_log_is_refused_in_one_line(lake_run, tmp_path):
    moved = shutil.copytree(lake_run, tmp_path / "elsewhere" / "run")
    config = moved / "config.toml"
    text = config.read_text()
    assert 'log = "../logs/run/metrics.jsonl"' in text
    config.write_text(text.replace("../logs/run", "../gone"))
    refused(run("logs", moved), 2, "has no log")
    refused(run("logs", tmp_path), 2, "neither a run folder nor a log folder")
    refused(run("logs", tmp_path / "nowhere"), 2, "nowhere")
