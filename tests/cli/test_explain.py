from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeptaxi.config import AGGREGATIONS
from deeptaxi.mdp.table import save_table
from deeptaxi.network import gradients
from tests.cli.conftest import refused, run
from tests.problems import build, surely

SGD = ["--optimizer", "sgd", "--learning-rate", "0.1"]
LAKE = ["--env", "FrozenLake-v1"]


def update(*words: object) -> dict[str, Any]:
    result = run("explain", "update", *words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_update_of_a_fresh_network_is_explained_in_the_words_of_the_docs() -> None:
    found = update("--env", "Taxi-v4", "--state", 328, "--action", 4)
    assert (found["environment"]["id"], found["network"]["kind"], found["preset"]) == ("Taxi-v4", "dueling", "taxi")
    assert (found["state"], found["action"], found["action_names"][4]) == (328, 4, "pick up")
    step = {"state": 328, "action": 4, "reward": -10, "next_state": 328, "terminated": False}
    assert found["transitions"] == [{**step, "truncated": False, "probability": 1}]
    assert found["q_online"] == found["q_target"]  # as at the start of a training
    td = found["td_target"]
    assert td["td_target"] == pytest.approx(-10 + 0.95 * max(found["q_target"]))
    assert td["td_error"] == pytest.approx(td["td_target"] - found["q_online"][4])
    overwritten = [td["td_target"] if action == 4 else q for action, q in enumerate(found["q_online"])]
    assert found["targets"] == overwritten
    assert found["loss"]["loss"] == pytest.approx(td["td_error"] ** 2 / 6)
    g = [-2 * td["td_error"] / 6 if action == 4 else 0 for action in range(6)]
    assert found["gradient"]["dE_dQ"] == pytest.approx(g)
    assert found["gradient"]["dE_dV"] == pytest.approx(sum(g))
    assert found["gradient"]["dE_dA_shared"] == pytest.approx([x - sum(g) / 6 for x in g])
    assert found["weights"][0]["rows"] == [328]
    assert found["comparison"] is None


def test_the_fresh_network_is_the_one_that_a_training_starts_with() -> None:
    assert update(*LAKE, "--state", 0)["q_online"] == update(*LAKE, "--state", 0, "--seed", 0)["q_online"]
    assert update(*LAKE, "--state", 0, "--seed", 1)["q_online"] != update(*LAKE, "--state", 0, "--seed", 0)["q_online"]


def test_a_q_table_moves_by_the_tabular_rule() -> None:
    # α = 2·0.1/(4·8)
    found = update(*LAKE, "--q-table", *SGD, "--batch-size", 8, "--transition", "14,2,1,15,terminated")
    assert found["tabular"]["alpha"] == pytest.approx(2 * 0.1 / 32)
    assert found["tabular"]["expected"] == pytest.approx(2 * 0.1 / 32)
    assert found["tabular"]["difference"] < 1e-9
    assert found["after"]["q_values"] == pytest.approx([0, 0, 2 * 0.1 / 32, 0])
    assert found["after"]["other_states"] == 0


def test_the_options_of_a_training_shape_the_update() -> None:
    options = [*SGD, "--double", "--discount", "0.9", "--n-step", "3", "--target-noise", "0.5"]
    found = update("--env", "Taxi-v4", "--state", 328, "--action", 4, *options)
    td = found["td_target"]
    assert td["factors"] == pytest.approx([1, 0.9, 0.81])
    assert td["reward"] == pytest.approx(sum(g * r for g, r in zip(td["factors"], td["rewards"], strict=True)))
    assert td["best_action"] == int(np.argmax(found["choosing_q"])) != int(np.argmax(found["q_target"]))
    assert td["td_target"] == pytest.approx(td["reward"] + 0.729 * found["q_target"][td["best_action"]], rel=1e-5)
    assert update(*LAKE, "--state", 0, "--epsilon-end", "0.1") == update(*LAKE, "--state", 0)  # has no say


def test_a_random_update_is_the_same_for_the_same_seed_and_compares() -> None:
    words = ["--env", "Taxi-v4", "--random", "--seed", 3, "--compare"]
    found = update(*words)
    assert found == update(*words)
    assert found["comparison"]["gradient_difference"] <= 1e-6
    assert found["comparison"]["weight_difference"] <= 1e-6 < found["comparison"]["largest_step"]
    assert {weight["name"] for weight in found["comparison"]["weights"]} == {w["name"] for w in found["weights"]}


def test_rewards_count_in_the_units_of_the_reward_scale() -> None:
    found = update(*LAKE, "--q-table", "--reward-scale", 4, "--transition", "14,2,1,15,terminated")
    assert (found["reward_scale"], found["td_target"]["rewards"], found["td_target"]["td_target"]) == (4, [0.25], 0.25)
    assert found["transitions"][0]["reward"] == 1


def test_a_trained_model_is_updated_from_its_own_values_by_its_own_settings(lake_run: Path) -> None:
    found = update(lake_run, "--state", 14)
    assert (found["model"], found["preset"]) == (str(lake_run), "none")
    assert (found["action"], found["transitions"][0]["reward"]) == (2, 1)  # into the goal
    assert found["q_online"][2] == pytest.approx(1, abs=0.01)
    other = update(lake_run, "--state", 14, "--discount", "0.5", *SGD)
    assert (other["discount"], other["q_online"]) == (0.5, found["q_online"])
    bare = update(lake_run / "model.keras", *LAKE, "--env-arg", "is_slippery=false", "--state", 14)
    assert (bare["q_online"], bare["network"]["kind"]) == (found["q_online"], "q-table")


def test_the_mask_of_a_model_applies_and_its_reward_scale_is_undone(tmp_path: Path) -> None:
    mask = np.array([[True, True], [True, False]])
    save_table(
        build([[surely(1, 8), surely(0, 0)], [surely(0, 0, True), surely(0, 64)]], action_mask=mask), tmp_path / "t.npz"
    )
    words = ["train", tmp_path / "t.npz", "--updates", 200, "--out", tmp_path / "run", "--logs", tmp_path]
    scaled = ["--reward-scale", 8, "--discount", 0.5, "--batch-size", 16, "--environments", 4, "--dueling"]
    assert run(*words, *scaled, "--loop", "gymnasium").exit_code == 0
    found = update(tmp_path / "run", "--state", 0, "--action", 0)
    assert found["td_target"]["allowed"] == [True, False]
    assert found["td_target"]["best_action"] == 0
    assert found["td_target"]["rewards"] == [1]
    assert found["q_online"][0] == pytest.approx(1, abs=0.3)  # in units of the scale
    refused(run("explain", "update", tmp_path / "run", "--state", 1, "--action", 1), 2, "excludes action 1 in state 1")


def test_explain_prints_steps_with_formulas(lake_run: Path) -> None:
    result = run("explain", "update", lake_run, "--state", 14, "--compare")
    assert result.exit_code == 0
    for words in (
        "1  Predict the state",
        "td_target = reward",
        "▸ 2",
        "row 3, column 2",
        "Compare: the masked gradient",
    ):
        assert words in result.stdout


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["--env", "MODEL"]),
        ([*LAKE, "--state", 16], ["states 0 to 15"]),
        ([*LAKE, "--state", 5], ["state 5 is terminal", "--transition"]),
        ([*LAKE, "--state", 0, "--action", 4], ["actions 0 to 3"]),
        ([*LAKE, "--action", 1], ["--state"]),
        ([*LAKE, "--state", 1, "--random"], ["--state and --random"]),
        ([*LAKE, "--transition", "0,1"], ["0,1,-1,4"]),
        ([*LAKE, "--transition", "0,1,inf,1"], ["finite"]),
        ([*LAKE, "--transition", "0,1,0,1,perhaps"], ["perhaps"]),
        ([*LAKE, "--transition", "0,1,0,1", "--n-step", 2], ["2 times"]),
        ([*LAKE, "--q-table", "--hidden", "4"], ["leave out --hidden"]),
        (["--env", "Taxi-v4", "--state", 328, "--action", 4, "--action-mask"], ["excludes action 4"]),
        (["--env", "Blackjack-v1", "--state", 300], ["--transition", "--random"]),
        (["nowhere"], ["no model at nowhere"]),
    ],
)
def test_an_impossible_explanation_is_refused_in_one_line(words: list[object], parts: list[str]) -> None:
    refused(run("explain", "update", *words), 2, *parts)


def test_options_of_a_fresh_network_are_refused_for_a_model(lake_run: Path) -> None:
    for words in (["--q-table"], ["--hidden", "4"], ["--preset", "taxi"]):
        refused(run("explain", "update", lake_run, *words), 2, words[0], "is trained")


def gradients_of(*words: object) -> dict[str, Any]:
    result = run("explain", "gradients", *words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_gradients_agree_in_four_ways() -> None:
    found = gradients_of("--actions", 4)
    assert (found["actions"], found["aggregation"], len(found["A"])) == (4, "mean", 4)
    assert found["discrepancy"]["largest"] <= found["limit"] == 1e-6
    for way in ("nested", "autodiff", "central_differences"):
        assert found["dE_dA"][way] == pytest.approx(found["dE_dA"]["shared"], abs=1e-6)
        assert found["dE_dV"][way] == pytest.approx(sum(found["dE_dQ"]), abs=1e-6)
    assert gradients_of("--seed", 1)["dE_dQ"] != found["dE_dQ"]


def test_a_given_gradient_is_used_as_it_is() -> None:
    # (1 − 1/4)·8 = 6 and −8/4 = −2
    found = gradients_of("--gradient", "0,8,0,0")
    assert found["dE_dQ"] == [0, 8, 0, 0]
    assert found["dE_dA"]["shared"] == [-2, 6, -2, -2]
    assert found["dE_dV"]["nested"] == 8
    assert gradients_of("--gradient", "0,8e9,0,0")["discrepancy"]["largest"] <= 1e-6  # of its own size


@pytest.mark.parametrize("aggregation", ["max", "none"])
def test_only_the_mean_has_a_shared_sum(aggregation: str) -> None:
    found = gradients_of("--aggregation", aggregation)
    assert found["dE_dA"]["shared"] is None
    assert found["discrepancy"]["shared"] is None
    assert run("explain", "gradients", "--aggregation", aggregation).exit_code == 0


def test_the_test_vectors_are_complete(tmp_path: Path) -> None:
    path = tmp_path / "vectors.json"
    assert gradients_of("--vectors", path)["vectors"] == str(path)
    vectors = json.loads(path.read_text(encoding="utf-8"))["vectors"]
    assert {vector["aggregation"] for vector in vectors} == set(AGGREGATIONS)
    assert {vector["actions"] for vector in vectors} >= {1, 4, 64}
    for vector in vectors:
        a, g = np.array(vector["A"]), np.array(vector["dE_dQ"])
        taken_off = {"mean": a.mean(), "max": a.max(), "none": 0.0}[vector["aggregation"]]
        np.testing.assert_allclose(vector["Q"], vector["V"] + a - taken_off, atol=1e-12)
        share = {"mean": np.full(len(a), g.mean()), "max": (a == a.max()) * g.sum(), "none": 0 * g}
        np.testing.assert_allclose(vector["dE_dA"]["nested"], g - share[vector["aggregation"]], atol=1e-12)
    refused(run("explain", "gradients", "--vectors", path), 2, "choose another --vectors", "--force")
    assert run("explain", "gradients", "--vectors", path, "--force").exit_code == 0


def test_a_wrong_closed_form_sets_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "advantage_gradient_shared", lambda g, total: g - total)  # forgets the 1/N
    result = run("explain", "gradients", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["discrepancy"]["shared"] > 1e-3
    assert result.stderr.startswith("Error: the gradients differ by ")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--actions", 0], "0 is not in the range"),
        (["--gradient", "1,x"], "finite numbers"),
        (["--gradient", "1,nan"], "finite numbers"),
        (["--gradient", "1e308,1e308"], "at most 1e+300"),  # whose sum is infinite
        (["--gradient", "1,2", "--actions", 3], "--gradient has 2 numbers"),
    ],
)
def test_invalid_gradients_are_refused(words: list[object], part: str) -> None:
    refused(run("explain", "gradients", *words), 2, part)


def test_an_unknown_explanation_is_answered_with_the_nearest_one() -> None:
    refused(run("explain", "updat"), 2, "no command 'updat'", "did you mean 'update'?", "deeptaxi explain --help")
    assert "gradients" in run("explain").stdout
