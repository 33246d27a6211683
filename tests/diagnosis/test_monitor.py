import pytest

from deeptaxi.diagnosis.monitor import Monitor
from deeptaxi.metrics import Evaluated, Started, Warned
from tests.diagnosis.cases import config, progress, snapshot
from tests.problems import chain

STARTED = Started("problem.npz", 3, 2, "q-table", "compiled", 0, 1_000, 0.1, None, 1.0)


def told(records, table=True, **settings):
    settings = {"evaluation": {"objective_discount": 0.9}, "discount": 0.9, "updates": 1_000, **settings}
    watch = Monitor(config(**settings), chain() if table else None)
    return [warning.finding for record in records for warning in watch(record)]


def collapsed(first, count=4, share=1.0):
    return [snapshot(first + i, action=1, share=share) for i in range(count)]


def test_a_discount_too_small_is_told_at_the_start_once():
    assert told([STARTED, STARTED], discount=0.001) == ["discount-too-small"]
    assert told([STARTED]) == []
    assert told([STARTED], table=False, discount=0.001) == []


def test_what_the_training_that_is_gone_on_with_has_told_is_not_told_again():
    assert told([Warned(0, "discount-too-small", "…"), STARTED], discount=0.001) == []


@pytest.mark.parametrize(
    ("records", "names"),
    [
        (collapsed(600), ["one-action-collapse"]),
        (collapsed(100), []),  # in the first half, everything may yet come
        (collapsed(600, count=2), []),
        (collapsed(600, share=0.8), []),
        ([snapshot(600 + i, action=0, share=1.0) for i in range(4)], []),  # going on is right
    ],
)
def test_one_action_for_long_is_told(records, names):
    assert told(records) == names


def test_nothing_is_told_of_an_agent_that_is_optimal():
    evaluation = Evaluated(1, True, 0.0, 0.0, 0.0, 1, 1, None)
    assert told([evaluation, *collapsed(600)]) == []


def test_values_that_are_not_possible_are_told_at_the_second_time():
    # Rewards are 0 or 1, so at 0.9 values lie between 0 and 10.
    assert told([snapshot(1, high=12.0)]) == []
    assert told([snapshot(1, high=12.0), snapshot(2, low=-2.0)]) == ["learning-rate-too-high"]
    assert told([snapshot(i, high=10.5) for i in range(9)]) == []


def test_a_loss_that_is_no_number_is_told():
    assert told([progress(1, loss=float("nan"))], table=False) == ["diverged"]


@pytest.mark.parametrize(("pairs", "end", "epsilon", "named"), [
    (3, 0.01, 0.01, True), (6, 0.01, 0.01, False), (3, 0.5, 0.5, False), (3, 0.01, 0.4, False)])  # fmt: skip
def test_an_epsilon_at_its_end_with_much_untried_is_told(pairs, end, epsilon, named):
    records = [progress(1, epsilon=epsilon), *[snapshot(i, pairs=pairs) for i in range(1, 6)]]
    names = told(records, exploration={"end": end})
    assert names == (["epsilon-fell-too-early"] if named else [])


def test_coverage_that_grows_is_waited_for():
    records = [progress(1, epsilon=0.01), *[snapshot(i, pairs=i) for i in range(1, 6)]]
    assert told(records, exploration={"end": 0.01}) == []


def test_a_discount_that_only_blurs_is_not_said_to_forbid_a_good_policy():
    watch = Monitor(config(evaluation={"objective_discount": 0.9}, discount=0.001), chain())
    assert "cannot tell these apart" in watch(STARTED)[0].text
