from __future__ import annotations

from typing import Any

import pytest

from deeptaxi.api.run_options import RunOptions, UpdateOptions, are_given, refuse_with_resume
from deeptaxi.errors import UsageError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stop_after": 0}, "stop_after = 0: expected an update of 1 or more"),
        ({"checkpoint_every": 0}, "checkpoint_every = 0: expected a number of seconds above 0"),
        ({"checkpoint_every": float("nan")}, "checkpoint_every = nan"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RunOptions(**values)


@pytest.mark.parametrize(
    ("given", "option"),
    [({"force": True}, "--force"), ({"seed": 0}, "--seed"), ({"env_arg": {"size": 4}}, "--env-arg"),
     (are_given({"discount": 0.0}), "--discount"), (are_given({"early_stop": False}), "--early-stop")],
)  # fmt: skip
def test_an_option_that_is_fixed_on_resume_is_refused_by_its_name(given: dict[str, Any], option: str) -> None:
    refuse_with_resume(env=None, force=False, grid={}, spec="", **are_given({"seed": None}))
    with pytest.raises(UsageError, match=f"leave out {option}$"):
        refuse_with_resume(**{"env": None, **given})


@pytest.mark.parametrize(
    ("options", "at_random", "message"),
    [
        (UpdateOptions(None, 2, (), None), False, "--action needs the state"),
        (UpdateOptions(1, 2, ((0, 1, 2.0, 3),), None), False, "--state and --transition each select the transition"),
        (UpdateOptions(1, None, (), 0), True, "--state and --random each select the transition"),
    ],
)
def test_an_update_is_selected_in_one_way(options: UpdateOptions, at_random: bool, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        options.check(at_random)


def test_each_way_to_select_an_update_is_enough() -> None:
    UpdateOptions(None, None, (), None).check(at_random=True)
    UpdateOptions(1, 2, (), None).check()
    UpdateOptions(None, None, ((0, 1, 2.0, 3),), None).check()
