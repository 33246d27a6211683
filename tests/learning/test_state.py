from __future__ import annotations

import json
import random
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete

from deeptaxi.config import EnvironmentConfig, OptimizerConfig, merge
from deeptaxi.errors import DeepTaxiError
from deeptaxi.learning.compiled.compiled_agent import CompiledAgent
from deeptaxi.learning.compiled.loop import CompiledLoop
from deeptaxi.learning.compiled.ring_buffer import TRUNCATED
from deeptaxi.learning.keras_optimizer import learning_rate_schedule
from deeptaxi.learning.state import (
    CheckpointEvent,
    StateMismatchError,
    TrainingState,
    array,
    fact,
    fill_arrays,
    merge_states,
    named_arrays,
)
from deeptaxi.learning.trainer import NOT_EVALUATED, train
from deeptaxi.mdp import planning, stopping
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.spaces import StateCodec
from deeptaxi.mdp.stopping import stop_planning_when
from deeptaxi.metrics import Evaluated, Progress, Resumed, Snapshot, Warned
from tests.learning.helpers import opened_problem, outcome
from tests.problems import chain, random_table

DEEP = {"network": {"hidden": [8], "dueling": True}, "optimizer": {"name": "adam", "learning_rate": 0.01}}
GYMNASIUM = {"loop": "gymnasium", "updates": 60, "evaluation": {"every": 25}}
PRIORITIES = {"replay": {"prioritized": True, "capacity": 40}, "target": {"n_step": 3}}
LOOPS = {
    "compiled": {"loop": "compiled", "exploration": {"exploring_starts": 0.1}},
    "compiled, deep, by priority": merge({"loop": "compiled", **DEEP}, PRIORITIES),
    "gymnasium": GYMNASIUM,
    "gymnasium, deep, by priority": merge(merge(GYMNASIUM, DEEP), PRIORITIES),
    "fit": {"loop": "fit", "updates": 6, "evaluation": {"every": 4}},
}


def driven(config, environment, **how):
    """Train; return the records, the state at the end, as a file would hold it, and what is left."""
    held = []

    def keep(event):
        if isinstance(event, CheckpointEvent) and event.last:
            held.append(event.state_dict())

    records, trained = outcome(train(config, environment, [keep], **how))
    (saved,) = held
    return records, TrainingState(saved.arrays, json.loads(json.dumps(saved.facts))), trained


@pytest.mark.parametrize("name", LOOPS)
def test_a_training_resumes_from_its_state_bit_for_bit(name, tmp_path):
    config, environment = opened_problem(
        random_table(5, states=6, time_limit=5), tmp_path, **merge(LOOPS[name], {"evaluation": {"early_stop": False}})
    )
    records, whole, left = driven(config, environment)
    # Twice, and neither at an evaluation nor at the end of a report.
    first, saved, _ = driven(config, environment, stop_after=config.updates // 4)
    assert (first[-1].stopped, first[-1].updates) == ("stop-after", config.updates // 4)
    _, saved, _ = driven(config, environment, state=saved, stop_after=config.updates // 2 + 1)
    rest, resumed, again = driven(config, environment, state=saved)

    assert resumed.arrays.keys() == whole.arrays.keys()
    for key, values in whole.arrays.items():
        np.testing.assert_array_equal(resumed.arrays[key], values, err_msg=key)
    times = ("train_seconds", "compile_seconds", "ticks")
    assert {k: v for k, v in resumed.facts.items() if k not in times} == {
        k: v for k, v in whole.facts.items() if k not in times
    }
    assert rest[-1].weights_digest == records[-1].weights_digest
    assert (rest[-1].updates, rest[-1].stopped) == (config.updates, "updates")
    assert rest[-1].best_update == records[-1].best_update
    np.testing.assert_array_equal(again.coverage.visits, left.coverage.visits)
    np.testing.assert_array_equal(again.coverage.replay, left.coverage.replay)
    assert [record for record in rest if isinstance(record, Resumed)] == [Resumed(config.updates // 2 + 1)]


def test_the_records_after_a_resume_are_those_of_an_undisturbed_training(tmp_path):
    quick = {"loop": "compiled", "updates": 1_200, "evaluation": {"every": 400, "early_stop": False}}
    config, environment = opened_problem(chain(time_limit=9), tmp_path, **quick)
    records, _, _ = driven(config, environment)
    _, saved, _ = driven(config, environment, stop_after=501)  # the second of two updates that share a record is next
    rest, _, _ = driven(config, environment, state=saved)
    progress = {record.update: record for record in records if isinstance(record, Progress)}
    later = [record for record in rest if isinstance(record, Progress)]
    assert [record.update for record in later] == [update for update in progress if update > 501]
    for record in later:
        assert record.loss == pytest.approx(progress[record.update].loss, rel=1e-5)
        for name in ("epsilon", "learning_rate", "episodes", "mean_return", "environment_steps"):
            assert getattr(record, name) == getattr(progress[record.update], name)


def stopped_in(evaluation, monkeypatch):
    """Return a function that asks to stop from within the evaluation of that number, counted from 1."""
    plain, begun = planning.evaluate_returns, []
    monkeypatch.setattr(stopping, "EVERY", 0.0)
    monkeypatch.setattr(stopping, "GRACE", 0.0)

    def evaluate_returns(*args):
        begun.append(args)
        return plain(*args)

    monkeypatch.setattr(planning, "evaluate_returns", evaluate_returns)
    return lambda: len(begun) >= evaluation


ABANDONED = {
    "loop": "compiled",
    "updates": 80,
    "evaluation": {"every": 20, "early_stop": False},
    "replay": {"start": 0},
}


@pytest.mark.parametrize("evaluation", [1, 2, 4])
def test_a_training_that_is_stopped_in_an_evaluation_keeps_the_best_weights_and_makes_up_for_it(
    evaluation, tmp_path, monkeypatch
):
    config, environment = opened_problem(random_table(5, states=40, time_limit=5), tmp_path, **ABANDONED)
    records, whole, _ = driven(config, environment)
    evaluated = [record for record in records if isinstance(record, Evaluated)]
    assert len({record.value for record in evaluated}) == 4  # so each is of another policy

    with monkeypatch.context() as patch, stop_planning_when(stopped_in(evaluation, patch)):
        before, saved, _ = driven(config, environment)
    told, last = [record for record in before if isinstance(record, Evaluated)], before[-1]
    assert told == evaluated[: evaluation - 1]
    assert (last.stopped, last.updates) == ("interrupted", 20 * evaluation)
    if evaluation == 1:
        assert last.exact is None
        assert last.exact_unavailable == NOT_EVALUATED
        assert last.best_update == 20
    else:
        best = max(told, key=lambda record: (record.value, record.update))
        assert (last.best_update, last.exact["value"]) == (best.update, best.value)
        assert last.exact["mean_episode_length"] is None
        assert last.exact_unavailable is None

    rest, resumed, _ = driven(config, environment, state=saved)
    assert told + [record for record in rest if isinstance(record, Evaluated)] == evaluated
    assert (rest[-1].stopped, rest[-1].weights_digest) == ("updates", records[-1].weights_digest)
    assert rest[-1].exact == records[-1].exact
    for key, values in whole.arrays.items():
        np.testing.assert_array_equal(resumed.arrays[key], values, err_msg=key)
    snapshots = [[record for record in each if isinstance(record, Snapshot)] for each in (before, rest, records)]
    assert len(snapshots[0]) + len(snapshots[1]) == len(snapshots[2])


def test_a_resumed_training_that_is_stopped_in_the_same_evaluation_saves_nothing_new(tmp_path, monkeypatch):
    config, environment = opened_problem(random_table(5, states=40, time_limit=5), tmp_path, **ABANDONED)
    with monkeypatch.context() as patch, stop_planning_when(stopped_in(1, patch)):
        _, saved, _ = driven(config, environment)
    held = []
    with monkeypatch.context() as patch, stop_planning_when(stopped_in(1, patch)):
        records, _ = outcome(train(config, environment, [held.append], saved))
    assert not any(isinstance(event, CheckpointEvent) for event in held)
    assert (records[-1].stopped, records[-1].updates, records[-1].exact) == ("interrupted", 20, None)


def test_a_training_that_is_stopped_in_the_evaluation_of_its_last_weights_keeps_the_best(tmp_path, monkeypatch):
    settings = merge(ABANDONED, {"evaluation": {"every": 30}})
    config, environment = opened_problem(random_table(5, states=40, time_limit=5), tmp_path, **settings)
    records, _, _ = driven(config, environment)
    with monkeypatch.context() as patch, stop_planning_when(stopped_in(3, patch)):
        before, saved, _ = driven(config, environment)
    assert (before[-1].stopped, before[-1].updates) == ("interrupted", 80)
    assert before[-1].best_update in (30, 60)
    rest, _, _ = driven(config, environment, state=saved)
    assert [record.update for record in rest if isinstance(record, Evaluated)] == [80]
    assert (rest[-1].weights_digest, rest[-1].exact) == (records[-1].weights_digest, records[-1].exact)


class Counting(gymnasium.Env):
    """Walks round by what it draws; its `hidden` way of drawing decides whether an episode can be played again."""

    def __init__(self, hidden):
        self.observation_space, self.action_space = Discrete(7), Discrete(2)
        self.hidden, self.state, self.played = hidden, 0, 0
        self.chance = random.SystemRandom()  # has no state that could be saved

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.played = 0, self.played + 1
        self.state = int(self.np_random.integers(7))
        return self.state, {}

    def step(self, action):
        self.time += 1
        luck = self.played if self.hidden else int(self.np_random.integers(3))
        self.state = (self.state + int(action) + luck) % 7
        return self.state, float(self.state), False, self.time >= 11, {}


def own(hidden):
    codec = StateCodec(Discrete(7))
    return Environment(
        EnvironmentConfig("Counting"), codec, 2, 0, None, None, "nobody wrote it down", None,
        lambda render_mode=None: Counting(hidden),
    )  # fmt: skip


@pytest.mark.parametrize("hidden", [False, True])
def test_episodes_in_progress_are_replayed_and_hidden_state_is_detected(tmp_path, hidden):
    config, _ = opened_problem(chain(), tmp_path, **merge(GYMNASIUM, PRIORITIES))
    environment = own(hidden)
    records, _, _ = driven(config, environment)
    _, saved, _ = driven(config, environment, stop_after=31)
    rest, _, _ = driven(config, environment, state=saved)
    warnings = [record.text for record in rest if isinstance(record, Warned)]
    assert (rest[-1].weights_digest == records[-1].weights_digest) is not hidden
    if hidden:
        (line,) = warnings
        assert "Counting keeps a state that seeds and actions do not bring back: 4 of 4 episodes restart" in line
    else:
        assert warnings == []


def test_a_restarted_episode_drops_its_partial_return(tmp_path):
    config, _ = opened_problem(chain(), tmp_path, **merge(GYMNASIUM, PRIORITIES))
    _, saved, _ = driven(config, own(True), stop_after=31)
    _, after, _ = driven(config, own(True), state=saved, stop_after=32)
    added, copies, capacity = saved.facts["added"], 4, 40
    last = (added - copies + np.arange(copies)) % capacity
    assert (after.arrays["program.entries"][last, -1] & TRUNCATED).all()


def test_schedules_shorter_than_the_training_stay_at_their_end(tmp_path):
    for schedule in ("linear", "exponential", "cosine"):
        rates = learning_rate_schedule(OptimizerConfig(schedule=schedule, final_fraction=0.1), 1.0, 10)
        assert float(rates(10)) == pytest.approx(0.1)
        assert float(rates(25)) == pytest.approx(0.1)
    short = merge({"loop": "compiled"}, {"updates": 300, "schedule_updates": 100, "evaluation": {"early_stop": False}})
    config, environment = opened_problem(chain(), tmp_path, **short)
    records, _, _ = driven(config, environment)
    late = [record for record in records if isinstance(record, Progress) and record.update > 101]
    assert late
    assert {round(record.learning_rate / late[-1].learning_rate, 6) for record in late} == {1.0}
    assert {record.epsilon for record in late} == {config.exploration.end}


class Private(Counting):
    """Draws from a generator of its own."""

    kind = random.Random

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.luck = self.kind(seed)
        self.time, self.state = 0, 0
        return self.state, {}

    def step(self, action):
        self.time += 1
        self.state = (self.state + int(action) + (self.luck.normalvariate(0, 1) > 0)) % 7
        return self.state, float(self.state), False, self.time >= 11, {}


class Bits(np.random.RandomState):
    normalvariate = np.random.RandomState.normal


class Philox(np.random.Generator):
    normalvariate = np.random.Generator.normal

    def __init__(self, seed):
        super().__init__(np.random.Philox(seed))


@pytest.mark.parametrize("kind", [random.Random, Bits, Philox])
def test_random_generators_of_an_environment_are_restored(kind, tmp_path):
    config, _ = opened_problem(chain(), tmp_path, **merge(GYMNASIUM, {"updates": 40}))
    environment = replace(own(False), make=lambda render_mode=None: type("P", (Private,), {"kind": kind})(False))
    records, _, _ = driven(config, environment)
    _, saved, _ = driven(config, environment, stop_after=20)
    rest, _, _ = driven(config, environment, state=saved)
    assert [record.text for record in rest if isinstance(record, Warned)] == []
    assert rest[-1].weights_digest == records[-1].weights_digest


class Own(Counting):
    """Counts up by its own means: what Gymnasium seeds is never asked for."""

    def reset(self, *, seed=None, options=None):
        self.time, self.state = 0, 0
        return self.state, {}

    def step(self, action):
        self.time, self.state = self.time + 1, (self.state + int(action) + 1) % 7
        return self.state, float(self.state), False, self.time >= 11, {}


def test_an_unseeded_deterministic_environment_is_replayed(tmp_path):
    config, _ = opened_problem(chain(), tmp_path, **GYMNASIUM)
    environment = replace(own(False), make=lambda render_mode=None: Own(False))
    records, _, _ = driven(config, environment)
    _, saved, _ = driven(config, environment, stop_after=5)  # in the first episodes
    rest, _, _ = driven(config, environment, state=saved)
    assert [record.text for record in rest if isinstance(record, Warned)] == []
    assert rest[-1].weights_digest == records[-1].weights_digest


class Particular(Counting):
    """Plays by what it has played before, allows one action in every other state, and bears no other there."""

    def reset(self, *, seed=None, options=None):
        state, _ = super().reset(seed=seed)
        return state, self.info()

    def info(self):
        return {"action_mask": np.array([True, self.state % 2 == 0])}

    def step(self, action):
        if not self.info()["action_mask"][action]:
            raise RuntimeError("not that action here")
        state, reward, terminated, truncated, _ = super().step(action)
        return state, reward, terminated, truncated, self.info()


def test_an_environment_that_cannot_be_replayed_restarts_with_its_mask(tmp_path):
    config, _ = opened_problem(chain(), tmp_path, **merge(GYMNASIUM, {"exploration": {"action_mask": True}}))
    environment = replace(own(True), make=lambda render_mode=None: Particular(True))
    _, saved, _ = driven(config, environment, stop_after=38)  # late in the fourth episodes
    unknown = {"masks.seen": np.zeros(7, bool), "masks.allowed": np.ones((7, 2), bool)}
    rest, _, _ = driven(config, environment, state=TrainingState({**saved.arrays, **unknown}, saved.facts))
    assert "episodes restart" in next(record.text for record in rest if isinstance(record, Warned))
    assert (rest[-1].stopped, rest[-1].failure) == ("updates", None)


def test_a_training_that_is_optimal_on_resume_saves_no_state(tmp_path):
    config, environment = opened_problem(chain(time_limit=9), tmp_path, loop="gymnasium", updates=20)
    _, saved, _ = driven(config, environment, stop_after=10)
    enough = TrainingState(
        saved.arrays, {**saved.facts, "evaluator": {**saved.facts["evaluator"], "in_a_row": 3, "last": 10}}
    )
    held = []
    watch = lambda event: held.append(event) if isinstance(event, CheckpointEvent) else None  # noqa: E731
    records, _ = outcome(train(config, environment, [watch], state=enough))
    assert (records[-1].stopped, held) == ("optimal", [])


SAVED = TrainingState({"a.x": np.zeros(2, np.float32), "a.y.0": np.ones((), np.int32)}, {"n": 3, "yes": True})


def test_a_mismatched_state_is_refused_with_the_name_of_what_differs():
    like = {"x": np.ones(2, np.float32)}
    assert fact(SAVED, "n", int) == 3
    for name, kind in (("m", int), ("n", list), ("yes", int)):
        with pytest.raises(StateMismatchError, match=f"'{name}'"):
            fact(SAVED, name, kind)
    for shape, kind in (((3,), np.float32), ((2,), np.int32)):
        with pytest.raises(StateMismatchError, match=r"'a\.x' is float32 \[2\]"):
            array(SAVED, "a.x", shape, kind)
    with pytest.raises(StateMismatchError, match=r"no 'b\.0'"):
        fill_arrays("b", (like["x"],), SAVED)


def test_nested_tuples_are_restored_from_their_names():
    state = (np.arange(3), None, [np.zeros((), np.float32), (np.ones((2, 2)),)])
    saved = merge_states(TrainingState(named_arrays("s", state), {}), SAVED)
    found = fill_arrays("s", state, saved)
    assert found[1] is None
    np.testing.assert_array_equal(found[0], state[0])
    np.testing.assert_array_equal(found[2][1][0], state[2][1][0])
    assert saved.facts == SAVED.facts


@pytest.mark.parametrize("loop", ["compiled", "gymnasium"])
def test_indices_out_of_range_are_refused_before_compiled_code_uses_them(loop, tmp_path):
    config, environment = opened_problem(chain(time_limit=9), tmp_path, loop=loop, updates=20)
    _, saved, _ = driven(config, environment, stop_after=10)
    name = "program.envs.states" if loop == "compiled" else "program.entries"
    broken = {**saved.arrays, name: saved.arrays[name] + 3}
    with pytest.raises(DeepTaxiError, match=f"'{name}' holds" if loop == "compiled" else "'entries.states' holds"):
        driven(config, environment, state=TrainingState(broken, saved.facts))


@pytest.mark.parametrize("loop", ["compiled", "gymnasium"])
def test_a_refused_state_costs_no_compilation(loop, tmp_path, monkeypatch):
    config, environment = opened_problem(chain(time_limit=9), tmp_path, loop=loop, updates=20)
    compiled = CompiledLoop if loop == "compiled" else CompiledAgent
    monkeypatch.setattr(compiled, "compile", lambda *_: pytest.fail("it compiles"))
    with pytest.raises(StateMismatchError):
        driven(config, environment, state=SAVED)
