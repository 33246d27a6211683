from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deeptaxi.config import read_toml, resolve
from deeptaxi.presets import listed_presets
from tests.cli.conftest import refused, run

TINY = ["--updates", 2, "--replay-start", 8, "--environments", 2, "--batch-size", 4, "--replay-capacity", 64]
TINY += ["--loop", "gymnasium"]  # which compiles the least; where settings come from is the same for all loops


def trained(*words: object) -> dict[str, object]:
    result = run("train", *words, "--out", "a", "--json", "--force")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_the_list_says_what_each_preset_is_for() -> None:
    rows = json.loads(run("presets", "--json").stdout)
    assert [row["name"] for row in rows] == [preset.name for preset in listed_presets()]
    rainy = next(row for row in rows if row["name"] == "taxi-rainy.q-table")
    assert (rainy["environment"], rainy["kwargs"], rainy["network"]) == ("Taxi-v4", {"is_rainy": True}, "q-table")
    text = run("presets").stdout
    for row in rows:
        assert row["name"] in text
        assert row["description"] in text


def test_a_named_preset_shows_its_settings_and_their_study() -> None:
    (row,) = json.loads(run("presets", "frozenlake.q-table", "--json").stdout)
    study = row["study"]
    assert study["origin"] == "by hand, before `deeptaxi tune`"
    text = run("presets", "frozenlake.q-table").stdout
    head, _, settings = text.partition("\nupdates = ")
    assert tomllib.loads("updates = " + settings) == row["settings"]
    shown = " ".join(head.split())
    for part in (row["description"], study["origin"], study["date"], f"{study['trials']} trials", study["outcome"]):
        assert part in shown
    assert f"{study['best']['optimal']} of {study['best']['seeds']}" in shown
    assert run("presets", "taxi", "blackjack").stdout.count("Found by hand") == 2
    refused(run("presets", "tabel"), 2, "unknown preset 'tabel'; `deeptaxi presets` lists them")


def test_the_list_answers_without_keras_and_gymnasium() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from deeptaxi.cli.main import cli\n"
        "assert CliRunner().invoke(cli, ['presets']).exit_code == 0\n"
        "assert CliRunner().invoke(cli, ['presets', 'taxi']).exit_code == 0\n"
        "print({'keras', 'tensorflow', 'gymnasium', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_training_prints_the_preset_that_it_uses(type_in) -> None:
    result = type_in("train", "FrozenLake-v1", "--env-arg", "map_name=8x8", "--q-table", *TINY, "--out", "a", "--json")
    assert json.loads(result.stdout)["preset"] == "frozenlake-8x8.q-table"
    assert "Preset: frozenlake-8x8.q-table" in result.stderr
    assert 'preset = "frozenlake-8x8.q-table"' in Path("a/config.toml").read_text()
    assert "| Preset | frozenlake-8x8.q-table |" in Path("a/card.md").read_text()


def test_a_preset_alone_names_its_environment(type_in) -> None:
    summary = trained("--preset", "taxi-rainy", *TINY)
    assert summary["preset"] == "taxi-rainy"
    assert summary["environment"]["id"] == "Taxi-v4"
    assert summary["environment"]["kwargs"] == {"is_rainy": True}
    assert trained("--preset", "frozenlake-8x8", "--env-arg", "is_slippery=false", *TINY)["environment"]["kwargs"] == {
        "is_slippery": False
    }


def test_a_preset_can_be_used_on_another_environment(type_in) -> None:
    summary = trained("FrozenLake-v1", "--preset", "taxi", *TINY)
    assert (summary["preset"], summary["environment"]["id"]) == ("taxi", "FrozenLake-v1")
    assert resolve(read_toml(Path("a/config.toml"))).discount == 0.95


def test_q_table_selects_the_sibling_of_a_preset(type_in) -> None:
    summary = trained("--preset", "taxi", "--q-table", *TINY)
    assert (summary["preset"], summary["network"]["kind"]) == ("taxi.q-table", "q-table")
    assert trained("--preset", "taxi.q-table", *TINY)["network"]["kind"] == "q-table"


def test_preset_none_means_plain_defaults(type_in) -> None:
    summary = trained("Taxi-v4", "--preset", "none", *TINY)
    assert summary["preset"] == "none"
    assert resolve(read_toml(Path("a/config.toml"))).discount == 0.99


def test_a_table_without_a_preset_gets_settings_from_its_numbers(type_in) -> None:
    words = ["FrozenLake-v1", "--env-arg", "success_rate=0.5", *TINY]
    result = type_in("train", *words, "--out", "b")
    assert "Preset: table" in result.stderr
    assert trained("Taxi-v4", "--preset", "table", *TINY)["preset"] == "table"
    assert trained("Blackjack-v1", "--preset", "none", *TINY)["preset"] == "none"


def test_a_preset_for_the_compiled_loop_can_be_used_with_another_loop(type_in) -> None:
    summary = trained("FrozenLake-v1", *TINY)
    assert (summary["preset"], summary["loop"]) == ("frozenlake", "gymnasium")
    assert resolve(read_toml(Path("a/config.toml"))).exploration.exploring_starts == 0


def test_a_run_is_trained_again_by_its_own_file(type_in) -> None:
    first = trained("--preset", "frozenlake.q-table", *TINY)
    again = type_in("train", "--config", "a/config.toml", "--out", "b", "--json")
    summary = json.loads(again.stdout)
    assert (summary["weights_digest"], summary["preset"]) == (first["weights_digest"], "none")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--preset", "taxy"], ["unknown preset 'taxy'; did you mean 'taxi'"]),
        (["--preset", "zzz"], ["unknown preset 'zzz'; `deeptaxi presets` lists them"]),
        (["--preset", "taxi.q-table", "--hidden", 64], ["--preset taxi.q-table", "leave out --hidden"]),
        (["--preset", "taxi.q-table", "--dueling"], ["leave out --dueling, or take --preset taxi"]),
        (["Blackjack-v1", "--preset", "table"], ["--preset table: Blackjack-v1 has no true table"]),
    ],
)
def test_impossible_presets_are_refused_in_one_line(type_in, words, parts) -> None:
    refused(type_in("train", *words), 2, *parts)
    assert not Path("models").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["taxi.q-table", "frozenlake-8x8-sure", "cliffwalking-slippery.q-table"])
def test_a_preset_trains_to_the_optimum(type_in, name) -> None:
    summary = trained("--preset", name, "--seed", 1)
    assert summary["exact"]["optimal"]
    assert summary["stopped"] == "optimal"
