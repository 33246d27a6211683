"""``deeptaxi sweep`` and ``deeptaxi train --seeds``, as they are typed."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import Result

import deeptaxi
from deeptaxi.cli import signals
from deeptaxi.errors import UsageError
from tests.cli.conftest import LAKE, QUICK, refused

TypeIn = Callable[..., Result]
SWEEP = ["--env", *LAKE, *QUICK, "--q-table", "--grid", "learning_rate=0.05,0.02", "--workers", 0, "--out", "s"]


def test_a_sweep_ends_with_one_json_document(type_in: TypeIn) -> None:
    result = type_in("sweep", *SWEEP, "--seeds", "3", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert [run["job"] for run in document["runs"]] == ["learning_rate=0.05/seed-3", "learning_rate=0.02/seed-3"]
    assert all((Path("s") / run["job"] / "model.keras").exists() for run in document["runs"])
    assert Path("logs/s/learning_rate=0.02/seed-3/metrics.jsonl").exists()
    alone = json.loads(
        type_in("train", *LAKE, *QUICK, "--q-table", "--learning-rate", 0.02, "--seed", 3, "--json").stdout
    )
    assert document["runs"][1]["weights_digest"] == alone["weights_digest"]
    again = type_in("sweep", "--resume", "s", "--workers", 0)
    assert "2 of 2 proven optimal" in again.stdout
    evaluated = type_in("evaluate", "s/learning_rate=0.05/seed-3", "--episodes", 0, "--json")
    assert json.loads(evaluated.stdout)["exact"]["optimal"]


def test_seeds_train_an_agent_each(type_in: TypeIn) -> None:
    result = type_in("train", *LAKE, *QUICK, "--q-table", "--seeds", "0-1", "--json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["sweep"], document["optimal"]) == (0, "models/frozenlake-v1-q-table-seeds", 2)
    assert [run["seed"] for run in document["runs"]] == [0, 1]
    for words in (["--discount", 0], ["--no-early-stop"], ["--env-arg", "is_slippery=true"]):
        refused(type_in("train", "--resume", document["sweep"], *words), 2, f"leave out {words[0].replace('no-', '')}")
    table = type_in("train", "--resume", document["sweep"])
    assert document["runs"][1]["weights_digest"][:12] in table.stdout
    assert "2 of 2 proven optimal" in table.stdout


def test_agents_in_one_file_are_opened_like_folders(type_in: TypeIn) -> None:
    trained = ["train", *LAKE, *QUICK, "--q-table", "--seeds", "0-1", "--compact", "--out", "all", "--json"]
    document = json.loads(type_in(*trained).stdout)
    assert [run["run"] for run in document["runs"]] == ["all/seed-0", "all/seed-1"]
    assert sorted(path.name for path in Path().rglob("*") if path.is_file() and path.name != ".lock") == [
        "agents.sqlite", "results.jsonl", "sweep.toml",
    ]  # fmt: skip
    evaluated = json.loads(type_in("evaluate", "all/seed-1", "--json").stdout)
    assert evaluated["exact"] == document["runs"][1]["exact"]
    for command in (["logs"], ["diagnose"], ["watch", "--plain"], ["explain", "update", "--state", "0"]):
        result = type_in(*command, "all/seed-1")
        assert result.exit_code == 0, result.output
    assert type_in("export", "all/seed-1", "--format", "npz", "--out", "q.npz").exit_code == 0
    assert type_in("report", "all", "--out", "all.html").exit_code == 0
    assert "2 of 2 seeds are optimal" in type_in("compare", "all").stdout
    assert "2 of 2 proven optimal" in type_in("train", "--resume", "all").stdout


def test_what_one_file_cannot_hold_is_refused(type_in: TypeIn) -> None:
    refused(type_in("train", *LAKE, "--compact"), 2, "give --seeds too")
    refused(type_in("train", *LAKE, "--seeds", "0-1", "--compact", "--logs", "there"), 2, "leave out --logs")
    grown = type_in("train", *LAKE, *QUICK, "--q-table", "--seeds", "0", "--out", "folders")
    assert grown.exit_code == 0
    refused(type_in("train", "--resume", "folders", "--compact"), 2, "leave out --compact")
    with pytest.raises(UsageError, match="--compact saves the agents in a file: give its folder with --out"):
        deeptaxi.train("FrozenLake-v1", seeds="0-1", compact=True)


def test_a_job_that_fails_ends_with_exit_code_1_and_its_reason(type_in: TypeIn) -> None:
    result = type_in("sweep", *SWEEP, "--grid", "reward_scale=1", "--optimizer", "sgd", "--clip-norm", 1e-30)
    assert result.exit_code == 0  # nothing learned is no failure
    result = type_in("sweep", "--env", *LAKE, *QUICK, "--q-table", "--learning-rate", 1e30, "--workers", 0)
    assert result.exit_code == 1
    assert "seed-0 failed: " in result.stderr
    assert "1 failed" in result.stdout


def test_what_cannot_be_swept_is_refused_in_one_line(type_in: TypeIn) -> None:
    refused(type_in("sweep"), 2, "nothing to train", "--env Taxi-v4")
    refused(type_in("sweep", "--env", "Taxi-v4", "--seeds", "5-1"), 2, "write 1-5")
    refused(type_in("sweep", "--env", "Taxi-v4", "--grid", "lerning_rate=1"), 2, "did you mean 'learning_rate'?")
    twice = type_in("sweep", "--env", "Taxi-v4", "--grid", "discount=0.9", "--grid", "discount=0.8")
    refused(twice, 2, "names a setting twice")
    refused(type_in("sweep", "--resume", ".", "--seeds", "0"), 2, "leave out --seeds")
    refused(type_in("sweep", "--resume", "."), 2, "is no folder of a sweep")
    refused(type_in("train", *LAKE, "--seeds", "0-1", "--seed", 1), 2, "leave out --seed")
    refused(type_in("train", *LAKE, "--seeds", "0-1", "--stop-after", 1), 2, "leave out --stop-after")
    refused(type_in("train", "FrozenLake-v9", "--seeds", "0-1"), 2, "unknown environment")
    assert not list(Path().iterdir())


NET = """
import keras


def build(states, actions, width=4):
    layers = [keras.Input((), dtype="int32"), keras.layers.Embedding(states, width), keras.layers.Dense(actions)]
    return keras.Sequential(layers)
"""


def test_a_network_that_is_typed_is_trusted_in_all_jobs(type_in: TypeIn) -> None:
    Path("my_net.py").write_text(NET)
    command = ["sweep", "--env", *LAKE, *QUICK, "--workers", 0, "--json"]
    result = type_in(*command, "--network", "my_net.py:build", "--network-arg", "width=6")
    assert result.exit_code == 0, result.output
    result = type_in(*command, "--grid", "network.builder=my_net.py:build")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "typed",
    [
        ("--grid", "learning_rate=0.1,0.2", "--learning-rate", 0.3),
        ("--grid", "hidden=8,16", "--q-table"),
        ("--grid", "environment.kwargs.is_slippery=true,false"),
    ],
)
def test_a_setting_that_is_varied_has_no_other_value(type_in: TypeIn, typed: tuple[object, ...]) -> None:
    refused(type_in("sweep", "--env", *LAKE, *typed), 2, f"--grid {str(typed[1]).partition('=')[0]}: it has one value")
    assert not Path("models").exists()


@pytest.mark.parametrize("text", ["settings = 3", "grid = [1]"])
def test_a_file_with_values_where_tables_should_be_is_refused(type_in: TypeIn, text: str) -> None:
    Path("mine.toml").write_text(text + "\n")
    refused(type_in("sweep", "mine.toml", "--env", *LAKE, "--grid", "updates=1"), 2, "expected a table")


def test_a_file_that_varies_what_it_fixes_is_refused(type_in: TypeIn) -> None:
    Path("mine.toml").write_text("[grid]\nlearning_rate = [0.1]\n[settings.optimizer]\nlearning_rate = 0.2\n")
    refused(type_in("sweep", "mine.toml", "--env", *LAKE), 2, "--grid learning_rate: it has one value as well, 0.2")
    Path("mine.toml").write_text("[grid]\nlearning_rate = [0.1]\n")
    refused(type_in("sweep", "mine.toml", "--env", *LAKE, "--learning-rate", 0.2), 2, "it has one value as well")


@pytest.mark.parametrize("command", ["sweep", "train"])
def test_the_command_that_goes_on_works_when_it_is_typed(
    type_in: TypeIn, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    Path("my_net.py").write_text(NET)
    typed = [*QUICK, "--network", "my_net.py:build", "--out", "two words/s", "--logs", "my logs", "--seeds", "0-1"]
    typed += ["--env", *LAKE, "--workers", 0] if command == "sweep" else LAKE

    @contextmanager
    def interrupted() -> Iterator[Callable[[], int]]:
        yield lambda: signal.SIGINT

    with monkeypatch.context() as patched:
        patched.setattr(signals, "stopping_gently", interrupted)
        result = type_in(command, *typed)
    assert result.exit_code == 130, result.output
    assert "2 left" in result.stdout
    line = next(line for line in result.stderr.splitlines() if line.startswith("Resume with: deeptaxi "))
    words = shlex.split(line.removeprefix("Resume with: deeptaxi "))
    assert words == [command, "--resume", "two words/s", "--trust-env", "--logs", "my logs"]
    result = type_in(*words)
    assert result.exit_code == 0, result.output
    assert Path("my logs/s/seed-1/metrics.jsonl").exists()
