from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import pytest
from click.testing import Result

from deeptaxi.api import sampling as sampling
from deeptaxi.config import read_toml, resolve
from deeptaxi.mdp import table
from deeptaxi.mdp.table import save_table
from deeptaxi.metrics import Finished, Started, read_history
from deeptaxi.network.build import weights_digest
from deeptaxi.network.tabulate import tabulate
from tests.cli.conftest import LAKE, QUICK, refused, run
from tests.problems import chain

TypeIn = Callable[..., Result]
KEYS = [
    "run", "model", "environment", "loop", "network", "encoding", "seed", "updates", "environment_steps",
    "train_seconds", "stopped", "weights_digest", "exact", "exact_unavailable",
]  # fmt: skip


def test_a_training_ends_with_one_json_document_and_leaves_a_run(type_in: TypeIn) -> None:
    summary = json.loads(type_in("train", *LAKE, "--q-table", *QUICK, "--out", "models/a", "--json").stdout)
    assert set(KEYS) <= set(summary)
    assert summary["exact"]["gap"] == 0
    assert summary["stopped"] == "optimal"
    files = sorted(path.name for path in Path("models/a").iterdir())
    assert files == ["card.json", "card.md", "checkpoints", "config.toml", "model.keras"]
    assert weights_digest(keras.saving.load_model(summary["model"])) == summary["weights_digest"]
    records = read_history(Path("logs/a/metrics.jsonl")).records
    assert isinstance(records[0], Started)
    assert isinstance(records[-1], Finished)
    assert records[-1].weights_digest == summary["weights_digest"]


def test_the_resolved_configuration_reproduces_the_run(type_in: TypeIn) -> None:
    first = json.loads(type_in("train", *LAKE, "--hidden", "8", *QUICK, "--seed", 3, "--out", "a", "--json").stdout)
    again = json.loads(type_in("train", "--config", "a/config.toml", "--out", "b", "--json").stdout)
    assert again["weights_digest"] == first["weights_digest"]
    assert resolve(read_toml(Path("a/config.toml"))) == resolve(read_toml(Path("b/config.toml")))


def test_a_free_name_is_chosen_without_out(type_in: TypeIn) -> None:
    for _ in range(2):
        result = type_in("train", *LAKE, "--q-table", *QUICK)
        assert result.exit_code == 0
        assert "1 of 1 start states are played optimally" in result.stdout
    assert sorted(path.name for path in Path("models").iterdir()) == [
        "frozenlake-v1-q-table-0",
        "frozenlake-v1-q-table-0-2",
    ]


def test_options_override_the_file_and_the_file_the_preset(type_in: TypeIn) -> None:
    Path("c.toml").write_text('updates = 7\n[optimizer]\nname = "sgd"\n[replay]\nstart = 10\n')
    words = ["--updates", 5, "--environments", 2, "--loop", "gymnasium"]
    done = type_in("train", "Taxi-v4", "--config", "c.toml", *words, "--out", "a")
    assert done.exit_code == 0
    config = resolve(read_toml(Path("a/config.toml")))
    assert (config.updates, config.optimizer.name, config.replay.start, config.discount) == (5, "sgd", 10, 0.95)


def test_an_existing_run_or_log_is_kept_without_force(type_in: TypeIn) -> None:
    words = ["train", *LAKE, "--hidden", "8", *QUICK, "--stop-after", "2", "--out"]
    assert type_in(*words, "m/a").exit_code == 0
    before = Path("m/a/model.keras").read_bytes()
    refused(type_in(*words, "m/a"), 2, "m/a/model.keras exists", "--force")
    refused(type_in(*words, "n/a"), 2, "logs/a/metrics.jsonl exists", "--force")
    assert Path("m/a/model.keras").read_bytes() == before
    assert not Path("n").exists()
    assert type_in(*words, "m/a", "--seed", 1, "--force").exit_code == 0
    assert Path("m/a/model.keras").read_bytes() != before


def test_a_transition_table_brings_its_own_discount_and_mask(type_in: TypeIn) -> None:
    # One state, two actions that go on forever: 1 a step, or a forbidden 5.
    two = [[[1.0], [1.0]]]
    problem = table.from_arrays(
        two, [[[0], [0]]], [[[1.0], [5.0]]], [[[0], [0]]], [1.0],
        discount=0.5, time_limit=4, action_mask=table.array([[1, 0]], bool, "action_mask", 2),
    )  # fmt: skip
    save_table(problem, Path("two.npz"))
    words = ["--loop", "gymnasium", "--q-table", *QUICK, "--updates", 200]
    done = type_in("train", "two.npz", *words, "--out", "a", "--json")
    exact = json.loads(done.stdout)["exact"]
    assert (exact["discount"], exact["horizon"], exact["return"]) == (0.5, 4, 4.0)
    assert exact["optimal_value"] == pytest.approx(2.0)
    assert exact["q_error"]["discount"] == 0.5
    assert tabulate(keras.saving.load_model("a/model.keras"))[0, 1] == float("-inf")
    refused(type_in("train", "two.npz", "--no-action-mask", "--out", "b"), 2, "--no-action-mask")
    again = json.loads(type_in("evaluate", "a/model.keras", "--env", "two.npz", "--episodes", 0, "--json").stdout)
    assert again["exact"]["discount"] == 0.5


def test_an_own_environment_is_found_in_the_current_folder(type_in: TypeIn, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("my_lake.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv\n"
        "gymnasium.register('MyLake-v0', entry_point=FrozenLakeEnv, max_episode_steps=50)\n"
    )
    words = ["train", "my_lake:MyLake-v0", "--loop", "gymnasium", "--q-table", *QUICK, "--stop-after", 3, "--out", "a"]
    assert type_in(*words).exit_code == 0
    assert type_in("evaluate", "a", "--episodes", 2).exit_code == 0  # a run of one's own is trusted
    Path("my_lake.py").write_text(Path("my_lake.py").read_text() + "# changed\n")
    refused(type_in("evaluate", "a"), 2, "my_lake", "--trust-env")
    refused(type_in("train", "--config", "a/config.toml"), 2, "my_lake", "--trust-env")
    assert type_in("evaluate", "a", "--trust-env", "--episodes", 2).exit_code == 0
    assert type_in("evaluate", "a", "--env", "my_lake:MyLake-v0", "--episodes", 2).exit_code == 0
    sys.modules.pop("my_lake")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["Taxi-v3"], ["Taxi-v4"]),
        (["taxi-v4"], ["unknown environment 'taxi-v4'", "did you mean 'Taxi-v4'?"]),
        (["MountainCar-v0"], ["Box(", "2 real numbers: divide them into bins with --bins 8"]),
        (["Taxi-v4", "--q-table", "--hidden", "8"], ["--q-table", "--hidden"]),
        (["Taxi-v4", "--q-table", "--dueling"], ["--q-table", "--dueling"]),
        (["Taxi-v4", "--q-table", "--aggregation", "max"], ["--q-table", "--aggregation"]),
        (
            ["Taxi-v4", "--q-table", "--encoding", "factored"],
            ["one row of weights per state", "leave out --encoding factored"],
        ),
        (["Taxi-v4", "--encoding", "factord"], ["'factord'", "joint", "factored"]),
        (["Taxi-v4", "--out", ""], ["--out", "expected a path"]),
        (["a:b:c"], ["module:Class"]),
        (["Taxi-v4", "--hidden", "0"], ["hidden = 0", "whole numbers above 0"]),
        (["Taxi-v4", "--hidden", "many"], ["128,64", "many"]),
        (["Taxi-v4", "--seed", "-1"], ["seed = -1", "a value of 0 or more"]),
        (["Taxi-v4", "--learning-rate", "nan"], ["learning_rate", "finite"]),
        (["Taxi-v4", "--tabular-step", "0.5"], ["tabular_step", "--optimizer sgd"]),
        (["Taxi-v4", "--env-arg", "rainy"], ["KEY=VALUE"]),
        (["Taxi-v4", "--env-arg", "rainy=true"], ["rainy"]),
        (["Taxi-v4", "--config", "none.toml"], ["none.toml"]),
        (["FrozenLake-v1", "--action-mask", "--updates", "1"], ["--action-mask", "info['action_mask']"]),
        (["nowhere.npz"], ["nowhere.npz"]),
        ([], ["name an environment"]),
    ],
)
def test_an_impossible_training_is_refused_in_one_line(type_in: TypeIn, words: list[str], parts: list[str]) -> None:
    refused(type_in("train", *words), 2, *parts)
    assert not list(Path().iterdir())


def test_a_factored_encoding_of_unknown_factors_is_refused_before_anything_is_overwritten(type_in: TypeIn) -> None:
    save_table(chain(), Path("own.npz"))
    refused(type_in("train", "own.npz", "--encoding", "factored"), 2, "own.npz", "'factors'", "--encoding factored")
    assert [path.name for path in Path().iterdir()] == ["own.npz"]


def test_the_initial_value_is_that_of_full_q_values(type_in: TypeIn) -> None:
    # One update of next to nothing: the Q table is still what it started as.
    standstill = ["--loop", "gymnasium", "--q-table", *QUICK, "--updates", 1, "--learning-rate", "1e-9"]
    assert type_in("train", *LAKE, *standstill, "--initial-value", 3, "--out", "a").exit_code == 0
    q_values = tabulate(keras.saving.load_model("a/model.keras"))
    assert q_values.min() == pytest.approx(3)
    assert q_values.max() == pytest.approx(3)


def test_a_typo_in_the_file_names_the_nearest_key(type_in: TypeIn) -> None:
    Path("c.toml").write_text("[optimizer]\nlearnig_rate = 1\n")
    refused(type_in("train", "Taxi-v4", "--config", "c.toml"), 2, "c.toml", "learnig_rate", "'learning_rate'")


def test_a_key_of_another_section_is_named_in_full(type_in: TypeIn) -> None:
    Path("c.toml").write_text("hiden = [8]\n")
    refused(type_in("train", "Taxi-v4", "--config", "c.toml"), 2, "hiden", "'network.hidden'")


def test_an_id_without_version_gets_the_preset_of_the_newest(type_in: TypeIn) -> None:
    few = ["--updates", 2, "--environments", 2, "--loop", "gymnasium"]
    assert type_in("train", "Taxi", *few, "--out", "a").exit_code == 0
    config = resolve(read_toml(Path("a/config.toml")))
    assert (config.environment.id, config.discount) == ("Taxi-v4", 0.95)


def test_a_failed_training_leaves_its_name_free_and_other_logs_alone(type_in: TypeIn) -> None:
    words = ["train", "CliffWalking-v1", "--time-limit", 50, "--q-table", *QUICK, "--updates", 20, "--out", "models/a"]
    words += ["--loop", "gymnasium"]
    diverging = ["--optimizer", "sgd", "--learning-rate", "1e38"]
    assert type_in(*words, *diverging).exit_code == 1
    assert [path.name for path in Path("logs/a").iterdir()] == ["metrics.failed.jsonl"]
    assert type_in(*words).exit_code == 0
    before = Path("logs/a/metrics.jsonl").read_text()
    assert type_in(*words, *diverging, "--force").exit_code == 1
    Path("bad.toml").write_text("[optimizer.options]\nfoo = 1\n")
    refused(type_in(*words, "--config", "bad.toml", "--force"), 2, "foo")
    assert Path("logs/a/metrics.jsonl").read_text() == before
    assert type_in("evaluate", "models/a", "--episodes", 0).exit_code == 0


OWN = """
import gymnasium
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv

class Loud(FrozenLakeEnv):
    def step(self, action):
        print("stepping")
        return super().step(action)

class Failing(FrozenLakeEnv):
    steps = 0
    def step(self, action):
        Failing.steps += 1
        if Failing.steps > 22_000:
            raise RuntimeError("out of\\nfuel")
        return super().step(action)

class Worthless(FrozenLakeEnv):
    P = None
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.rows, self.P = self.P, None
    def step(self, action):
        return 0, float("nan"), False, False, {}

for cls in (Loud, Failing, Worthless):
    gymnasium.register(f"{cls.__name__}-v0", entry_point=cls, max_episode_steps=50)
"""


@pytest.fixture
def own(type_in: TypeIn) -> Iterator[TypeIn]:
    Path("own.py").write_text(OWN)
    yield type_in
    sys.modules.pop("own", None)


def test_output_of_an_environment_is_not_in_the_json(own: TypeIn) -> None:
    few = [*QUICK, "--updates", 3, "--replay-start", 8, "--loop", "gymnasium"]
    result = own("train", "own:Loud-v0", *few, "--out", "a", "--json")
    assert json.loads(result.stdout)["updates"] == 3
    assert "stepping" in result.stderr


def test_an_environment_that_fails_late_leaves_the_best_weights_so_far(own: TypeIn) -> None:
    words = ["--loop", "gymnasium", "--q-table", *QUICK, "--eval-every", 10, "--no-early-stop"]
    result = own("train", "own:Failing-v0", "--env-arg", "is_slippery=false", *words, "--out", "a")
    last = result.stderr.splitlines()[-1]
    assert result.exit_code == 1
    assert "the environment own:Failing-v0 failed: RuntimeError: out of fuel" in last
    assert "a has the best weights before that" in last
    assert Path("a/model.keras").exists()
    assert "interrupted" in Path("a/card.md").read_text()


def test_a_nan_reward_is_blamed_on_the_environment(own: TypeIn) -> None:
    refused(
        own("train", "own:Worthless-v0", *QUICK, "--out", "a"),
        1,
        "own:Worthless-v0",
        "returned the reward nan: expected a finite number",
    )


POND = """
import os, signal
import gymnasium
from gymnasium.spaces import Discrete

class Pond(gymnasium.Env):  # 3 states, 2 actions, no table; the odd action of a state ends its episode and earns 1
    observation_space, action_space = Discrete(3), Discrete(2)
    steps = 0
    def reset(self, **arguments):
        super().reset(**arguments)
        self.state = int(self.np_random.integers(3))
        return self.state, {}
    def step(self, action):
        Pond.steps += 1
        if Pond.steps > self.last():
            self.fail()
        return self.state, float(action == self.state % 2), bool(action == self.state % 2), False, {}
    def last(self):
        return 10**9

class Dry(Pond):
    def last(self):
        return 1 + 8 + 10 * 8  # one on opening, prefill and updates
    def fail(self):
        raise RuntimeError("out of water")

class Stopped(Dry):
    def fail(self):
        os.kill(os.getpid(), signal.SIGTERM)

class Long(Pond):
    def step(self, action):
        return self.state, 0.0, False, False, {}

for cls in (Pond, Dry, Stopped, Long):
    gymnasium.register(f"{cls.__name__}-v0", entry_point=cls)
"""
FEW = ["--loop", "gymnasium", "--q-table", "--environments", 8, "--batch-size", 8, "--replay-start", 8, "--updates", 10]
FEW += ["--no-discover"]  # these environments stand for those whose chance cannot be enumerated


@pytest.fixture
def pond(type_in: TypeIn) -> Iterator[TypeIn]:
    Path("pond.py").write_text(POND)
    yield type_in
    sys.modules.pop("pond", None)


def test_without_a_table_a_training_ends_with_sampled_episodes(pond: TypeIn) -> None:
    done = json.loads(pond("train", "pond:Pond-v0", *FEW, "--updates", 60, "--out", "a", "--json").stdout)
    again = json.loads(pond("evaluate", "a", "--trust-env", "--json").stdout)
    assert done["exact"] is None
    assert done["episodes"] == again["episodes"]
    assert done["episodes"]["count"] == 1000
    low, high = done["episodes"]["ci95"]
    assert low <= done["episodes"]["mean_return"] <= high
    assert json.loads(Path("a/card.json").read_text())["episodes"] == done["episodes"]
    assert "1,000 episodes returned" in Path("a/card.md").read_text()


def test_an_exact_verdict_needs_no_episodes(type_in: TypeIn) -> None:
    words = ["train", *LAKE, "--q-table", *QUICK, "--stop-after", 3, "--out", "a"]
    done = json.loads(type_in(*words, "--json").stdout)
    assert (done["episodes"], done["episodes_unavailable"], done["failure"]) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "code", "why"),
    [
        ("Dry", 0, "the environment pond:Dry-v0 failed: RuntimeError: out of water (pond.py:"),
        ("Stopped", 143, "the training was stopped"),
    ],
)
def test_a_training_is_saved_even_if_its_episodes_fail(pond: TypeIn, name: str, code: int, why: str) -> None:
    done = pond("train", f"pond:{name}-v0", *FEW, "--out", "a", "--json")
    summary = json.loads(done.stdout)
    assert done.exit_code == code, done.stderr
    assert (summary["stopped"], summary["updates"], summary["episodes"]) == ("updates", 10, None)
    assert summary["episodes_unavailable"].startswith(why)
    assert f"Warning: no-episodes: {why}" in done.stderr
    assert weights_digest(keras.saving.load_model("a/model.keras")) == summary["weights_digest"]


def test_slow_episodes_are_fewer_or_none(pond: TypeIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "STEPS", 1_500)
    summary = json.loads(pond("train", "pond:Long-v0", "--time-limit", 100, *FEW, "--out", "a", "--json").stdout)
    assert summary["episodes"]["count"] == 10
    monkeypatch.setattr(sampling, "STEPS", 500)
    done = pond("train", "pond:Long-v0", "--time-limit", 100, *FEW, "--out", "b")
    assert "none: 10 episodes take too long here: `deeptaxi evaluate` plays them" in " ".join(done.stdout.split())


def test_a_broken_table_fails_before_anything_is_written(type_in: TypeIn) -> None:
    Path("bad.npz").write_bytes(b"PK\x03\x04 not a table")
    refused(type_in("train", "bad.npz"), 1, "bad.npz")
    assert not Path("models").exists()


def test_an_unwritable_folder_is_refused_before_the_training(type_in: TypeIn) -> None:
    Path("file").write_text("mine")
    refused(type_in("train", *LAKE, "--out", "file"), 2, "file")
    refused(type_in("train", *LAKE, "--out", "file/run"), 2, "file")
    refused(type_in("train", *LAKE, "--out", "/proc/run"), 1, "/proc/run")
    assert Path("file").read_text() == "mine"


def test_a_diverged_training_is_reported_and_leaves_no_run(type_in: TypeIn) -> None:
    words = ["--q-table", *QUICK, "--optimizer", "sgd", "--learning-rate", "1e30", "--out", "models/a"]
    line = type_in("train", *LAKE, *words).stderr.splitlines()[-1]
    assert "--learning-rate" in line
    assert line.endswith("; `deeptaxi diagnose logs/a` looks at its log")
    assert not Path("models/a").exists()
    assert json.loads(run("diagnose", "logs/a", "--json").stdout)["findings"][0]["name"] == "diverged"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_saves_its_weights(tmp_path: Path, number: int, code: int) -> None:
    long = ["train", "Taxi-v4", "--q-table", "--no-early-stop", "--updates", "1000000"]
    words = [sys.executable, "-m", "deeptaxi", *long, "--out", "a", "--json"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "logs" / "a" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and "progress" in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, number)
    time.sleep(0.2)
    os.kill(process.pid, number)  # the impatient press twice, and lose nothing by it
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert json.loads(stdout)["stopped"] == "interrupted"
    assert stderr.endswith("Resume with: deeptaxi train --resume a\n")
    assert "Traceback" not in stderr
    assert (tmp_path / "a" / "model.keras").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("delay", [0.6, 2.0])
def test_an_interrupted_start_leaves_nothing(tmp_path: Path, number: int, code: int, delay: float) -> None:
    words = [sys.executable, "-m", "deeptaxi", "train", "Taxi-v4", "--out", "models/a"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(delay)
    os.kill(process.pid, number)
    stdout, stderr = process.communicate(timeout=60)
    if process.returncode == -number:  # a slow machine: Python had not come to our code yet
        assert list(tmp_path.iterdir()) == []
        return
    assert process.returncode == code
    if "weights are kept" in stderr:  # a fast machine: the training had begun
        assert (tmp_path / "models" / "a" / "model.keras").exists()
    else:
        assert stdout == ""
        assert stderr in ("", "Error: interrupted\n")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_standard_error_holds_progress_and_nothing_else(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "deeptaxi", "train", *LAKE, "--q-table", *QUICK, "--out", "a", "--json"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    preset, *progress = sorted(done.stderr.splitlines(), key=lambda line: not line.startswith("Preset: "))
    assert preset.startswith("Preset: frozenlake-sure.q-table ")
    assert all(" updates, " in line for line in progress), done.stderr
    assert json.loads(done.stdout)["exact"]["optimal"]


def test_the_log_has_tensorboard_events_unless_disabled(type_in: TypeIn) -> None:
    words = ["train", *LAKE, "--q-table", *QUICK, "--stop-after", 20, "--out"]
    assert type_in(*words, "a").exit_code == 0
    (events,) = Path("logs/a").glob("events.out.tfevents.*")
    assert type_in(*words, "b", "--no-tensorboard").exit_code == 0
    assert sorted(path.name for path in Path("logs/b").iterdir()) == ["metrics.jsonl", "visits.npz"]
    events.rename(events.with_name("events.out.tfevents.5.deeptaxi"))
    assert type_in(*words, "a", "--force").exit_code == 0
    (new,) = Path("logs/a").glob("events*")  # never those of two trainings
    assert new.name != "events.out.tfevents.5.deeptaxi"
    assert type_in(*words, "a", "--force", "--no-tensorboard").exit_code == 0
    assert not list(Path("logs/a").glob("events*"))


def test_two_runs_never_share_a_log(type_in: TypeIn) -> None:
    words = ["train", *LAKE, "--q-table", *QUICK, "--stop-after", 2, "--out"]
    assert type_in(*words, "models/y").exit_code == 0
    before = Path("logs/y/metrics.jsonl").read_bytes()
    refused(type_in(*words, "other/y", "--force"), 2, "logs/y/metrics.jsonl is the log of models/y", "--logs")
    assert Path("logs/y/metrics.jsonl").read_bytes() == before
    assert not Path("other").exists()


def test_a_quiet_training_shows_its_result_and_nothing_else(type_in: TypeIn) -> None:
    result = type_in("train", *LAKE, "--q-table", *QUICK, "--quiet", "--out", "a")
    assert result.stderr == ""
    assert "1 of 1 start states are played optimally" in result.stdout
    refused(type_in("train", *LAKE, "--quiet", "--out", "a"), 2, "a/model.keras exists")


@pytest.mark.slow
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
def test_a_reader_that_closes_the_pipe_early_is_no_failure(tmp_path: Path, form: list[str]) -> None:
    words = [sys.executable, "-m", "deeptaxi", "train", *LAKE, "--q-table", *QUICK, "--out", "a", "--quiet", *form]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert (tmp_path / "a" / "model.keras").exists()
