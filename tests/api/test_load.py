from __future__ import annotations

import deeptaxi
from deeptaxi.api.run import Run
from deeptaxi.mdp.table import TransitionTable


def test_a_run_is_loaded_onto_a_table_and_an_open_environment(kept: Run, table: TransitionTable) -> None:
    elsewhere = deeptaxi.load(kept.folder or "", table)
    assert elsewhere.exact == kept.exact
    assert deeptaxi.evaluate(kept, elsewhere.environment, episodes=0).exact == kept.exact
    shorter = deeptaxi.load(kept.folder or "", table, time_limit=2)
    assert shorter.exact is not None
    assert shorter.exact["horizon"] == 2
    assert shorter.exact["return"] == 0
