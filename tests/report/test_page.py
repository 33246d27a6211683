"""The page from its content: what is marked on a map, what is said, and that large problems stay small."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

import deeptaxi
from deeptaxi.config import EnvironmentConfig, TrainConfig
from deeptaxi.evaluation.comparison import Comparison, compare
from deeptaxi.evaluation.exact import evaluate_greedy, reference
from deeptaxi.mdp.describe import GridMap, Layer, Names, grid_map, names_of
from deeptaxi.metrics import Evaluated, History, Progress
from deeptaxi.report.content import Content, GroupContent, ReportedRun, Subject
from deeptaxi.report.page import describe_apart, page, sentence
from tests.problems import opened
from tests.report.outline import check_sound
from tests.written_runs import write_group


def history(seed: int = 0, every: int = 1) -> History:
    updates = range(1, 2_000, every)
    progress = [Progress(u, 10 * u, 0.1 * u, 1.0, 1 / u, 0.5, 0.01, 1, -seed * u) for u in updates]
    evaluations = [Evaluated(u, False, -10.0 / u, 10.0 / u, 5.0 / u, 1, 0, None) for u in (10, 100, 1_000 + seed)]
    return History(Path("log"), (*progress, *evaluations))


def content_of(name: str, q: np.ndarray, **kwargs) -> Content:
    """What a report on a Q array is about."""
    environment = opened(name, **kwargs)
    target = reference(environment.table, environment.horizon, 0.99, 0.99)
    config = TrainConfig(EnvironmentConfig(name, kwargs), loop="compiled")
    run = ReportedRun("models/one", "q-table", config, {}, evaluate_greedy(target, q).to_dict(), None, history())
    comparison = compare(target, q)
    visits = np.ones(q.shape, int)
    subject = Subject(run, comparison.policy, comparison, visits, None, "again", "evaluate", "seed = 0")
    return Content(environment.describe(), None, names_of(environment), grid_map(environment), [run], subject)


def optimal_q(name: str, **kwargs) -> np.ndarray:
    return reference(opened(name, **kwargs).table, 10, 0.99, 0.99).optimum.q.copy()


@pytest.mark.parametrize("name", ["Taxi-v4", "FrozenLake8x8-v1", "CliffWalking-v1"])
def test_the_map_of_an_optimal_policy_marks_nothing(name):
    made = page(content_of(name, optimal_q(name)))
    check_sound(made.html)
    svg = next(chart for chart in made.charts if chart.name == "policy").inline()
    assert "var(--vermillion)" not in svg
    assert "wrong" not in svg
    assert svg.count("optimal action") == 1


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("the target is stale", "The target is stale."),
        ("rewards, where they come late", "Rewards, where they come late."),
        ("done.", "Done."),
        ("discount-too-large: every action ties", "discount-too-large: every action ties."),
        ("keras.ops.mean(advantage, axis=1)", "keras.ops.mean(advantage, axis=1)."),
        ("ε reached its end", "ε reached its end."),
    ],
)
def test_sentences_leave_names_symbols_and_code_as_they_are(text, written):
    assert sentence(text) == written


def test_groups_on_several_environments_are_titled_by_all(tmp_path: Path) -> None:
    for env in ("CliffWalking-v1", "FrozenLake-v1"):
        write_group(tmp_path / env, 2, 2, env=env)
    compared = deeptaxi.compare(tmp_path, by="env")
    curves = {
        (one.group.environment, one.group.label): [run.curve for run in one.group.runs] for one in compared.groups
    }
    content = content_of("CliffWalking-v1", optimal_q("CliffWalking-v1"))
    html = page(dataclasses.replace(content, groups=GroupContent(compared.to_dict(), curves))).html
    assert "<h1>CliffWalking-v1, FrozenLake-v1</h1>" in html
    assert "4 runs in 2 groups, and the best of them, which is on CliffWalking-v1: 48 states, 4 actions," in html


def wrong_at(name: str, state: int, action: int) -> str:
    """The policy map where one action is wrong."""
    q = optimal_q(name)
    q[state, action] = q[state].max() + 1
    made = page(content_of(name, q))
    check_sound(made.html)
    return next(chart for chart in made.charts if chart.name == "policy").inline()


def test_a_wrong_action_on_the_policys_path_is_hatched_and_named():
    svg = wrong_at("CliffWalking-v1", 36, 3)  # at the start, to the left
    assert "wrong action, on the policy's path" in svg
    assert "wrong, where the policy never goes" not in svg
    assert "var(--vermillion)" in svg
    assert "wrong in 1 that the policy itself reaches" in svg
    assert "row 3, column 0" in svg


def test_a_wrong_action_off_the_policys_path_looks_different():
    svg = wrong_at("CliffWalking-v1", 0, 0)  # in the corner above, where the way along the cliff never goes
    assert "wrong action, on the policy's path" not in svg
    assert "wrong, where the policy never goes" in svg
    assert "var(--vermillion)" not in svg


@pytest.mark.parametrize("named", [True, False])
def test_the_worst_start_is_named_only_if_it_has_a_name(named):
    q = optimal_q("CliffWalking-v1")
    q[36, 3] = q[36].max() + 1
    content = content_of("CliffWalking-v1", q)
    if not named:
        content = dataclasses.replace(content, names=Names(content.names.actions, "state {}".format))
    html = page(content).html
    assert ("The worst, state 36 (row 3, column 0), loses" if named else "The worst, state 36, loses") in html
    assert "(state 36)" not in html
    assert ": state 36<" not in html


def test_maps_of_taxi_are_titled_by_passenger_and_destination():
    svg = next(c for c in page(content_of("Taxi-v4", optimal_q("Taxi-v4"))).charts if c.name == "policy").inline()
    for title in ("passenger at red", "passenger aboard", "destination blue"):
        assert svg.count(f">{title}<") == 1
    assert svg.count(">cannot happen<") == 4 + 1  # where the passenger is at its destination, and in the legend


@pytest.mark.parametrize("name", ["FrozenLake8x8-v1", "CliffWalking-v1"])
def test_every_pair_of_state_and_action_is_a_point(name):
    content = content_of(name, optimal_q(name) + np.random.default_rng(0).normal(size=(1, 4)))
    chart = next(chart for chart in page(content).charts if chart.name == "q-scatter")
    level = re.findall(r"M([\d.]+) ([\d.]+)L([\d.]+) \2(?=[M\"])", chart.inline())
    assert sum(float(right) - float(left) < 0.11 for left, _, right in level) == content.subject.comparison.pairs.sum()


def test_several_runs_have_one_curve_and_a_range():
    content = content_of("FrozenLake-v1", optimal_q("FrozenLake-v1"))
    runs = [dataclasses.replace(content.runs[0], name=f"run {n}", history=history(n, 9)) for n in range(150)]
    made = page(dataclasses.replace(content, runs=runs))
    outline = check_sound(made.html)
    assert "150 of 150 runs are optimal" in made.html
    assert "And 50 more." in made.html  # the table has 100
    assert "to −149" in outline.text("desc", id="return-text") or "(-" in outline.text("desc", id="return-text")


def large(states: int, grid: GridMap | None, noise: float = 1.0) -> Content:
    """A problem of many states, as a report sees it, with Q values that are more or less off."""
    base = content_of("FrozenLake-v1", optimal_q("FrozenLake-v1"))
    rng = np.random.default_rng(0)
    star = rng.normal(size=(states, 4))
    q = star + noise * rng.normal(size=star.shape)
    everywhere = np.ones(states, bool)
    comparison = Comparison(
        q.argmax(axis=1), star >= star.max(axis=1, keepdims=True), everywhere, everywhere,
        rng.random(states), np.ones((states, 4), bool), q, star,
    )  # fmt: skip
    visits = rng.integers(0, 1000, (states, 4))
    subject = dataclasses.replace(base.subject, policy=comparison.policy, comparison=comparison, visits=visits)
    names = Names(("left", "down", "right", "up"), lambda state: "x" * 10_000)
    return dataclasses.replace(base, subject=subject, grid=grid, names=names)


def square(side: int) -> GridMap:
    """A map without anything on it."""
    layers = ((Layer(np.arange(side * side).reshape(side, side)),),)
    return GridMap((("floor",) * side,) * side, ((0, -1), (1, 0), (0, 1), (-1, 0)), layers)


def test_a_hundred_thousand_states_fit_on_a_page():
    made = page(large(100_000, None))
    check_sound(made.html)
    assert "left out" not in made.html


def test_the_largest_map_that_is_drawn_fits_and_a_larger_one_becomes_a_table():
    made = page(large(1_600, square(40), 0.1))
    assert "chart-policy" in check_sound(made.html).ids()
    made = page(large(1_681, square(41)))
    assert "chart-policy" not in check_sound(made.html).ids()
    assert "The greedy action is optimal in" in made.html


def test_a_page_that_would_be_too_large_leaves_out_its_largest_pictures():
    content = content_of("Taxi-v4", optimal_q("Taxi-v4"))
    made = page(content, limit=60_000)
    outline = check_sound(made.html)
    assert len(made.html.encode()) < 60_000
    assert "chart-policy" not in outline.ids()
    assert "“Policy map” is left out" in made.html
    assert "policy" in [chart.name for chart in made.charts]  # --figures writes it all the same


def test_findings_are_shown_with_cause_and_cure():
    content = content_of("FrozenLake-v1", optimal_q("FrozenLake-v1"))
    finding = {
        "name": "one-action-collapse", "severity": "severe", "summary": "It <always> goes left.",
        "evidence": {"share_of_states": 0.98, "list": list(range(1000))}, "source": "exact",
        "cause": "ε fell too early.", "cure": "--epsilon-fraction 0.5",
    }  # fmt: skip
    diagnosis = {"findings": [finding], "not_checked": [{"name": "dead-units", "why": "no hidden layer"}]}
    subject = dataclasses.replace(content.subject, diagnosis=diagnosis)
    made = page(dataclasses.replace(content, subject=subject))
    outline = check_sound(made.html)
    texts = ["".join(text) for _, _, text in outline.elements]
    assert "It <always> goes left." in texts
    assert "--epsilon-fraction 0.5" in texts
    evidence = next(text for text in texts if text.startswith("share of states"))
    assert evidence.startswith("share of states 0.98; list [0, 1, 2,")
    assert evidence.endswith("…; from the transition table")
    assert len(evidence) < 250
    assert "Not checked: dead-units (no hidden layer)." in texts
    assert "findings" in made.sections
    nothing = dataclasses.replace(content.subject, diagnosis={"findings": [], "not_checked": []})
    assert "No problems found." in page(dataclasses.replace(content, subject=nothing)).html


TRIED = {
    "finding": "learning-rate-too-low", "cure": "--learning-rate 0.003", "updates": 750, "planned": 2_000,
    "seconds": 1.25, "cured": True, "reached": "optimal",
}  # fmt: skip
CURES = {
    "budget": 60.0, "seconds": 3.4, "interrupted": True, "unavailable": None, "best": "deeptaxi train <run>",
    "tried": [TRIED, TRIED | {"cure": "", "finding": "usual-settings", "cured": False, "reached": "score -0.2"}],
    "not_tried": [{"finding": "untrained", "cure": "--updates 9000", "why": "the budget was spent"}],
}  # fmt: skip


def with_cures(cures):
    """The text of a page without findings, by element, with what cures reached."""
    content = content_of("FrozenLake-v1", optimal_q("FrozenLake-v1"))
    subject = dataclasses.replace(content.subject, diagnosis={"findings": [], "not_checked": []}, cures=cures)
    outline = check_sound(page(dataclasses.replace(content, subject=subject)).html)
    return ["".join(text) for _, _, text in outline.elements]


def test_cures_are_a_table_with_what_each_reached():
    texts = with_cures(CURES)
    for expected in (
        "Cures tried", "Tried in 3 of 60 seconds, each by a training of its own; interrupted.",
        "--learning-rate 0.003", "learning-rate-too-low", "✓ optimal", "750", "1.2",
        "the usual settings", "usual-settings", "✗ score −0.2", "750 of 2,000",
        "--updates 9000", "deeptaxi train <run>",
    ):  # fmt: skip
        assert expected in texts
    assert "Cures tried" not in with_cures(None)


def test_a_page_says_why_no_cure_could_be_tried_or_that_none_helped():
    nothing = CURES | {"tried": [], "not_tried": [], "unavailable": "there is nothing to cure", "best": None}
    assert "None can be tried: there is nothing to cure." in with_cures(nothing)
    assert "None of them made the agent good." in with_cures(CURES | {"best": None})


def test_layers_of_few_states_are_described_in_words():
    grid = GridMap(
        (("floor",) * 2,), ("stick", "hit"), ((Layer(np.arange(2).reshape(1, 2)),),),
        apart={"history 2": np.array([2, 3]), "history 3": np.array([4])},
    )  # fmt: skip
    told = describe_apart(grid, np.array([0, 0, 1, 0, 1]), Names(("stick", "hit"), "number {}".format))
    assert told == [
        "Not on the map: 2 states of history 2, such as number 2; there stick in 1, hit in 1.",
        "Not on the map: 1 state of history 3, such as number 4; there always hit.",
    ]
