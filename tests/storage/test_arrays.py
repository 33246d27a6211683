from __future__ import annotations

import json
import pickle
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import UsageError
from deeptaxi.exports.q_tables import WRITERS, number_labels
from deeptaxi.mdp.environment import Environment, environment_over
from deeptaxi.storage.arrays import decisions_of, read_decisions
from tests.problems import chain

Q = np.array([[0.81, 0.7], [0.9, -0.25], [1.0, 1e-30]])  # of the chain, three states and two actions
POLICY = [0, 0, 1]


@cache
def place() -> Environment:
    return environment_over(chain(), EnvironmentConfig("chain"))


def text(folder: Path, content: str, name: str = "q.csv") -> Path:
    (folder / name).write_text(content)
    return folder / name


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as error:
        read_decisions(path, place())
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, ">f8", np.float16])
def test_a_q_table_is_read_from_npy(dtype: str, tmp_path: Path) -> None:
    np.save(tmp_path / "q.npy", Q.astype(dtype))
    found = read_decisions(tmp_path / "q.npy", place())
    np.testing.assert_array_equal(found, Q.astype(dtype))
    assert found.dtype.isnative
    assert not found.flags.writeable


@pytest.mark.parametrize("form", WRITERS)
def test_what_deeptaxi_exports_is_read_back(form: str, tmp_path: Path) -> None:
    masked = np.where(Q < 0, -np.inf, Q)
    WRITERS[form](tmp_path / f"q.{form}", masked, number_labels(2), None)
    np.testing.assert_array_equal(read_decisions(tmp_path / f"q.{form}", place()), masked)
    WRITERS[form](tmp_path / f"p.{form}", np.empty((3, 0)), number_labels(2), np.array(POLICY))
    found = read_decisions(tmp_path / f"p.{form}", place())
    assert (found.dtype, found.tolist()) == (np.int64, POLICY)


@pytest.mark.parametrize(
    "content",
    [
        "0.81,0.7\n0.9,-0.25\n1,1e-30\n",
        "8.1e-01 7.0e-01\n9.0e-01 -2.5e-01\n1.0e+00 1.0e-30\n",  # numpy.savetxt
        "0.81;0.7\r\n0.9;-0.25\r\n1;1e-30",
        "\ufeff# a comment\n\n0.81\t0.7\n0.9\t-0.25\n1\t1e-30\n",
        ",0,1\n0,0.81,0.7\n1,0.9,-0.25\n2,1.0,1e-30\n",  # pandas
        "0,1\n0.81,0.7\n0.9,-0.25\n1.0,1e-30\n",  # pandas without an index
        "go,stay\n0.81,0.7\n0.9,-0.25\n1.0,1e-30\n",
        "state,go,stay\n2,1.0,1e-30\n0,0.81,0.7\n1,0.9,-0.25\n",
        "0,0.81,0.7\n1,0.9,-0.25\n2,1.0,1e-30\n",
    ],
)
def test_q_tables_as_text(content: str, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_decisions(text(tmp_path, content), place()), Q)


@pytest.mark.parametrize(
    "content", ["0\n0\n1\n", "state,action\n2,1\n0,0\n1,0\n", "action\n0\n0\n1\n", ",policy\n0,0\n1,0\n2,1\n"]
)
def test_policies_as_text(content: str, tmp_path: Path) -> None:
    assert read_decisions(text(tmp_path, content), place()).tolist() == POLICY


@pytest.mark.parametrize(
    "value", [Q.tolist(), {"q_values": Q.tolist()}, {"QTable": Q.tolist()}, dict(zip("012", Q.tolist(), strict=True))]
)
def test_q_tables_as_json(value: object, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_decisions(text(tmp_path, json.dumps(value), "q.json"), place()), Q)


@pytest.mark.parametrize("value", [POLICY, {"policy": POLICY}, {"0": 0, "1": 0, "2": 1}])
def test_policies_as_json(value: object, tmp_path: Path) -> None:
    assert read_decisions(text(tmp_path, json.dumps(value), "p.json"), place()).tolist() == POLICY


@pytest.mark.parametrize("names", [("q_values", "other"), ("Q", "policy"), ("anything",)])
def test_the_right_array_of_several_is_chosen(names: tuple[str, ...], tmp_path: Path) -> None:
    np.savez(tmp_path / "q.npz", **{name: Q if name == names[0] else np.zeros(7) for name in names})
    np.testing.assert_array_equal(read_decisions(tmp_path / "q.npz", place()), Q)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.zeros((4, 2)), r"has the shape \[4, 2\], chain has \[S, A\] = \[3, 2\]: expected a Q table \[3, 2\] or"),
        (np.zeros((2, 3)), "transpose it"),
        (np.zeros(7, int), r"shape \[7\]"),
        (np.array([0.0, 0.5, 1.0]), "as the values of states are"),
        ([0, 2, 0], "takes action 2 in state 1: expected 0 to 1"),
        ([0, -1, 0], "takes action -1 in state 1"),
        (np.where(Q == 0.9, np.nan, Q), "NaN or .* in 1 of 3 states, such as state 1"),
        ([[0.5, 0.5], [1, 0], [0.25, 0.75]], "probabilities"),
        (Q.astype(complex), "holds complex128, not numbers"),
        ([[1, 2], [3]], "cannot be read"),
        (np.array(["a", "b", "c"]), "not numbers"),
    ],
)
def test_other_arrays_are_refused_by_what_they_are(value: object, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        decisions_of(value, place())


def test_one_hot_rows_are_a_policy_not_q_values() -> None:
    for rows in (np.eye(2)[POLICY], np.eye(2, dtype=bool)[POLICY]):
        assert decisions_of(rows, place()).tolist() == POLICY


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("1,2\n3,4\n5\n", "line 3 has 1 columns, the first has 2"),
        ("1,2\n3,x\n5,6\n", "line 2 holds 'x', which is not a number"),
        ("", "empty"),
        ("state,state_name\n0,a\n", "its header is state, state_name"),
        ("state,a,b\n0,1,2\n0,3,4\n2,5,6\n", "its states are not 0 to 2, each once"),
    ],
)
def test_damaged_texts_are_refused_with_the_line(content: str, said: str, tmp_path: Path) -> None:
    assert said in refusal(text(tmp_path, content))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([[1, 2], [3], [5, 6]], "state 1 has 1 numbers, state 0 has 2"),
        ([[1, "2"], [3, 4], [5, 6]], "state 0 holds '2', which is not a number"),
        ({"0": [1, 2], "2": [3, 4]}, "there is no 1"),
        ({"a": [1], "b": [2]}, "it holds a, b: expected q_values"),
        (3, "expected a list"),
    ],
)
def test_damaged_json_is_refused(value: object, said: str, tmp_path: Path) -> None:
    assert said in refusal(text(tmp_path, json.dumps(value), "q.json"))


def test_a_transition_table_is_not_a_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", probability=Q, next_state=Q, reward=Q)
    assert "`deeptaxi solve` solves it" in refusal(tmp_path / "t.npz")


def test_pickled_objects_in_an_array_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "q.npy", np.array({"q": Q}, object), allow_pickle=True)
    assert "pickled objects, which are never loaded" in refusal(tmp_path / "q.npy")
    (tmp_path / "half.npy").write_bytes(pickle.dumps(Q)[:40])
    assert "cannot be read as a Q table" in refusal(tmp_path / "half.npy")
