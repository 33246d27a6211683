"""Which loop a training runs in: requested or chosen, and reported either way."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from deeptaxi.config import read_toml, resolve
from deeptaxi.metrics import Started, read_history
from tests.cli.conftest import LAKE, QUICK, refused

TypeIn = Callable[..., Result]
FEW = [*QUICK, "--updates", 3, "--replay-start", 8]


def loop_of(result: Result, folder: str = "a") -> str:
    """Return the loop that the summary, the log and the run's configuration all name."""
    assert result.exit_code == 0, result.output
    named = {json.loads(result.stdout)["loop"], resolve(read_toml(Path(folder) / "config.toml")).loop}
    (first, *_) = read_history(Path("logs") / folder / "metrics.jsonl").records
    assert isinstance(first, Started)
    (loop,) = named | {first.loop}
    return loop


@pytest.mark.slow
def test_a_training_on_a_table_is_compiled_by_default(type_in: TypeIn) -> None:
    result = type_in("train", "Taxi-v4", "--q-table", "--updates", 300, "--out", "a", "--json")
    assert loop_of(result) == "compiled"
    summary = json.loads(result.stdout)
    assert (summary["updates"], summary["stopped"]) == (300, "updates")
    assert summary["exact"]["start_states"] == 300


def test_the_gymnasium_loop_can_be_requested(type_in: TypeIn) -> None:
    result = type_in("train", *LAKE, "--q-table", *FEW, "--loop", "gymnasium", "--out", "a", "--json")
    assert loop_of(result) == "gymnasium"


def test_a_loop_named_by_a_file_is_used(type_in: TypeIn) -> None:
    Path("c.toml").write_text('loop = "gymnasium"\n')
    result = type_in("train", *LAKE, "--config", "c.toml", "--q-table", *FEW, "--out", "a", "--json")
    assert loop_of(result) == "gymnasium"


def test_every_optimizer_is_compiled_unless_another_loop_is_named(type_in: TypeIn) -> None:
    words = ["train", *LAKE, "--q-table", *FEW, "--optimizer", "rmsprop", "--out", "a", "--json"]
    assert loop_of(type_in(*words)) == "compiled"
    assert loop_of(type_in(*words, "--force", "--loop", "gymnasium")) == "gymnasium"
    assert loop_of(type_in("train", "--config", "a/config.toml", "--out", "b", "--json"), "b") == "gymnasium"


def test_an_environment_without_a_table_cannot_be_compiled(type_in: TypeIn) -> None:
    refused(type_in("train", "Blackjack-v1", "--loop", "compiled"), 2, "transition table", "Blackjack-v1 has none")
    assert not list(Path().rglob("*.keras"))


def test_exploring_starts_need_the_compiled_loop(type_in: TypeIn) -> None:
    words = ["train", *LAKE, "--q-table", *FEW, "--exploring-starts", 0.1, "--out", "a", "--json"]
    refused(type_in(*words, "--loop", "gymnasium"), 2, "--exploring-starts", "--loop compiled")
    assert loop_of(type_in(*words)) == "compiled"


@pytest.mark.parametrize("loop", [[], ["--loop", "compiled"]])
def test_exploring_starts_are_left_out_where_nothing_can_be_compiled(type_in: TypeIn, loop: list[str]) -> None:
    result = type_in("train", "Blackjack-v1", "--exploring-starts", 0.1, *loop)
    refused(result, 2, "--exploring-starts", "Blackjack-v1 has none", "leave out --exploring-starts")
    assert "--loop" not in result.stderr


def test_the_fit_loop_saves_its_network_without_the_optimizer(type_in: TypeIn) -> None:
    words = ["train", *LAKE, *FEW, "--loop", "fit", "--learning-rate-schedule", "exponential", "--out", "a", "--json"]
    assert loop_of(type_in(*words)) == "fit"  # its schedule is a class of ours, which nobody else could load
    with zipfile.ZipFile("a/model.keras") as archive:
        assert not json.loads(archive.read("config.json"))["compile_config"]
