from __future__ import annotations

import json
import re

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.mdp.files.outcomes import ReadOptions
from deeptaxi.mdp.files.read import read_table_file
from deeptaxi.mdp.planning import value_iteration

HEADER = "state,action,next_state,probability,reward,terminated\n"
# State 0: action 0 goes to 1 or stays, action 1 ends with 2. State 1: action 0 ends with 5.
ROWS = HEADER + "0,0,1,0.75,0,0\n0,0,0,0.25,-1,0\n0,1,1,1,2,1\n1,0,0,1,5,true\n"
LOG = "episode,state,action,reward,next_state,terminated\n"


@pytest.fixture
def read(tmp_path):
    """Write a file and read it."""

    def write(text, name="rows.csv", **options):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read_table_file(tmp_path / name, ReadOptions(**options))

    return write


def test_rows_are_the_table_that_they_say(read):
    found = read(ROWS, start="0")
    table = found.table
    assert (table.states, table.actions, table.probability.shape[2]) == (2, 2, 2)
    assert table.action_mask.tolist() == [[True, True], [True, False]]
    assert table.start.tolist() == [1, 0]
    # V(1) = 5; V(0) = max(2, 0.75·(0.9·5) + 0.25·(−1 + 0.9·V(0))), so V(0) = (3.375 − 0.25)/(1 − 0.225).
    assert value_iteration(table, 0.9, table.action_mask).value == pytest.approx([3.125 / 0.775, 5])
    assert found.form == "4 rows of outcomes"
    assert found.notes == ("1 pair of state and action may not be taken, without outcomes",)


def test_columns_that_are_not_read_are_named(read):
    rows = [row.split(",") for row in ROWS.split()]
    one = "".join(",".join([*row, "weight" if row == rows[0] else "3"]) + "\n" for row in rows)
    assert read(one).notes[0] == "the column 'weight' is not read"
    many = "".join(",".join([*row, *(f"c{n}" if row == rows[0] else "x" for n in range(7))]) + "\n" for row in rows)
    assert read(many).notes[0] == "the columns 'c0', 'c1', 'c2', 'c3', 'c4', … are not read"
    log = "note," + LOG + ",0,0,0,1,1,false\n,0,1,0,5,1,true\n"
    assert "the column 'note' is not read" in read(log).notes


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.tsv", ROWS.replace(",", "\t")),
        ("rows.csv", "\ufeff" + ROWS.replace(",", "; ")),
        ("rows.csv", ROWS.replace("state,action,next_state,probability", "S,A,nextState,Prob")),
        ("rows.csv", "i,extra," + HEADER + "".join(f"{n},x,{row}\n" for n, row in enumerate(ROWS.split()[1:]))),
        ("rows.csv", HEADER + "".join(row + "\n\n" for row in reversed(ROWS.split()[1:]))),
        ("rows.CSV", ROWS.replace("0,0,0,0.25,-1,0\n", "0,0,0,0.125,-1,0\n0,0,0,0.125,-1,0\n0,1,0,0,7,0\n")),
    ],
)
def test_the_same_rows_in_other_words_are_the_same_table(read, name, text):
    table, same = read(ROWS).table, read(text, name).table
    for array in ("probability", "next_state", "reward", "terminated", "start", "action_mask"):
        np.testing.assert_array_equal(getattr(same, array), getattr(table, array))


def test_json_has_rows_as_objects_as_lists_and_by_the_line(read):
    table = read(ROWS).table
    header, *rows = (line.split(",") for line in ROWS.split())
    records = [{key: json.loads(value) for key, value in zip(header, row, strict=True)} for row in rows]
    columns = {key: [record[key] for record in records] for key in header}
    for name, text in (
        ("rows.json", json.dumps(records)),
        ("rows.json", json.dumps({"rows": records, "discount": 0.5, "start": [0.5, 0.5]})),
        ("rows.json", json.dumps(columns)),
        ("rows.jsonl", "\n".join(map(json.dumps, records))),
    ):
        found = read(text, name)
        np.testing.assert_array_equal(found.table.probability, table.probability)
        assert found.table.discount == (0.5 if "discount" in text else None)


def test_parquet_is_read_by_pyarrow(read, tmp_path):
    columns = {
        "state": [0, 0, 0, 1], "action": [0, 0, 1, 0], "next_state": [1, 0, 1, 0],
        "probability": [0.75, 0.25, 1, 1], "reward": [0.0, -1, 2, 5], "terminated": [False, False, True, True],
    }  # fmt: skip
    parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
    found = read_table_file(tmp_path / "rows.parquet").table
    np.testing.assert_array_equal(found.reward, read(ROWS).table.reward)
    parquet.write_table(pyarrow.table({**columns, "probability": [0.5, 0.25, 1, 1]}), tmp_path / "rows.parquet")
    with pytest.raises(
        DeepTaxiError, match=r"rows.parquet, row 1: the probabilities of state 0, action 0 \(rows 1, 2\)"
    ):
        read_table_file(tmp_path / "rows.parquet")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DeepTaxiError, match=r"rows\.parquet is no readable Parquet file"):
        read_table_file(tmp_path / "rows.parquet")


def test_texts_are_numbered_as_they_come_and_kept_as_names(read):
    text = HEADER + "home,go,work,1,0,0\nwork,rest,bed,1,3,1\nwork,go,home,1,1,0\n"
    found = read(text, start="work")
    assert found.table.state_names == ("home", "work", "bed")
    assert found.table.action_names == ("go", "rest")
    assert found.table.start.tolist() == [0, 1, 0]
    assert "1 state (2) is an end" in found.notes
    assert found.table.action_mask.tolist() == [[True, False], [True, True], [True, True]]
    with pytest.raises(UsageError, match="has no state 'wrok' to start in; did you mean 'work'"):
        read(text, start="wrok")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ROWS.replace("0.75", "0.7"), "line 2: the probabilities of state 0, action 0 (lines 2, 3) sum to 0.95"),
        (ROWS.replace("0.75", "nan"), "line 2: column 'probability' holds 'nan': expected a number"),
        (ROWS.replace("0.75", "1.25").replace("0.25", "-0.25"), "line 3: state 0, action 0 has a probability of -0.25"),
        (ROWS.replace("0,1,1,1,2", "0,1,1,1,inf"), "line 4: state 0, action 1 has a reward of inf"),
        (ROWS.replace("0,1,1,1,2", "0,1,1,1,two"), "line 4: column 'reward' holds 'two': expected a number"),
        (ROWS.replace("true", "perhaps"), "line 5: column 'terminated' holds 'perhaps': expected true or false"),
        (ROWS.replace("1,0,0,1,5", "-1,0,0,1,5"), "line 5: column 'state' holds '-1': numbers begin with 0"),
        (ROWS.replace("1,0,0,1,5", "1.5,0,0,1,5"), "line 5: column 'state' holds '1.5': expected a whole number"),
        (ROWS.replace("1,0,0,1,5", "1,0,,1,5"), "line 5: column 'next_state' holds '': expected a whole number"),
        (ROWS.replace("1,0,0,1,5", "1,0,home,1,5"), "line 5: column 'next_state' holds 'home': line 2 has"),
        (ROWS.replace("1,0,0,1,5", "2,0,2,1,5"), "line 2: state 1, which state 0 leads to, has no outcomes of its own"),
        (ROWS + "5,0,5,1,0,0\n", "state 2 has no outcomes, and none leads to it: states are numbered from 0 to 5"),
        (ROWS + "900000,0,5,1,0,0\n", "line 6: column 'state' holds '900000': only 4 states occur"),
        (ROWS + "1,1,1\n", "line 6: expected 6 values as in the header, received 3"),
        (ROWS.replace("reward", "gain"), "lacks the column 'reward': expected one named reward or r or rewards"),
        ("state,action,next_state,reward\n0,0,0,1\n", "lacks the column 'terminated'"),
        (HEADER, "has no rows"),
        ("", "the first line is no header of rows"),
        ("0,0,1,1,0,0\n", "the first line is no header of rows: expected names such as state, action"),
        ('state,action\n"0', "line 2: expected 2 values as in the header, received 1"),
        ("state,action\n0,0\x00\n", "lacks the column 'next_state'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_its_line(read, text, message):
    with pytest.raises(DeepTaxiError, match=re.escape(message)) as found:
        read(text)
    assert str(found.value).count("rows.csv") == 1
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}', "holds 'a': expected rows of outcomes, or P and R"),
        ("[1, 2]", "row 1: expected an object"),
        ('[{"state": 0}, {}]', "row 2: 'state' is missing"),
        ("3", "holds no object and no list"),
        ("{", "is no JSON"),
        ('{"state": [0], "action": [0, 1], "next_state": [0]}', "expected lists of one length, received [1, 2]"),
        ('{"rows": [{"state": 0}], "discount": "x"}', "discount: expected numbers in 0 dimensions"),
    ],
)
def test_json_of_another_form_is_refused(read, text, message):
    with pytest.raises(DeepTaxiError, match=re.escape(message)):
        read(text, "rows.json")


def test_a_line_of_json_that_is_none_is_named(read):
    with pytest.raises(DeepTaxiError, match=r"rows\.jsonl, line 2: it is no JSON"):
        read('{"state": 0}\nx\n', "rows.jsonl")


def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path, monkeypatch):
    (tmp_path / "rows.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DeepTaxiError, match=r"rows\.csv: it is no text in UTF-8"):
        read_table_file(tmp_path / "rows.csv")
    monkeypatch.setattr("deeptaxi.mdp.files.columns.TEXT_BYTES", 1024)
    (tmp_path / "rows.csv").write_bytes(b"0" * 1025)
    with pytest.raises(DeepTaxiError, match="larger than the limit of 1 KiB"):
        read_table_file(tmp_path / "rows.csv")
    with pytest.raises(UsageError, match="no file at"):
        read_table_file(tmp_path / "nowhere.csv")


def test_a_reward_of_minus_infinity_forbids_the_action(read):
    found = read(ROWS.replace("0,1,1,1,2", "0,1,1,1,-inf"))
    assert found.table.action_mask.tolist() == [[True, False], [True, False]]
    assert "1 pair of state and action may not be taken, by a reward of −∞" in found.notes
    with pytest.raises(DeepTaxiError, match="line 2: state 0, action 0 has a reward of −∞ in some outcomes only"):
        read(ROWS.replace("0.25,-1", "0.25,-inf"))


def test_absorbing_states_are_told_of_and_ended_only_if_asked(read):
    text = HEADER + "0,0,1,1,1,0\n1,0,1,1,0,0\n"
    found = read(text)
    assert not found.table.terminated.any()
    assert any("1 state (1) is never left and earns nothing: episodes go on there" in note for note in found.notes)
    ended = read(text, end_absorbing=True)
    assert ended.table.terminated.all()
    assert ended.table.start.tolist() == [1, 0]
    assert value_iteration(found.table, 0.9).value == pytest.approx(value_iteration(ended.table, 0.9).value)


def test_a_log_is_counted(read):
    # State 0: action 0 was tried 4 times, led to 1 three times and ended once; action 1 once. State 1: action 0.
    rows = "a,0,0,1,1,0\na,1,0,5,0,1\nb,0,0,3,1,0\nb,1,0,5,0,1\nc,0,0,2,1,0\nc,1,0,7,0,1\nd,0,0,9,0,1\ne,0,1,4,2,1\n"
    found = read(LOG + rows, discount=0.5)
    table = found.table
    assert table.probability[0, 0].tolist() == [0.25, 0.75]
    assert table.next_state[0, 0].tolist() == [0, 1]
    assert table.reward[0, 0].tolist() == [9, 2]  # the mean of 1, 3 and 2
    assert table.terminated[0, 0].tolist() == [True, False]
    assert table.reward[1, 0, 0] == pytest.approx(17 / 3)
    assert table.start.tolist() == [1, 0, 0]
    assert table.action_mask.tolist() == [[True, True], [True, False], [True, True]]
    assert (table.logged.transitions, table.logged.episodes, table.discount) == (8, 5, 0.5)
    assert found.form == "8 logged transitions in 5 episodes"
    assert found.notes[0].startswith("1 pair of state and action never occurs, and may not be taken")


def test_episodes_are_found_without_their_column(read):
    rows = "0,0,0,1,0,0\n1,0,0,2,0,1\n3,0,0,1,1,0\n1,0,0,0,0,0\n4,0,0,1,0,0\n"
    header = "state,action,reward,next_state,terminated,truncated\n"
    found = read(header + rows)  # an end by truncation, an end, and a state that does not follow
    assert found.table.logged.episode.tolist() == [0, 0, 1, 2, 3]
    assert "there is no column 'episode'" in found.notes[0]


def test_what_a_log_leaves_unknown_is_told(read):
    found = read(LOG + "0,0,0,1,5,0\n1,0,2,1,0,1\n", start="0")
    told = "; ".join(found.notes)
    assert "action 1 never occurs: nothing is known of it, and it may not be taken" in told
    assert "1 state (5) is reached, but no action was logged there: what follows is unknown" in told
    assert "4 state numbers never occur (1, 2, 3, 4)" in told
    assert "2 pairs of state and action occur in one episode only" in told
    assert "the start is the given one" in told


def test_done_is_said_to_be_taken_for_an_end(read):
    rows = "0,0,0,1,0,1\n"
    assert any("'done' is taken for ends" in note for note in read(LOG.replace("terminated", "done") + rows).notes)
    with pytest.raises(DeepTaxiError, match="a reward that was logged is finite"):
        read(LOG + "0,0,0,inf,0,1\n")
    with pytest.raises(DeepTaxiError, match="end_absorbing is not for logged data"):
        read(LOG + rows, end_absorbing=True)
