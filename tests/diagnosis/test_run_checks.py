import json
from dataclasses import replace

import numpy as np
import pytest

from deeptaxi.diagnosis import cures, diagnose, run_checks
from deeptaxi.diagnosis.run_checks import CHECKS, UNEXPLAINED
from deeptaxi.metrics import to_json
from deeptaxi.network.facts import LayerFacts, NetworkFacts
from tests.diagnosis.cases import case_on, checked, config, history, progress, snapshot, unseen
from tests.problems import build, chain, surely

STAY, GO = [[0.0, 1.0]] * 3, [[1.0, 0.0]] * 3
DEAD = NetworkFacts("one-hot", "linear", (None, None), (LayerFacts("hidden_0", "relu", 8, 8, 0),), 3)


def test_a_symptom_has_the_cause_and_cure_of_another_finding():
    found = diagnose(case_on(chain(), STAY, network=DEAD))
    collapse, dead = found.named("one-action-collapse"), found.named("dead-relu-units")
    assert collapse.cause == f"dead-relu-units: {dead.cause}"
    assert collapse.cure == dead.cure
    assert found.severe


def test_a_symptom_without_a_cause_says_so():
    nearly = [[0.7, 0.71], [0.79, 0.8], [0.88, 0.89]]  # Q* is 0.81, 0.9, 1 for going on
    found = diagnose(case_on(chain(), nearly))
    missed = found.named("not-optimal")
    assert (missed.severity, found.findings[0].name) == ("severe", "not-optimal")
    assert found.named("policy-loops").cause == f"{UNEXPLAINED}: see not-optimal"
    assert missed.cause.startswith("no check proves one: it is off by 0.12, where Q* ranges over 0.271")
    assert "terminal-states-bootstrapped" in missed.evidence["ruled_out"]
    assert missed.evidence["worst_states"][0] == {
        "state": 0, "action": 1, "best_action": 0, "loses": pytest.approx(0.81 - 0.729), "is_start": True,
        "q": 0.71, "q_of_best": 0.7, "q_star": pytest.approx(0.729), "q_star_of_best": pytest.approx(0.81),
    }  # fmt: skip


def test_a_bad_policy_is_severe_with_the_cause_that_is_only_a_warning():
    cause = checked("reward-scale-off", case_on(chain(), STAY))
    assert cause is None
    found = diagnose(case_on(chain(), [[2.0, 2.1]] * 3, visits=np.array([[5, 5], [5, 5], [0, 0]])))
    assert found.severe


def test_a_cure_is_never_what_the_configuration_has():
    log = history(snapshot(10, high=100.0), snapshot(20, high=300.0))
    known = config(optimizer={"learning_rate": 0.003, "tabular_step": None})
    found = diagnose(case_on(chain(), STAY, config=known, history=log, usual=known))
    for finding in found.findings:
        changes = cures.parse_options(finding.cure)
        assert changes is None or cures.applies(known, changes), finding


def test_a_model_from_elsewhere_gets_no_option_of_a_training_that_it_never_had():
    found = diagnose(case_on(chain(), STAY, network=DEAD))
    assert found.named("dead-relu-units").cure == "in the training that made it: learning rate 0.003"
    assert not any(finding.cure.startswith("--") for finding in found.findings)


def test_an_optimal_policy_has_no_severe_finding():
    log = history(progress(1, loss=None))
    found = diagnose(case_on(chain(), GO, network=DEAD, history=log))
    assert {finding.name for finding in found.findings} >= {"diverged", "dead-relu-units"}
    assert not found.severe


def test_findings_are_sorted_by_severity():
    ranks = [finding.severity for finding in diagnose(case_on(chain(), STAY, network=DEAD)).findings]
    assert ranks == sorted(ranks, key=("severe", "warning", "note").index)


def test_a_model_for_another_problem_gets_no_other_finding():
    log = history(snapshot(10, high=100.0), snapshot(20, high=300.0))
    elsewhere = config(environment={"id": "Other-v0"})
    found = diagnose(case_on(chain(), STAY, history=log, config=elsewhere))
    assert found.named("wrong-environment")
    assert found.named("policy-loops").cause.startswith("wrong-environment: ")
    assert not found.named("learning-rate-too-high")
    assert {item.name: item.why for item in found.not_checked}["learning-rate-too-high"].endswith("another problem")


def test_a_diverged_training_is_not_also_called_interrupted():
    found = diagnose(unseen(history=history(progress(1, loss=None))))
    assert found.named("diverged")
    assert not found.named("interrupted")


def test_checks_that_cannot_be_run_are_listed_with_a_reason():
    found = diagnose(unseen(why={"table": "it has no P"}))
    assert not found.findings
    reasons = {item.name: item.why for item in found.not_checked}
    assert reasons["terminal-states-bootstrapped"] == "it has no P"
    assert "log" in reasons["interrupted"]
    # All but those that look into what is there: a log, a network, a configuration.
    assert {check.name for check in CHECKS} - reasons.keys() == {"wrong-environment", "diverged", "table-contradicted"}


def test_nan_values_stop_no_other_check():
    found = diagnose(case_on(chain(), np.full((3, 2), np.nan)))
    assert found.named("diverged").severity == "severe"
    assert found.severe


def test_the_json_has_the_agreed_keys():
    document = json.loads(to_json(diagnose(case_on(chain(), STAY)).to_dict()))
    assert list(document) == ["severe", "findings", "not_checked"]
    assert list(document["findings"][0]) == ["name", "severity", "summary", "evidence", "source", "cause", "cure"]


def test_a_symptom_has_the_cures_of_all_severe_causes_and_of_others_that_go_back_to_what_is_usual():
    usual = config(updates=1_000)
    bad = config(updates=1_000, optimizer={"learning_rate": 1e-6}, exploration={"end": 0.1})
    case = case_on(chain(), STAY, config=bad, usual=usual)
    symptom = diagnose(case_on(chain(), STAY)).named("policy-loops")

    def cause(name, severity, cure):
        return replace(symptom, name=name, severity=severity, cause="why", cure=cure)

    first = cause("first", "severe", "--learning-rate 0.003")
    others = [
        cause("second", "severe", "--learning-rate 0.5 --replay-capacity 70000"),
        cause("back", "warning", "--epsilon-end 0.5"),
        cause("beyond", "warning", "--updates 4000"),
        cause("note", "note", "--double"),
        cause("sentence", "severe", "look at the rewards"),
    ]
    text = "--learning-rate 0.003 --replay-capacity 70000 --epsilon-end 0.5"
    assert run_checks.cure_of_all(first, [symptom, first, *others], case) == text
    assert run_checks.cure_of_all(others[-1], [first, *others], case) == "look at the rewards"


def test_the_worst_finding_has_the_cures_of_all_if_there_is_no_symptom():
    # 0 → 1 → end pays 1, by action 0 and then 1; each other action ends at once
    table = build([[surely(1, 0), surely(0, 0, True)], [surely(0, 0, True), surely(1, 1, True)]])
    settings = {"exploration": {"start": 0.02, "end": 0.02}, "optimizer": {"learning_rate": 1e-5}, "updates": 1_000}
    usual = {"exploration": {"start": 1.0, "end": 0.5}, "optimizer": {"learning_rate": 0.005}, "updates": 1_000}
    log = history(*(progress(update, epsilon=0.02) for update in (100, 500, 1_000)))
    known = {"config": config(**settings), "usual": config(**usual), "history": log}
    found = diagnose(case_on(table, [[0.0, 0.8], [0.1, 0.0]], visits=np.array([[0, 9], [0, 0]]), **known))
    first, slow = found.findings[0], found.named("learning-rate-too-low")
    assert (first.name, first.severity, slow.severity) == ("epsilon-fell-too-early", "severe", "warning")
    assert first.cure == f"--epsilon-start 1 --epsilon-end 0.5 {slow.cure}"


def test_steps_that_cannot_carry_values_do_not_overshoot():
    log = history(snapshot(10, high=100.0), snapshot(20, high=300.0))
    slow = config(updates=1_000, optimizer={"learning_rate": 1e-5}, discount=0.9)
    quick = config(updates=1_000, optimizer={"learning_rate": 0.1}, discount=0.9)
    for known, named in ((slow, "learning-rate-too-low"), (quick, "learning-rate-too-high")):
        found = {finding.name for finding in diagnose(case_on(chain(), STAY, config=known, history=log)).findings}
        assert found & {"learning-rate-too-low", "learning-rate-too-high"} == {named}
