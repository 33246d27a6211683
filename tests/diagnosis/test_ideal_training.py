"""Value iteration as short and as slow as a configuration, on walks whose numbers a person can check."""

from __future__ import annotations

import pytest

from deeptaxi.diagnosis.case import GOOD
from deeptaxi.diagnosis.ideal_training import mean_epsilon, overshooting_score, sum_of_rates
from tests.diagnosis.cases import config
from tests.diagnosis.test_forecast import TABLE, training
from tests.problems import build, surely


@pytest.mark.parametrize("period", [500, 1_500])
def test_where_values_get_to_is_as_many_sweeps_as_the_target_network_is_refreshed(period):
    away = build([[surely(s, 0), surely(min(s + 1, 3), float(s == 3), s == 3)] for s in range(4)])  # depth 4
    stale = training(away, target={"polyak": 1.0, "period": period}, network=TABLE)
    assert (stale.score_reached == pytest.approx(1)) is (period == 500)


def test_the_sum_of_rates_follows_the_schedule():
    known = {"updates": 1_000, "optimizer": {"learning_rate": 0.1, "final_fraction": 0.0}}
    for schedule, total in (("constant", 100), ("linear", 50), ("cosine", 50)):
        rates = {**known["optimizer"], "schedule": schedule}
        assert sum_of_rates(config(updates=1_000, optimizer=rates)) == pytest.approx(total, rel=1e-2)
    halfway = config(updates=1_000, schedule_updates=500, optimizer={**known["optimizer"], "schedule": "linear"})
    assert sum_of_rates(halfway) == pytest.approx(25, rel=1e-2)


def test_epsilon_is_averaged_over_the_training():
    assert mean_epsilon(config(exploration={"start": 1.0, "end": 0.5, "fraction": 0.5})) == pytest.approx(0.625)


def test_a_step_that_falls_before_the_values_overflow_may_find_a_good_policy():
    for schedule, batch, overflows in (("constant", 60, True), ("cosine", 60, True), ("cosine", 25, False)):
        optimizer = {"name": "sgd", "tabular_step": 0.5, "schedule": schedule}
        step = training(network=TABLE, optimizer=optimizer, replay={"batch_size": batch})
        score = overshooting_score(step, 0.5)
        assert (score is not None and score < GOOD) is overflows
