"""What is written can be read back, up to each limit; what could not be is refused before the training."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import deeptaxi
from deeptaxi import metrics
from deeptaxi.api.run import Run
from deeptaxi.config import resolve
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.io import safe_archive, safe_load
from deeptaxi.learning.coverage import Coverage
from deeptaxi.learning.memory import count_weights
from deeptaxi.metrics import Warned, to_line
from deeptaxi.network.build import build_q_network, sizes, with_mask
from deeptaxi.storage import keras_file, logs, model_card, runs
from deeptaxi.storage.models import load_network
from tests.api.conftest import LAKE
from tests.api.conftest import lake as lake


def q_table(states: int, actions: int) -> keras.Model:
    network = build_q_network(states, actions)
    network.set_weights([np.arange(states * actions, dtype=np.float32).reshape(states, actions)])
    return network


@pytest.mark.slow
def test_a_model_of_300_megabytes_is_saved_and_loaded(tmp_path: Path) -> None:
    states = 18_750_000
    network = q_table(states, 4)
    network.save(tmp_path / "model.keras")
    assert (tmp_path / "model.keras").stat().st_size > 300e6
    loaded = load_network(tmp_path / "model.keras")
    assert sizes(loaded) == (states, 4)
    np.testing.assert_array_equal(loaded.get_weights()[0], network.get_weights()[0])


@pytest.mark.parametrize("most", [10_000, 5_000])
def test_members_may_be_larger_than_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(safe_archive, "MAX_DIRECTORY", most)
    network = q_table(1_000, 4)
    network.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(load_network(tmp_path / "model.keras").get_weights()[0], network.get_weights()[0])
    arrays = {"a": np.arange(3_000.0)}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **arrays)
        np.testing.assert_array_equal(safe_archive.read_npz(tmp_path / "x.npz", 10**6)["a"], arrays["a"])


def test_weights_beyond_the_limit_are_refused_before_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    q_table(1_000, 4).save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        size = archive.getinfo("model.weights.h5").file_size
    monkeypatch.setattr(keras_file, "MAX_BYTES", size)
    assert sizes(load_network(tmp_path / "model.keras")) == (1_000, 4)
    monkeypatch.setattr(keras_file, "MAX_BYTES", size - 1)
    with pytest.raises(DeepTaxiError, match=r"its model\.weights\.h5 takes 2\d\.\d KiB, where at most"):
        load_network(tmp_path / "model.keras")


def test_a_network_with_more_weights_than_can_be_read_back_is_refused_before_the_training(
    lake: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras_file, "MAX_BYTES", keras_file.SPARE + 16 * 4 * 4)
    lake.save(tmp_path / "run", logs=tmp_path / "logs")
    assert deeptaxi.load(tmp_path / "run").weights_digest == lake.weights_digest
    monkeypatch.setattr(keras_file, "MAX_BYTES", keras_file.SPARE + 16 * 4 * 4 - 1)
    message = r"the weights of this network take 256 bytes, and a model file of more than 255 bytes could not be opened"
    with pytest.raises(UsageError, match=message):
        deeptaxi.train("FrozenLake-v1", out=tmp_path / "refused", logs=tmp_path / "logs", **LAKE)
    with pytest.raises(UsageError, match=message):
        lake.save(tmp_path / "refused", logs=tmp_path / "logs")
    assert not (tmp_path / "refused").exists()


@pytest.mark.parametrize(
    "made",
    [{"hidden": ()}, {"hidden": (), "dueling": True}, {"hidden": (8,)}, {"hidden": (8, 5), "dueling": True}],
)
def test_the_weights_of_a_network_are_counted_before_it_is_built(made: dict[str, Any]) -> None:
    config = resolve({"network": {"dueling": False, **made}})
    network = build_q_network(16, 4, **made)
    assert count_weights(config, 16, 4) == network.count_params()
    masked = resolve({"network": {"dueling": False, **made}, "exploration": {"action_mask": True}})
    assert count_weights(masked, 16, 4) == with_mask(network, np.ones((16, 4), bool)).count_params()


def test_more_weights_than_the_network_has_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_file, "SPARE", 10_000)
    q_table(10, 4).save(tmp_path / "small.keras")
    q_table(100_000, 4).save(tmp_path / "large.keras")
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as mixed:
        for name, source in (("config.json", "small"), ("metadata.json", "small"), ("model.weights.h5", "large")):
            with zipfile.ZipFile(tmp_path / f"{source}.keras") as archive:
                mixed.writestr(name, archive.read(name))
    with pytest.raises(DeepTaxiError, match=r"its model\.weights\.h5 takes 1\.5 MiB, where its network has 160 bytes"):
        load_network(path)


def test_a_model_file_swapped_after_its_inspection_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "model.keras", tmp_path / "other.keras"
    q_table(10, 4).save(path)
    keras.Sequential([keras.Input((10,)), keras.layers.Dense(4)]).save(other)
    check = keras_file.check_config

    def swap(config: Any) -> None:
        check(config)
        if other.exists():
            other.replace(path)

    monkeypatch.setattr(keras_file, "check_config", swap)
    assert sizes(load_network(path)) == (10, 4)


def test_weights_changed_after_their_inspection_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.keras"
    network = q_table(10, 4)
    network.save(path)

    check = keras_file.check_weights

    def change(content: bytes, limit: int) -> int:
        path.write_bytes(b"another file")
        return check(content, limit)

    monkeypatch.setattr(keras_file, "check_weights", change)
    np.testing.assert_array_equal(load_network(path).get_weights()[0], network.get_weights()[0])


def test_a_network_with_more_layers_than_can_be_read_back_is_refused() -> None:
    with pytest.raises(UsageError, match="--hidden: expected at most 256 layers, received 257"):
        deeptaxi.train("FrozenLake-v1", hidden=(1,) * 257)


def test_arguments_too_long_to_be_read_back_are_refused_before_a_training(
    lake: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"logs": tmp_path / "logs"}
    lake.save(tmp_path / "whole", **places)
    for name, place, limit in (("config.toml", safe_load, "TOML_BYTES"), ("card.json", model_card, "CARD_BYTES")):
        size = (tmp_path / "whole" / name).stat().st_size
        with monkeypatch.context() as patch:
            patch.setattr(place, limit, size + runs.FACTS)
            lake.save(tmp_path / name, **places)
            assert deeptaxi.load(tmp_path / name).weights_digest == lake.weights_digest
            assert model_card.read_card(tmp_path / name)
        with monkeypatch.context() as patch:
            patch.setattr(place, limit, 500 + runs.FACTS)
            with pytest.raises(UsageError, match=rf"{name} would take .* could not be read again: shorten --env-arg"):
                deeptaxi.train("FrozenLake-v1", out=tmp_path / "refused", **places, **LAKE)
            with pytest.raises(UsageError, match=f"{name} would take"):
                lake.save(tmp_path / "refused", **places)
    assert not (tmp_path / "refused").exists()


def test_arguments_that_no_file_can_hold_are_refused_before_a_training(tmp_path: Path) -> None:
    nested: dict[str, Any] = {"deep": 1}
    for _ in range(40):
        nested = {"deep": nested}
    with pytest.raises(UsageError, match=r"argument deep is .*, which config\.toml cannot hold"):
        runs.check_texts(
            tmp_path,
            {"id": "a:B-v0", "kwargs": {}, "states": 1, "actions": 1, "time_limit": None},
            resolve({"environment": {"id": "a:B-v0", "kwargs": nested}}),
        )


def test_a_log_too_large_to_be_read_back_is_refused_before_the_training(tmp_path: Path) -> None:
    asked = {**LAKE, "eval_every": 1, "updates": 1_000_000}
    with pytest.raises(UsageError, match=r"--eval-every 1 in 1,000,000 updates makes a log of 953\.7 MiB") as caught:
        deeptaxi.train("FrozenLake-v1", out=tmp_path / "run", logs=tmp_path / "logs", **asked)
    least = int(str(caught.value).split("--eval-every ")[-1].split()[0])
    for every in (least, least - 1):
        size = asked["updates"] // every * runs.EVALUATION + runs.PROGRESS
        assert (size <= metrics.MAX_BYTES) == (every == least)


def test_an_evaluation_takes_less_space_in_a_log_than_estimated(lake: Run) -> None:
    assert lake.history is not None
    kinds = (lake.history.evaluations, lake.history.snapshots)
    assert sum(max(len(to_line(record)) for record in records) for records in kinds) < runs.EVALUATION


@pytest.mark.parametrize(("letter", "read"), [("x", "x"), ("𝒙", "𝒙"), ("\udc80", "\N{REPLACEMENT CHARACTER}")])
def test_a_failure_message_of_any_length_is_read_back_from_the_log(tmp_path: Path, letter: str, read: str) -> None:
    warning = Warned(1, letter * 10**6, letter * 10**6)
    (tmp_path / "metrics.jsonl").write_bytes(f"{to_line(warning)}\n".encode())
    found = metrics.read_history(tmp_path / "metrics.jsonl")
    assert not found.skipped
    assert found.warnings[0].text == read * 4_096


def test_as_many_counts_are_read_as_the_records_announce(tmp_path: Path) -> None:
    counts = np.arange(3_000).reshape(1_000, 3)
    logs.save_visits(tmp_path, Coverage(counts, counts))
    for found in (logs.read_visits(tmp_path, 3_000), logs.read_visits(tmp_path)):
        assert found is not None
        np.testing.assert_array_equal(found.visits, counts)
    with pytest.raises(DeepTaxiError, match=r"visits\.npz is damaged: it claims to unpack to 47\.\d KiB"):
        logs.read_visits(tmp_path, 1_000)


def test_the_limit_of_counts_grows_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "VISITS_BYTES", 1_000)
    counts = np.arange(3_000).reshape(1_000, 3)
    logs.save_visits(tmp_path, Coverage(counts, counts))
    assert logs.read_visits(tmp_path, 3_000) is not None


def test_weights_that_unpack_to_more_than_the_network_needs_are_refused(tmp_path: Path) -> None:
    path, packed = tmp_path / "model.keras", tmp_path / "model.weights.h5"
    q_table(10, 4).save(path)
    with h5py.File(packed, "w") as file:
        file.create_dataset("x", shape=(3_000, 1_000, 2), dtype="f4", chunks=True, compression=9)
    with zipfile.ZipFile(path) as archive:
        config, metadata = (archive.read(name) for name in ("config.json", "metadata.json"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("metadata.json", metadata)
        archive.write(packed, "model.weights.h5")
    with pytest.raises(DeepTaxiError, match=r"its model\.weights\.h5 unpacks from .* to 22\.9 MiB"):
        load_network(path)
