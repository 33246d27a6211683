"""The compiled agent against the recipe step by step: the same transitions, minibatches, updates and actions."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from deeptaxi.config import merge
from deeptaxi.learning.action_mask import ActionMaskTable
from deeptaxi.learning.compiled.compiled_agent import CompiledAgent
from deeptaxi.learning.compiled.ring_buffer import TransitionReplayBuffer, rows_of
from deeptaxi.learning.gymnasium_loop import GymnasiumLoop
from deeptaxi.learning.initial_network import initial_network
from deeptaxi.learning.recipe_agent import RecipeAgent
from deeptaxi.network.tabulate import tabulate
from tests.learning.helpers import Literal, opened_problem, transitions
from tests.problems import build, chain, surely

BASE = {
    "loop": "gymnasium",
    "updates": 30,
    "discount": 0.8,
    "network": {"hidden": [8]},
    "optimizer": {"name": "adam", "learning_rate": 0.01, "tabular_step": None},
    "exploration": {"start": 1.0, "end": 0.2},
    "replay": {"capacity": 40, "batch_size": 8, "start": 8},
    "interaction": {"environments": 4},
}
VARIANTS = {
    "dueling": {},
    "table": {"network": {"hidden": [], "dueling": False}, "optimizer": {"name": "sgd", "learning_rate": 0.5}},
    "n-step": {"target": {"n_step": 3}},
    "plain-n-step": {"target": {"n_step": 3, "n_step_correction": "none"}},
    "double-hard": {"target": {"double": True, "polyak": 1.0, "period": 3}},
    "prioritized": {"replay": {"prioritized": True}, "target": {"n_step": 2}},
    "two-steps-an-update": {"interaction": {"steps_per_update": 2}},
    "scaled": {"target": {"reward_scale": 4.0}},
    # Of these each would be wrong by the program of another.
    "rmsprop": {"optimizer": {"name": "rmsprop"}},
    "rmsprop-momentum": {"optimizer": {"name": "rmsprop", "options": {"momentum": 0.5}}},
    "nadam": {"optimizer": {"name": "nadam"}},
}


def masked():
    """Two states where action 1 of the first is not allowed, and chance decides what action 0 leads to."""
    steps = [[((0.5, 1, 1, False), (0.5, 0, 0, False)), surely(1, 9)], [surely(0, -1), surely(1, 2, True)]]
    return build(steps, time_limit=6, action_mask=np.array([[True, False], [True, True]]))


def run(config, environment, literal=False):
    """Run the loop with the compiled agent, or with the literal recipe; return it and what it yielded."""
    masks = ActionMaskTable(environment, config.exploration.action_mask)
    *own, for_replay = np.random.SeedSequence(3).spawn(3)
    online = initial_network(config, environment)
    common = (config, environment, masks, for_replay)
    if literal:
        agent = RecipeAgent(Literal(online, initial_network(config, environment), config), *common)
    else:
        agent = CompiledAgent(online, *common)
    loop = GymnasiumLoop(config, environment, agent, masks, own)
    return loop, list(loop.run(config.updates))


def assert_alike(config, environment):
    """Assert that the compiled agent and the recipe do the same; return the loop of the compiled agent."""
    (one, ticks), (other, expected) = run(config, environment), run(config, environment, literal=True)
    np.testing.assert_array_equal(one.visits, other.visits)
    np.testing.assert_allclose(tabulate(one.network), tabulate(other.network), atol=2e-4)
    for tick, like in zip(ticks, expected, strict=True):
        assert (tick.update, tick.environment_steps, tick.episodes) == (
            like.update,
            like.environment_steps,
            like.episodes,
        )
        assert tick.loss == pytest.approx(like.loss, rel=1e-3, abs=1e-5)
        assert tick.td_error == pytest.approx(like.td_error, rel=1e-3, abs=1e-4)
    np.testing.assert_array_equal(one.agent.pairs(), other.agent.pairs())
    return one


@pytest.mark.parametrize("name", VARIANTS)
def test_the_compiled_agent_does_what_the_recipe_does(name, tmp_path):
    assert_alike(*opened_problem(chain(time_limit=7), tmp_path, **merge(BASE, VARIANTS[name])))


@pytest.mark.parametrize("backup", ["sample", "expected"])
def test_masks_and_expected_updates_are_those_of_the_recipe(backup, tmp_path):
    changes = {"exploration": {"action_mask": True}, "target": {"backup": backup}}
    config, environment = opened_problem(masked(), tmp_path, **merge(BASE, changes))
    assert assert_alike(config, environment).visits[0, 1] == 0


def test_a_transition_is_stored_as_numbers_and_found_again():
    new = transitions(
        (3, 1, -0.25, 4, False), (2, 0, 1.5, 0, True), (0, 1, 0.1, 7, False, True), (1, 1, 2, 3, True, True)
    )
    rows = rows_of(new)
    assert rows[:, [0, 1, 3, 4]].tolist() == [[3, 1, 4, 0], [2, 0, 0, 1], [0, 1, 7, 2], [1, 1, 3, 3]]
    np.testing.assert_array_equal(rows[:, 2].copy().view(np.float32), new.rewards)


def test_a_message_is_read_as_it_was_written(tmp_path):
    config, environment = opened_problem(chain(), tmp_path, **BASE)
    masks = ActionMaskTable(environment, False)
    agent = CompiledAgent(initial_network(config, environment), config, environment, masks, np.random.SeedSequence(0))
    traced = agent._traced
    assert traced.ends[-1] == 4 * 5 + 4 + 4 + 4 * 2 + 8 + 6
    assert isinstance(traced.replay, TransitionReplayBuffer)


def test_compiling_changes_nothing(tmp_path):
    config, environment = opened_problem(chain(), tmp_path, **BASE)
    masks = ActionMaskTable(environment, False)
    agent = CompiledAgent(initial_network(config, environment), config, environment, masks, np.random.SeedSequence(0))
    before = agent.state_dict()
    assert agent.compile() > 0
    after = agent.state_dict()
    assert before.facts == after.facts
    for name, value in before.arrays.items():
        np.testing.assert_array_equal(value, after.arrays[name], err_msg=name)


def ladder(*chances, states=40):
    """Up the states by 1, 2, … rungs with these chances, to the end after the last; action 1 stays."""
    last = states - 1
    rise = [
        [(chance, min(state + up, last), 1.0, state + up > last) for up, chance in enumerate(chances, 1)]
        for state in range(states)
    ]
    return build([[rows, surely(state, 0)] for state, rows in enumerate(rise)], time_limit=20)


def test_problems_with_other_numbers_of_outcomes_do_not_share_a_program(tmp_path):
    # Expected updates look all outcomes up: two of each pair of one table, three of the other, with the same states.
    changes = {"target": {"backup": "expected"}, "replay": {"batch_size": 2}}
    for name, chances in (("two", (0.5, 0.5)), ("three", (0.5, 0.25, 0.25))):
        gc.collect()  # a program is idle once its training is garbage
        folder = tmp_path / name
        folder.mkdir()
        assert_alike(*opened_problem(ladder(*chances), folder, **merge(BASE, changes)))


@pytest.mark.parametrize("prioritized", [False, True])
def test_a_saved_state_holds_the_transitions_that_there_are(prioritized, tmp_path):
    changes = {"replay": {"capacity": 1_000, "prioritized": prioritized}, "updates": 5}
    config, environment = opened_problem(chain(time_limit=7), tmp_path, **merge(BASE, changes))
    loop, _ = run(config, environment)
    saved = loop.agent.state_dict()
    assert saved.arrays["program.entries"].shape == (loop.agent.added, 5)
    other, _ = run(config, environment)
    other.agent.load_state_dict(saved)
    for name, value in other.agent.state_dict().arrays.items():
        np.testing.assert_array_equal(value, saved.arrays[name], err_msg=name)
