from __future__ import annotations

from pathlib import Path

import deeptaxi
from deeptaxi.api.run import Run
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
