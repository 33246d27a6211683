from __future__ import annotations

import re

import pytest

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.mdp.files.outcomes import ReadOptions
from deeptaxi.mdp.files.read import read_table_file
from deeptaxi.mdp.planning import value_iteration

MDP = """# stay, or go there, where all is free
discount: 0.9
values: cost
states: here there
actions: stay go
start: here

T: stay
identity
T: go : here
0.2 0.8   # slips
T: go : there : there 1.0
R: * : here : * : * 1.0
R: go : here : there 3.0
"""


@pytest.fixture
def read(tmp_path):
    """Write a model and read it."""

    def write(text=MDP, name="m.MDP", **options):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read_table_file(tmp_path / name, ReadOptions(**options))

    return write


def test_costs_are_negative_rewards_and_later_entries_replace_earlier_ones(read):
    found = read()
    table = found.table
    assert (table.state_names, table.action_names, table.discount) == (("here", "there"), ("stay", "go"), 0.9)
    assert table.start.tolist() == [1, 0]
    assert table.expected_reward.tolist() == [[-1, pytest.approx(-0.2 - 2.4)], [0, 0]]
    # Going: V = −2.6 + 0.9·0.2·V; staying costs 1/(1 − 0.9).
    assert value_iteration(table, 0.9).value == pytest.approx([-2.6 / 0.82, 0])
    assert found.form == "Cassandra's MDP, costs as negative rewards"
    assert any("1 state (1) is never left and earns nothing" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "start"),
    [
        (("start: here", "start: uniform"), [0.5, 0.5]),
        (("start: here", "start: 0.25 0.75"), [0.25, 0.75]),
        (("start: here", "start: 1"), [0, 1]),
        (("start: here", "start include: there"), [0, 1]),
        (("start: here", "start exclude: there"), [1, 0]),
        (("start: here", ""), [0.5, 0.5]),
    ],
)
def test_the_start_is_any_of_its_forms(read, change, start):
    assert read(MDP.replace(*change)).table.start.tolist() == start


def test_numbers_rows_matrices_and_words_give_the_same(read):
    table = read().table
    for old, new in (
        ("states: here there", "states: 2"),
        ("T: stay\nidentity", "T: stay 1 0 0 1"),
        ("T: stay\nidentity", "T: 0 : 0 : 0 1.0\nT: 0 : 1\n0 1"),
        (
            "T: go : here\n0.2 0.8",
            "T: go uniform\nT: go : here : here 0.2\nT: go : here : there 0.8\nT: go : there : here 0",
        ),
        ("R: go : here : there 3.0", "R: go : here 1 3"),
        ("R: go : here : there 3.0", "R: go 1 3 0 0"),
    ):
        text = MDP.replace(old, new)
        if "states: 2" in text:
            text = text.replace("there", "1").replace("here", "0")
        found = read(text).table
        assert found.expected_reward.tolist() == table.expected_reward.tolist(), new
        assert (found.continuation == table.continuation).all(), new


def test_reset_leads_to_the_start(read):
    found = read(MDP.replace("T: go : there : there 1.0", "T: go : there reset")).table
    assert found.next_state[1, 1, 0] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("0.2 0.8", "0.2 0.7"), "line 10: the probabilities of state 0, action 1 sum to 0.9, not to 1"),
        (("identity", "1 0 0"), "line 10: 3 numbers, where a matrix has 4"),
        (("identity", "one"), "line 9: 'one': expected a number"),
        (("0.2 0.8", "0.2 inf"), "line 11: inf: expected a finite number"),
        (("T: go : here", "T: go : heer"), "line 10: no state 'heer': there are 2, from 0"),
        (("T: go : here", "T: 2 : here"), "line 10: no action '2': there are 2, from 0"),
        (("values: cost", "values: gain"), "line 3: values: 'gain': expected reward or cost"),
        (("discount: 0.9", "discount 0.9"), "line 2: expected ':', received '0.9'"),
        (("discount: 0.9", "discount: 1.9"), "discount: expected a number between 0 and 1, received 1.9"),
        (("states: here there", ""), "line 6: 'states:' must come before this"),
        (("states: here there", "states: here here"), "line 4: states: expected how many, or different names"),
        (("actions: stay go", "actions: 0"), "line 5: actions: expected how many"),
        (("start: here", "start exclude: here there"), "no state is left to start in"),
        (("R: go", "X: go"), "line 14: 'X': expected one of discount, values"),
        (("R: go : here : there 3.0", "R: go : here : there"), "line 14: 0 numbers, where an entry has 1"),
        (("R: go : here : there 3.0", "T: go : here identity"), "line 14: identity is for a matrix"),
        (("# stay, or go there, where all is free", "%"), "line 1: '%': expected one of"),
    ],
)
def test_what_is_wrong_is_told_by_its_line(read, change, message):
    with pytest.raises(DeepTaxiError, match=re.escape(message)) as found:
        read(MDP.replace(*change))
    assert "\n" not in str(found.value)


def test_partially_observable_problems_are_refused(read):
    for text, name in ((MDP, "m.POMDP"), (MDP.replace("start: here", "observations: 2"), "m.mdp")):
        with pytest.raises(UsageError, match="is partially observable: it has observations instead of states"):
            read(text, name)


def test_an_action_without_transitions_may_not_be_taken(read):
    found = read(MDP.replace("T: go : there : there 1.0", ""))
    assert found.table.action_mask.tolist() == [[True, True], [True, False]]


def test_an_empty_file_and_too_many_states_are_refused(read):
    with pytest.raises(DeepTaxiError, match=r"m\.MDP is empty"):
        read("# nothing\n")
    with pytest.raises(DeepTaxiError, match="and this machine has"):
        read("states: 900000\nactions: 2\nT: 0 : 0 : 0 1.0")
