from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import deeptaxi
from deeptaxi.api.listing import envs
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.mdp.table import save_table
from tests.problems import chain, rows_of

P = {0: {0: [(1.0, 1, 0.0, False)], 1: [(1.0, 0, 1.0, True)]}, 1: {0: [(1.0, 0, 4.0, True)]}}
LOG = "episode,state,action,reward,next_state,terminated\n" + "".join(
    f"{e},0,0,0,1,0\n{e},1,0,{4 * (e % 2)},0,1\n" for e in range(20)
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_value_is_converted_and_written(folder: Path) -> None:
    found = deeptaxi.convert(P, "p.npz", start=0, discount=0.9, time_limit=5)
    assert found.table.start.tolist() == [1, 0]
    assert found.to_dict() == {
        "source": "transition-table", "path": "p.npz", "form": "3 outcomes P[state][action]",
        "notes": ["1 pair of state and action may not be taken, without outcomes"],
        "states": 2, "actions": 2, "outcomes": 3, "most_outcomes": 1, "start_states": 1, "terminating_outcomes": 2,
        "forbidden_pairs": 1, "time_limit": 5, "discount": 0.9, "exact": True, "estimated": None,
    }  # fmt: skip
    solution = deeptaxi.solve("p.npz")
    assert (solution.optimal_value, solution.optimal_return, solution.horizon) == (pytest.approx(3.6), 4, 5)
    assert "in p.npz: TransitionTable(2 states, 2 actions" in repr(found)
    assert "may not be taken" in str(found)


def test_every_verb_takes_a_value(folder: Path) -> None:
    assert deeptaxi.solve(P, 0.9, env_args={"start": 0}).value == pytest.approx([3.6, 4])
    settings = {"q_table": True, "updates": 200, "objective_discount": 0.9, "loop": "gymnasium"}
    run = deeptaxi.train(P, time_limit=5, env_args={"start": 0}, **settings)
    assert run.exact is not None
    assert run.exact["start_states"] == 1
    assert run.environment.describe()["read_as"][0] == "3 outcomes P[state][action]"
    evaluation = deeptaxi.evaluate(run, P, episodes=0)
    assert evaluation.exact is not None
    assert evaluation.exact["start_states"] == 2
    with pytest.raises(DeepTaxiError, match="a file of a table takes no argument 'size'"):
        deeptaxi.solve(P, env_args={"size": 3})


def test_what_is_a_table_already_may_get_another_start(folder: Path) -> None:
    save_table(chain(), folder / "chain.npz")
    assert deeptaxi.convert("chain.npz", start="1", discount=0.5).table.start.tolist() == [0, 1, 0]
    lake = deeptaxi.convert("FrozenLake-v1", env_args={"is_slippery": False}, start="3,4").table
    assert np.flatnonzero(lake.start).tolist() == [3, 4]
    assert lake.time_limit == 100
    with pytest.raises(UsageError, match="has a table of its own: prior, goal and end_absorbing are for other forms"):
        deeptaxi.convert("chain.npz", prior=1.0)
    with pytest.raises(UsageError, match="Blackjack-v1 has no true table to write"):
        deeptaxi.convert("Blackjack-v1")


def test_nothing_is_overwritten_unasked(folder: Path) -> None:
    deeptaxi.convert(P, "p.npz")
    before = (folder / "p.npz").read_bytes()
    with pytest.raises(UsageError, match=r"p\.npz exists; choose another name, or overwrite it with --force"):
        deeptaxi.convert(rows_of(chain()), "p.npz")
    assert (folder / "p.npz").read_bytes() == before
    deeptaxi.convert(rows_of(chain()), "p.npz", force=True)
    assert deeptaxi.TransitionTable.load("p.npz").states == 3
    with pytest.raises(UsageError, match=r"p\.npz is the source itself"):
        deeptaxi.convert("p.npz", "p.npz", force=True)
    with pytest.raises(UsageError, match=r"expected a name that ends in \.npz"):
        deeptaxi.convert(P, "p.csv")
    with pytest.raises(DeepTaxiError, match=r"sum to 0\.5"):
        deeptaxi.convert({0: {0: [(0.5, 0, 0.0, True)]}}, "q.npz")
    assert sorted(path.name for path in folder.iterdir()) == ["p.npz"]


def test_a_verdict_on_logged_data_says_so_wherever_it_is_shown(folder: Path) -> None:
    Path("log.csv").write_text(LOG, encoding="utf-8")
    converted = deeptaxi.convert("log.csv", "log.npz", time_limit=5)
    assert converted.to_dict()["estimated"]["transitions"] == 40
    solution = deeptaxi.solve("log.npz", 0.9)
    assert solution.estimated == deeptaxi.solve("log.csv", 0.9, time_limit=5).estimated
    assert solution.optimal_value == pytest.approx(1.8)
    low, high = solution.estimated.value_interval
    assert low < 1.8 < high
    settings = {"q_table": True, "updates": 300, "objective_discount": 0.9, "loop": "gymnasium"}
    run = deeptaxi.train("log.npz", out="run", **settings)
    assert run.exact is not None
    assert run.exact["estimated"]["value_interval"] == pytest.approx((low, high))
    told = "estimated from 40 transitions in 20 episodes"
    assert told in repr(run)
    assert told in str(run)
    assert (folder / "run" / "card.md").read_text(encoding="utf-8").count(told) == 2
    found = deeptaxi.diagnose("run")
    assert found.estimated is not None
    assert (found.estimated["transitions"], found.to_dict()["estimated"]) == (40, found.estimated)
    assert told in str(found)
    (row,) = envs("log.npz")
    assert row["estimated"]["episodes"] == 20
    again = deeptaxi.evaluate("run", episodes=0)
    assert again.exact is not None
    assert again.exact["estimated"] == run.exact["estimated"]
    run.report("report.html")
    assert told in Path("report.html").read_text(encoding="utf-8")
