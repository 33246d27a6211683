from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import refused, run
from tests.mdp.files.test_cassandra import MDP
from tests.mdp.files.test_matrices import FOREST, forest
from tests.mdp.files.test_prism import LAB, TRA
from tests.mdp.files.test_row_files import LOG, ROWS


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    p, r = forest()
    np.savez("forest_PR.npz", P=p, R=r)
    for name, text in {"m.tra": TRA, "m.lab": LAB, "m.MDP": MDP, "rows.csv": ROWS}.items():
        Path(name).write_text(text, encoding="utf-8")
    return tmp_path


def test_convert_says_what_it_read_and_wrote() -> None:
    told = run("convert", "rows.csv", "out.npz", "--start", "0").stdout
    assert "4 rows of outcomes" in told
    assert "2 states, 2 actions, 4 outcomes (at most 2 of a pair), 2 of which end the episode" in told
    assert "1 of 4 pairs may not be taken" in told
    assert "exact" in told
    document = json.loads(run("convert", "rows.csv", "out.npz", "--start", "0", "--force", "--json").stdout)
    assert (document["path"], document["outcomes"], document["start_states"]) == ("out.npz", 4, 1)
    refused(run("convert", "rows.csv", "out.npz"), 2, "out.npz exists; choose another name")


def test_files_of_others_are_environments() -> None:
    found = json.loads(run("solve", "forest_PR.npz", "--objective-discount", "0.9", "--json").stdout)
    assert found["value"] == pytest.approx(FOREST, abs=5e-4)
    assert found["environment"]["read_as"][0] == "matrices P[A, S, S], R[S, A]"
    assert found["estimated"] is None
    assert "Read as" in run("solve", "m.MDP").stdout
    assert "Optimal value   1 at discount 1" in run("solve", "m.tra", "--env-arg", "goal=goal").stdout
    trained = run("train", "rows.csv", "--q-table", "--time-limit", 9, "--out", "run", "--json")
    assert json.loads(trained.stdout)["exact"]["optimal"]
    assert run("evaluate", "run", "--episodes", 0).exit_code == 0


def test_an_argument_that_a_file_does_not_take_is_refused() -> None:
    refused(run("solve", "m.tra", "--env-arg", "gaol=goal"), 2, "takes no argument 'gaol'; did you mean 'goal'")
    refused(run("solve", "m.tra"), 1, "m.tra has no rewards beside it")
    refused(run("solve", "rows.tsv"), 2, "no file at rows.tsv")
    refused(run("convert", "rows.csv", "out.csv"), 2, "expected a name that ends in .npz")


def test_solve_says_what_logged_data_leave_open() -> None:
    rows = "".join(f"{e},0,{e % 3},{e % 2},1,1\n" for e in range(30))
    Path("log.csv").write_text(LOG + rows.replace(",1,", ",3,", 0), encoding="utf-8")
    told = run("solve", "log.csv", "--objective-discount", "0.9").stdout
    assert "estimated from 30 transitions in 30 episodes" in told
    assert "from 200 resamples of the episodes; this policy is optimal in" in told
    assert "on the estimate" in told
    document = json.loads(run("solve", "log.csv", "--env-arg", "prior=0.5", "--json").stdout)
    assert document["estimated"]["prior"] == 0.5
