import pytest

from deeptaxi.network.facts import LayerFacts, NetworkFacts
from tests.diagnosis.cases import case_on, checked, config, unseen
from tests.problems import chain

BAD, GOOD = [[0.0, 1.0]] * 3, [[1.0, 0.0]] * 3


def facts(state_input="one-hot", output="linear", bounds=(None, None), dead=0, saturated=0, activation="relu"):
    return NetworkFacts(state_input, output, bounds, (LayerFacts("hidden_0", activation, 8, dead, saturated),), 3)


@pytest.mark.parametrize(("dead", "q", "severity"), [(8, BAD, "severe"), (3, BAD, "warning"), (3, GOOD, "note")])
def test_units_that_are_off_everywhere_are_named(dead, q, severity):
    case = case_on(chain(), q, network=facts(dead=dead), config=config())
    finding = checked("dead-relu-units", case)
    assert (finding.severity, finding.evidence["layers"][0]["count"]) == (severity, dead)


def test_a_few_units_that_are_off_are_usual():
    assert checked("dead-relu-units", case_on(chain(), BAD, network=facts(dead=1))) is None


def test_an_output_that_cannot_give_the_values_is_named():
    squashed = facts(output="sigmoid", bounds=(0.0, 0.5))
    finding = checked("saturated-output", case_on(chain(), BAD, network=squashed))
    assert (finding.severity, finding.source, finding.evidence["share_outside"]) == ("severe", "exact", 1)
    wide = facts(output="sigmoid", bounds=(0.0, 1.0))
    assert checked("saturated-output", case_on(chain(), BAD, network=wide)) is None
    unknown = checked("saturated-output", unseen(network=wide))
    assert (unknown.severity, unknown.source) == ("warning", "network")


def test_hidden_units_at_their_end_are_named():
    case = case_on(chain(), BAD, network=facts(saturated=6, activation="tanh"))
    assert checked("saturated-output", case).evidence["layers"][0]["count"] == 6
    assert checked("saturated-output", case_on(chain(), BAD, network=facts(saturated=2))) is None


@pytest.mark.parametrize("kind", ["one-hot", "embedding", "number", "unknown"])
def test_only_a_state_that_is_a_quantity_is_named(kind):
    finding = checked("state-as-number", case_on(chain(), BAD, network=facts(kind)))
    assert (finding is not None) == (kind == "number")
