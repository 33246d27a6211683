from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import UsageError
from deeptaxi.exports.q_tables import CSV_STATES, WRITERS, Labels, as_text, check_size, labels_of, number_labels
from deeptaxi.mdp.environment import environment_over, open_environment
from deeptaxi.storage.arrays import read_decisions
from tests.problems import build, surely

LABELS = Labels(("left", "right, or so"), lambda state: f'the "{state}"', {"id": "Walk-v0"})
Q = np.array([[0.1, -np.inf], [1 / 3, 1e-30], [-2.5, 7.0]], dtype=np.float32)
GREEDY = [0, 0, 1]


@pytest.mark.parametrize("form", WRITERS)
def test_a_table_is_read_back_to_the_last_bit(form: str, tmp_path: Path) -> None:
    place = environment_over(build([[surely(0, 0)] * 2] * 3), EnvironmentConfig("walk"))
    for q in (Q, Q.astype(np.float64) / 3):
        WRITERS[form](tmp_path / f"q.{form}", q, LABELS, None)
        assert np.array_equal(read_decisions(tmp_path / f"q.{form}", place).astype(q.dtype), q)


def test_csv_has_a_row_a_state_by_its_own_names(tmp_path: Path) -> None:
    WRITERS["csv"](tmp_path / "q.csv", Q, LABELS, None)
    with (tmp_path / "q.csv").open(newline="") as file:
        found = {row["state"]: row for row in csv.DictReader(file)}
    assert list(found["0"]) == ["state", "state_name", "q_left", "q_right, or so", "action", "action_name"]
    assert found["2"]["state_name"] == 'the "2"'
    assert found["2"]["action_name"] == "right, or so"
    assert found["0"]["q_right, or so"] == "-inf"
    assert [int(row["action"]) for row in found.values()] == GREEDY
    assert "-1" not in found
    assert "3" not in found


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=cmd|'/c calc'!A0", "'=cmd|'/c calc'!A0"),
        ("+1+1", "'+1+1"),
        ("-1+1", "'-1+1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t'=1"),
        ("\r=1", "'\r=1"),
        (" =1", "' =1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("a; =1;b", "a;' =1;b"),
        ("-3", "-3"),
        ("+2.5e-3", "+2.5e-3"),
        ("-inf", "'-inf"),
        ("row 1, column 2", "row 1, column 2"),
        ("(-1, 2)", "(-1, 2)"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_no_name_is_a_formula_for_a_spreadsheet(name: str, cell: str) -> None:
    assert as_text(name) == cell


def test_json_looks_states_up_by_number_and_has_no_others(tmp_path: Path) -> None:
    WRITERS["json"](tmp_path / "q.json", Q, LABELS, None)
    document = json.loads((tmp_path / "q.json").read_text())
    assert {key: document[key] for key in ("environment", "states", "actions")} == {
        "environment": {"id": "Walk-v0"},
        "states": 3,
        "actions": ["left", "right, or so"],
    }
    assert document["policy"]["0"] == {
        "name": 'the "0"',
        "q_values": [0.1, None],
        "action": 0,
        "action_name": "left",
    }
    assert list(document["policy"]) == ["0", "1", "2"]


def test_the_last_row_of_an_npz_stands_for_states_out_of_range(tmp_path: Path) -> None:
    WRITERS["npz"](tmp_path / "q.npz", Q, LABELS, None)
    with np.load(tmp_path / "q.npz", allow_pickle=False) as archive:
        q_values, policy = archive["q_values"], archive["policy"]
        assert archive["state_names"].tolist() == ['the "0"', 'the "1"', 'the "2"']
        assert archive["action_names"].tolist() == ["left", "right, or so"]
        assert json.loads(str(archive["environment"])) == {"id": "Walk-v0"}
    for outside in (-1, len(Q)):
        assert np.isnan(q_values[outside]).all()
        assert policy[outside] == -1
    assert policy[: len(Q)].tolist() == GREEDY


def test_the_names_are_those_of_the_environment() -> None:
    labels = labels_of(open_environment(EnvironmentConfig("FrozenLake-v1")))
    assert labels.actions == ("left", "down", "right", "up")
    assert labels.state(5) == "row 1, column 1"
    assert labels.environment["states"] == 16
    assert number_labels(2).actions == ("action 0", "action 1")


def test_a_table_too_long_for_a_spreadsheet_says_how_long_it_is() -> None:
    check_size(CSV_STATES, 4, "csv")
    check_size(10**9, 4, "npz")
    with pytest.raises(UsageError, match=r"at most 1,048,575 states, but this one has 2,000,000 \(about 192 MB\)"):
        check_size(2_000_000, 4, "csv")
    with pytest.raises(UsageError, match="at most 1,000,000"):
        check_size(2_000_000, 4, "json")
