from __future__ import annotations

import contextlib
import pickle
import random
import re
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.mdp.files import is_table_file
from deeptaxi.mdp.files.outcomes import ReadOptions
from deeptaxi.mdp.files.read import as_transition_table, options_of, read_table_file, read_value
from deeptaxi.mdp.table import from_arrays, save_table
from tests.mdp.files.test_cassandra import MDP
from tests.mdp.files.test_prism import TRA
from tests.mdp.files.test_row_files import LOG, ROWS
from tests.problems import SOUND, chain, random_table, rows_of


@pytest.mark.parametrize("name", ["FrozenLake-v1", "CliffWalking-v1"])
def test_the_p_of_gymnasium_is_its_table(name):
    env = gymnasium.make(name).unwrapped
    table = as_transition_table(env.P, start=env.initial_state_distrib)
    whole = chain().from_rows(env.P, env.initial_state_distrib)
    np.testing.assert_allclose(table.expected_reward, whole.expected_reward)
    np.testing.assert_allclose(np.sort(table.probability.sum(-1), -1), np.sort(whole.probability.sum(-1), -1))
    np.testing.assert_allclose(table.start, whole.start)


def test_a_p_is_read_in_any_numbering():
    table = random_table(3)
    rows = rows_of(table)
    lists = [[rows[s][a] for a in range(table.actions)] for s in range(table.states)]
    letters = {f"s{s}": {f"a{a}": [(p, f"s{t}", r, d) for p, t, r, d in rows[s][a]] for a in rows[s]} for s in rows}
    cells = {(s, 0): {a: [(p, (np.int64(t), 0), r, d) for p, t, r, d in rows[s][a]] for a in rows[s]} for s in rows}
    numpy_keys = {np.int64(s): {np.int64(a): rows[s][a] for a in rows[s]} for s in rows}
    for value in (rows, lists, letters, cells, numpy_keys, table):
        found = as_transition_table(value)
        np.testing.assert_allclose(found.expected_reward, table.expected_reward)
    assert as_transition_table(letters).state_names == ("s0", "s1", "s2", "s3")
    assert as_transition_table(cells).state_names[1] == "(1, 0)"


def test_a_p_may_lack_actions_and_ends():
    found = read_value({0: {0: [(1.0, 1, 5, True)], 2: [(1.0, 0, 0, False)]}})
    assert found.table.action_mask.tolist() == [[True, False, True], [True, True, True]]
    assert found.table.start.tolist() == [1, 0]
    assert "1 state (1) is an end" in found.notes
    three = read_value({0: {0: [(1.0, 0, 5)]}})
    assert three.notes == ("no outcome ends an episode, as none has a fourth value, terminated",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({0: {0: [(1, 0)]}}, "P is not of the form P[state][action] = [(probability, next_state, reward,"),
        ({0: {0: [(1, 0, 0, 2)]}}, "it is (1, 0, 0, 2) at [0][0][0]"),
        ({0: {0: [(1, 0, "x", True)]}}, "it is (1, 0, 'x', True) at [0][0][0]"),
        ({}, "it holds no outcomes"),
        ({0: 3}, "it is 3 at [0]"),
        ({0: {0: [(0.5, 0, 0, True)]}}, "P: the probabilities of state 0, action 0 sum to 0.5, not to 1"),
        ({-1: {0: [(1, -1, 0, True)]}}, "P has state -1: numbers begin with 0"),
        ({0: {0: [(1, 1, 0, False)]}}, "P: state 1, which state 0 leads to, has no outcomes of its own"),
        ({0: {0: [(float("nan"), 0, 0, True)]}}, "a probability of nan"),
        ([], "expected a dict P[state][action]"),
        ((np.eye(2)[None],), "it is array([[[1., 0.], [0., 1.]]]) at [0]"),
        (3, "expected a dict P[state][action]"),
    ],
)  # fmt: skip
def test_values_of_another_form_are_refused_in_one_line(value, message):
    with pytest.raises(DeepTaxiError, match=re.escape(message)) as found:
        as_transition_table(value)
    assert "\n" not in str(found.value)


class Frame:
    """What is used of a data frame."""

    def __init__(self, **columns):
        self.values, self.columns = columns, list(columns)

    def to_dict(self, orient):
        assert orient == "list"
        return self.values


def test_a_data_frame_is_read_by_its_columns():
    found = read_value(
        Frame(state=np.array([0, 1]), action=[0, 0], next_state=[1, 1], probability=[1.0, 1.0], reward=[2, 0])
    )
    assert found.table.expected_reward.tolist() == [[2], [0]]
    with pytest.raises(DeepTaxiError, match="the data frame, row 1: the probabilities of state 0"):
        read_value(Frame(state=[0], action=[0], next_state=[0], probability=[0.5], reward=[2]))


def test_files_are_told_by_their_endings(tmp_path):
    for name in ("m.tra", "a/b.CSV", "x.npz", "P.pkl", "t.POMDP"):
        assert is_table_file(name)
    for name in ("Taxi-v4", "module:Id-v0", "file.py", ""):
        assert not is_table_file(name)
    with pytest.raises(UsageError, match=r"expected a name that ends in \.npz, \.mat, \.json"):
        read_table_file(tmp_path / "m.xlsx")


def test_a_pickle_is_refused_with_what_converts_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("P.pkl").write_bytes(pickle.dumps({0: {0: [(1.0, 0, 1.0, True)]}}))
    with pytest.raises(UsageError, match=r"P\.pkl is a pickle, which can run any code and is never opened") as found:
        read_table_file(Path("P.pkl"))
    code = re.search('python -c "(.*)"', str(found.value))[1]
    exec(code, {})  # noqa: S102  # what the line advises works
    assert read_table_file(Path("P.npz")).table.expected_reward.tolist() == [[1]]
    with pytest.raises(UsageError, match=r"deeptaxi.convert\(joblib.load\('a\.joblib'\), 'a\.npz'\)"):
        read_table_file(Path("a.joblib"))
    with pytest.raises(UsageError, match=r"P\.npy holds a single array"):
        read_table_file(Path("P.npy"))


def test_a_table_of_deeptaxi_takes_no_options(tmp_path):
    save_table(chain(), tmp_path / "chain.npz")
    assert read_table_file(tmp_path / "chain.npz").form == "deeptaxi's table"
    with pytest.raises(UsageError, match="a transition table takes no arguments, received start"):
        read_table_file(tmp_path / "chain.npz", ReadOptions(start="0"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"strat": 0}, "takes no argument 'strat'; did you mean 'start'"),
        ({"xyz": 0}, "takes no argument 'xyz': expected start, discount"),
        ({"prior": -1}, "prior: expected a number from 0, received -1"),
        ({"prior": "much"}, "prior: expected a number from 0, received 'much'"),
        ({"discount": 2}, "discount: expected a number between 0 and 1, received 2"),
        ({"end_absorbing": "yes"}, "end_absorbing: expected true or false, received 'yes'"),
        ({"goal": 3}, "goal: expected the name of a label, received 3"),
        ({"time_limit": 0}, "time_limit: expected 1 or more, received 0"),
    ],
)
def test_wrong_options_are_refused(given, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        options_of(given)


def test_starts_are_numbers_names_several_or_a_distribution():
    p = {0: {0: [(1.0, 1, 0, False)]}, 1: {0: [(1.0, 0, 0, True)]}}
    for start, expected in ((1, [0, 1]), ("0,1", [0.5, 0.5]), ("uniform", [0.5, 0.5]), ([0.25, 0.75], [0.25, 0.75])):
        assert as_transition_table(p, start=start).start.tolist() == expected
    for start, message in (
        (2, "P has no state '2' to start in; states are numbered 0 to 1"),
        ([1], "start: expected shape"),
    ):
        with pytest.raises(DeepTaxiError, match=message):
            as_transition_table(p, start=start)


def test_minus_infinity_and_missing_rows_of_a_table_forbid_actions():
    arrays = {**SOUND, "reward": [[[-np.inf, -np.inf], [1, 1]], [[0, 0], [0, 0]]]}
    for name in ("probability", "next_state", "terminated"):
        arrays[name] = np.repeat(np.array(SOUND[name]), 2, axis=1)
    table = from_arrays(**arrays)
    assert table.action_mask.tolist() == [[False, True], [True, True]]
    assert table.reward[0, 0].tolist() == [0, 0]
    arrays["probability"][1, 0] = 0
    table = from_arrays(**arrays, action_mask=np.array([[True, True], [False, True]]))
    assert table.action_mask.tolist() == [[False, True], [False, True]]
    with pytest.raises(DeepTaxiError, match="reward of state 0, action 0 is −∞ in some outcomes only"):
        from_arrays(**{**arrays, "reward": [[[-np.inf, 0], [1, 1]], [[0, 0], [0, 0]]]})
    with pytest.raises(DeepTaxiError, match="probability of state 1, action 0 sums to 0"):
        from_arrays(**arrays)


SAMPLES = {
    "m.mdp": MDP, "m.tra": TRA, "rows.csv": ROWS, "log.csv": LOG + "0,0,0,1,1,0\n0,1,0,1,1,1\n1,0,1,2,1,1\n",
    "p.json": '{"P": {"0": {"0": [[1.0, 0, 1, true]]}}, "start": [1], "discount": 0.5}',
    "rows.json": '[{"state": 0, "action": 0, "next_state": 0, "reward": 1, "probability": 1, "terminated": true}]',
}  # fmt: skip
PIECES = (
    "0",
    "-1",
    "99999999999999999999",
    "2147483648",
    "1e400",
    "nan",
    "-inf",
    "*",
    ":",
    ",",
    "\n",
    '"',
    "{",
    "]",
    "x",
    " ",
)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_broken_file_is_read_or_refused_in_one_line(name, tmp_path):
    """Nothing else is raised, and no memory is taken that the file merely asks for."""
    rng, sample = random.Random(0), SAMPLES[name]
    (tmp_path / "m.srew").write_text("3 1\n0 -1\n", encoding="utf-8")
    for _ in range(150):
        text = sample
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(text))
            text = text[:place] + rng.choice(PIECES) * rng.randint(0, 2) + text[place + rng.randint(0, 4) :]
        (tmp_path / name).write_text(text, encoding="utf-8")
        with contextlib.suppress(DeepTaxiError):
            read_table_file(tmp_path / name, ReadOptions(prior=rng.choice([0.0, 0.5])))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"goal": "won"}, "rows.csv: --goal names a label of PRISM's files (.tra), and this holds 5 rows of outcomes"),
        ({"prior": 1.0}, "rows.csv: --prior is for logged transitions, and this holds 5 rows of outcomes"),
    ],
)
def test_options_that_say_nothing_of_a_form_are_refused(options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text(FIVE)
    with pytest.raises(UsageError, match=re.escape(said)):
        read_table_file(Path("rows.csv"), ReadOptions(**options))


FIVE = """state,action,next_state,probability,reward,terminated
0,0,0,.5,1,0
0,0,1,.5,1,0
0,1,1,1,0,0
1,0,0,1,0,1
1,1,1,1,2,0
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("1,2,0", "1,1e300,0", "rows.csv, line 6: state 1, action 1 has a reward of 1e+300: expected at most 1e+30 in"),
        ("probability", "reward", "rows.csv has 2 columns 'reward'"),
    ],
)
def test_what_is_wrong_with_rows_is_named(old, new, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text(FIVE.replace(old, new))
    with pytest.raises(DeepTaxiError, match=re.escape(said)):
        read_table_file(Path("rows.csv"))


def test_a_discount_that_is_none_is_named_with_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("m.npz", P=np.ones((1, 1, 1)), R=np.zeros((1, 1)), gamma=7)
    with pytest.raises(DeepTaxiError, match=re.escape("m.npz: discount: expected a number between 0 and 1")):
        read_table_file(Path("m.npz"))
