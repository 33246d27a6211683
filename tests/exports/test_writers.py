"""Each format of each kind of network, as its own runtime reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deeptaxi.exports.read_back import Answers, Comparison, compare
from deeptaxi.exports.readers import READERS, Ask, outside
from deeptaxi.exports.writers import WRITERS
from deeptaxi.storage.formats import FORMATS
from tests.exports.networks import KINDS, MASK, A, S, source

COMPUTING = ("keras", "plain", "savedmodel", "onnx", "litert")
STATES = np.arange(S, dtype=np.int32)


@pytest.fixture(scope="module", params=KINDS)
def exports(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, Path]:
    """The Q values of a masked network, and a folder with it in every format."""
    written, folder = source(request.param), tmp_path_factory.mktemp("exports")
    for name, form in FORMATS.items():
        WRITERS[name](written, folder / form.file)
    return written.q_values, folder


def asked(name: str, folder: Path) -> Ask:
    return READERS[name](str(folder / FORMATS[name].file))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_agrees_with_the_network_and_rejects_others(name: str, exports: tuple[np.ndarray, Path]) -> None:
    q_values, folder = exports
    ask = asked(name, folder)
    beyond = [outside(ask, state, A) for state in (-1, S)]
    answers = Answers(*ask(STATES), *(np.array(part) for part in zip(*beyond, strict=True)))
    found = compare(FORMATS[name], answers, q_values)
    assert found == Comparison(found.max_difference, 0)
    assert answers.outside_errors.tolist() == [FORMATS[name].outside == "error"] * 2
    assert MASK[STATES, answers.actions].all()
    assert np.array_equal(np.isneginf(answers.q_values), ~MASK)


@pytest.mark.parametrize("name", COMPUTING)
def test_an_invalid_state_does_not_affect_the_rest_of_the_batch(name: str, exports: tuple[np.ndarray, Path]) -> None:
    q_values, folder = exports
    states = np.array([-(2**31), -1, 5, S, 5, 2**31 - 1], np.int32)
    found, actions = asked(name, folder)(states)
    assert found.dtype == np.float32
    assert actions.dtype == np.int32
    best = q_values[5].argmax()
    assert actions.tolist() == [-1, -1, best, -1, best, -1]
    assert np.isnan(found[[0, 1, 3, 5]]).all()
    assert not np.isnan(found[[2, 4]]).any()


@pytest.mark.parametrize("aggregation", ["mean", "max", "none"])
def test_the_savedmodel_of_a_dueling_network_is_exact_to_the_last_bit(aggregation: str, tmp_path: Path) -> None:
    from deeptaxi.exports.exporter import source_of
    from deeptaxi.network.build import build_q_network

    network = build_q_network(400, 6, (64,), dueling=True, aggregation=aggregation, seed=1)
    network.set_weights([30 * weight for weight in network.get_weights()])
    written = source_of(network, None)
    WRITERS["savedmodel"](written, tmp_path / "savedmodel")
    found, _ = READERS["savedmodel"](str(tmp_path / "savedmodel"))(np.arange(400, dtype=np.int32))
    np.testing.assert_array_equal(found, written.q_values)
