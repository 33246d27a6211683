"""The agents that are shipped are as good as their cards say, and their page and Git know all of them."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks import zoo
from deeptaxi.arguments import short_words
from deeptaxi.backend.exactness import chosen_backend, versions
from deeptaxi.config import TrainConfig
from deeptaxi.evaluation import exact
from deeptaxi.machine import processor
from deeptaxi.mdp.environment import Environment, open_environment
from deeptaxi.metrics import Finished
from deeptaxi.network.build import weights_digest
from deeptaxi.network.tabulate import tabulate
from deeptaxi.presets import listed_presets
from deeptaxi.storage import runs
from deeptaxi.storage.model_card import card, markdown, read_card
from deeptaxi.storage.models import find_model, load_network
from tests.cli.conftest import run

ROOT = Path(__file__).parents[2]
NAMES = tuple(zoo.plan())
FIGURES = ("return", "optimal_return", "gap", "value", "optimal_value", "value_gap", "mean_episode_length")
RETRAINED = "taxi-v4-q-table"


def card_of(name: str) -> dict[str, Any]:
    return zoo.card_of(zoo.MODELS / name)


@cache
def opened(environment: str) -> Environment:
    """Open an environment once for all agents on it; its configuration as JSON names it."""
    facts = json.loads(environment)
    config = next(
        find_model(zoo.MODELS / name).config for name in NAMES if card_of(name)["environment"] == facts
    )  # as the command line does it
    assert config is not None
    return open_environment(config.environment)


@cache
def reference(environment: str, objective: float, training: float) -> exact.Reference:
    place = opened(environment)
    assert place.table is not None
    return exact.reference(place.table, place.horizon, objective, training)


def verdict_of(name: str, config: TrainConfig, q_values: Any) -> dict[str, Any]:
    place = json.dumps(card_of(name)["environment"])
    return exact.evaluate_greedy(
        reference(place, config.evaluation.objective_discount, config.discount), q_values
    ).to_dict()


def assert_same_verdict(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Assert that two verdicts are one; float64 sums may differ in their last bits from machine to machine."""
    for key in FIGURES:
        assert found[key] == pytest.approx(expected[key], abs=1e-9), key
    for key in ("optimal", "horizon", "discount", "start_states", "optimal_start_states"):
        assert found[key] == expected[key], key


@pytest.mark.parametrize("name", NAMES)
def test_an_agent_is_what_its_card_says(name: str) -> None:
    facts, source = card_of(name), find_model(zoo.MODELS / name)
    network = load_network(source.path)
    assert weights_digest(network) == facts["weights_digest"]
    verdict = verdict_of(name, source.config, tabulate(network))
    assert_same_verdict(verdict, facts["exact"])
    assert verdict["optimal"]
    described = opened(json.dumps(facts["environment"])).describe()
    assert {**described, "arguments": short_words(described["kwargs"])} == facts["environment"]


@pytest.mark.parametrize("name", NAMES)
def test_a_card_belongs_to_the_agent_beside_it(name: str) -> None:
    facts, folder = card_of(name), zoo.MODELS / name
    source = find_model(folder)
    assert (facts["name"], facts["preset"], facts["license"]) == (name, zoo.plan()[name].name, "mit")
    assert (folder / "card.md").read_text(encoding="utf-8") == markdown(facts)
    known = {item.name for item in fields(Finished)}
    training = {key: value for key, value in facts["training"].items() if key in known}
    ended = Finished(**training, compile_seconds=0.0, weights_digest="", exact=None, exact_unavailable="")
    again = card(Path("models") / name, facts["environment"], source.config, ended)
    assert again["configuration"] == facts["configuration"]
    assert again["commands"] == facts["commands"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(runs.FILES)


def test_every_preset_of_a_problem_with_a_table_has_an_agent_or_is_known_to_have_none() -> None:
    shipped = {preset.name for preset in zoo.plan().values()}
    others = {"blackjack", "blackjack.q-table", "cartpole", "taxi-fickle", "taxi-fickle.q-table", "taxi-rainy"}
    assert shipped | others == {preset.name for preset in listed_presets()}
    assert len(shipped) == len(NAMES)


def test_the_page_and_gitignore_agree_with_the_cards() -> None:
    assert (zoo.MODELS / "README.md").read_text(encoding="utf-8") == zoo.readme(zoo.MODELS, NAMES)
    assert (zoo.MODELS / ".gitignore").read_text(encoding="utf-8") == zoo.ignored(NAMES)


def test_all_agents_are_a_few_hundred_kilobytes() -> None:
    assert sum(file.stat().st_size for name in NAMES for file in (zoo.MODELS / name).iterdir()) < 450_000


def test_no_default_name_is_that_of_a_shipped_agent(tmp_path: Path) -> None:
    for name in NAMES:
        config = find_model(zoo.MODELS / name).config
        assert config is not None
        assert runs.default_folder(config, tmp_path, tmp_path).name not in NAMES


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_ignores_runs_of_users_and_no_shipped_agent(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".gitignore", tmp_path)
    for name in (*NAMES, "taxi-v4-dueling-0", "mine"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "model.keras").touch()
    for name in ("README.md", ".gitignore"):
        shutil.copy(zoo.MODELS / name, tmp_path / "models")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)  # noqa: S607  # wherever it is
    listing = ["git", "ls-files", "--others", "--exclude-standard", "models"]
    shown = subprocess.run(listing, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    folders = {Path(path).parts[1] for path in shown}
    assert folders == {*NAMES, "README.md", ".gitignore"}


@pytest.mark.slow
def test_an_agent_is_trained_again_by_the_command_on_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same verdict anywhere; to the same bits where processor, versions and flags are those of the card.

    Another processor may add up in another order, and another version may draw other random numbers.
    """
    monkeypatch.chdir(ROOT)
    facts = card_of(RETRAINED)
    program, *words = shlex.split(facts["commands"]["train"])
    result = run(*words, "--out", tmp_path / "again", "--logs", tmp_path / "logs", "--json")
    assert (program, result.exit_code) == ("deeptaxi", 0), result.output
    found = read_card(tmp_path / "again")
    assert found is not None
    assert_same_verdict(found["exact"], facts["exact"])
    if all(found[name] == facts.get(name, {}) for name in ("versions", "machine", "flags")):
        assert found["weights_digest"] == facts["weights_digest"]
    assert found["machine"]["processor"] == processor()
    assert found["versions"] == versions(chosen_backend())
