import numpy as np
import pytest

from deeptaxi.diagnosis.case import Unchecked
from deeptaxi.diagnosis.learning_curves import depth
from tests.diagnosis.cases import case_on, checked, config, history, progress, snapshot, unseen
from tests.problems import build, surely


def corridor(length):
    """Action 1 goes on, and earns 1 at the end; action 0, the first of ties, stays."""
    return build(
        [[surely(s, 0), surely(min(s + 1, length - 1), float(s == length - 1), s == length - 1)] for s in range(length)]
    )


@pytest.mark.parametrize("length", [1, 2, 5])
def test_the_depth_of_a_corridor_is_its_length(length):
    assert depth(case_on(corridor(length), np.zeros((length, 2))), 0.9, 0.0) == length


@pytest.mark.parametrize(("updates", "n_step", "named"), [(300, 1, True), (400, 1, False), (300, 2, False)])
def test_a_target_that_cannot_carry_values_to_the_start_is_named(updates, n_step, named):
    settings = config(target={"polyak": 1.0, "period": 100, "n_step": n_step}, updates=updates)
    case = case_on(corridor(5), np.zeros((5, 2)), config=settings, history=history(updates=updates))
    finding = checked("target-too-stale", case)
    assert (finding is not None) == named
    if finding:  # three copies carry values back four steps, of the five that are needed
        assert (finding.evidence["steps"], finding.evidence["depth"]) == (4, 5)
        assert (finding.severity, finding.source) == ("severe", "exact")


def test_a_target_that_moves_in_part_is_only_suspected():
    settings = config(target={"polyak": 0.01, "period": 10}, updates=1_000)
    finding = checked("target-too-stale", case_on(corridor(5), np.zeros((5, 2)), config=settings, history=history()))
    assert (finding.severity, finding.source) == ("warning", "log")


def test_a_target_that_follows_at_once_is_named_where_nothing_comes_to_rest():
    restless = history(*[snapshot(10 * i, change=0.2, policy=0.5) for i in range(1, 9)])
    fresh = config(target={"polyak": 1.0, "period": 1})
    assert checked("target-too-fresh", unseen(config=fresh, history=restless)).cure.startswith("--polyak")
    assert checked("target-too-fresh", unseen(config=config(), history=restless)) is None
    table = config(target={"polyak": 1.0}, network={"hidden": [], "dueling": False})
    assert checked("target-too-fresh", unseen(config=table, history=restless)) is None


def test_a_training_that_did_not_end_is_named():
    assert checked("interrupted", unseen(history=history())) is None
    assert checked("interrupted", unseen(history=history(stopped="optimal"))) is None
    stopped = checked("interrupted", unseen(history=history(stopped="interrupted")))
    assert stopped.cause == "it was stopped"
    kept = unseen(history=history(progress(7), stopped=None), config=config(), q=np.zeros((3, 2)))
    assert "its log could not be completed" in checked("interrupted", kept).cause
    lost = checked("interrupted", unseen(history=history(progress(7), stopped=None)))
    assert "after 7 of 1,000 updates" in lost.summary
    assert lost.severity == "warning"


def test_a_training_of_a_few_samples_a_pair_is_named():
    settings = config(replay={"batch_size": 10})
    cases = {
        updates: case_on(corridor(5), np.zeros((5, 2)), config=settings, history=history(updates=updates))
        for updates in (9, 10)
    }
    assert checked("untrained", cases[9]).evidence["samples_per_pair"] == 9
    assert checked("untrained", cases[10]) is None
    assert isinstance(checked("untrained", unseen(config=config(), history=history())), Unchecked)
