from __future__ import annotations

import json
from pathlib import Path

import pytest

from deeptaxi.errors import UsageError
from deeptaxi.storage.model_card import CARD_VERSION, write_card
from deeptaxi.storage.zoo import agents
from tests.storage.test_model_card import EXACT, a_card

CONFIG = """seed = 4
[environment]
id = "Taxi-v4"
[environment.kwargs]
is_rainy = true
[network]
hidden = [8]
dueling = false
[run]
preset = "taxi"
weights_digest = "cd"
"""


def a_run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.keras").write_bytes(b"x" * 1234)
    return folder


def test_an_agent_is_listed_by_its_card(tmp_path: Path) -> None:
    write_card(a_run(tmp_path / "sure"), a_card())
    (row,) = agents(tmp_path)
    assert row == {
        "name": "sure", "path": str(tmp_path / "sure"), "note": None, "bytes": 1234,
        "environment": a_card()["environment"], "network": a_card()["network"], "preset": "frozenlake-sure.q-table",
        "seed": 0, "optimal": True, "verdict": a_card()["verdict"], "exact": EXACT, "weights_digest": "ab" * 32,
        "made": "2026-01-02T12:00:00+00:00",
    }  # fmt: skip


def test_a_run_without_a_card_is_listed_by_its_other_files(tmp_path: Path) -> None:
    run = a_run(tmp_path / "old")
    (run / "config.toml").write_text(CONFIG)
    (run / "card.md").write_text("# old\n\n| | |\n|---|---|\n| Verdict | optimal: 3 of 3 start states |\n")
    (row,) = agents(tmp_path)
    assert row["environment"]["kwargs"] == {"is_rainy": True}
    assert (row["environment"]["id"], row["network"]["kind"], row["preset"]) == ("Taxi-v4", "mlp", "taxi")
    assert (row["verdict"], row["optimal"], row["exact"]) == ("optimal: 3 of 3 start states", None, None)
    assert (row["seed"], row["weights_digest"]) == (4, "cd")
    assert row["note"].endswith(f"`deeptaxi evaluate {run}` computes its verdict")


@pytest.mark.parametrize(
    "config", [None, "not TOML", "environment = 3\nnetwork = []\nrun = 0\n", "[run]\npreset = 1\n"]
)
def test_an_unreadable_run_is_listed_all_the_same(tmp_path: Path, config: str | None) -> None:
    run = a_run(tmp_path / "odd")
    if config is not None:
        (run / "config.toml").write_text(config)
        (run / "card.md").write_bytes(b"\xff")
    (row,) = agents(tmp_path)
    assert (row["name"], row["environment"]["id"], row["verdict"], row["preset"]) == ("odd", "?", None, None)
    assert row["note"]


def test_an_unreadable_card_is_noted_and_hides_no_other(tmp_path: Path) -> None:
    write_card(a_run(tmp_path / "good"), a_card())
    wrong = {**a_card(), "exact": {**EXACT, "gap": "none"}}
    for name, facts in (("broken", "{"), ("newer", {"card": CARD_VERSION + 1}), ("wrong", wrong)):
        text = facts if isinstance(facts, str) else json.dumps(facts)
        (a_run(tmp_path / name) / "card.json").write_text(text)
    notes = {row["name"]: row["note"] for row in agents(tmp_path)}
    assert notes["good"] is None
    assert "card.json is damaged" in notes["broken"]
    assert "newer deeptaxi" in notes["newer"]
    assert "'exact.gap' is missing or of the wrong kind" in notes["wrong"]


def test_only_runs_are_listed_and_a_run_lists_itself(tmp_path: Path) -> None:
    run = a_run(tmp_path / "b")
    a_run(tmp_path / "a")
    a_run(tmp_path / ".aside")
    (tmp_path / "empty").mkdir()
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "model.keras").symlink_to("nowhere")
    (tmp_path / "README.md").touch()
    assert [row["name"] for row in agents(tmp_path)] == ["a", "b"]
    assert [row["name"] for row in agents(run)] == ["b"]


def test_a_linked_run_has_the_name_of_its_target(tmp_path: Path) -> None:
    a_run(tmp_path / "elsewhere" / "run")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "link").symlink_to(tmp_path / "elsewhere" / "run")
    (row,) = agents(tmp_path / "models")
    assert (row["name"], row["path"]) == ("run", str(tmp_path / "models" / "link"))


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="nowhere does not exist: name the folder"):
        agents(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="file is a file: name the folder"):
        agents(tmp_path / "file")
