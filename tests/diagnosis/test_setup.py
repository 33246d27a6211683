from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deeptaxi.diagnosis import diagnose
from deeptaxi.diagnosis.setup import promise
from deeptaxi.network.facts import LayerFacts, NetworkFacts, TrainingMode
from tests.diagnosis.cases import case_on, checked, config, unseen
from tests.diagnosis.test_rivals import grid
from tests.mdp.test_total_reward import corridor
from tests.problems import build, chain, surely


def now_or_later(now=1, later=10):
    """Take 1 at once, or 10 after three more steps."""
    wait = [[surely(s + 1, 0), surely(s + 1, 0)] for s in (1, 2)]
    return build([[surely(0, now, True), surely(1, 0)], *wait, [surely(3, later, True), surely(3, later, True)]])


def test_a_discount_at_which_the_best_policy_is_bad_is_named():
    # At 0.4, 10 in three steps is worth 0.64 < 1; at 0.9 it is worth 7.29. The random policy has (1 + 7.29) / 2.
    found = promise(now_or_later(), 0.9, 0.4)
    assert found.score == pytest.approx((1 - 4.145) / (7.29 - 4.145))
    case = case_on(now_or_later(), [[1.0, 0], [0, 0], [0, 0], [0, 0]], training_discount=0.4)
    finding = checked("discount-too-small", case)
    assert (finding.severity, finding.source, finding.cure) == ("severe", "exact", "--discount 0.9")


@pytest.mark.parametrize("discount", [0.5, 0.9, 0.99])
def test_a_discount_that_leaves_the_best_policy_as_it_is_is_fine(discount):
    case = case_on(now_or_later(), [[1.0, 0], [0, 0], [0, 0], [0, 0]], training_discount=discount)
    assert checked("discount-too-small", case) is None


def test_differences_that_no_network_can_see_count_as_ties():
    # At 0.01, the way to the end is worth 1e-6 of what is gained there: right in theory only.
    case = case_on(chain(), np.zeros((3, 2)), training_discount=0.001)
    finding = checked("discount-too-small", case)
    assert finding.evidence["score"] == pytest.approx(1)
    assert finding.evidence["score_at_resolution"] < 0.9


def test_a_problem_where_nothing_can_be_earned_is_named():
    table = build([[surely(0, 0, True), surely(0, 0)], [surely(0, 1, True), surely(1, 0)]])
    finding = checked("all-policies-equal", case_on(table, np.zeros((2, 2))))
    assert "nothing can be earned: no path leads from a start to a reward, as in state 1" in finding.summary
    assert checked("all-policies-equal", case_on(chain(), np.zeros((3, 2)))) is None


def test_a_discount_that_makes_optimality_undecidable_is_named():
    case = case_on(corridor(200), np.zeros((200, 2)))  # 0.9^200 = 7e-10
    finding = checked("optimality-unknown", case)
    assert (finding.severity, finding.cure) == ("warning", "--discount 0.999 --objective-discount 0.999")
    assert case.harmful is None
    assert checked("optimality-unknown", case_on(corridor(20), np.zeros((20, 2)))) is None


def test_tied_policies_that_never_end_promise_nothing():
    # Of the actions that are optimal at 0.5, none leads to the end: without a discount they have no value.
    rows = [[surely(2, 0), surely(1, -1), surely(0, -1, True)], [surely(1, 1.5, True)] * 3]
    table = build([*rows, [surely(0, 0), surely(0, 0), surely(0, -1, True)]])
    assert promise(table, 1.0, 0.5) is None
    assert promise(table, 1.0, 0.9).score == pytest.approx(1)


BAD, GOOD = [[0.0, 1.0]] * 3, [[1.0, 0.0]] * 3


def facts(state_input="one-hot", output="linear", bounds=(None, None), dead=0, saturated=0, activation="relu"):
    return NetworkFacts(state_input, output, bounds, (LayerFacts("hidden_0", activation, 8, dead, saturated),), 3)


@pytest.mark.parametrize(("dead", "q", "severity"), [(8, BAD, "severe"), (3, BAD, "warning"), (3, GOOD, "note")])
def test_dead_units_are_named(dead, q, severity):
    case = case_on(chain(), q, network=facts(dead=dead), config=config())
    finding = checked("dead-relu-units", case)
    assert (finding.severity, finding.evidence["layers"][0]["count"]) == (severity, dead)


def test_a_few_dead_units_are_normal():
    assert checked("dead-relu-units", case_on(chain(), BAD, network=facts(dead=1))) is None


def test_an_output_range_that_excludes_the_values_is_named():
    squashed = facts(output="sigmoid", bounds=(0.0, 0.5))
    finding = checked("saturated-output", case_on(chain(), BAD, network=squashed))
    assert (finding.severity, finding.source, finding.evidence["share_outside"]) == ("severe", "exact", 1)
    wide = facts(output="sigmoid", bounds=(0.0, 1.0))
    assert checked("saturated-output", case_on(chain(), BAD, network=wide)) is None
    unknown = checked("saturated-output", unseen(network=wide))
    assert (unknown.severity, unknown.source) == ("warning", "network")


def test_saturated_hidden_units_are_named():
    case = case_on(chain(), BAD, network=facts(saturated=6, activation="tanh"))
    assert checked("saturated-output", case).evidence["layers"][0]["count"] == 6
    assert checked("saturated-output", case_on(chain(), BAD, network=facts(saturated=2))) is None


@pytest.mark.parametrize("kind", ["one-hot", "embedding", "number", "unknown"])
def test_only_a_state_encoded_as_a_number_is_named(kind):
    finding = checked("state-as-number", case_on(chain(), BAD, network=facts(kind)))
    assert (finding is not None) == (kind == "number")


def masked_chain():
    """The walk to the reward, whose last step the mask forbids."""
    return replace(chain(), action_mask=np.array([[True, True], [True, True], [False, True]]))


def test_a_mask_that_forbids_the_goal_is_a_finding_of_the_problem():
    found = diagnose(case_on(masked_chain(), [[1.0, 0.0], [1.0, 0.0], [0.5, 0.0]]))
    finding = found.named("mask-forbids-optimum")
    assert finding.severity == "severe"
    assert (finding.evidence["value_under_mask"], finding.evidence["value_without"]) == pytest.approx((0, 0.81))
    assert found.named("all-policies-equal") is None  # which follows from it


def test_a_mask_that_leaves_the_best_actions_is_fine():
    table = replace(chain(), action_mask=np.array([[True, False]] * 3))
    assert checked("mask-forbids-optimum", case_on(table, [[1.0, -np.inf]] * 3)) is None
    excluded = replace(chain(), reward=np.where([[[False], [True]]] * 3, -np.inf, chain().reward))
    assert checked("mask-forbids-optimum", case_on(excluded, [[1.0, -np.inf]] * 3)) is None  # without an outcome


def test_rewards_where_no_start_leads_are_named_with_their_place():
    table = build([[surely(0, 0), surely(0, 0, True)], [surely(1, 5, True), surely(0, 0)]], [1.0, 0.0])
    finding = diagnose(case_on(table, np.zeros((2, 2)))).named("goal-unreachable")
    assert (finding.severity, finding.evidence["state"], finding.evidence["reward"]) == ("severe", 1, 5)


def test_a_goal_that_pays_again_and_again_is_named():
    table = build([[surely(0, 0), surely(1, 1)], [surely(1, 1), surely(1, 1)]], [1.0, 0.0])
    finding = checked("reward-after-end", case_on(table, np.zeros((2, 2))))
    assert finding.evidence["state"] == 1
    assert checked("reward-after-end", case_on(chain(), np.zeros((3, 2)))) is None


def test_a_table_that_its_environment_contradicts_is_named():
    why = {"table": "its P calls impossible what it did: state 3, action 1 gave state 4, reward 0, terminated False"}
    finding = checked("table-contradicted", unseen(why=why))
    assert "state 3, action 1" in finding.summary
    assert checked("table-contradicted", unseen()) is None


def varying(again=0.5, changing=2, avoidable=True):
    return TrainingMode(("drop (Dropout)",), again, 0.5, changing, 3, avoidable)


@pytest.mark.parametrize(
    ("q", "mode", "severity"),
    [(BAD, varying(), "severe"), (BAD, varying(changing=0), "warning"), (GOOD, varying(), "warning")],
)
def test_a_training_mode_is_severe_where_it_changes_a_bad_policy(q, mode, severity):
    finding = diagnose(case_on(chain(), q, training_mode=mode)).named("training-mode-on")
    assert (finding.severity, finding.source) == (severity, "network")
    assert ("predict" in finding.summary) == mode.avoidable


def test_a_training_mode_is_named_where_the_network_has_no_policy():
    case = unseen(mixing=("it draws", 0.5), training_mode=varying(avoidable=False), why={"q": "it mixes states"})
    assert checked("training-mode-on", case).severity == "severe"
    assert checked("mixes-states", case) is None


def test_weights_that_left_their_initial_values_speak_against_an_untrained_model():
    table = grid(6)
    small = np.random.default_rng(1).uniform(-0.05, 0.05, (36, 4))
    assert checked("model-not-trained", case_on(table, small)).source == "exact"
    for known in (replace(facts(), as_initialized=False), replace(facts(), as_initialized=None)):
        found = checked("model-not-trained", case_on(table, small, network=known))
        assert (found is None) == (known.as_initialized is False)


@pytest.mark.parametrize(("zero", "severity"), [(True, "severe"), (False, "warning")])
def test_weights_as_they_were_drawn_need_no_table(zero, severity):
    drawn = replace(facts(), as_initialized=True, biases_at_zero=zero)
    case = unseen(q=np.zeros((3, 2)), network=drawn)
    assert checked("model-not-trained", case).severity == severity
    by_hand = replace(drawn, as_initialized=False)
    assert checked("model-not-trained", replace(case, network=by_hand)).why == case.missing("verdict")
    assert checked("model-not-trained", replace(case, config=config())) is None
