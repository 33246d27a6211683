from __future__ import annotations

import pytest

from benchmarks.preset_search import OUTCOMES, STANDS
from benchmarks.presets import FIRST_UNSEEN
from deeptaxi.config import resolve
from deeptaxi.errors import UsageError
from deeptaxi.experiments.grid import parse_seeds
from deeptaxi.presets import PresetStudy, Problem, fitting, listed_presets, plain, preset_named, presets, read


@pytest.mark.parametrize(
    ("encoding", "name"), [("factored", "taxi.factored"), ("joint", "taxi")], ids=["factored", "joint"]
)
def test_the_encoding_influences_which_preset_fits(encoding, name):
    assert fitting("Taxi-v4", {}, "dueling", encoding).name == name


def test_a_preset_for_the_joint_encoding_serves_where_there_is_none_for_the_other():
    assert fitting("CliffWalking-v1", {}, "dueling", "factored").name == "cliffwalking"


SLIPPERY = Problem("Lake-v1", {"size": 4}, {"is_slippery": True})


@pytest.mark.parametrize(
    ("name", "kwargs", "meant"),
    [
        ("Lake-v1", {"size": 4}, True),
        ("lakes:Lake-v1", {"size": 4}, True),
        ("Lake-v1", {"size": 4, "is_slippery": True}, True),  # as usual
        ("Lake-v1", {"size": 4, "is_slippery": False}, False),
        ("Lake-v1", {"size": 4, "is_slippery": 1}, False),  # 1 is not true
        ("Lake-v1", {}, False),
        ("Lake-v1", {"size": 4, "color": "red"}, False),
        ("Lake-v2", {"size": 4}, False),
    ],
)
def test_a_problem_is_meant_by_its_arguments_and_by_no_others(name, kwargs, meant):
    assert SLIPPERY.is_meant(name, kwargs) is meant


def test_a_preset_is_read_from_its_file():
    text = """
    discount = 0.9
    [preset]
    description = "a lake"
    problems = [{id = "Lake-v1", kwargs = {size = 4}}]
    [network]
    encoding = "factored"
    """
    preset = read("lake.q-table", text)
    assert (preset.network, preset.encoding, preset.description) == ("q-table", "factored", "a lake")
    assert preset.environment == {"id": "Lake-v1", "kwargs": {"size": 4}}
    assert preset.settings == {"discount": 0.9, "network": {"encoding": "factored"}}
    with pytest.raises(UsageError, match=r"preset lake: unknown key 'preset.problem'; did you mean 'problems'"):
        read("lake", "[preset]\nproblem = []")


def test_a_preset_says_where_its_settings_are_from():
    text = '[preset]\nproblems = [{id = "Lake-v1"}]\n[preset.study]\norigin = "by hand"\ndate = "2026-11-30"\n'
    study = read("lake", text + "trials = 40\nshipped = {optimal = 20}\n").study
    assert study == PresetStudy("by hand", date="2026-11-30", trials=40, shipped={"optimal": 20})
    with pytest.raises(UsageError, match=r"preset lake: unknown key 'preset.study.trails'; did you mean 'trials'"):
        read("lake", text + "trails = 40")


def test_every_preset_has_a_study_and_a_search_was_on_seeds_that_it_is_not_compared_on():
    for preset in listed_presets():
        study = preset.study
        assert study is not None, preset.name
        assert study.origin
        if study.date is None:
            assert (study.trials, study.outcome, study.shipped, study.best) == (None, None, {}, {})
        else:
            assert study.trials
            assert study.seeds
            assert study.unseen_seeds
            assert max(parse_seeds(study.seeds)) < FIRST_UNSEEN <= min(parse_seeds(study.unseen_seeds))
            assert study.shipped["seeds"] == len(parse_seeds(study.unseen_seeds))
            assert study.outcome in OUTCOMES
            assert (study.outcome == STANDS) or study.best


def test_every_preset_fits_its_own_problems_and_its_settings_resolve():
    for preset in listed_presets():
        for problem in preset.problems:
            assert preset.fits(problem.id, problem.kwargs), preset.name
            found = fitting(problem.id, problem.kwargs, preset.network, preset.encoding)
            assert (found.name, found.encoding) == (preset.name, preset.encoding)
        config = resolve({"environment": preset.environment, "loop": "compiled", **preset.settings})
        assert (config.network.kind == "q-table") == (preset.network == "q-table"), preset.name


def test_a_preset_is_chosen_by_its_name_or_as_the_sibling_for_a_q_table():
    assert preset_named("taxi", None).name == preset_named("taxi", "mlp").name == "taxi"
    assert preset_named("taxi", "q-table").name == "taxi.q-table"
    assert preset_named("none", None).settings == {}
    with pytest.raises(UsageError, match="unknown preset 'taxy'; did you mean 'taxi'"):
        preset_named("taxy", None)
    with pytest.raises(UsageError, match=r"taxi\.factored has no variant for --q-table"):
        preset_named("taxi.factored", "q-table")


def test_without_a_preset_the_defaults_are_those_of_the_network():
    assert plain("q-table").settings == presets()["default.q-table"].settings
    assert plain("dueling").settings == {}
