from __future__ import annotations

import re
from pathlib import Path

import pytest

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.mdp.files.outcomes import ReadOptions
from deeptaxi.mdp.files.read import read_table_file
from deeptaxi.mdp.planning import value_iteration

# From state 0, `go` leads to 1 or 2 by a fair coin, `wait` stays; state 1 goes on to 2 with 0.25; state 2 loops.
TRA = "3 4 6\n0 0 1 0.5 go\n0 0 2 0.5 go\n0 1 0 1 wait\n1 0 1 3/4 go\n1 0 2 1/4 go\n2 0 2 1 go\n"
LAB = '0="init" 1="deadlock" 2="goal"\n0: 0\n2: 2 1\n'
STA = "(x,y)\n0:(0,false)\n1:(1,false)\n2:(1,true)\n"


@pytest.fixture
def read(tmp_path):
    """Write a model and read it."""

    def write(tra=TRA, lab=LAB, options=None, **others):
        for ending, text in {"tra": tra, "lab": lab, **others}.items():
            if text is not None:
                (tmp_path / f"m.{ending}").write_text(text, encoding="utf-8")
        return read_table_file(tmp_path / "m.tra", ReadOptions(**options or {}))

    return write


def test_rewards_of_states_are_earned_on_leaving_them(read):
    found = read(srew="# Reward structure: steps\n3 2\n0 -1\n1 -2\n", sta=STA)
    table = found.table
    assert table.start.tolist() == [1, 0, 0]
    assert table.action_names == ("go", "wait")
    assert table.state_names[2] == "x=1, y=true"
    assert table.action_mask.tolist() == [[True, True], [True, False], [True, False]]
    # V(2) = 0; V(1) = −2/(1 − 0.9·0.75); V(0) = −1 + 0.9·V(1)/2.
    one = -2 / (1 - 0.675)
    assert value_iteration(table, 0.9, table.action_mask).value == pytest.approx([-1 + 0.45 * one, one, 0])
    assert found.form == "PRISM's explicit decision process, rewards of m.srew"


def test_rewards_of_transitions_are_added(read):
    found = read(srew="3 1\n0 -1\n", trew="3 4 2\n0 0 2 5\n1 0 2 7\n")
    reward = found.table.expected_reward
    assert reward[0].tolist() == [-1 + 2.5, -1]
    assert reward[1, 0] == 7 / 4
    assert read(srew=None, rew="3 1\n0 -1\n").table.expected_reward[0, 1] == -2  # a third file, of states


def test_a_goal_ends_the_episode_and_earns_1_without_rewards(read):
    found = read(options={"goal": "goal"})
    assert found.table.discount == 1
    assert value_iteration(found.table, 1.0, found.table.action_mask).value == pytest.approx([1, 1, 0])
    assert "values are chances" in "; ".join(found.notes)
    rewarded = read(options={"goal": "goal"}, srew="3 1\n0 -1\n")
    assert rewarded.table.terminated[1, 0].tolist() == [False, True]
    assert rewarded.table.discount is None


def test_a_markov_chain_has_one_action(read):
    found = read("2 3\n0 0 0.5\n0 1 0.5\n1 1 1\n", lab=None, rew="2 2\n0 1 3\n1 1 0\n")
    assert found.table.actions == 1
    assert found.table.expected_reward[0, 0] == 1.5
    assert "Markov chain" in found.form
    assert any("start uniformly in all 2 states" in note for note in found.notes)


def test_choices_are_numbered_where_labels_do_not_tell_them_apart(read):
    twice = read(TRA.replace("wait", "go"), srew="3 0\n")
    assert twice.table.action_names is None
    assert "actions are the choices of each state by number" in twice.notes[0]
    without = read(re.sub(" (go|wait)", "", TRA), srew="3 0\n")
    assert without.table.action_mask.tolist() == [[True, True], [True, False], [True, False]]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tra": TRA.replace("0 0 1 0.5", "0 0 1 0.4")}, "m.tra, line 2: the probabilities of state 0, action 0 ("),
        ({"tra": TRA.replace("1 0 1 3/4", "1 0 1 half")}, "m.tra, line 5: 'half': expected a number"),
        ({"tra": TRA.replace("1 0 1 3/4", "1 0 3 3/4")}, "m.tra, line 5: '3': expected a whole number from 0 to 2"),
        ({"tra": TRA.replace("1 0 1 3/4", "-1 0 1 3/4")}, "m.tra, line 5: '-1': expected a whole number from 0 to 2"),
        ({"tra": TRA.replace("1 0 1 3/4 go", "1 0")}, "m.tra, line 5: 2 values: expected"),
        ({"tra": TRA.replace("3 4 6", "3 4 7")}, "m.tra, line 1: 7 transitions are announced, and 6 follow"),
        ({"tra": TRA.replace("2 0 2 1 go\n", "").replace("3 4 6", "3 4 5")}, "m.tra, line 3: state 2, which state 0"),
        ({"tra": "hello"}, 'm.tra, line 1: expected "states choices transitions"'),
        ({"tra": ""}, "m.tra, line 1: expected"),
        ({"tra": "0 0 0\n"}, "m.tra, line 1: a model without states"),
        ({"lab": "nothing"}, 'm.lab, line 1: expected labels such as 0="init"'),
        ({"lab": LAB.replace('"\n', '" 9=goal\n', 1)}, 'm.lab, line 1: expected labels such as 0="init"'),
        ({"lab": LAB.replace('"\n', '" 0="again"\n', 1)}, "m.lab, line 1: two labels have one number"),
        ({"lab": LAB + "7: 0\n"}, "m.lab, line 4: '7': expected a whole number from 0 to 2"),
        ({"lab": LAB + "1: 5\n"}, "m.lab, line 4: label '5' is not in the first line"),
        ({"lab": LAB + "1\n"}, 'm.lab, line 4: expected "state: label label …"'),
        ({"srew": "3 1\n5 1\n"}, "m.srew, line 2: '5': expected a whole number"),
        ({"srew": "3 1\n0 0 1\n"}, 'm.srew, line 2: 3 values: expected "state choice target reward"'),
        ({"srew": ""}, "m.srew, line 1: the file is empty"),
        ({"trew": "3 4 1\n0 1 2 5\n"}, "m.trew: it has a reward for state 0, choice 1, target 2, which m.tra has no"),
        ({"sta": "(x)\n9:(0)\n"}, "m.sta, line 2: '9': expected"),
        ({"srew": None}, "m.tra has no rewards beside it (m.srew, m.trew, m.rew): add one, or name a goal"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_its_line(read, files, message):
    with pytest.raises(DeepTaxiError, match=re.escape(message)) as found:
        read(**{"srew": "3 1\n0 -1\n", **files})
    assert "\n" not in str(found.value)


def test_a_label_that_no_state_has_is_refused(read):
    with pytest.raises(UsageError, match=r"m.lab has no state with the label 'gaol'; did you mean 'goal'"):
        read(options={"goal": "gaol"})
    with pytest.raises(UsageError, match="no file at"):
        read_table_file(Path("nowhere.tra"))
