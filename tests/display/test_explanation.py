from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from deeptaxi.config import merge
from deeptaxi.display import explanation
from deeptaxi.display.console import PLAIN
from deeptaxi.learning.example import Transition
from deeptaxi.learning.update_trace import trace_update
from deeptaxi.schema import to_mapping
from tests.learning.helpers import TABLE, new_learner

HAND: dict[str, Any] = {
    **TABLE,
    "discount": 0.5,
    "optimizer": {"name": "sgd", "learning_rate": 0.5, "schedule": "constant"},
    "replay": {"batch_size": 1},
}


def shown(part: Any, width: int = 80) -> str:
    console = Console(**PLAIN, file=io.StringIO(), width=width)
    console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def summary_of(settings: Any = None, actions: int = 2, steps: Any = None, comparing: bool = False) -> dict[str, Any]:
    """Return what the command tells of an update on Q = [[1, 2, …], [3, 4, …]] or on a fresh network."""
    agent = new_learner(merge(HAND, settings or {}), states=2, actions=actions)
    config = agent.config
    if config.network.kind == "q-table":
        for network in (agent.online, agent.target):
            network.set_weights([np.arange(1, 2 * actions + 1, dtype=np.float32).reshape(2, actions)])
    found = trace_update(agent, steps or [Transition(0, 0, 3.0, 1, False)], np.ones((2, actions), np.bool_), comparing)
    return {
        "model": None,
        "environment": {"id": "Two-v0", "states": 2},
        "preset": "none",
        "seed": 0,
        "network": {"kind": config.network.kind, **to_mapping(config.network)},
        "optimizer": to_mapping(config.optimizer),
        "discount": config.discount,
        "double": config.target.double,
        "n_step": config.target.n_step,
        "n_step_correction": config.target.n_step_correction,
        "backup": config.target.backup,
        "reward_scale": config.target.reward_scale,
        "target_noise": None,
        "outcome": "as given",
        "action_names": [f"go{action}" for action in range(actions)],
        "state_name": "here",
        "next_state_name": "there",
        **found.to_dict(),
    }


def explained(*arguments: Any, **more: Any) -> str:
    return shown(explanation.of_update(summary_of(*arguments, **more)))


def test_the_steps_come_in_order_with_their_numbers() -> None:
    # 3 + ½·4 = 5; 5 − 1 = 4; E = 4²/2; dE/dQ = −2·4/2; α = 2·½/2 = ½; 1 + ½·4 = 3.
    text = explained(comparing=True)
    wanted = [
        "One update on Two-v0",
        "1  Predict the state",
        "2  Predict the next state",
        "The largest: action 1 (go1), 4",
        "3  Compute the td_target",
        "= 3 + 0.5 · 4 = 5",
        "= 5 − 1 = 4",
        "4  Overwrite",
        "5  The loss",
        "E = 1/(2·1) · 16 = 8",
        "6  Back through the loss",
        "= -4;  every other action: 0",
        "7  The weights that change",
        "8  The same in a Q table",
        "1 + 0.5 · 4 = 3",
        "the difference is 0.",
        "9  Predict again",
        "td_error 4 → 2",
        "No other action and no other state has moved",
        "10  Compare",
    ]
    places = [text.find(words) for words in wanted]
    assert -1 not in places, wanted[places.index(-1)]
    assert places == sorted(places)


def test_the_action_taken_is_marked_and_columns_stand_below_each_other() -> None:
    lines = explained().splitlines()
    first = next(index for index, text in enumerate(lines) if "▸ 0" in text)
    ends = [lines[first].index("▸ 0") + 3, lines[first + 1].index("go0") + 3, lines[first + 2].index("1.0000") + 6]
    assert len(set(ends)) == 1


@pytest.mark.parametrize("actions", [2, 6])
@pytest.mark.parametrize("settings", [{}, {"network": {"hidden": [8], "dueling": True}, "target": {"double": True}}])
def test_it_is_readable_in_80_columns(settings: Any, actions: int) -> None:
    text = explained(settings, actions=actions, comparing=True)
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())
    assert "…" not in text  # nothing is cut off


def test_the_head_has_its_own_step() -> None:
    text = explained({"network": {"hidden": [8], "dueling": True}}, actions=3)
    for words in (
        "7  Back through the dueling head",
        "nested sum",
        "shared sum",
        "they pay for the mean",
        "share weights",
    ):
        assert words in text
    assert "shared sum" not in explained({"network": {"hidden": [8], "dueling": True, "aggregation": "max"}})


def test_special_cases_are_explained() -> None:
    step = Transition(0, 0, 3.0, 1, True)
    assert "terminated: no bootstrap" in explained(steps=[step])
    assert "--target-noise makes them differ" in explained({"target": {"double": True}})
    assert "3 / 2 = 1.5" in explained({"target": {"reward_scale": 2.0}})
    assert "holds for plain SGD on mse" in explained({"optimizer": {"name": "adam"}})
    assert "A fresh Adam moves each weight by about" in explained({"optimizer": {"name": "adam"}})
    assert "whole gradient has norm 4" in explained({"optimizer": {"clip_norm": 1.0}})
    assert "huber(error)" in explained({"optimizer": {"loss": "huber"}})
    assert "Nothing has moved." in explained(steps=[Transition(0, 0, 1.0, 1, True)])


def test_masked_actions_are_no_choice() -> None:
    summary = summary_of()
    summary["td_target"] = {**summary["td_target"], "allowed": [False, True]}
    assert "of those that the action mask allows (1): action 1" in shown(explanation.of_update(summary))


def test_the_rewards_of_n_steps_have_a_row_each() -> None:
    steps = [Transition(0, 0, 3.0, 1, False), Transition(1, 1, 2.0, 0, False, truncated=True)]
    text = explained({"target": {"n_step": 3}}, steps=steps)
    assert "discount^2" in text
    assert "0 cut" in text
    assert "= 4 + 0.25 · 2 = 4.5" in text


def test_it_is_told_why_a_sum_has_fewer_steps_than_there_are() -> None:
    steps = [Transition(0, 0, 3.0, 1, False), Transition(1, 0, 2.0, 0, False)]
    text = " ".join(explained({"target": {"n_step": 2}}, steps=steps).split())
    assert "The sum ends after 1 of 2 steps: action 0 is not greedy in state 1" in text
    assert "(--n-step-correction none sums them all)" in text
    uncorrected = explained({"target": {"n_step": 2, "n_step_correction": "none"}}, steps=steps)
    assert "The sum ends" not in uncorrected
    assert "2 steps, uncorrected" in " ".join(uncorrected.split())


def test_only_the_relevant_ones_of_many_actions_are_shown() -> None:
    text = explained(actions=20, steps=[Transition(0, 11, 3.0, 1, False)])
    assert "14 more actions have no column" in text
    assert "▸ 11" in text
    assert "▸ 19" in text  # the largest of the next state


def test_square_brackets_in_names_are_not_markup() -> None:
    summary = copy.deepcopy(summary_of())
    summary["action_names"], summary["state_name"] = ["[red]", "[b]x"], "[blue]"
    text = shown(explanation.of_update(summary))
    assert "[red]" in text
    assert "[blue]" in text


def test_gradients_that_differ_too_much_are_reported() -> None:
    ways = {"nested": [1.0], "shared": [1.0], "autodiff": [1.0], "central_differences": [1.5]}
    summary = {
        "actions": 1,
        "aggregation": "mean",
        "dE_dQ": [1.0],
        "dE_dV": {"nested": 1.0, "autodiff": 1.0, "central_differences": 1.0},
        "dE_dA": ways,
        "discrepancy": {"shared": 0.0, "autodiff": 0.0, "central_differences": 0.5, "largest": 0.5},
        "limit": 1e-6,
        "vectors": "vectors.json",
    }
    text = shown(explanation.gradient_check(summary))
    assert "Largest discrepancy 5.0e-01 (allowed: 1e-06)" in text
    assert "Wrote vectors.json" in text
