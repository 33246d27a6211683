from __future__ import annotations

from typing import Any

import pytest

from deeptaxi.api.run_options import RunOptions, UpdateOptions, refuse_with_resume
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


def test_an_option_that_is_fixed_on_resume_is_refused_by_its_name() -> None:
    refuse_with_resume(env=None, force=False)
    with pytest.raises(UsageError, match="leave out --force"):
        refuse_with_resume(env=None, force=True)


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
