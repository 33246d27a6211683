"""Offline runs of Weights & Biases, read back from the files that `wandb sync` would send."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from wandb.proto import wandb_internal_pb2

from deeptaxi.tracking.tracker import Point, RunDescription
from deeptaxi.tracking.wandb_tracker import WandbTracker, logged_in

BEGUN = RunDescription("a run: β", {"seed": 0, "network.hidden": "64,32"}, {"deeptaxi.version": "1"})
BLOCK, HEADER = 2**15, 7  # of LevelDB's log format: checksum, length, and whether a record ends here


def records(path: Path) -> Iterator[Any]:
    """Yield the records of a run's file."""
    data, position, part = path.read_bytes(), HEADER, b""
    while position + HEADER < len(data):
        if (left := BLOCK - position % BLOCK) < HEADER:
            position += left
            continue
        length, kind = struct.unpack_from("<HB", data, position + 4)
        part += data[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            part = b""
            yield record


def whole(path: Path) -> list[Any]:
    """Return the records of a run's file, whose last ones W&B's own process writes after the run has ended."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = list(records(path))
        if found and found[-1].WhichOneof("record_type") == "exit":
            return found
        time.sleep(0.05)
    raise AssertionError(f"{path} has no end")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A current folder for runs, without a server, a key or anything of the user's."""
    folder = tmp_path_factory.mktemp("wandb")
    wandb.teardown()  # what other tests of this process began knows their current folder
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("CACHE", "DATA", "CONFIG", "ARTIFACT"):
            patch.setenv(f"WANDB_{name}_DIR", str(folder / "own"))
        for name in ("API_KEY", "PROJECT", "DIR", "IDENTITY_TOKEN_FILE"):
            patch.delenv(f"WANDB_{name}", raising=False)
        patch.setenv("WANDB_MODE", "offline")
        yield folder
        wandb.teardown()


@pytest.fixture(scope="module")
def ended(folder: Path) -> WandbTracker:
    tracker = WandbTracker(BEGUN)
    tracker.log([Point(10, 0.0, {"train/loss": 0.5}), Point(20, 0.0, {"train/loss": 0.25, "exact/value": 6.5})])
    Path("card.md").write_text("# A card")
    tracker.add({"deeptaxi.verdict": "optimal"}, [Path("card.md")])
    tracker.end(failed=False)
    return tracker


def test_an_offline_run_has_settings_curves_facts_and_files(ended: WandbTracker, folder: Path) -> None:
    assert Path(ended.place).parts[0] == "wandb"
    (path,) = Path(ended.place).glob("*.wandb")
    found = whole(path)
    (run,) = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    assert (run.display_name, run.project, run.run_id) == ("a run: β", "deeptaxi", ended.run)
    settings = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert settings["seed"] == 0
    assert settings["network.hidden"] == "64,32"
    rows = [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in found
        if record.WhichOneof("record_type") == "history"
    ]
    assert [(row["update"], row["train/loss"], row.get("exact/value")) for row in rows] == [
        (10, 0.5, None),
        (20, 0.25, 6.5),
    ]
    (model,) = [record.artifact for record in found if record.WhichOneof("record_type") == "artifact"] or [
        record.request.log_artifact.artifact for record in found if record.request.HasField("log_artifact")
    ]
    assert model.type == "model"
    assert [item.path for item in model.manifest.contents] == ["card.md"]
    facts = {
        item.key: json.loads(item.value_json)
        for record in found
        if record.WhichOneof("record_type") == "config"
        for item in record.config.update
    }
    assert facts["deeptaxi.verdict"] == "optimal"


def test_a_resumed_training_has_the_id_of_its_run(ended: WandbTracker) -> None:
    again = WandbTracker(RunDescription("a run: β", {}, {}, ended.run))
    again.end(failed=True)
    assert (again.run, again.resumed) == (ended.run, True)


def test_nothing_is_printed(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tracker = WandbTracker(BEGUN)
    tracker.log([Point(1, 0.0, {"train/loss": 0.5})])
    tracker.end(failed=False)
    assert capfd.readouterr() == ("", "")


def test_a_key_is_looked_for_where_weights_and_biases_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert not logged_in("https://api.wandb.ai")
    (tmp_path / "netrc").write_text("machine api.wandb.ai\n  login user\n  password key\n")
    assert logged_in("https://api.wandb.ai")
    assert not logged_in("https://elsewhere.org")
    (tmp_path / "netrc").write_text("nonsense\n")
    assert not logged_in("https://api.wandb.ai")
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert logged_in("https://elsewhere.org")
