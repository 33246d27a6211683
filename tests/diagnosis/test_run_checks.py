import json

import numpy as np

from deeptaxi.diagnosis import diagnose
from deeptaxi.diagnosis.run_checks import CHECKS, UNEXPLAINED
from deeptaxi.metrics import to_json
from deeptaxi.network.facts import LayerFacts, NetworkFacts
from tests.diagnosis.cases import case_on, config, history, progress, snapshot, unseen
from tests.problems import chain

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
    assert diagnose(case_on(chain(), nearly)).named("policy-loops").cause == UNEXPLAINED[0]


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
    assert {check.name for check in CHECKS} - reasons.keys() == {"wrong-environment", "diverged"}


def test_nan_values_stop_no_other_check():
    found = diagnose(case_on(chain(), np.full((3, 2), np.nan)))
    assert found.named("diverged").severity == "severe"
    assert found.severe


def test_the_json_has_the_agreed_keys():
    document = json.loads(to_json(diagnose(case_on(chain(), STAY)).to_dict()))
    assert list(document) == ["severe", "findings", "not_checked"]
    assert list(document["findings"][0]) == ["name", "severity", "summary", "evidence", "source", "cause", "cure"]
