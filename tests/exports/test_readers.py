from __future__ import annotations

import json

import numpy as np
import pytest

from deeptaxi.exports.readers import by_csv, by_json, by_npz, outside

Q = np.array([[1.0, -np.inf], [0.25, 0.5]], np.float32)
BOTH = np.array([1, 0], np.int32)


def write_csv(path):
    path.write_text("state,name,q_0,q_1,action\n0,here,1.0,-inf,0\n1,there,0.25,0.5,1\n", encoding="utf-8")


def write_json(path):
    rows = {"0": {"q_values": [1.0, None], "action": 0}, "1": {"q_values": [0.25, 0.5], "action": 1}}
    path.write_text(json.dumps({"policy": rows}), encoding="utf-8")


def write_npz(path):
    with path.open("wb") as file:
        np.savez(file, q_values=np.vstack([Q, [np.nan, np.nan]]), policy=np.array([0, 1, -1], np.int32))


@pytest.mark.parametrize(
    ("write", "read", "fails"),
    [(write_csv, by_csv, True), (write_json, by_json, True), (write_npz, by_npz, False)],
    ids=["csv", "json", "npz"],
)
def test_a_table_answers_in_the_order_of_the_question(tmp_path, write, read, fails):
    write(tmp_path / "table")
    ask = read(str(tmp_path / "table"))
    q_values, actions = ask(BOTH)
    np.testing.assert_array_equal(q_values, Q[BOTH])
    assert actions.tolist() == [1, 0]
    beyond, action, failed = outside(ask, -1, 2)
    assert (np.isnan(beyond).all(), action, failed) == (True, -1, fails)
