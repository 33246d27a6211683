from dataclasses import replace

import numpy as np
import pytest

from deeptaxi.config import EnvironmentConfig
from deeptaxi.diagnosis import exploration
from deeptaxi.diagnosis.case import Unchecked
from deeptaxi.diagnosis.exploration import exploration_cure
from tests.diagnosis.cases import case_on, checked, config, history, progress, snapshot, unseen
from tests.problems import chain

GO, STAY = [1.0, 0.0], [0.0, 1.0]
EARLY = config(exploration={"start": 1.0, "end": 0.01, "fraction": 0.1}, loop="compiled")
LOG = history(progress(10, epsilon=1.0), progress(100, epsilon=0.01), snapshot(100, pairs=3), snapshot(1_000, pairs=3))


def stays(**known):
    """An agent that stays in state 1, where going on was never tried."""
    visits = np.array([[5, 5], [0, 9], [0, 0]])
    return case_on(chain(), [GO, STAY, STAY], visits=visits, replay=visits, config=EARLY, history=LOG, **known)


def test_an_unvisited_state_is_named():
    finding = checked("states-never-visited", stays())
    assert finding.severity == "severe"  # an optimal policy passes it
    assert (finding.evidence["states"], finding.evidence["of"], finding.evidence["examples"]) == (1, 3, [2])


@pytest.mark.parametrize("loop", ["compiled", "gymnasium"])
def test_the_cure_is_never_a_setting_already_in_use(loop):
    explores = {"start": 1.0, "end": 0.5, "fraction": 0.5, "exploring_starts": 0.1 if loop == "compiled" else 0.0}
    assert exploration_cure(config(loop=loop, exploration=explores, updates=300)) == "--updates 1200"
    assert "--epsilon-end 0.5" in exploration_cure(config(loop=loop, exploration={**explores, "end": 0.1}))
    assert exploration_cure(config(loop=loop, exploration={**explores, "fraction": 0.1})) == "--epsilon-fraction 0.5"


def test_the_usual_exploration_is_the_cure_where_it_is_more():
    little, usual = config(exploration={"end": 0.1}), config(exploration={"end": 0.8})
    assert exploration_cure(little, usual) == "--epsilon-end 0.8"
    assert exploration_cure(usual, little) == "--updates 80000"
    few, many = config(interaction={"environments": 1}), config(interaction={"environments": 64})
    assert exploration_cure(few, many) == "--environments 64"


def test_an_untried_action_is_named():
    finding = checked("pairs-never-tried", stays())
    assert finding.severity == "severe"
    assert (finding.evidence["pairs"], finding.evidence["of"], finding.evidence["examples"]) == (1, 4, [[1, 0]])
    assert finding.evidence["critical_pairs"] == 1


def test_harmless_gaps_in_exploration_are_not_severe():
    visits = np.array([[5, 0], [5, 0], [5, 0]])
    finding = checked("pairs-never-tried", case_on(chain(), [GO] * 3, visits=visits))
    assert (finding.severity, finding.evidence["critical_pairs"]) == ("warning", 0)


def test_full_coverage_is_fine():
    case = case_on(chain(), [STAY] * 3, visits=np.ones((3, 2), int), config=EARLY, history=LOG, replay=np.ones((3, 2)))
    for check in exploration.CHECKS:
        assert check(case) is None, check.name


def test_an_epsilon_that_fell_too_early_is_named():
    finding = checked("epsilon-fell-too-early", stays())
    assert finding.severity == "severe"
    assert finding.evidence["update"] == 100
    assert (finding.evidence["pairs_covered_then"], finding.evidence["pairs_covered"]) == (3, 3)
    assert "--epsilon-end 0.5" in finding.cure
    assert "--exploring-starts" in finding.cure


def test_an_epsilon_that_stays_high_is_not_to_blame():
    case = case_on(chain(), [STAY] * 3, visits=np.eye(3, 2, dtype=int), config=config(), history=LOG)
    assert checked("epsilon-fell-too-early", case) is None


@pytest.mark.parametrize("stored", [0, 1])
def test_a_replay_buffer_that_forgot_is_named(stored):
    replay = np.full((3, 2), 2)
    replay[1, 0] = stored
    case = case_on(chain(), [GO, STAY, GO], visits=np.full((3, 2), 9), replay=replay, config=EARLY)
    finding = checked("replay-forgot-pairs", case)
    if stored:
        assert finding is None
    else:
        assert (finding.severity, finding.evidence["pairs"], finding.evidence["critical_pairs"]) == ("severe", 1, 1)
        assert finding.cure == "--replay-capacity 2000000"  # it has 500,000 already


def test_without_counts_the_check_says_why_it_cannot_be_run():
    result = checked("pairs-never-tried", unseen())
    assert isinstance(result, Unchecked)
    assert "visits.npz" in result.why


def test_steps_from_observations_without_a_number_are_counted_where_these_share_a_state():
    numbered = replace(
        unseen(visits=np.array([[60, 0], [0, 30], [10, 0]])), environment=EnvironmentConfig("x", state_capacity=3)
    )
    found = checked("states-full", numbered)
    assert found.summary.startswith(
        "in 10 of the 100 steps of the training, the observation had no number of its own: 2 "
    )
    assert (found.severity, found.cure, found.evidence["share"]) == ("warning", "--state-capacity 30", 0.1)
    rarely = replace(numbered, visits=np.array([[600, 0], [0, 395], [5, 0]]))
    assert checked("states-full", rarely).severity == "note"
    assert checked("states-full", replace(numbered, visits=np.array([[60, 0], [0, 30], [0, 0]]))) is None
    assert checked("states-full", unseen(visits=np.ones((3, 2), int))) is None  # all states have a number of their own


def test_the_gap_that_costs_most_decisions_comes_first_and_others_keep_their_places():
    gap = checked("pairs-never-tried", stays())
    other = replace(gap, name="diverged", evidence={})
    less, more = (replace(gap, name=f"gap-{n}", evidence={"critical_pairs": n}) for n in (3, 9))
    ranked = exploration.rank_gaps([less, other, gap, more])
    assert [finding.name for finding in ranked] == ["gap-9", "diverged", "gap-3", "pairs-never-tried"]
