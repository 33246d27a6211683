from __future__ import annotations

import dataclasses
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from deeptaxi.config import resolve
from deeptaxi.errors import DeepTaxiError
from deeptaxi.metrics import Finished
from deeptaxi.storage.model_card import CARD_VERSION, card, front_matter, markdown, read_card, write_card

LAKE = {"id": "FrozenLake-v1", "kwargs": {"is_slippery": False}, "states": 16, "actions": 4, "time_limit": 100}
EPISODES = {"count": 10, "mean_return": 0.5, "ci95": [0.25, 0.75]}
EXACT = {
    "optimal": True, "horizon": 100, "return": 1.0, "optimal_return": 1.0, "gap": 0.0, "discount": 0.99,
    "value": 0.9509900498999999, "optimal_value": 0.9509900498999999, "value_gap": 0.0, "normalized_score": 1.0,
    "start_states": 1, "optimal_start_states": 1, "worst_start": {"state": 0, "value_gap": 0.0},
    "termination_probability": 1.0, "mean_episode_length": 6.0, "q_error": None, "starts_estimated_from_resets": None,
}  # fmt: skip
FINISHED = Finished("optimal", 750, 700, 24_000, 0.0612, 1.5, "ab" * 32, EXACT, None)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)

# What model hubs read of it, written down by hand.
FRONT_MATTER = """---
library_name: keras
pipeline_tag: reinforcement-learning
tags:
- reinforcement-learning
- deeptaxi
- q-learning
- q-table
- FrozenLake-v1
model-index:
- name: sure
  results:
  - task:
      type: reinforcement-learning
      name: reinforcement-learning
    dataset:
      name: FrozenLake-v1 is_slippery=false
      type: FrozenLake-v1
    metrics:
    - type: mean_reward
      value: 1.0
      name: exact mean return of 100 steps
      verified: false
    - type: optimal_return
      value: 1.0
      name: the best mean return there is
      verified: false
    - type: optimal_start_states
      value: 1
      name: of 1 start states
      verified: false
---
"""


def a_card(environment: dict[str, Any] | None = None, finished: Finished = FINISHED, **settings: Any) -> dict[str, Any]:
    place = environment or LAKE
    asked = {"environment": {"id": place["id"], "kwargs": place["kwargs"]}, "network": {"hidden": [], "dueling": False}}
    return card(Path("models/sure"), place, resolve({**asked, **settings}), finished, "frozenlake-sure.q-table", NOON)


def changed(**values: Any) -> Finished:
    return dataclasses.replace(FINISHED, **values)


def test_the_front_matter_is_what_hubs_read() -> None:
    page = markdown(a_card())
    assert page.startswith(FRONT_MATTER)
    head = yaml.safe_load(page.split("---\n")[1])
    assert head["model-index"][0]["results"][0]["dataset"] == {
        "name": "FrozenLake-v1 is_slippery=false",
        "type": "FrozenLake-v1",
    }
    assert [item["value"] for item in head["model-index"][0]["results"][0]["metrics"]] == [1.0, 1.0, 1]
    assert "license" not in head
    assert yaml.safe_load(markdown({**a_card(), "license": "mit"}).split("---\n")[1])["license"] == "mit"


@pytest.mark.parametrize(
    "name", ["true", "No", "1e5", "a: b", "# a", "ä ☃ \"'", "~", "2020-01-01", "[a]", "&a", "!a", "x " * 99]
)
def test_a_name_of_the_front_matter_is_read_back_as_it_was(name: str) -> None:
    facts = {**a_card(), "name": name, "license": name, "environment": {**LAKE, "arguments": name}}
    head = yaml.safe_load(front_matter(facts).strip("-\n"))
    assert head["license"] == head["model-index"][0]["name"] == name
    assert head["model-index"][0]["results"][0]["dataset"]["name"] == f"FrozenLake-v1 {name}".strip()


@pytest.mark.parametrize("value", [1e-07, 1e22, -64.71, 0.0, 5e-324, 1.5e-9])
def test_a_figure_of_the_front_matter_is_read_back_as_it_was(value: float) -> None:
    """YAML 1.1 reads ``1e-07``, as JSON has it, as a text."""
    finished = changed(exact={**EXACT, "return": value})
    head = yaml.safe_load(front_matter(a_card(finished=finished)).strip("-\n"))
    assert head["model-index"][0]["results"][0]["metrics"][0]["value"] == value


def test_the_page_says_what_it_is_how_good_and_how_to_make_it_again() -> None:
    page = markdown(a_card())
    assert "# sure\n" in page
    for row in (
        "| Environment | `FrozenLake-v1 is_slippery=false`: 16 states, 4 actions, time limit 100 |",
        "| Verdict | optimal: 1 of 1 start states; return 1.0000 of 1.0000, value 0.9510 of 0.9510 at discount 0.99 |",
        "| Network | q-table, joint encoding |",
        "| Preset | frozenlake-sure.q-table |",
        "| Training | 750 updates, 24,000 environment steps, 0.1 s; stopped: optimal; weights of update 700 |",
        f"| Weights digest | `{'ab' * 32}` |",
        "| Made | 2026-01-02T12:00:00+00:00 |",
        "| `savedmodel` | NaN and action −1 |",
        "| `json` | error |",
    ):
        assert row + "\n" in page
    assert "    deeptaxi train --config models/sure/config.toml\n" in page
    assert "    deeptaxi evaluate models/sure\n" in page
    assert "- It is made for the state numbers 0 … 15 of `FrozenLake-v1 is_slippery=false`" in page
    assert '[environment]\nid = "FrozenLake-v1"\n' in page


def test_without_a_verdict_the_card_claims_none() -> None:
    finished = changed(exact=None, exact_unavailable="it has no | transition table")
    page = markdown(a_card(finished=finished))
    assert "model-index" not in page
    assert "| Verdict | no exact verdict: it has no \\| transition table |" in page
    assert "Nothing here says how good it is" in page


@pytest.mark.parametrize(
    ("finished", "sentence"),
    [
        (changed(exact={**EXACT, "gap": 0.05}), "The best mean return is 0.0500 higher"),
        (changed(exact={**EXACT, "starts_estimated_from_resets": 1000}), "estimated from 1,000 resets"),
        (changed(stopped="interrupted"), "The training was interrupted"),
    ],
)
def test_limits_that_hold_for_some_only(finished: Finished, sentence: str) -> None:
    assert sum(sentence in limit for limit in a_card(finished=finished)["limits"]) == 1
    assert not any(sentence in limit for limit in a_card()["limits"])


def test_a_card_is_read_as_it_was_written_and_makes_the_same_page(tmp_path: Path) -> None:
    facts = a_card()
    write_card(tmp_path, facts)
    assert read_card(tmp_path) == facts
    assert markdown(read_card(tmp_path) or {}) == (tmp_path / "card.md").read_text()
    assert facts["configuration"]["environment"]["kwargs"] == {"is_slippery": False}
    assert set(facts["versions"]) >= {"deeptaxi", "keras", "numpy", "gymnasium", "python"}


def test_arguments_that_json_has_no_word_for_lose_no_run(tmp_path: Path) -> None:
    odd = {"limit": float("inf"), "day": NOON.date(), "rows": [float("nan"), 1], "text": 'a "b" |c\n'}
    write_card(tmp_path, a_card({**LAKE, "kwargs": odd}))
    text = (tmp_path / "card.json").read_text()
    assert json.loads(text)["environment"]["kwargs"] == {
        "limit": None, "day": "2026-01-02", "rows": [None, 1], "text": 'a "b" |c\n'
    }  # fmt: skip
    assert read_card(tmp_path) is not None


def test_a_run_without_a_card_has_none(tmp_path: Path) -> None:
    assert read_card(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is damaged"),
        ("{", "is damaged"),
        ("[]", "damaged: it is not a JSON object"),
        ("[" * 100_000, "is damaged"),
        ("{}", "damaged: 'name' is missing"),
        (json.dumps({"card": CARD_VERSION + 1}), "is of a newer deeptaxi .card version 2.: upgrade"),
        (json.dumps({**a_card(), "card": None}), "damaged: it has no version"),
        (json.dumps({**a_card(), "exact": {"optimal": True}}), "damaged: 'exact.return' is missing"),
        (json.dumps({**a_card(), "environment": {}}), "damaged: 'environment.id' is missing"),
        (json.dumps({**a_card(), "seed": "0"}), "damaged: 'seed' is missing or of the wrong kind"),
        (
            json.dumps({**a_card(), "episodes": {**EPISODES, "ci95": 3}}),
            "damaged: 'episodes.ci95' is missing or of the",
        ),
        (json.dumps({**a_card(), "episodes": {**EPISODES, "ci95": [3]}}), "damaged: 'episodes.ci95' is missing or of"),
        (json.dumps({**a_card(), "exports": [{"file": "a"}]}), "damaged: 'exports.0.format' is missing"),
        (json.dumps({**a_card(), "license": ["MIT"]}), "damaged: 'license' is missing or of the wrong kind"),
        (json.dumps({**a_card(), "episodes": {**EPISODES, "count": -1}}), "damaged: 'episodes.count' is missing or"),
        (json.dumps({**a_card(), "episodes": {**EPISODES, "ci95": [math.nan, 1]}}), "damaged: 'episodes.ci95' is"),
        (json.dumps({**a_card(), "exact": {**EXACT, "gap": math.inf}}), "damaged: 'exact.gap' is missing or of the"),
        (json.dumps({**a_card(), "exact": {**EXACT, "gap": "0"}}), "damaged: 'exact.gap' is missing or of the wrong"),
        (json.dumps({**a_card(), "environment": {**LAKE, "kwargs": [1]}}), "damaged: 'environment.kwargs' is"),
        (json.dumps({**a_card(), "training": {"updates": 1}}), "damaged: 'training.best_update' is missing"),
        (json.dumps({**a_card(), "limits": None}), "damaged: 'limits' is missing"),
    ],
    ids=range(21),
)
def test_a_card_that_cannot_be_read_is_told_in_one_line(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(DeepTaxiError, match=fault) as refused:
        read_card(tmp_path)
    assert "\n" not in str(refused.value)
    assert str(tmp_path / "card.json") in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "x\x1b[2J"),
        ("verdict", "\u202eoptimal"),
        ("limits", ["fine", 3]),
        ("limits", "fine"),
        ("versions", {"keras": None}),
        ("outside", {"csv": ["error"]}),
        ("seed", True),
        ("exact", {"optimal": True, "gap": 10**400}),
    ],
)
def test_a_card_with_a_value_of_another_kind_is_damaged(key: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(json.dumps({**a_card(), key: value}))
    with pytest.raises(DeepTaxiError, match=r"card.json is damaged: '\S+' is missing or of the wrong kind"):
        read_card(tmp_path)


def test_a_card_without_an_entry_that_may_be_null_is_damaged(tmp_path: Path) -> None:
    facts = a_card()
    del facts["exact"]
    (tmp_path / "card.json").write_text(json.dumps(facts))
    with pytest.raises(DeepTaxiError, match=r"'exact' is missing or of the wrong kind"):
        read_card(tmp_path)


def test_a_page_shows_markup_as_text() -> None:
    page = markdown({**a_card(), "name": "x\n<script>", "verdict": "<img src=x>|", "limits": ["a\n# b <b>"]})
    assert "# x &lt;script>\n" in page
    assert "| Verdict | &lt;img src=x>\\| |" in page
    assert "- a # b &lt;b>\n" in page


def test_whatever_comes_from_a_card_is_escaped() -> None:
    odd = "`<i>|"
    facts = {**a_card(), "flags": {"XLA": odd}, "preset": odd, "outside": {"npz": odd}}
    facts["environment"]["id"] = odd
    pages = markdown(facts), markdown({**facts, "exports": [
        {"file": odd, "format": odd, "max_difference": 0.0, "outside": odd}
    ]})  # fmt: skip
    for page in pages:
        text = page.partition("\n---\n")[2].partition("```toml")[0]
        assert text.count("`&lt;i>\\|") >= 5
        assert "<i>" not in text
