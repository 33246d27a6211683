"""Faults are put into real trainings, and `diagnose` has to name them; a good training gets nothing severe."""

from __future__ import annotations

import json
import os
import shutil
import signal

import keras
import pytest

from deeptaxi.api import try_cures
from deeptaxi.mdp.table import save_table
from tests.cli.conftest import LAKE, QUICK, refused, run
from tests.problems import build, surely

CLIFF = ["CliffWalking-v1", "--time-limit", "100"]


def diagnosed(*words, severe=True):
    """Diagnose; return the findings by name."""
    result = run("diagnose", *words, "--json")
    assert result.exit_code == (3 if severe else 0), result.output
    document = json.loads(result.stdout)
    assert document["severe"] == severe
    return {finding["name"]: finding for finding in document["findings"]}


def trained(folder, *words):
    """Train; return the run folder and the command's result."""
    result = run("train", *words, "--out", folder / "run", "--logs", folder / "logs", "--json")
    return folder / "run", result


def corridor(length=12):
    """A walk of `length` steps to the reward; action 0 stays where it is, for next to nothing."""
    last = length - 1
    return build([[surely(s, 0.001), surely(min(s + 1, last), float(s == last), s == last)] for s in range(length)],
                 time_limit=60)  # fmt: skip


@pytest.fixture
def corridor_file(tmp_path):
    save_table(corridor(), tmp_path / "corridor.npz")
    return tmp_path / "corridor.npz"


def test_a_good_training_has_no_severe_finding(lake_run):
    result = run("diagnose", lake_run, "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert list(document) == ["model", "environment", "severe", "findings", "not_checked"]
    place = {"id": "FrozenLake-v1", "kwargs": {"is_slippery": False}, "states": 16, "actions": 4}
    assert document["environment"] == place
    assert not document["severe"]


def test_the_printed_diagnosis_is_complete(lake_run):
    result = run("diagnose", lake_run)
    assert result.exit_code == 0
    assert "its policy is optimal" in result.stdout
    assert all(line == line.rstrip() for line in result.stdout.splitlines())


FAULTS = {
    "target-too-stale": ["--polyak", "1", "--target-period", "150"],
    "untrained": ["--updates", "3"],
    "discount-too-small": ["--discount", "0.001"],
    "policy-loops": ["--learning-rate", "1e-7"],
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(name, corridor_file, tmp_path):
    # Each has settings of its own, for which the compiled loop would compile a program of its own.
    words = [*QUICK, "--loop", "gymnasium", "--q-table", "--updates", "600", *FAULTS[name]]
    folder, result = trained(tmp_path, corridor_file, *words)
    assert result.exit_code == 0, result.output
    finding = diagnosed(folder)[name]
    assert finding["severity"] == "severe"
    assert finding["source"] == "exact"
    assert finding["cure"].startswith("--")


def test_too_little_exploration_is_named_with_what_was_missed(tmp_path):
    little = ["--epsilon-start", "0.01", "--epsilon-end", "0.01", "--exploring-starts", "0", "--updates", "2000"]
    folder, result = trained(tmp_path, *CLIFF, *little)
    found = diagnosed(folder)
    for name in ("epsilon-fell-too-early", "states-never-visited", "pairs-never-tried"):
        assert found[name]["severity"] == "severe"
        assert "--epsilon-end 0.5" in found[name]["cure"]
    assert "Warning: epsilon-fell-too-early: " in result.stderr


@pytest.fixture(scope="module")
def collapsed(tmp_path_factory):
    """A network whose learning rate killed all its hidden units, and what its training printed."""
    return trained(tmp_path_factory.mktemp("collapsed"), *LAKE, "--learning-rate", "1", "--updates", "1500",
                   "--eval-every", "100", "--environments", "8", "--batch-size", "32")  # fmt: skip


def test_one_action_collapse_is_named_with_its_cause(collapsed):
    found = diagnosed(collapsed[0])
    assert found["one-action-collapse"]["evidence"]["share"] > 0.9
    assert found["one-action-collapse"]["cause"].startswith("dead-relu-units: ")
    assert found["one-action-collapse"]["cure"] == found["dead-relu-units"]["cure"]
    assert "learning-rate-too-high" in found


def test_train_warns_once_and_the_log_keeps_it(collapsed):
    folder, result = collapsed
    warnings = [line for line in result.stderr.splitlines() if line.startswith("Warning: ")]
    logged = [json.loads(line) for line in (folder.parent / "logs" / "run" / "metrics.jsonl").read_text().splitlines()]
    warned = [record for record in logged if record["kind"] == "warning"]
    assert [f"Warning: {record['text']}" for record in warned] == warnings
    assert [record["finding"] for record in warned].count("one-action-collapse") == 1
    assert json.loads(result.stdout)["run"] == str(folder)


def test_a_good_training_prints_no_warning(lake_run):
    assert '"warning"' not in (lake_run.parent / "logs" / "run" / "metrics.jsonl").read_text()


def test_a_replay_buffer_that_forgets_is_named(tmp_path):
    words = [*QUICK, "--loop", "gymnasium", "--q-table", "--replay-capacity", "16"]
    folder, _ = trained(tmp_path, *LAKE, *words)
    finding = diagnosed(folder, severe=json.loads(run("diagnose", folder, "--json").stdout)["severe"])
    assert finding["replay-forgot-pairs"]["evidence"]["held"] == 16


def test_an_interrupted_training_is_recognized_by_its_log(tmp_path):
    folder, result = trained(tmp_path, *CLIFF, "--q-table", "--optimizer", "sgd", "--tabular-step", "4", "--updates",
                             "2000")  # fmt: skip
    assert result.exit_code == 1
    assert not (folder / "model.keras").exists()
    found = diagnosed(tmp_path / "logs" / "run")
    assert found["diverged"]["source"] == "log"
    refused(run("diagnose", tmp_path / "logs" / "run", "--env", "Taxi-v4"), 2, "leave out --env")
    assert found["diverged"]["cure"] == "--tabular-step 0.1"


def test_a_log_that_ends_before_its_first_snapshot_is_diagnosed(lake_run, tmp_path):
    for name in ("run", "logs"):
        shutil.copytree(lake_run.parent / name, tmp_path / name)
    settings = tmp_path / "run" / "config.toml"
    settings.write_text(settings.read_text().replace(str(lake_run.parent), str(tmp_path)))
    log = tmp_path / "logs" / "run" / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if '"kind": "evaluation"' in line)
    assert first > 10
    for count in (1, first, first + 1, first + 2):
        log.write_text("".join(lines[:count]))
        done = run("diagnose", tmp_path / "run", "--json")
        assert "interrupted" in [finding["name"] for finding in json.loads(done.stdout)["findings"]], done.output


def test_a_corrupt_line_of_the_log_is_skipped_and_reported(lake_run, tmp_path):
    shutil.copytree(lake_run.parent, tmp_path / "copy")
    log = tmp_path / "copy" / "logs" / "run" / "metrics.jsonl"
    log.write_text(log.read_text() + "{broken\n")
    result = run("diagnose", log.parent, "--json")
    assert result.exit_code == 0
    assert "Skipped in" in result.stderr
    assert json.loads(result.stdout)["environment"]["id"] == "FrozenLake-v1"


def test_a_run_whose_log_is_lost_is_diagnosed_without_it(lake_run, tmp_path):
    shutil.copytree(lake_run, tmp_path / "run")
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace(str(lake_run.parent), str(tmp_path)))
    reasons = {}
    for lost in ("no such file", "empty"):
        if lost == "empty":
            (tmp_path / "logs" / "run").mkdir(parents=True)
            (tmp_path / "logs" / "run" / "metrics.jsonl").write_text("")
        result = run("diagnose", tmp_path / "run", "--json")
        assert result.exit_code == 0, result.output
        reasons[lost] = {item["name"]: item["why"] for item in json.loads(result.stdout)["not_checked"]}["interrupted"]
    assert "has no log" in reasons["no such file"]
    assert "contains no deeptaxi records" in reasons["empty"]


def test_a_model_in_the_wrong_environment_is_named(lake_run, corridor_file):
    found = diagnosed(lake_run, "--env", "FrozenLake-v1", "--env-arg", "is_slippery=true")
    assert "trained on FrozenLake-v1 is_slippery=false" in found["wrong-environment"]["summary"]
    found = diagnosed(lake_run, "--env", corridor_file)
    assert "16 states and 4 actions" in found["wrong-environment"]["summary"]


def test_the_environment_of_a_bare_file_is_recognized_by_its_values(tmp_path):
    folder, _ = trained(tmp_path, *LAKE, "--q-table", "--no-early-stop", "--updates", "3000")
    found = diagnosed(folder / "model.keras", "--env", "FrozenLake-v1", "--discount", "0.97")
    assert "is_slippery=false" in found["wrong-environment"]["evidence"]["sibling"]


def foreign(folder, *layers, dtype="float32"):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,), dtype=dtype), *layers, keras.layers.Dense(2)])
    model.save(folder / "foreign.keras")
    return folder / "foreign.keras"


def test_a_keras_model_that_takes_the_state_as_a_number_is_named(tmp_path, corridor_file):
    path = foreign(tmp_path, keras.layers.Dense(8, "relu"))
    result = run("diagnose", path, "--env", corridor_file, "--json")
    document = json.loads(result.stdout)
    assert "state-as-number" in [finding["name"] for finding in document["findings"]]
    reasons = {item["name"]: item["why"] for item in document["not_checked"]}
    assert "bare model file" in reasons["interrupted"]


def test_a_model_of_another_kind_is_refused(tmp_path, corridor_file):
    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(2)])
    model.save(tmp_path / "other.keras")
    refused(run("diagnose", tmp_path / "other.keras", "--env", corridor_file), 2, "input of shape [None, 7]")


def test_bootstrapped_terminal_states_are_recognized_by_the_values(tmp_path):
    """Values learned on a table without ends, looked at on the one with ends."""
    ends = build([[surely(1, 1), surely(0, 0)], [surely(0, 5, True), surely(0, 1)]])
    goes_on = build([[surely(1, 1), surely(0, 0)], [surely(0, 5), surely(0, 1)]])
    save_table(ends, tmp_path / "ends.npz")
    save_table(goes_on, tmp_path / "goes_on.npz")
    folder, _ = trained(tmp_path, tmp_path / "goes_on.npz", "--q-table", "--discount", "0.8", "--initial-value", "0")
    words = (folder / "model.keras", "--env", tmp_path / "ends.npz", "--discount", "0.8", "--json")
    names = [finding["name"] for finding in json.loads(run("diagnose", *words).stdout)["findings"]]
    assert "terminal-states-bootstrapped" in names


def test_without_a_table_episodes_are_sampled(tmp_path):
    folder, _ = trained(tmp_path, "Blackjack-v1", "--q-table", "--updates", "60", "--eval-every", "20")
    found = run("diagnose", folder, "--json", "--episodes", "30")
    assert found.exit_code == 0, found.output
    reasons = {item["name"]: item["why"] for item in json.loads(found.stdout)["not_checked"]}
    assert "no transition table" in reasons["discount-too-small"]
    none = json.loads(run("diagnose", folder, "--json", "--episodes", "0").stdout)
    assert "truncation-as-terminal" in {item["name"]: item for item in none["not_checked"]}


def test_bad_input_is_refused_in_one_line(tmp_path):
    refused(run("diagnose", tmp_path / "nothing"), 2, "no model at")
    (tmp_path / "metrics.jsonl").write_text("")
    refused(run("diagnose", tmp_path), 1, "contains no deeptaxi records")
    refused(run("diagnose", tmp_path / "x.jsonl"), 2, "cannot read the log")


def test_masked_actions_are_not_reported_as_untried(tmp_path):
    little = ["--epsilon-end", "0.05", "--epsilon-fraction", "0.3", "--exploring-starts", "0", "--updates", "2000"]
    folder, result = trained(tmp_path, "Taxi-v4", "--q-table", "--action-mask", "--no-early-stop", *little)
    assert result.exit_code == 0, result.output
    assert "Warning: epsilon" not in result.stderr
    findings = json.loads(run("diagnose", folder, "--json").stdout)["findings"]
    assert "pairs-never-tried" not in [finding["name"] for finding in findings if finding["severity"] == "severe"]


def test_cures_are_tried_where_asked_for(corridor_file, tmp_path):
    words = [*QUICK, "--loop", "gymnasium", "--q-table", "--updates", "300", "--learning-rate", "1e-6"]
    folder, _ = trained(tmp_path, corridor_file, *words)
    done = run("diagnose", folder, "--cure", "--budget", "999", "--json")  # enough on a machine that is busy
    assert done.exit_code == 3
    assert "at most 999 seconds" in done.stderr
    cures = json.loads(done.stdout)["cures"]
    assert (cures["budget"], cures["interrupted"]) == (999, False)
    assert cures["tried"][0]["command"].startswith(f"deeptaxi train --config {folder / 'config.toml'} --")
    assert not (tmp_path / "models").exists()
    refused(run("diagnose", folder, "--budget", "5"), 2, "add --cure")


def test_ctrl_c_amid_cures_says_what_was_learned_so_far(corridor_file, tmp_path, monkeypatch):
    words = [*QUICK, "--loop", "gymnasium", "--q-table", "--updates", "300", "--learning-rate", "1e-6"]
    folder, _ = trained(tmp_path, corridor_file, *words)
    train = try_cures.train

    def interrupted(*args, **settings):
        os.kill(os.getpid(), signal.SIGINT)
        return train(*args, **settings)

    monkeypatch.setattr(try_cures, "train", interrupted)
    done = run("diagnose", folder, "--cure", "--budget", "999", "--json")
    assert done.exit_code == 130
    assert "what was learned so far" in done.stderr
    document = json.loads(done.stdout)
    assert document["severe"]
    assert document["cures"]["interrupted"]
    assert document["cures"]["tried"][0]["updates"] < document["cures"]["tried"][0]["planned"]
    assert folder.joinpath("model.keras").exists()


def test_cures_of_a_bare_file_say_what_cannot_be_tried(corridor_file, tmp_path):
    path = foreign(tmp_path, keras.layers.Dense(8, "relu"))
    done = run("diagnose", path, "--env", corridor_file, "--cure")
    assert "belongs to no training" in " ".join(done.stdout.split())
