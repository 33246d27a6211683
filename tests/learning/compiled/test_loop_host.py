"""Trainings in the compiled loop: where the host looks at it changes nothing, and what it tells is what happened."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from deeptaxi.backend import program
from deeptaxi.config import merge, resolve
from deeptaxi.errors import UsageError
from deeptaxi.learning.action_mask import ActionMaskTable
from deeptaxi.learning.callbacks import stop_when
from deeptaxi.learning.compiled import loop
from deeptaxi.learning.compiled.loop import CompiledLoop, prefill_steps
from deeptaxi.learning.initial_network import initial_network
from deeptaxi.learning.trainer import train
from deeptaxi.metrics import Evaluated, Finished, Progress, Started
from deeptaxi.network.build import weights_digest
from deeptaxi.network.tabulate import tabulate
from tests.learning.helpers import finished, of_kind, opened_problem
from tests.problems import build, chain, opened, random_table, surely

QUICK = {
    "loop": "compiled",
    "updates": 70,
    "replay": {"batch_size": 4, "start": 0, "capacity": 40},
    "evaluation": {"every": 20, "early_stop": False},
}
LONG = 1_100  # updates, of which two share a report
# A hidden layer, row-sparse Adam with a lazy target, sequences, masks, priorities, exploring starts: all at once.
RICH = {
    "network": {"hidden": [6], "dueling": True},
    "optimizer": {"name": "adam", "learning_rate": 0.01, "tabular_step": None, "clip_norm": 1.0},
    "target": {"n_step": 2, "double": True, "polyak": 0.5, "period": 3, "reward_scale": 2.0},
    "replay": {"prioritized": True},
    "exploration": {"exploring_starts": 0.1},
}


def rich_problem(folder, **settings):
    return opened_problem(random_table(1, states=12, time_limit=6), folder, **merge(merge(QUICK, RICH), settings))


def story(config, environment, monkeypatch=None, seconds=None):
    """Train; return the records without what a clock says, and the network's digest."""
    if seconds is not None:
        monkeypatch.setattr(loop, "PIECE_SECONDS", seconds)
    records, network = finished(train(config, environment))
    timeless = []
    for record in records:
        fields = dataclasses.asdict(record)
        timeless.append({key: value for key, value in fields.items() if "seconds" not in key})
    assert records[-1].weights_digest == weights_digest(network)
    return timeless


def pieces(monkeypatch):
    """Note which pieces of the training the host asks for."""
    seen, call = [], CompiledLoop._call

    def noting(self, function, *numbers):
        if function == "run":
            seen.append(numbers)
        call(self, function, *numbers)

    monkeypatch.setattr(CompiledLoop, "_call", noting)
    return seen


@pytest.mark.slow
def test_a_training_is_the_same_however_it_is_cut_into_pieces(tmp_path, monkeypatch):
    # Reports of two updates and evaluations every 555: neither divides the other, nor the blocks of 100, nor the whole.
    problem = rich_problem(tmp_path, updates=1_130, evaluation={"every": 555})
    seen = pieces(monkeypatch)
    one = story(*problem, monkeypatch, 1e-9)
    assert seen == [(0, 0), *((n, n + 1) for n in range(1_130))]  # one by one; the first call compiles
    seen.clear()
    other = story(*problem, monkeypatch, 1e9)
    assert one == other
    assert len(seen) < 25
    assert {first for first, _ in seen[2:]} == {last for _, last in seen[1:-1]}
    assert {555, 1_110, 1_130} <= {last for _, last in seen}


def learner(config, environment, seed=5):
    network = initial_network(config, environment)
    return CompiledLoop(
        network, config, environment, ActionMaskTable(environment, config.exploration.action_mask), seed
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A training of the chain by Q table, 70 updates by 4 copies, all its records."""
    problem = opened_problem(chain(), tmp_path_factory.mktemp("chain"), **merge(QUICK, {"evaluation": {"every": 30}}))
    return *problem, *finished(train(*problem))


def test_the_story_is_told_in_order(quick):
    _, _, records, network = quick
    assert isinstance(records[0], Started)
    assert isinstance(records[-1], Finished)
    assert (records[0].loop, records[0].network, records[0].states, records[0].actions) == ("compiled", "q-table", 3, 2)
    told = [record.update for record in records[1:-1]]
    assert told == sorted(told)
    assert [record.update for record in of_kind(records, Evaluated)] == [30, 60, 70]
    assert [record.update for record in of_kind(records, Progress)] == list(range(1, 71))
    # One round of steps before the first update, and one for each.
    assert [record.environment_steps for record in of_kind(records, Progress)] == [4 * (n + 2) for n in range(70)]
    assert (records[-1].stopped, records[-1].updates, records[-1].environment_steps) == ("updates", 70, 4 * 71)
    assert records[-1].weights_digest == weights_digest(network)


def test_another_seed_learns_something_else(quick, tmp_path):
    _, _, records, network = quick
    other = opened_problem(chain(), tmp_path, **merge(QUICK, {"seed": 1, "evaluation": {"every": 30}}))
    others, another = finished(train(*other))
    assert (tabulate(another) != tabulate(network)).any()
    returned = [[record.episodes for record in of_kind(told, Progress)] for told in (records, others)]
    assert returned[0] != returned[1]


def test_progress_tells_of_exploration_and_of_the_learning_rate_as_the_other_loop_does(quick, tmp_path):
    _, _, records, _ = quick
    problem = opened_problem(chain(), tmp_path, **merge(QUICK, {"loop": "gymnasium"}))
    others = of_kind(finished(train(*problem))[0], Progress)
    for one, other in zip(of_kind(records, Progress), others, strict=True):
        assert (one.update, one.epsilon) == (other.update, pytest.approx(other.epsilon))
        assert one.learning_rate == pytest.approx(other.learning_rate)
    assert 0 < sum(record.episodes for record in of_kind(records, Progress)) < 4 * 70 / 3
    assert {record.mean_return for record in of_kind(records, Progress)} == {None, 1.0}


def test_warming_up_changes_nothing_and_pieces_end_where_the_host_must_look(tmp_path):
    config, environment = opened_problem(chain(), tmp_path, **merge(QUICK, {"updates": LONG}))
    one = learner(config, environment)
    before = tabulate(one.network)
    assert one.compile() > 0
    np.testing.assert_array_equal(tabulate(one.network), before)
    ticks = list(one.run(config.updates))
    # Reports of two updates; evaluations every 20. What is settled is where a piece ended, evaluations among them.
    assert set(range(2, LONG + 1, 2)) <= {tick.update for tick in ticks}
    assert [tick.count for tick in ticks] == np.diff([0, *(tick.update for tick in ticks)]).tolist()
    assert set(range(20, LONG + 1, 20)) <= {tick.update for tick in ticks if tick.settled}
    assert (tabulate(one.network) != before).any()


OTHER_NUMBERS = {
    "seed": 1,
    "updates": 90,
    "schedule_updates": 70,
    "discount": 0.7,
    "evaluation": {"every": 9, "objective_discount": 0.5},
    "optimizer": {"learning_rate": 0.02, "final_fraction": 0.5, "clip_norm": 0.5},
    "target": {"polyak": 0.25, "reward_scale": 3.0},
    "replay": {"start": 12, "priority_exponent": 0.9, "importance_exponent": 0.6},
    "exploration": {"start": 0.9, "end": 0.2, "fraction": 0.3, "exploring_starts": 0.3},
    "network": {"initial_value": 1.0},
}


def test_a_second_training_with_other_numbers_runs_the_same_program_and_learns_as_by_a_new_one(tmp_path, monkeypatch):
    # Its table is of the same shapes and says something else.
    tables = [random_table(number, states=12, time_limit=6) for number in (1, 2)]
    one, two = (
        opened_problem(table, tmp_path, **merge(merge(QUICK, RICH), settings))
        for table, settings in zip(tables, ({}, OTHER_NUMBERS), strict=True)
    )
    monkeypatch.setattr(program, "_idle", {})
    expected, _ = finished(train(*two))
    monkeypatch.setattr(program, "_idle", {})
    finished(train(*one))
    (kept,) = program._idle.values()
    records, _ = finished(train(*two))
    assert list(program._idle.values()) == [kept]
    assert records[-1].weights_digest == expected[-1].weights_digest
    assert records[-1].compile_seconds < expected[-1].compile_seconds / 5


def test_the_last_weights_are_evaluated_whatever_the_interval(tmp_path):
    settings = {"updates": 7, "schedule_updates": 70, "evaluation": {"every": 3}}  # the program of `quick`
    problem = opened_problem(chain(), tmp_path, **merge(QUICK, settings))
    records, _ = finished(train(*problem))
    assert [record.update for record in of_kind(records, Evaluated)] == [3, 6, 7]
    assert records[-1].updates == 7


def test_three_optimal_evaluations_in_a_row_end_the_training(tmp_path):
    settings = {"updates": 5_000, "evaluation": {"every": 35, "early_stop": True}}
    problem = opened_problem(build([[surely(0, 1, True)]]), tmp_path, **merge(QUICK, settings))
    records, network = finished(train(*problem))
    assert [record.update for record in of_kind(records, Evaluated)] == [35, 70, 105]
    assert (records[-1].stopped, records[-1].updates, records[-1].best_update) == ("optimal", 105, 105)
    assert records[-1].environment_steps == 4 * 106
    # A report is due every ten; the last one tells of the five updates that were left.
    assert [record.update for record in of_kind(records, Progress)] == [*range(10, 101, 10), 105]
    assert of_kind(records, Progress)[-1].episodes == 4 * 5  # every step ends one
    assert weights_digest(network) == records[-1].weights_digest


def test_a_training_that_is_told_to_stop_has_the_weights_of_the_update_that_it_names(tmp_path, monkeypatch):
    # Asked after each piece; the third answer is to stop. The same updates in one go give the same weights.
    monkeypatch.setattr(loop, "PIECE_SECONDS", 1e9)
    config, environment = opened_problem(chain(), tmp_path, **merge(QUICK, {"updates": LONG}))
    asked = []
    records, network = finished(train(config, environment, [stop_when(lambda: asked.append(True) or len(asked) == 3)]))
    last = records[-1]
    assert last.stopped == "interrupted"
    assert 2 < last.updates < LONG
    assert of_kind(records, Evaluated)[-1].update == last.updates == last.best_update

    seed = int(np.random.SeedSequence(config.seed).spawn(2)[1].generate_state(1)[0] >> 1)
    again = learner(config, environment, seed)
    again._call("prefill", prefill_steps(again._config))
    again._call("run", 0, last.updates)
    np.testing.assert_array_equal(tabulate(again.network), tabulate(network))


def test_rewards_in_units_of_the_scale_give_the_same_q_values_in_full(tmp_path):
    # All numbers are learned in units of 4, a power of two: the same to the bit, but for the units.
    tables = [build([[surely(1, r), surely(0, 0)], [surely(0, 3 * r, True), surely(0, -r)]]) for r in (1, 4)]
    q_values, returns = [], []
    for table, scale in zip(tables, (1.0, 4.0), strict=True):
        problem = opened_problem(table, tmp_path, **merge(QUICK, {"target": {"reward_scale": scale}}))
        records, network = finished(train(*problem))
        q_values.append(tabulate(network) / scale)
        returns.append([record.mean_return for record in of_kind(records, Progress) if record.episodes])
    assert q_values[0].any()
    np.testing.assert_array_equal(*q_values)
    assert len(returns[0]) > 10
    np.testing.assert_allclose(returns[1], 4 * np.array(returns[0]), rtol=1e-5)


def test_the_factored_network_learns_too(tmp_path):
    settings = {"updates": 300, "network": {"hidden": [8], "dueling": True, "encoding": "factored"}}
    optimizer = {"name": "adam", "tabular_step": None, "learning_rate": 0.02}
    table = build([[surely(s, s, True), surely(s, -s, True)] for s in range(4)], [0.25] * 4, factors=(2, 2))
    problem = opened_problem(table, tmp_path, **merge(merge(QUICK, settings), {"optimizer": optimizer}))
    _, network = finished(train(*problem))
    np.testing.assert_allclose(tabulate(network), [[0, 0], [1, -1], [2, -2], [3, -3]], atol=0.1)


def test_what_it_cannot_do_is_refused_before_anything_is_computed():
    config = resolve({"environment": {"id": "Blackjack-v1"}, "loop": "compiled"})
    with pytest.raises(UsageError, match=r"^--loop compiled: it needs a transition table, .*; use --loop gymnasium$"):
        finished(train(config, opened("Blackjack-v1")))


def test_it_needs_a_table(quick):
    config, *_ = quick
    without = opened("Blackjack-v1")
    with pytest.raises(ValueError, match="needs a transition table"):
        CompiledLoop(None, config, without, ActionMaskTable(without, False), 0)


def check_pieces(folder):
    """Cut a training into pieces on this backend."""
    with pytest.MonkeyPatch.context() as patch:
        problem = rich_problem(folder, updates=30)
        one, other = story(*problem, patch, 1e-9), story(*problem, patch, 1e9)
    assert one == other
