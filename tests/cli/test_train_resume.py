"""``deeptaxi train --resume``."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from deeptaxi.io.locks import lock
from deeptaxi.mdp.table import save_table
from deeptaxi.metrics import Progress, Started, Warned, read_history
from deeptaxi.storage import checkpoints
from deeptaxi.storage.checkpoints import files_in, read, write
from deeptaxi.storage.model_card import read_card
from tests.cli.conftest import LAKE, refused, run
from tests.problems import chain

TypeIn = Callable[..., Result]
SETTINGS = ["--q-table", "--updates", 400, "--eval-every", 100, "--environments", 8, "--batch-size", 32]
TRAIN = ["train", *LAKE, *SETTINGS, "--no-early-stop"]


def summary(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the undisturbed training."""
    folder = tmp_path_factory.mktemp("whole")
    return str(summary(run(*TRAIN, "--out", folder / "x", "--logs", folder / "logs", "--json"))["weights_digest"])


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run in models/y that was ended after update 150, and its log in logs/y."""
    folder = tmp_path_factory.mktemp("stopped")
    done = run(*TRAIN, "--stop-after", 150, "--out", folder / "models" / "y", "--logs", folder / "logs")
    assert done.exit_code == 0
    assert f"Resume with: deeptaxi train --resume {folder / 'models' / 'y'}\n" in done.stderr
    return folder


@pytest.fixture
def here(stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the current folder."""
    shutil.copytree(stopped, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def edited(path: Path, **changes: object) -> None:
    """Change what a checkpoint says of its training."""
    found = read(path)
    write(path, {**found.about, **changes}, found.state)


def test_a_stopped_training_resumes_to_the_same_weights(here: Path, digest: str) -> None:
    assert json.loads(Path("models/y/card.json").read_text())["training"]["stopped"] == "stop-after"
    done = run("train", "--resume", "models/y", "--json")
    resumed = summary(done)
    assert (resumed["weights_digest"], resumed["updates"], resumed["stopped"]) == (digest, 400, "updates")
    assert (resumed["resumed_from"], resumed["run"]) == (150, "models/y")
    assert "Resumed after update 150." in done.stderr
    history = read_history(Path("logs/y/metrics.jsonl"))
    updates = [record.update for record in history.records if isinstance(record, Progress)]
    assert updates == sorted(set(updates))
    assert len(history.of_kind(Started)) == 2
    assert len(files_in(Path("models/y"))) == 2
    assert run("evaluate", "models/y", "--episodes", 0).exit_code == 0


def test_settings_that_agree_may_be_repeated_on_resume(here: Path, digest: str) -> None:
    again = ["train", *LAKE, *SETTINGS, "--seed", 0, "--resume", "models/y", "--json"]
    assert summary(run(*again))["weights_digest"] == digest
    refused(run(*again), 2, "models/y has made all its 400 updates", "--updates")


@pytest.mark.parametrize("what", ["deeptaxi train", "something else"])
def test_a_training_killed_after_writing_its_model_leaves_no_lock(here: Path, what: str) -> None:
    # The next command has nothing to do, and is refused; what another program calls .lock stays.
    assert run("train", "--resume", "models/y").exit_code == 0
    left = here / "logs" / "y" / ".lock"
    left.write_text(json.dumps({"pid": 1, "host": "here", "what": what}))
    refused(run("train", "--resume", "models/y"), 2, "models/y has made all its 400 updates")
    assert left.exists() == (what != "deeptaxi train")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Taxi-v4"], "cannot change ENV on resume: models/y uses FrozenLake-v1, not Taxi-v4; omit it, or start a new"),
        (["--seed", 1], "--seed on resume: models/y uses 0, not 1"),
        (["--hidden", "8"], "--hidden on resume: models/y uses none, not 8"),
        (["--dueling"], "--dueling on resume: models/y uses False, not True"),
        (["--encoding", "factored", "--hidden", 8], "--hidden on resume"),
        (["--encoding", "factored"], "--encoding on resume: models/y uses joint, not factored"),
        (["--env-arg", "map_name=8x8"], "--env-arg on resume"),
        (["--loop", "gymnasium"], "--loop on resume: models/y uses compiled, not gymnasium"),
        (["--discount", 0.5], "--discount on resume"),
        (["--updates", 300], "--updates 300 is less than the 400"),
        (["--preset", "taxi"], "leave out --preset"),
        (["--config", "models/y/config.toml"], "leave out --config"),
        (["--out", "z"], "leave out --out"),
        (["--force"], "leave out --force"),
        (["--stop-after", 100], "--stop-after 100"),
    ],
)
def test_a_different_training_is_refused_with_what_differs(here: Path, words: list[str], message: str) -> None:
    before = sorted(path.name for path in Path("models/y").rglob("*"))
    refused(run("train", "--resume", "models/y", *words, "--json"), 2, message)
    assert sorted(path.name for path in Path("models/y").rglob("*")) == before


def test_a_folder_that_cannot_be_resumed_is_refused(here: Path) -> None:
    refused(run("train", "--resume", "models/none"), 2, "models/none does not exist")
    refused(run("train", "--resume", "models/y/config.toml"), 2, "config.toml is a file")
    refused(run("train", "--resume", "logs"), 2, "logs has no checkpoint")
    assert not Path("models/none").exists()
    assert not Path("logs/.lock").exists()


def test_another_backend_table_or_version_is_refused(here: Path) -> None:
    newest = files_in(Path("models/y"))[0]
    about = dict(read(newest).about)
    other = "jax" if about["backend"] == "tensorflow" else "tensorflow"
    edited(newest, backend=other)
    refused(run("train", "--resume", "models/y"), 2, f"trained on {other}", f"KERAS_BACKEND={other}")
    edited(newest, backend=about["backend"], environment={**about["environment"], "table": "0" * 64})
    refused(run("train", "--resume", "models/y"), 2, "FrozenLake-v1", "another transition table")
    edited(newest, environment={**about["environment"], "time_limit": 7})
    refused(run("train", "--resume", "models/y"), 2, "100 time limit, where it had 7")
    edited(newest, environment=about["environment"], config="seed = -1")
    refused(run("train", "--resume", "models/y"), 1, "is damaged", "seed = -1")


def test_a_newer_checkpoint_and_a_locked_folder_are_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lock(Path("models/y"), "deeptaxi train"):
        refused(run("train", "--resume", "models/y"), 2, "models/y is in use by")
    newest = files_in(Path("models/y"))[0]
    found = read(newest)
    monkeypatch.setattr(checkpoints, "VERSION", 9)
    write(newest, found.about, found.state)
    monkeypatch.undo()
    monkeypatch.chdir(here)
    refused(run("train", "--resume", "models/y"), 1, "newer deeptaxi", "upgrade")


def test_other_versions_resume_with_a_warning_that_bits_may_differ(here: Path, digest: str) -> None:
    newest = files_in(Path("models/y"))[0]
    about = read(newest).about
    edited(newest, versions={**about["versions"], "keras": "3.0.0"})
    done = run("train", "--resume", "models/y", "--json")
    assert summary(done)["weights_digest"] == digest
    assert "keras 3.0.0 → " in done.stderr
    (warned,) = read_history(Path("logs/y/metrics.jsonl")).of_kind(Warned)
    assert warned.finding == "not-exact"
    assert "could not continue bit for bit" in Path("models/y/card.md").read_text()


def test_other_compiler_flags_resume_with_a_warning_that_bits_may_differ(
    here: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree("models/y", "models/z")
    shutil.copytree("logs/y", "logs/z")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX")  # too late for this process, whose compiler has read it
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    done = run("train", "--resume", "models/y", "--json")
    assert summary(done)["weights_digest"] == digest
    said = "XLA_FLAGS none → --xla_cpu_max_isa=AVX, TF_ENABLE_ONEDNN_OPTS none → 0"
    assert f"not-exact: this is not what the training was started with ({said}), so" in done.stderr
    page = Path("models/y/card.md").read_text()
    assert "could not continue bit for bit" in page
    assert "| Flags | XLA_FLAGS --xla_cpu_max_isa=AVX, TF_ENABLE_ONEDNN_OPTS 0 |" in page
    assert "with the same versions and flags;" in page
    assert read_card(Path("models/y"))["flags"]["TF_ENABLE_ONEDNN_OPTS"] == "0"
    monkeypatch.undo()
    monkeypatch.chdir(here)
    edited(files_in(Path("models/z"))[0], flags={"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"})
    assert "(XLA_FLAGS --xla_cpu_enable_fast_math=true → none)" in run("train", "--resume", "models/z").stderr


def test_a_damaged_checkpoint_falls_back_with_a_warning(here: Path, digest: str) -> None:
    newest = files_in(Path("models/y"))[0]
    newest.write_bytes(newest.read_bytes()[:-100])
    done = run("train", "--resume", "models/y", "--json")
    resumed = summary(done)
    # The checkpoint before it is from the beginning.
    assert (resumed["weights_digest"], resumed["resumed_from"]) == (digest, None)
    assert f"{newest} is damaged" in done.stderr
    assert "continues from 000001.npz, after update 0" in done.stderr


def test_a_training_killed_while_saving_its_model_only_saves_it(here: Path, digest: str) -> None:
    assert run("train", "--resume", "models/y").exit_code == 0
    for name in ("model.keras", "config.toml", "card.md", "card.json"):
        Path("models/y", name).unlink()
    refused(run("evaluate", "models/y"), 2, "was interrupted", "deeptaxi train --resume models/y")
    refused(run(*TRAIN, "--out", "models/y"), 2, "was interrupted", "--resume models/y")
    resumed = summary(run("train", "--resume", "models/y", "--json"))
    assert (resumed["weights_digest"], resumed["resumed_from"]) == (digest, 400)


def test_an_optimal_run_resumes_only_for_more_updates(type_in: TypeIn, digest: str) -> None:
    early = summary(type_in("train", *LAKE, *SETTINGS, "--out", "a", "--json"))
    assert (early["stopped"], early["updates"]) == ("optimal", 300)
    refused(type_in("train", "--resume", "a"), 2, "because its policy is optimal", "--no-early-stop")
    refused(type_in("train", "--resume", "a", "--early-stop"), 2, "because its policy is optimal")
    assert summary(type_in("train", "--resume", "a", "--no-early-stop", "--json"))["weights_digest"] == digest


def test_an_optimal_run_makes_the_requested_updates(type_in: TypeIn) -> None:
    """They are those of a training that never stops early, bit for bit, and its settings say so."""
    assert summary(type_in("train", *LAKE, *SETTINGS, "--out", "a", "--json"))["stopped"] == "optimal"
    done = type_in("train", "--resume", "a", "--updates", 600, "--json")
    assert (summary(done)["stopped"], summary(done)["updates"]) == ("updates", 600)
    assert "early-stop-off: the run had stopped because its policy was optimal; it now makes 600 updates" in done.stderr
    assert "not-exact" not in done.stderr
    assert "could not continue bit for bit" not in Path("a/card.md").read_text()
    whole = type_in("train", "--config", "a/config.toml", "--out", "b", "--json")
    assert summary(whole)["weights_digest"] == summary(done)["weights_digest"]


def test_early_stop_that_comes_later_than_an_optimal_policy_is_not_exact(type_in: TypeIn) -> None:
    assert type_in(*TRAIN, "--stop-after", 350, "--out", "a").exit_code == 0
    done = type_in("train", "--resume", "a", "--early-stop", "--json")
    assert (summary(done)["stopped"], summary(done)["updates"]) == ("optimal", 350)
    assert "not-exact: its policy was optimal, where the same settings" in done.stderr


def test_an_optimal_run_that_may_stop_early_again_says_so(type_in: TypeIn) -> None:
    assert summary(type_in("train", *LAKE, *SETTINGS, "--out", "a", "--json"))["stopped"] == "optimal"
    done = type_in("train", "--resume", "a", "--updates", 700, "--early-stop", "--json")
    assert (summary(done)["stopped"], summary(done)["updates"]) == ("optimal", 600)  # shown three times again
    assert "not-exact: its policy was optimal, where the same settings" in done.stderr
    assert "had come to its end: the command may lead" in Path("a/card.md").read_text().replace("\n", " ")


def test_more_updates_leave_the_schedules_as_they_were(type_in: TypeIn) -> None:
    assert summary(type_in(*TRAIN, "--out", "a", "--json"))["updates"] == 400
    more = type_in("train", "--resume", "a", "--updates", 600, "--json")
    assert "schedules-kept: learning rate and ε keep their schedules over 400 updates" in more.stderr
    assert "not-exact" not in more.stderr
    whole = type_in(*TRAIN, "--updates", 600, "--schedule-updates", 400, "--out", "b", "--json")
    assert summary(more)["weights_digest"] == summary(whole)["weights_digest"]
    for name in ("a", "b"):
        assert "schedule_updates = 400" in Path(name, "config.toml").read_text()


def test_more_updates_leave_the_evaluations_as_they_were(type_in: TypeIn) -> None:
    half = ["--updates", 200, "--schedule-updates", 400]
    assert summary(type_in("train", *LAKE, *SETTINGS, *half, "--out", "a", "--json"))["stopped"] == "updates"
    more = summary(type_in("train", "--resume", "a", "--updates", 400, "--json"))
    whole = summary(type_in("train", *LAKE, *SETTINGS, "--out", "b", "--json"))
    for resumed in (more, whole):
        assert (resumed["stopped"], resumed["updates"]) == ("optimal", 300)
    assert more["weights_digest"] == whole["weights_digest"]


def test_a_run_moved_with_its_log_resumes(here: Path, digest: str) -> None:
    shutil.move("models", "elsewhere")
    resumed = summary(run("train", "--resume", "elsewhere/y", "--json"))
    assert (resumed["weights_digest"], resumed["log"]) == (digest, "logs/y/metrics.jsonl")
    assert len(read_history(Path("logs/y/metrics.jsonl")).of_kind(Started)) == 2


def test_a_lost_log_is_started_anew(here: Path, digest: str) -> None:
    shutil.rmtree("logs")
    done = run("train", "--resume", "models/y", "--json")
    assert summary(done)["weights_digest"] == digest
    assert "lost-log: the log of the training is not in logs/y" in done.stderr
    assert read_history(Path("logs/y/metrics.jsonl")).finished is not None


def test_a_foreign_log_is_never_continued(here: Path) -> None:
    assert run(*TRAIN, "--stop-after", 20, "--no-checkpoints", "--out", "other/y", "--logs", "elsewhere").exit_code == 0
    before = Path("elsewhere/y/metrics.jsonl").read_bytes()
    refused(run("train", "--resume", "models/y", "--logs", "elsewhere"), 2, "log of another training")
    files_in(Path("models/y"))[0].unlink()  # from the beginning, where no log had begun
    refused(run("train", "--resume", "models/y", "--logs", "elsewhere"), 2, "is the log of other/y")
    assert Path("elsewhere/y/metrics.jsonl").read_bytes() == before


def test_a_log_with_a_nan_loss_is_continued(here: Path) -> None:
    log = Path("logs/y/metrics.jsonl")
    log.write_text(re.sub(r'"loss": [0-9.e-]+', '"loss": null', log.read_text()))
    assert run("train", "--resume", "models/y", "--json").exit_code == 0


def test_a_run_without_checkpoints_cannot_be_resumed(type_in: TypeIn) -> None:
    done = type_in(*TRAIN, "--no-checkpoints", "--stop-after", 50, "--out", "a")
    assert "deeptaxi train --config a/config.toml" in done.stderr
    assert not Path("a/checkpoints").exists()
    refused(type_in("train", "--resume", "a"), 2, "a has no checkpoint")


def test_an_environment_module_that_a_run_names_needs_trust(type_in: TypeIn) -> None:
    Path("my_pond.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv\n"
        "gymnasium.register('MyPond-v0', entry_point=FrozenLakeEnv, max_episode_steps=50)\n"
    )
    words = ["train", "my_pond:MyPond-v0", *SETTINGS, "--stop-after", 20, "--out", "a"]
    assert "deeptaxi train --resume a --trust-env" in type_in(*words).stderr
    Path("my_pond.py").write_text(Path("my_pond.py").read_text() + "# changed\n")  # a run of one's own is trusted
    refused(type_in("train", "--resume", "a"), 2, "my_pond", "--trust-env")
    assert type_in("train", "--resume", "a", "--trust-env", "--updates", 401, "--stop-after", 30).exit_code == 0


def test_an_argument_that_only_toml_can_express_survives_a_resume(type_in: TypeIn) -> None:
    Path("my_shore.py").write_text(
        "import gymnasium\n"
        "from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv\n"
        "gymnasium.register('MyShore-v0', entry_point=lambda day: FrozenLakeEnv(), max_episode_steps=50)\n"
    )
    words = ["my_shore:MyShore-v0", "--env-arg", "day=2026-01-31"]
    assert type_in("train", *words, *SETTINGS, "--stop-after", 20, "--out", "a", "--json").exit_code == 0
    assert type_in("train", *words, "--resume", "a", "--json", "--stop-after", 30).exit_code == 0


def test_a_replaced_run_leaves_no_checkpoint(here: Path) -> None:
    run(*TRAIN, "--seed", 1, "--stop-after", 20, "--out", "models/y", "--force", "--no-checkpoints")
    refused(run("train", "--resume", "models/y"), 2, "models/y has no checkpoint")


def test_the_card_of_a_stopped_training_has_the_command_that_stops_there(here: Path) -> None:
    command = json.loads(Path("models/y/card.json").read_text())["commands"]["train"]
    assert command.endswith("models/y/config.toml --stop-after 150")


def test_a_foreign_log_is_not_taken_by_a_training_without_one(here: Path) -> None:
    for path in files_in(Path("models/y"))[:-1]:
        path.unlink()
    mine = Path("models/y").rename("models/z")
    Path("elsewhere").mkdir()
    Path("logs/y").rename("elsewhere/z")
    log = Path("elsewhere/z/metrics.jsonl")
    log.write_text(log.read_text().replace("models/y", "models/other"))
    shutil.copytree(mine, "models/other")
    refused(run("train", "--resume", "models/z", "--logs", "elsewhere"), 2, "is the log of models/other")


def test_a_mismatched_checkpoint_is_named_and_leaves_the_saved_run(here: Path) -> None:
    log = Path("logs/y/metrics.jsonl").read_bytes()
    newest = files_in(Path("models/y"))[0]
    found = read(newest)
    assert found.state is not None
    write(newest, found.about, found.state._replace(facts={**found.state.facts, "next": "150"}))
    card = Path("models/y/card.json").read_text()
    done = run("train", "--resume", "models/y", "--quiet")
    assert done.exit_code == 1
    assert f"Error: {newest} does not fit its training: 'next' is '150'; without that file" in done.stderr
    assert Path("models/y/card.json").read_text() == card
    assert Path("logs/y/metrics.jsonl").read_bytes() == log


BOUNDS: list[tuple[str, Any, str]] = [  # of facts, of a dictionary among them, of what else is said, of an array
    ("update", 401, "is damaged: 'update' is 401, expected 0 … 400"),
    ("environment_steps", -1, "'environment_steps' is -1, expected 0 … "),
    ("environment_steps", 10**400, "'environment_steps' is a number of more than 20 digits, expected 0 … "),
    ("train_seconds", float("nan"), "'train_seconds' is nan, expected a number from 0 on"),
    ("next", 401, "'next' is 401, expected 0 … 400"),
    ("next", 149, "'next' is 149, and 'update' is not"),
    ("evaluator.in_a_row", -3, "'in_a_row' is -3, expected 0 … 400"),
    ("evaluator.best_update", 500, "'best_update' is 500, expected 0 … 400"),
    ("evaluator.value", float("nan"), "'value' is no number"),
    ("step_metrics", [{"update": -5}], "'step_metrics': "),
    ("program.visits", -1, "'program.visits' holds -1 … "),
    ("program.envs.times", -3, "'program.envs.times' holds -3 … "),
]


def test_every_number_of_a_checkpoint_is_checked_against_its_bounds(here: Path) -> None:
    newest, first = files_in(Path("models/y"))
    first.unlink()  # else it falls back to that
    found = read(newest)
    assert found.state is not None
    for name, value, message in BOUNDS:
        arrays, facts = dict(found.state.arrays), json.loads(json.dumps(found.state.facts))
        if name in arrays:
            arrays[name] = np.array(arrays[name])
            arrays[name].flat[0] = value
        else:
            part, _, key = name.rpartition(".")
            (facts[part] if part else facts)[key] = value
        write(newest, found.about, found.state._replace(arrays=arrays, facts=facts))
        done = run("train", "--resume", "models/y", "--quiet")
        assert done.exit_code == 1, name
        assert message in done.stderr.splitlines()[-1], name


@pytest.mark.parametrize(
    ("about", "facts", "message"),
    [
        ({"checkpoint": 0}, {}, "'checkpoint' is 0, expected 1 or more"),
        ({"checkpoint": -3}, {}, "'checkpoint' is -3, expected 1 or more"),
        ({"checkpoint": True}, {}, "'checkpoint' is True, expected 1 or more"),
        ({}, {"update": -5}, "'update' is -5, expected 0 or more"),
        ({"position": {"head": "", "lines": -1}}, {}, "does not say where the log stood: 'lines' is -1, expected 0"),
    ],
)
def test_a_checkpoint_with_an_impossible_number_counts_as_damaged(
    here: Path, about: dict[str, Any], facts: dict[str, Any], message: str
) -> None:
    newest, first = files_in(Path("models/y"))
    first.unlink()
    found = read(newest)
    assert found.state is not None
    state = found.state._replace(facts={**found.state.facts, **facts})
    write(newest, {**found.about, **about}, state)
    refused(run("train", "--resume", "models/y"), 1, f"{newest} is damaged: ", message)


def test_a_table_that_changed_is_refused(type_in: TypeIn) -> None:
    save_table(chain(time_limit=9), Path("c.npz"))
    assert type_in("train", "c.npz", *SETTINGS, "--stop-after", 20, "--out", "a").exit_code == 0
    save_table(chain(start=1, time_limit=9), Path("c.npz"))
    refused(type_in("train", "--resume", "a"), 2, "c.npz", "another transition table")
    save_table(chain(time_limit=9), Path("there.npz"))
    assert type_in("train", Path("there.npz").absolute(), "--resume", "a", "--stop-after", 30).exit_code == 0
    assert 'id = "c.npz"' in Path("a", "config.toml").read_text()
    refused(type_in("train", "Taxi-v4", "--resume", "a"), 2, "cannot change ENV on resume: a uses c.npz, not Taxi-v4")
    Path("c.npz").unlink()
    refused(type_in("train", "--resume", "a"), 2, "no transition table at c.npz")


def test_checkpoints_change_no_result_and_describe_themselves(type_in: TypeIn, digest: str) -> None:
    often = type_in(*TRAIN, "--checkpoint-every", 1e-9, "--out", "a", "--json")
    assert summary(often)["weights_digest"] == digest
    (newest, _) = files_in(Path("a"))
    assert int(newest.stem) > 4
    with np.load(newest, allow_pickle=False) as arrays:
        about = json.loads(str(arrays["about"]))
        assert about["facts"]["update"] == 400
        assert arrays["program.agent.dense.online.0"].shape == (16, 4)
    refused(type_in(*TRAIN, "--checkpoint-every", 0, "--out", "b"), 2, "--checkpoint-every")
