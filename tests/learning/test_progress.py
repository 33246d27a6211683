from __future__ import annotations

from dataclasses import replace

import pytest

from deeptaxi.config import resolve
from deeptaxi.learning.progress import ProgressTracker, StepMetrics, updates_per_record
from deeptaxi.metrics import Progress

# A record every 2 of 1,000 updates; the learning rate falls by a line from 0.4 to 0.2.
CONFIG = resolve(
    {"updates": 1_000, "optimizer": {"learning_rate": 0.4, "schedule": "linear", "final_fraction": 0.5}},
)


@pytest.mark.parametrize(("updates", "every"), [(1, 1), (499, 1), (999, 1), (1_000, 2), (20_000, 40), (20_499, 40)])
def test_there_are_about_five_hundred_records(updates, every):
    assert updates_per_record(resolve({"updates": updates})) == every


def reported(*metrics):
    tracker = ProgressTracker(CONFIG, actions=3)
    return [replace(record, seconds=0.0) for each in metrics for record in tracker.add(each)]


def test_progress_averages_over_the_updates_since_the_previous_record():
    records = reported(
        StepMetrics(1, 4, 0.9, 1, loss=1.0, td_error=0.5, episodes=2, returns=3.0),
        StepMetrics(2, 8, 0.8, 1, loss=3.0, td_error=1.0, episodes=1, returns=6.0),
        StepMetrics(3, 12, 0.7, 1, loss=5.0, td_error=2.0, episodes=0, returns=0.0),
        StepMetrics(4, 16, 0.6, 1, loss=7.0, td_error=4.0, episodes=0, returns=0.0),
    )
    assert records == [
        Progress(2, 8, 0.0, 2.0, 0.75, 0.8, pytest.approx(0.4 - 0.2 * 0.001), episodes=3, mean_return=3.0),
        Progress(4, 16, 0.0, 6.0, 3.0, 0.6, pytest.approx(0.4 - 0.2 * 0.003), episodes=0, mean_return=None),
    ]


def test_the_remainder_is_reported_once_at_the_end():
    report = ProgressTracker(CONFIG, actions=3)
    assert list(report.add(StepMetrics(1, 4, 0.9, 1, loss=1.0, td_error=0.5, episodes=0, returns=0.0))) == []
    assert [(record.update, record.loss) for record in report.rest()] == [(1, 1.0)]
    assert list(report.rest()) == []


def test_step_metrics_may_cover_many_updates_or_none():
    records = reported(
        StepMetrics(2, 8, 0.9, 2, loss=4.0, td_error=3.0, episodes=2, returns=6.0),
        StepMetrics(3, 12, 0.8, 0, loss=0.0, td_error=0.0, episodes=0, returns=0.0),  # no more than where it stands
        StepMetrics(4, 16, 0.7, 2, loss=6.0, td_error=1.0, episodes=4, returns=-2.0),
    )
    assert [record.update for record in records] == [2, 4]
    assert [(record.loss, record.td_error, record.mean_return) for record in records] == [(2, 1.5, 3), (3, 0.5, -0.5)]
