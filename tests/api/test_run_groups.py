from __future__ import annotations

from pathlib import Path

import pytest

from deeptaxi.api.run_groups import (
    check_problems,
    default_keys,
    describe_differences,
    find_keys,
    find_setting,
    group,
    without_copies,
)
from deeptaxi.errors import UsageError
from deeptaxi.storage.run_results import RunResult, read_result
from tests.written_runs import rate, write_run


def runs_of(folder: Path, *facts: dict) -> list[RunResult]:
    return [read_result(write_run(folder / str(number), **one)) for number, one in enumerate(facts)]


KNOWN = ["optimizer.learning_rate", "optimizer.name", "optimizer.schedule", "exploration.schedule", "target.double",
         "environment.kwargs.is_slippery", "replay.batch_size"]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("learning_rate", "optimizer.learning_rate"),
        ("--learning-rate", "optimizer.learning_rate"),
        ("optimizer.learning_rate", "optimizer.learning_rate"),
        ("optimizer", "optimizer.name"),
        ("learning_rate_schedule", "optimizer.schedule"),
        ("is_slippery", "environment.kwargs.is_slippery"),
        ("double", "target.double"),
        ("env", "env"),
        ("folder", "folder"),
    ],
)
def test_a_setting_has_the_name_of_its_option_or_key(name: str, full: str) -> None:
    assert find_setting(name, KNOWN) == full


def test_a_setting_that_does_not_exist_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="--by learning_rte: there is no such setting; did you mean 'learning_rate'"):
        find_setting("learning_rte", KNOWN)
    with pytest.raises(UsageError, match="`deeptaxi train --help` lists them"):
        find_setting("xyz", KNOWN)


def test_an_ambiguous_setting_is_refused_with_both() -> None:
    with pytest.raises(UsageError, match=r"it may be optimizer\.schedule or exploration\.schedule"):
        find_setting("schedule", KNOWN)


def test_a_setting_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="given twice"):
        find_keys(["learning_rate", "optimizer.learning_rate"], runs_of(tmp_path, {}))


def test_groups_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    runs = runs_of(
        tmp_path, *({"optimizer": rate(value), "seed": seed} for value in (0.1, 0.02, 0.003) for seed in (0, 1))
    )
    groups = group(runs, find_keys(["learning_rate"], runs))
    assert [one.label for one in groups] == ["0.003", "0.02", "0.1"]
    assert groups[0].settings == {"learning_rate": 0.003}
    assert [len(one.runs) for one in groups] == [2, 2, 2]


def test_labels_name_the_setting_where_a_value_alone_says_little(tmp_path: Path) -> None:
    runs = runs_of(
        tmp_path,
        {"target": {"double": True}, "network": {"hidden": [8, 8]}},
        {"target": {"double": False}, "network": {"hidden": [8]}},
    )
    labels = {key: [one.label for one in group(runs, find_keys([key], runs))] for key in ("double", "hidden", "env")}
    assert labels == {
        "double": ["double=false", "double=true"],
        "hidden": ["hidden=8", "hidden=8,8"],
        "env": ["FrozenLake-v1"],
    }
    both = group(runs, find_keys(["env", "double"], runs))
    assert (both[0].label, both[0].name) == ("double=false", "double=false on FrozenLake-v1")


def test_by_default_runs_are_grouped_by_what_tells_them_apart(tmp_path: Path) -> None:
    """The batch size goes along with the learning rate, and adds nothing; the discount does."""
    runs = runs_of(
        tmp_path,
        {"optimizer": rate(0.1), "replay": {"batch_size": 8}, "seed": 1},
        {"optimizer": rate(0.2), "replay": {"batch_size": 16}, "seed": 2},
        {"optimizer": rate(0.2), "replay": {"batch_size": 16}, "discount": 0.5},
    )
    keys = default_keys(runs)
    assert {key.label for key in keys} == {"discount", "learning_rate"}
    said = describe_differences(group(runs, keys), keys, chosen=False)
    assert "The runs are grouped by discount and learning_rate, in which they differ." in said[0]
    assert "The groups differ in batch_size too: a difference may be due to that." in said[1]


def test_what_differs_within_a_group_is_said(tmp_path: Path) -> None:
    runs = runs_of(
        tmp_path, {"optimizer": rate(0.1)}, {"optimizer": rate(0.1), "discount": 0.5}, {"optimizer": rate(0.2)}
    )
    keys = find_keys(["learning_rate"], runs)
    assert describe_differences(group(runs, keys), keys, chosen=True) == [
        "Runs of the same group differ in discount, and not in seeds alone."
    ]


def test_the_same_training_counts_once(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, {})
    assert without_copies([run, run]) == ([run], [(run, run)])


def test_different_problems_are_refused_with_both_names(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, {}, {"kwargs": {"is_slippery": False}})
    with pytest.raises(UsageError, match=r"0 is on FrozenLake-v1, .*1 on FrozenLake-v1 is_slippery=false: .* --by env"):
        check_problems(runs, None)
    with pytest.raises(UsageError, match="deeptaxi compare … --by env --by learning_rate`"):
        check_problems(runs, find_keys(["learning_rate"], runs))
    check_problems(runs, find_keys(["env"], runs))
    check_problems(runs, find_keys(["is_slippery"], runs))


def test_the_grouping_that_is_advised_keeps_what_the_runs_differ_in(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, {}, {"discount": 0.5}, {"kwargs": {"is_slippery": False}})
    with pytest.raises(UsageError, match="deeptaxi compare … --by env --by discount`; with `-o FILE`"):
        check_problems(runs, None)


def test_the_same_name_for_another_problem_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"their optimal values are 0\.95 and 0\.5"):
        check_problems(runs_of(tmp_path, {}, {"best": 0.5}), None)


def test_another_objective_is_refused(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, {}, {"evaluation": {"objective_discount": 0.9}})
    with pytest.raises(UsageError, match=r"evaluated at discount 0\.9, .* at 0\.99"):
        check_problems(runs, None)
