"""The data of the player: unpacked as the page does it, it is the problem again."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from deeptaxi.evaluation.exact import reference
from deeptaxi.evaluation.recording import Recording, record_seeds
from deeptaxi.mdp.describe import Names
from deeptaxi.metrics import Evaluated, History, Snapshot
from deeptaxi.report import play_data as packing
from deeptaxi.report.content import Content, Playable
from deeptaxi.report.page import page
from tests.problems import opened
from tests.report.outline import Outline, check_sound
from tests.report.test_page import content_of, optimal_q


def playable_content(name: str, q: np.ndarray | None = None, record: bool = True, **kwargs) -> Content:
    """What a report on a Q array is about, with what a player needs."""
    content = content_of(name, optimal_q(name, **kwargs) if q is None else q, **kwargs)
    environment = opened(name, **kwargs)
    target = reference(environment.table, environment.horizon, 0.99, 0.99)
    best = target.optimum.q.argmax(axis=1)
    policies = {"agent": content.subject.policy, "best": best}
    playable = Playable(
        environment.table, environment.time_limit, environment.horizon, 0.99, 0.99, best, target.optimum.q,
        record_seeds(environment, environment.table, policies) if record else {}, "deeptaxi watch models/one",
    )  # fmt: skip
    return dataclasses.replace(content, playable=playable)


def island(html: str) -> Any:
    """The data in a page."""
    return json.loads(Outline(html).text("script", type="application/json"))


def unpacked(packed: dict[str, Any], count: int) -> list[Any]:
    of = packed["of"]
    if of is None:
        return [packed["values"][0]] * count
    assert len(of) == count
    return [packed["values"][packing.ALPHABET.index(n) if isinstance(of, str) else n] for n in of]


@pytest.mark.parametrize("name", ["Taxi-v4", "FrozenLake-v1", "CliffWalking-v1"])
def test_the_data_holds_the_whole_problem_exactly(name):
    content = playable_content(name, record=False)
    data = packing.play_data(content)
    assert content.playable is not None
    table = content.playable.table
    pairs = table.states * len(content.names.actions)
    possible = table.probability > 0
    counts = unpacked(data["outcomes"]["counts"], pairs)
    assert counts == possible.sum(axis=2).ravel().tolist()
    states = np.repeat(np.arange(pairs) // len(content.names.actions), counts)
    moves, rewards, chances, ends = zip(*unpacked(data["outcomes"]["kinds"], sum(counts)), strict=True)
    assert (states + moves == table.next_state[possible]).all()
    assert list(rewards) == table.reward[possible].tolist()
    assert list(chances) == table.probability[possible].tolist()
    assert list(ends) == table.terminated[possible].tolist()
    q = content.subject.comparison.q
    assert (np.array(data["q"]).reshape(q.shape).astype(np.float32) == q.astype(np.float32)).all()
    assert data["value"] == pytest.approx(q.max(axis=1), abs=1e-8)
    phrases = [unpacked(part, table.states) for part in data["names"]]
    assert [", ".join(parts) for parts in zip(*phrases, strict=True)] == [
        content.names.state(state) for state in range(table.states)
    ]


def test_texts_of_an_untrusted_file_cannot_leave_the_data():
    bad = "</script><script>alert(1)</script><!--\u2028"
    content = playable_content("FrozenLake-v1", record=False)
    content = dataclasses.replace(content, names=Names((bad, "b", "c", "d"), lambda state: f"{bad}, {state}"))
    html = page(content).html
    check_sound(html)
    assert island(html)["actions"][0] == bad
    assert bad not in html


def test_numbered_states_have_no_names():
    assert packing.pack_names(Names(("a",), "state {}".format), 3) is None


def test_names_are_packed_by_phrase_where_all_have_as_many():
    rows = packing.pack_names(Names(("a",), "row {}, x".format), 2)
    assert rows == [{"values": ["row 0", "row 1"], "of": "#$"}, {"values": ["x"], "of": None}]
    texts = ["a, b", "c", "a, b"]
    assert packing.pack_names(Names(("a",), texts.__getitem__), 3) == [{"values": ["a, b", "c"], "of": "#$#"}]
    most = len(packing.ALPHABET)
    many = packing.pack_names(Names(("a",), "number {}".format), most + 1)
    assert many is not None
    assert many[0]["of"] == list(range(most + 1))


def test_values_have_the_digits_of_their_precision():
    assert packing.shortest(np.array([[0.1, -np.inf]], np.float32)) == [0.1, None]
    assert packing.shortest(np.array([[0.1]])) == [0.1]
    assert packing.shortest(np.array([[1 / 3]])) == [1 / 3]
    assert packing.best_values(np.array([[1.0, np.nan], [-np.inf, 1 / 3]])) == [1.0, 0.3333333333]


def test_outcomes_beyond_nine_are_a_list():
    one, other = Recording(3, (0, 9), 4, "terminated"), Recording(3, (10,), 1, "steps")
    assert packing.pack_recordings(2, {"agent": one, "best": other}) == {
        "seed": 2, "agent": [3, "09", 4, "terminated"], "best": [3, [10], 1, "steps"],
    }  # fmt: skip


def snapshot(update: int, policy: str | None) -> Snapshot:
    return Snapshot(update, 0, 1, 0.5, None, None, 0, 1.0, 1, 1, policy=policy)


def test_snapshots_are_evenly_chosen_and_have_their_verdicts():
    records = [snapshot(update, "0123" * 4_000) for update in range(10)]
    history = History(None, (*records, Evaluated(4, False, -1.5, 1, 1, 3, 2, None)))
    found = packing.pack_snapshots(history, 16_000)
    assert found is not None
    assert (found["of"], found["updates"], found["evaluations"]) == (10, [0, 9], [None, None])
    found = packing.pack_snapshots(History(None, (snapshot(1, "01"), snapshot(4, "11"), history.records[-1])), 2)
    assert found is not None
    assert found["policies"] == ["01", "11"]
    assert found["evaluations"] == [None, [-1.5, 2, 3]]


def test_a_log_without_policies_has_no_snapshots():
    assert packing.pack_snapshots(None, 2) is None
    assert packing.pack_snapshots(History(None, (snapshot(1, None), snapshot(2, None))), 2) is None
    assert packing.pack_snapshots(History(None, (snapshot(1, "01"), snapshot(2, "0"))), 2) is None  # of another problem


def test_a_page_that_would_be_too_large_leaves_out_the_player_first():
    content = playable_content("FrozenLake-v1", record=False)
    made = page(content)
    check_sound(made.html)
    assert "play" in made.sections
    smaller = page(content, limit=len(made.html.encode()))
    outline = check_sound(smaller.html)
    assert not outline.all("script")
    assert "play" not in smaller.sections
    assert "The player is left out to keep this page small" in smaller.html
    assert "left out to keep this page small; <code>" not in smaller.html  # all charts are there


def test_a_page_without_a_player_says_why():
    content = content_of("FrozenLake-v1", optimal_q("FrozenLake-v1"))
    assert 'href="#play"' not in page(content).html
    html = page(dataclasses.replace(content, unplayable="there is <no> table")).html
    assert "There is &lt;no&gt; table." in html
    check_sound(html)
