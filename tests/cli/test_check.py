from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result

import deeptaxi
from deeptaxi.diagnosis import case
from deeptaxi.mdp import compliance
from tests.cli.conftest import refused, run
from tests.diagnosis.test_environment_checks import (
    ActionsLag,
    DrawnTruncation,
    Field,
    FixedLimit,
    GoalAlone,
    GoalTruncates,
    Lag,
)
from tests.mdp.test_compliance import Guarded
from tests.mdp.test_contract import NoOptions, Walk
from tests.problems import chain, registered


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compliance, "CHECK_STEPS", 300)


def test_faults_are_printed_and_counted_in_the_exit_code() -> None:
    with registered("Walk-v0", lambda: Walk(reset=0)) as name:
        found = run("check", name)
    assert found.exit_code == 1
    assert "Walk-v0: 1 fault\n✗ this is the old Gym API: reset() returned the observation 0 alone" in found.stdout
    assert "times, first at step 0)" in found.stdout
    assert "✓ spaces: 6 states, 2 actions" in found.stdout


def test_no_faults_is_exit_code_0() -> None:
    with registered("Walk-v0", Walk) as name:
        found = json.loads(run("check", name, "--json").stdout)
    assert found["ok"]
    assert (found["environment"], found["faults"], found["steps"]) == ("Walk-v0", [], 300)
    assert found["passed"][-1].startswith("answers: 20,000 more random steps show none")
    assert found["notes"] == ["no P; `deeptaxi discover` finds the table of an environment whose chance is finite"]


def test_real_numbers_are_no_fault_and_what_training_needs_is_noted() -> None:
    found = run("check", "MountainCar-v0")
    assert found.exit_code == 0
    assert "· to number its states or actions, `deeptaxi train` needs bins: it observes Box(" in found.stdout
    assert "divide them into bins with --bins 8\n" in found.stdout
    assert "✓ seed:" in found.stdout
    assert deeptaxi.check("Pendulum-v1").found.notes[0].endswith("with --bins 8 --action-bins 5")


def test_a_table_is_opened(type_in: Callable[..., Result]) -> None:
    type_in("discover", "CliffWalking-v1", "-o", "cliff.npz")
    assert "✓ table: 48 states, 4 actions" in type_in("check", "cliff.npz").stdout
    refused(type_in("check", "nothing.npz"), 2, "nothing.npz")
    refused(type_in("check", "Nothing-v0"), 2, "unknown environment 'Nothing-v0'")


def test_from_python_an_object_is_checked() -> None:
    assert deeptaxi.check(Walk).ok
    found = deeptaxi.check(lambda: NoOptions())
    assert repr(found) == "Checked(in-memory/NoOptions: 1 fault)"
    assert "✗ reset() does not take 'options'" in str(found)
    assert deeptaxi.check(chain()).ok


def test_what_depends_on_the_past_is_a_fault_as_diagnose_names_it() -> None:
    kinds = (
        (GoalTruncates, "termination-as-truncation"),
        (FixedLimit, "truncation-as-terminal"),
        (Lag, "observations-lag"),
        (ActionsLag, "observations-lag"),  # not that rewards are late too: they are those of the action before
    )
    for kind, name in kinds:
        (fault,) = deeptaxi.check(kind).found.faults
        assert fault.part == name
        assert fault.message.startswith(f"{name}: ")
    with registered("Lag-v0", Lag) as name:
        found = run("check", name)
    assert found.exit_code == 1
    assert "✗ observations-lag: the next observation depends on the action before" in found.stdout


def test_what_does_no_severe_harm_is_a_note() -> None:
    found = deeptaxi.check(DrawnTruncation)
    assert found.ok
    assert found.found.notes[-1].startswith("hidden-time-limit: ")
    assert not any(line.startswith("answers: ") for line in found.found.passed)


def test_what_random_play_cannot_show_is_not_called_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    masked = deeptaxi.check(Guarded).found
    assert not masked.faults  # which random actions would be
    assert "action masks" in masked.notes[-1]
    binned = deeptaxi.check("CartPole-v1").found
    names = "hidden-time-limit, observations-lag, rewards-late, truncation-as-terminal"
    assert binned.notes[-1].startswith(f"{names} were not checked: ")
    unpaid = deeptaxi.check(GoalAlone).found
    assert unpaid.notes[-1].startswith("20,000 more random steps paid nothing but 0: ")
    monkeypatch.setattr(case, "STEPS", 500)
    few = deeptaxi.check(Field).found
    assert "512 more random steps" in few.notes[-1]  # of 16 copies
    assert "too few" in few.notes[-1]
    for found in (masked, binned, unpaid, few):
        assert not any(line.startswith("answers: ") for line in found.passed)
