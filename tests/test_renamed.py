"""Names of earlier versions, in files and on the command line: refused in one line, by the name of today."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

import deeptaxi
from deeptaxi import renamed
from deeptaxi.cli import train_command
from deeptaxi.config import TrainConfig
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.evaluation.exact import Verdict
from deeptaxi.metrics import KINDS
from deeptaxi.schema import to_mapping
from deeptaxi.storage import checkpoints
from deeptaxi.storage.runs import check_ours
from tests.cli.conftest import refused, run

AGENT = Path(__file__).parents[1] / "models" / "taxi-v4-q-table"
SETTINGS = "'replay.prioritised' is now 'replay.prioritized', 'judgement' is now 'evaluation'"
LOG = [
    {"kind": "started", "environment": "X-v0", "states": 1, "actions": 2, "network": "q-table", "loop": "fit",
     "seed": 0, "updates": 9, "learning_rate": 0.1, "tabular_step": None, "compile_seconds": 0.0, "run": "../mine"},
    {"kind": "judgement", "update": 9, "optimal": True, "value": 1.0, "value_gap": 0.0, "gap": 0.0, "start_states": 1,
     "optimal_start_states": 1, "q_error_max": None},
]  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log" / "metrics.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(record) + "\n" for record in LOG))
    return path


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A run folder as an earlier deeptaxi has left it."""
    folder = Path(shutil.copytree(AGENT, tmp_path / "models" / "old"))
    for name in ("config.toml", "card.json"):
        text = (folder / name).read_text(encoding="utf-8")
        for was, now in (("prioritised", "prioritized"), ("normalised", "normalized"), ("judgement", "evaluation")):
            text = text.replace(now, was)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_the_new_names_exist() -> None:
    options = {name for option in train_command.command.params for name in option.opts}
    assert options.issuperset(renamed.OPTIONS.values())
    assert options.isdisjoint(renamed.OPTIONS)
    assert KINDS.keys() >= set(renamed.RECORDS.values())
    settings = to_mapping(TrainConfig())
    verdict = {field.name: None for field in dataclasses.fields(Verdict)}
    for values, names in ((settings, renamed.SETTINGS), ({"configuration": settings, "exact": verdict}, renamed.CARD)):
        assert all(renamed.has(values, name) for name in names.values())
        assert renamed.renamed_in(values, names) is None


@pytest.mark.parametrize(("was", "now"), renamed.OPTIONS.items())
def test_an_old_option_is_refused_with_its_new_name(was: str, now: str) -> None:
    refused(run("train", "Taxi-v4", f"{was}=3"), 2, f"{was} is now {now} (see")


def test_an_old_setting_is_refused_from_python_too() -> None:
    with pytest.raises(UsageError, match=r"^'judge_every' is now 'eval_every'$"):
        deeptaxi.train("Taxi-v4", judge_every=3)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match=r"^'on_record' is now 'callbacks', a list: callbacks=\[…\]$"):
        deeptaxi.train("Taxi-v4", on_record=print)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match=re.escape(SETTINGS)):
        deeptaxi.train("Taxi-v4", config={"judgement": {"every": 3}, "replay": {"prioritised": True}})


@pytest.mark.parametrize("words", [["evaluate"], ["logs"], ["train", "--config"]])
def test_the_settings_of_an_old_run_are_refused_with_all_their_new_names(old: Path, words: list[str]) -> None:
    model = old / "config.toml" if "--config" in words else old
    refused(run(*words, model), 2, f"{old / 'config.toml'}: {SETTINGS}")


def test_an_argument_of_an_environment_may_have_an_old_name() -> None:
    done = run("train", "Taxi-v4", "--env-arg", "judgement=1")
    refused(done, 2, "unexpected keyword argument 'judgement'")


def test_an_old_card_is_noted_in_the_list_of_agents(old: Path) -> None:
    (row,) = json.loads(run("zoo", old, "--json").stdout)
    assert row["note"].startswith(
        f"{old / 'card.json'} was written by an earlier deeptaxi: 'exact.normalised_score' is now 'exact"
    )
    assert "'configuration.judgement' is now 'configuration.evaluation'" in row["note"]


def test_an_old_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoints" / "000001.npz"
    path.parent.mkdir(parents=True)
    checkpoints.write(path, {"config": "replay.prioritised = true\njudgement.every = 3"}, None)
    refused(
        run("train", "--resume", tmp_path / "run"),
        1,
        f"{path} was written by an earlier deeptaxi: {SETTINGS}; train it again",
    )


def test_an_old_log_is_refused(log: Path) -> None:
    for command in ("logs", "diagnose"):
        refused(run(command, log), 1, f"{log} is the log of an earlier deeptaxi: 'judgement' is now 'evaluation'")


def test_an_old_log_still_names_its_run(log: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    check_ours(tmp_path / "mine", log)
    with pytest.raises(DeepTaxiError, match="is the log of "):
        check_ours(tmp_path / "another", log)
