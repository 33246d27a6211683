from __future__ import annotations

from pathlib import Path

import deeptaxi
from benchmarks.faults import noisy_arms
from deeptaxi.api.run import Run
from deeptaxi.mdp.table import save_table
from tests.api.helpers import answer, plain


def test_diagnose_agrees_with_its_command(lake_run: Path, lake: Run) -> None:
    found = deeptaxi.diagnose(lake_run)
    assert plain(found.to_dict()) == answer("diagnose", lake_run)
    assert [finding.name for finding in found.findings] == [
        finding.name for finding in deeptaxi.diagnose(lake).findings
    ]
    assert found.optimal is True
    told = " ".join(str(found).split())  # a line is broken where the folder's name is long
    assert told.startswith(f"{lake_run} on FrozenLake-v1 is_slippery=false: its policy is optimal")
    log = deeptaxi.diagnose(lake_run.parent / "logs" / "run")
    assert log.history is not None
    assert log.optimal is None
    elsewhere = deeptaxi.diagnose(lake, "Taxi-v4")
    assert elsewhere.severe
    assert [finding.name for finding in elsewhere.findings] == ["wrong-environment"]
    assert "wrong-environment" in repr(elsewhere)


def test_a_room_of_noisy_arms_is_named_as_maximization_bias(tmp_path: Path) -> None:
    room = tmp_path / "room.npz"
    save_table(noisy_arms(), room)  # Sutton & Barto, example 6.7
    by_hand = {"optimizer": "sgd", "tabular_step": 0.1, "learning_rate_schedule": "constant", "exploring_starts": 0.0}
    sizes = {"environments": 8, "batch_size": 8, "updates": 2_000, "seed": 3}
    run = deeptaxi.train(str(room), q_table=True, backup="sample", **by_hand, **sizes)
    assert not run.optimal
    first = deeptaxi.diagnose(run).findings[0]
    assert (first.name, first.severity) == ("overestimation", "severe")
    assert first.cure.startswith("--backup expected")
    assert deeptaxi.train(str(room), q_table=True, backup="expected", **by_hand, **sizes).optimal
