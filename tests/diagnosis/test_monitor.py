import pytest

from deeptaxi.diagnosis import monitor
from deeptaxi.diagnosis.monitor import Monitor
from deeptaxi.metrics import Evaluated, Started, Warned
from tests.diagnosis.cases import config, progress, snapshot
from tests.problems import build, chain, surely

CHAIN = chain()
MYOPIC = build([[surely(0, 0.5, True), surely(1, 0)], [surely(1, 1, True), surely(1, 0)]])  # 0.5 now, or 1 later
STARTED = Started("problem.npz", 3, 2, "q-table", "compiled", 0, 1_000, 0.1, None, 1.0)


def warnings(records, table=CHAIN, **settings):
    settings = {"evaluation": {"objective_discount": 0.9}, "discount": 0.9, "updates": 1_000, **settings}
    watch = Monitor(config(**settings), table)
    return [warning.finding for record in records for warning in watch(record)]


def collapsed(first, count=4, share=1.0):
    return [snapshot(first + i, action=1, share=share) for i in range(count)]


def test_a_discount_that_is_too_small_is_warned_of_once_at_the_start():
    assert warnings([STARTED, STARTED], MYOPIC, discount=0.001) == ["discount-too-small"]
    assert warnings([STARTED], MYOPIC) == []
    assert warnings([STARTED], None, discount=0.001) == []


def test_a_cure_goes_back_to_what_is_usual_for_the_problem():
    off, usual = ({"network": {"initial_value": value}} for value in (30.0, 0.5))
    (warning,) = Monitor(config(**off, updates=1_000), CHAIN, usual=lambda: config(**usual))(STARTED)
    assert warning.text.endswith("; --initial-value 0.5")
    diverged = Monitor(config(optimizer={"learning_rate": 0.5}), None, usual=lambda: config(**usual))
    (warning,) = diverged(progress(1, loss=None))
    assert warning.text == "diverged: the loss is no longer finite; --learning-rate 0.003"


def test_the_seeds_of_a_table_share_what_is_known_at_the_start(monkeypatch):
    table, looked = build([[surely(0, 0.5, True), surely(1, 0)], [surely(1, 1, True), surely(1, 0)]]), []
    foresee = monitor.foresee
    monkeypatch.setattr(monitor, "foresee", lambda training: looked.append(0) or foresee(training))
    for seed in range(3):
        assert warnings([STARTED], table, discount=0.001, seed=seed) == ["discount-too-small"]
    assert len(looked) == 1
    assert warnings([STARTED], table, discount=0.5) == []
    assert len(looked) == 2


def test_a_resumed_training_does_not_repeat_its_warnings():
    assert warnings([Warned(0, "discount-too-small", "…"), STARTED], MYOPIC, discount=0.001) == []


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
def test_a_lasting_one_action_collapse_is_warned_of(records, names):
    assert warnings(records) == names


def test_an_optimal_agent_is_not_warned_of():
    evaluation = Evaluated(1, True, 0.0, 0.0, 0.0, 1, 1, None)
    assert warnings([evaluation, *collapsed(600)]) == []


def test_impossible_values_are_warned_of_the_second_time():
    # Rewards are 0 or 1, so at 0.9 values lie between 0 and 10.
    assert warnings([snapshot(1, high=12.0)]) == []
    assert warnings([snapshot(1, high=12.0), snapshot(2, low=-2.0)]) == ["learning-rate-too-high"]
    assert warnings([snapshot(i, high=10.5) for i in range(9)]) == []


def test_a_nan_loss_is_warned_of():
    assert warnings([progress(1, loss=float("nan"))], table=None) == ["diverged"]


@pytest.mark.parametrize(("pairs", "end", "epsilon", "named"), [
    (3, 0.01, 0.01, True), (6, 0.01, 0.01, False), (3, 0.5, 0.5, False), (3, 0.01, 0.4, False)])  # fmt: skip
def test_an_epsilon_that_ended_with_much_untried_is_warned_of(pairs, end, epsilon, named):
    records = [progress(1, epsilon=epsilon), *[snapshot(i, pairs=pairs) for i in range(1, 6)]]
    names = warnings(records, exploration={"end": end})
    assert names == (["epsilon-fell-too-early"] if named else [])


def test_growing_coverage_delays_the_warning():
    records = [progress(1, epsilon=0.01), *[snapshot(i, pairs=i) for i in range(1, 6)]]
    assert warnings(records, exploration={"end": 0.01}) == []


def test_a_discount_that_only_blurs_values_does_not_rule_out_a_good_policy():
    assert warnings([STARTED], discount=0.001) == []
