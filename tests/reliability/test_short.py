"""A short form of the parts that need processes of their own, and what they are judged by."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability import page, soak, victims
from tests.reliability.outcome import Outcome
from tests.reliability.processes import Memory

ROOT = Path(__file__).parents[2]
SHORT = """
import dataclasses, json
from tests.reliability import determinism, kill, processes, soak
processes.warm()
outcomes = [
    kill.run(1, names=["compiled, Q table"]),
    determinism.run(1, ["Q table"]),
    soak.run(6.0, ["one training"]),
]
print(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes]))
"""


@pytest.mark.slow
def test_killed_trainings_end_as_undisturbed_ones_and_memory_stays_flat() -> None:
    done = subprocess.run([sys.executable, "-c", SHORT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    killed, same, flat = json.loads(done.stdout.splitlines()[-1])
    assert [outcome["failures"] for outcome in (killed, same, flat)] == [[], [], []]
    assert killed["sound"] == killed["done"] >= 1
    assert same["figures"]["Q table: digests"] == 1
    assert flat["figures"]["one training: growth"] <= soak.ALLOWED


def test_memory_growth_is_noticed() -> None:
    def grown(*own: int) -> float:
        return soak.grown([Memory(each, 2000) for each in own])

    assert grown(*[1000] * 50) == 0
    assert grown(*range(1000, 1100)) == pytest.approx(0.045, abs=0.001)
    assert grown(1000, 1200, *[1000] * 20, 1000, 1200) == 0  # the memory of a moment


def run_folder(folder: Path, digest: str, updates: tuple[int, ...]) -> Path:
    for path, text in {
        f"{victims.RUN}/card.json": json.dumps({"weights_digest": digest}),
        f"{victims.RUN}/model.keras": "",
        victims.LOG: "".join(json.dumps({"kind": "progress", "update": update}) + "\n" for update in updates),
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def test_a_run_that_differs_from_the_undisturbed_one_is_noticed(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, "digest", (1, 2, 3))
    whole = victims.Undisturbed("digest", 1.0, victims.files_of(folder), (1, 2, 3))
    assert victims.checked(folder, whole) == []
    (folder / victims.RUN / ".deeptaxi-left").mkdir()
    run_folder(folder, "another", (1, 2, 2, 3))
    assert [fault.split()[0] for fault in victims.checked(folder, whole)] == ["digest", "the", "files"]


def test_the_page_lists_failures() -> None:
    outcome = Outcome("kill", 2, 1, {"trainings": 2, "kills": {"fit": 1}}, ["seed 3: another digest"], 60.0)
    text = page.page({"kill": {**vars(outcome), "date": "2026-01-01"}})
    assert "| 1 of 2, 1 failures | 1 min |" in text
    assert "- **failed:** seed 3: another digest" in text
    assert "- kills: fit: 1" in text
