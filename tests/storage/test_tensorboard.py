"""The events, read back by TensorBoard itself."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from deeptaxi.config import resolve
from deeptaxi.metrics import Evaluated, Finished, Progress, Snapshot, Started, Warned
from deeptaxi.storage.logs import EVENTS, Log
from deeptaxi.storage.tensorboard import Events

CONFIG = resolve({"environment": {"id": "Taxi-v4", "kwargs": {"is_rainy": True}}, "network": {"hidden": [64, 32]}})
RECORDS = (
    Started("Taxi-v4", 500, 6, "dueling", "fit", 0, 100, 0.1, None, 1.5),
    Progress(10, 320, 0.5, 0.25, 0.125, 0.9, 0.003, 0, None),
    Evaluated(10, False, -1.5, 2.5, 3.5, 300, 200, None),
    Snapshot(10, -3.5, 20.0, 1.5, None, None, 2, 0.25, 400, 2300),
    Warned(10, "one-action-collapse", "one action in 99 % of the states"),
    Progress(30, 960, 1.0, 0.5, 0.25, 0.75, 0.002, 4, -8.0),
    Snapshot(30, -3.5, 20.0, 1.5, 0.5, 0.125, 2, 0.25, 400, 2300),
    Finished("updates", 30, 10, 960, 1.0, 1.5, "ab12", {"return": 7.5, "optimal": False, "value": 6.5}, None),
)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What TensorBoard makes of a log with all records."""
    folder = tmp_path_factory.mktemp("log")
    with Log(folder, folder, {EVENTS: lambda place: Events(place, CONFIG)}) as log:
        for record in RECORDS:
            log.write(record)
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def points(seen, tag):
    return [(event.step, event.value) for event in seen.Scalars(tag)]


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("train/loss", [(10, 0.25), (30, 0.5)]),
        ("train/td_error", [(10, 0.125), (30, 0.25)]),
        ("train/return", [(30, -8.0)]),  # where no episode ended there is none
        ("schedule/epsilon", [(10, pytest.approx(0.9)), (30, 0.75)]),
        ("schedule/learning_rate", [(10, pytest.approx(0.003)), (30, pytest.approx(0.002))]),
        ("speed/updates", [(10, 20.0), (30, 40.0)]),  # of late: 20 updates in the second half of a second
        ("speed/environment_steps", [(10, 640.0), (30, 1280.0)]),
        ("exact/value", [(10, -1.5)]),
        ("exact/value_gap", [(10, 2.5)]),
        ("exact/gap", [(10, 3.5)]),
        ("exact/optimal_starts", [(10, 200.0)]),
        ("q/min", [(10, -3.5), (30, -3.5)]),
        ("q/change", [(30, 0.5)]),
        ("policy/change", [(30, 0.125)]),
        ("coverage/states", [(10, 400.0), (30, 400.0)]),
        ("coverage/pairs", [(10, 2300.0), (30, 2300.0)]),
        ("final/return", [(30, 7.5)]),
        ("final/optimal", [(30, 0.0)]),
    ],
)
def test_scalars_are_in_groups_over_the_updates(seen, tag, expected):
    assert points(seen, tag) == expected


def test_the_configuration_and_the_warnings_are_texts(seen):
    assert set(seen.Tags()["tensors"]) == {"config/text_summary", "warning/one-action-collapse/text_summary"}
    (config,) = seen.Tensors("config/text_summary")
    assert b"    is_rainy = true" in config.tensor_proto.string_val[0]
    (warning,) = seen.Tensors("warning/one-action-collapse/text_summary")
    assert (warning.step, warning.tensor_proto.string_val[0]) == (10, b"one action in 99 % of the states")


def hparams_data(seen, name):
    """Parse what is stored for the HPARAMS tab under a name."""
    content = seen.SummaryMetadata(f"_hparams_/{name}").plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content)


def test_the_settings_are_hyperparameters_and_the_final_figures_their_metrics(seen):
    start = hparams_data(seen, "session_start_info").session_start_info.hparams
    assert start["seed"].number_value == 0
    assert start["network.hidden"].string_value == "64,32"
    assert start["network.dueling"].bool_value
    assert start["environment.kwargs"].string_value == '{"is_rainy": true}'
    assert "optimizer.tabular_step" not in start  # it is not set
    experiment = hparams_data(seen, "experiment").experiment
    # All runs share the columns of one of them, so these include what this run does not set.
    assert "optimizer.tabular_step" in {info.name for info in experiment.hparam_infos}
    metrics = {info.name.tag for info in experiment.metric_infos}
    assert {"final/return", "final/value", "final/gap", "final/optimal"} <= metrics
    assert hparams_data(seen, "session_end_info").HasField("session_end_info")


def test_tensorboard_logs_do_not_import_pytorch() -> None:
    code = "import sys, deeptaxi.storage.tensorboard; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
