from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from deeptaxi.artifacts.export import export
from deeptaxi.errors import UsageError
from deeptaxi.network.build import build_q_network, tabulate, with_mask

MASK = np.array([[True, False, True], [True, True, True], [False, False, True], [True, True, False]])


@pytest.mark.parametrize("aggregation", ["mean", "max", "none"])
def test_the_savedmodel_of_a_dueling_network_is_exact_to_the_last_bit(aggregation: str, tmp_path: Path) -> None:
    network = build_q_network(400, 6, (64,), dueling=True, aggregation=aggregation, seed=1)
    network.set_weights([30 * weight for weight in network.get_weights()])
    assert export(network, "savedmodel", tmp_path / "sm").max_difference == 0


@pytest.mark.parametrize("form", ["keras", "savedmodel", "csv", "npz", "json"])
def test_every_export_honours_the_mask(form: str, tmp_path: Path) -> None:
    network = with_mask(build_q_network(4, 3, (8,), seed=2), MASK)
    # Reading back compares where the values are −∞, too.
    assert export(network, form, tmp_path / f"masked.{form}").max_difference == 0


def test_a_keras_file_has_the_ending_that_keras_asks_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"end in \.keras"):
        export(build_q_network(4, 3), "keras", tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_actions_of_a_masked_savedmodel_are_allowed_ones(tmp_path: Path) -> None:
    network = with_mask(build_q_network(4, 3, (8,), seed=2), MASK)
    export(network, "savedmodel", tmp_path / "sm")
    reply = tf.saved_model.load(str(tmp_path / "sm")).signatures["serving_default"](state=tf.range(4))
    assert MASK[np.arange(4), reply["action"].numpy()].all()
    np.testing.assert_array_equal(reply["q_values"].numpy(), tabulate(network))
