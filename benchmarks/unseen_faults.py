"""Faults that `diagnose` was not written for, with problems and seeds apart: ``python -m benchmarks.unseen_faults``.

Kinds of faults are put into problems. `TUNING` problems and seeds were looked at while checks were written; those of
`HELD_OUT` were only measured (other environments, other tables, other seeds). Everything runs in one process, and each
training takes a second or two. For every harmful fault it is counted whether the cause named first is the true one,
whether the first cure, typed as it is, makes the agent good, and whether `--cure` finds one that does.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faulty_environments import faulty_environments

SYMPTOMS = ("one-action-collapse", "policy-loops", "not-optimal")
GOOD = 0.99
STEPS = 200  # of an episode, where the problem says nothing else
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Setting:
    """A bad setting: the findings that name it rightly, and its options."""

    name: str
    causes: tuple[str, ...]
    options: dict[str, Any]


OVERSHOT = ("learning-rate-too-high", "diverged", "dead-relu-units")
UNEXPLORED = ("epsilon-fell-too-early", "states-never-visited", "pairs-never-tried")
LITTLE = {"epsilon_start": 0.02, "epsilon_end": 0.02, "exploring_starts": 0.0}
TABULAR = {"optimizer": "sgd", "learning_rate_schedule": "constant"}
SETTINGS = (
    Setting("step 300 times too small", ("learning-rate-too-low",), {"learning_rate": 1e-5}),
    Setting("step 30 times too small", ("learning-rate-too-low",), {"learning_rate": 1e-4, "updates": 1_000}),
    Setting("step far too large", OVERSHOT, {"learning_rate": 1.0, "updates": 2_000}),
    Setting("step too large, Q table", (*OVERSHOT, "tabular-step-too-large"),
            {"q_table": True, **TABULAR, "tabular_step": 3.0, "updates": 2_000}),
    Setting("a handful of updates", ("untrained",), {"updates": 8}),
    Setting("one transition an update", ("untrained",), {"batch_size": 1, "updates": 500, "environments": 2}),
    Setting("20 steps, random behavior", ("n-step-off-policy",),
            {"n_step": 20, "n_step_correction": "none", "epsilon_start": 1.0, "epsilon_end": 1.0}),
    Setting("5 steps, random behavior, Q table", ("n-step-off-policy",),
            {"q_table": True, "n_step": 5, "n_step_correction": "none", "epsilon_start": 1.0, "epsilon_end": 1.0}),
    Setting("discount 0.2", ("discount-too-small",), {"discount": 0.2}),
    Setting("discount 0.5", ("discount-too-small",), {"discount": 0.5}),
    Setting("discount 1", ("discount-too-large",), {"discount": 1.0, "q_table": True}),
    Setting("two hard copies", ("target-too-stale",), {"polyak": 1.0, "target_period": 900, "updates": 2_000}),
    Setting("a slow target", ("target-too-stale",), {"polyak": 1e-4, "updates": 3_000}),
    Setting("a small buffer", ("replay-forgot-pairs", *UNEXPLORED),  # on the ladder exploring more is the cure
            {"replay_capacity": 200, "updates": 2_000, **LITTLE, "epsilon_start": 0.3, "environments": 8}),
    Setting("hardly any exploration", UNEXPLORED, {**LITTLE, "updates": 2_000, "environments": 4}),
    Setting("optimistic by 1,000", ("initial-value-off",), {"initial_value": 1_000.0, "updates": 2_000}),
    Setting("pessimistic by 1,000, Q table", ("initial-value-off",),
            {"initial_value": -1_000.0, "q_table": True, "updates": 2_000}),
    Setting("one hidden unit", ("network-too-small",), {"hidden": (1,)}),
    Setting("rewards divided by 100,000", ("reward-scale-off",), {"reward_scale": 1e5}),
    Setting("rewards times 100,000", ("reward-scale-off",), {"reward_scale": 1e-5}),
    Setting("a step that ends early", ("learning-rate-too-low",),
            {"schedule_updates": 10, "learning_rate_schedule": "exponential",
             "final_learning_rate_fraction": 1e-4}),
    Setting("slow steps, little exploration", ("learning-rate-too-low", *UNEXPLORED),
            {**LITTLE, "learning_rate": 1e-5, "updates": 2_000, "environments": 4}),
)  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """A problem: what `deeptaxi.train` is given."""

    name: str
    env: Callable[[], Any]
    kwargs: dict[str, Any]
    discount: float = 0.97  # of tables that are learned elsewhere


def maze(size: int = 6, slip: float = 0.1, seed: int = 7) -> Any:
    """A grid of our own: a cost a step, some walls, a wind that takes one step in ten, and two ends of other worth."""
    from deeptaxi.mdp.table import from_rows

    rng = np.random.default_rng(seed)
    walls = {int(s) for s in rng.choice(np.arange(1, size * size - 1), size, replace=False)} - {size * size - 2}
    ends = {size * size - 1: 10.0, size - 1: 2.0}
    moves = ((0, -1), (1, 0), (0, 1), (-1, 0))

    def go(s: int, move: tuple[int, int]) -> int:
        row, column = min(max(s // size + move[0], 0), size - 1), min(max(s % size + move[1], 0), size - 1)
        there = row * size + column
        return s if there in walls else there

    def outcome(probability: float, there: int) -> tuple[float, int, float, bool]:
        return probability, there, ends.get(there, -0.2), there in ends

    rows = [
        [[outcome(1 - slip, go(s, move)), outcome(slip, go(s, (0, 1)))] for move in moves] for s in range(size * size)
    ]
    start = np.zeros(size * size)
    start[0] = 1.0
    return from_rows(rows, start, time_limit=200)


def ladder(length: int = 9) -> Any:
    """Up a ladder of noisy rungs to 5; the other actions fall off, or take 1 at once."""
    from deeptaxi.mdp.table import from_rows

    top = length - 1
    rows = [
        [
            [(0.9, min(s + 1, top), 5.0 if s == top else 0.0, s == top), (0.1, max(s - 1, 0), 0.0, False)],
            [(1.0, 0, 0.0, False)],
            [(0.5, s, 0.5, True), (0.5, s, 1.5, True)],
        ]
        for s in range(length)
    ]
    return from_rows(rows, [1.0] + [0.0] * top, time_limit=200)


SURE = {"env_args": {"is_slippery": False}}
TUNING = (
    Problem("lake", lambda: "FrozenLake-v1", SURE),
    Problem("cliff", lambda: "CliffWalking-v1", {"time_limit": 100}),
)
HELD_OUT = (
    Problem("large lake", lambda: "FrozenLake8x8-v1", SURE),
    Problem("taxi", lambda: "Taxi-v4", {}),
    Problem("maze", maze, {}),
    Problem("ladder", ladder, {}),
)
SEEDS = {"tuning": (0,), "held-out": (107,)}  # 100 to 106 were looked at


# What was learned elsewhere, with a wrong rule: tables [S, A] from sampled transitions.


def samples(table: Any, count: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Sample transitions of random pairs: state, action, reward, next state, terminated, `[n]` each."""
    state, action = rng.integers(0, table.states, count), rng.integers(0, table.actions, count)
    chosen = (rng.random(count)[:, None] > table.probability[state, action].cumsum(axis=1)).sum(axis=1)
    chosen = np.minimum(chosen, table.probability.shape[2] - 1)
    where = (state, action, chosen)
    return state, action, table.reward[where], table.next_state[where], table.terminated[where]


RULES = (
    "no-bootstrap", "terminal-states-bootstrapped", "done-inverted", "mean-in-place-of-max", "min-in-place-of-max",
    "rewards-clipped", "own-state-bootstrapped",
)  # fmt: skip


def target_of(rule: str, q: np.ndarray, drawn: tuple[np.ndarray, ...], discount: float) -> np.ndarray:
    """Return the targets of a rule for sampled transitions, `[n]`."""
    state, _, reward, reached, ended = drawn
    following = {
        "mean-in-place-of-max": lambda: q[reached].mean(axis=1),
        "min-in-place-of-max": lambda: q[reached].min(axis=1),
        "own-state-bootstrapped": lambda: q[state].max(axis=1),
    }.get(rule, lambda: q[reached].max(axis=1))()
    going_on = {"no-bootstrap": 0 * ended, "terminal-states-bootstrapped": 0 * ended + 1, "done-inverted": ended}
    reward = np.clip(reward, -1, 1) if rule == "rewards-clipped" else reward
    return reward + discount * going_on.get(rule, ~ended) * following


def learn(table: Any, rule: str, discount: float, seed: int, sweeps: int = 400) -> np.ndarray:
    """Learn by a rule from samples with decaying steps, `[S, A]`."""
    rng = np.random.default_rng(seed)
    q, visits = np.zeros((table.states, table.actions)), np.zeros((table.states, table.actions))
    for _ in range(sweeps):
        drawn = samples(table, 2 * table.states * table.actions, rng)
        state, action, target = drawn[0], drawn[1], target_of(rule, q, drawn, discount)
        total, count = np.zeros_like(q), np.zeros_like(q)
        np.add.at(total, (state, action), target)
        np.add.at(count, (state, action), 1)
        seen = count > 0
        visits += seen
        step = np.maximum(1 / np.maximum(visits, 1) ** 0.6, 0.02)
        q[seen] += (step * (total / np.maximum(count, 1) - q))[seen]
    return q


def learn_n_steps(table: Any, discount: float, seed: int, steps: int = 6) -> np.ndarray:
    """Learn from n random steps without a correction, `[S, A]`."""
    rng = np.random.default_rng(seed)
    q = np.zeros((table.states, table.actions))
    for sweep in range(300):
        first, chosen, reward, reached, ended = samples(table, 4 * q.size, rng)
        total, scale = reward.copy(), np.full(len(reward), discount) * ~ended
        for _ in range(steps - 1):
            action = rng.integers(0, table.actions, len(reached))
            draw = (rng.random(len(reached))[:, None] > table.probability[reached, action].cumsum(axis=1)).sum(axis=1)
            where = (reached, action, np.minimum(draw, table.probability.shape[2] - 1))
            total += scale * table.reward[where]
            scale, reached = scale * discount * ~table.terminated[where], table.next_state[where]
        target = total + scale * q[reached].max(axis=1)
        sums, count = np.zeros_like(q), np.zeros_like(q)
        np.add.at(sums, (first, chosen), target)
        np.add.at(count, (first, chosen), 1)
        seen = count > 0
        q[seen] += (max(1 / (sweep + 1) ** 0.6, 0.02) * (sums / np.maximum(count, 1) - q))[seen]
    return q


def to_all_actions(table: Any, discount: float, seed: int) -> np.ndarray:
    """Learn with the target of the action taken written to all actions, `[S, A]`: they differ by rounding only."""
    rng = np.random.default_rng(seed)
    value = np.zeros(table.states)
    for sweep in range(400):
        state, _, reward, reached, ended = samples(table, 4 * table.states * table.actions, rng)
        total, count = np.zeros_like(value), np.zeros_like(value)
        np.add.at(total, state, reward + discount * ~ended * value[reached])
        np.add.at(count, state, 1)
        value += max(1 / (sweep + 1) ** 0.6, 0.02) * (total / np.maximum(count, 1) - value) * (count > 0)
    return value[:, None] + 1e-7 * rng.random((table.states, table.actions))


def transposed(q: np.ndarray) -> np.ndarray | None:
    """Number the states of a square grid column by column, or None."""
    side = round(len(q) ** 0.5)
    return q.reshape(side, side, -1).swapaxes(0, 1).reshape(q.shape) if side * side == len(q) else None


def foreign_tables(table: Any, discount: float, seed: int) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Yield faults of tables that were learned elsewhere: their name, the right findings, and Q `[S, A]`."""
    right = learn(table, "right", discount, seed)
    learned = {rule: learn(table, rule, discount, seed) for rule in RULES}
    for rule, q in learned.items():
        same = [other for other, values in learned.items() if np.abs(values - q).max() < 0.01 * np.abs(q).max()]
        yield rule, (rule, *same), q  # where ends are worth nothing, a few rules are the same
    yield "n random steps", ("n-step-off-policy",), learn_n_steps(table, discount, seed)
    yield "target to all actions", ("target-in-all-actions",), to_all_actions(table, discount, seed)
    yield "columns rolled", ("actions-permuted",), np.roll(right, 1, axis=1)
    yield "two columns swapped", ("actions-permuted",), right[:, [1, 0, *range(2, table.actions)]]
    yield "negated", ("values-negated",), -right
    yield "rows shifted by 1", ("states-shifted",), np.roll(right, 1, axis=0)
    yield "rows shifted by -2", ("states-shifted",), np.roll(right, -2, axis=0)
    if (other := transposed(right)) is not None:
        yield "columns before rows", ("states-shifted", "states-transposed"), other
    yield "discount 0.3", ("discount-too-small",), learn(table, "right", 0.3, seed)
    yield "not trained", ("model-not-trained",), np.random.default_rng(seed).uniform(-0.05, 0.05, right.shape)


def broken_tables(table: Any) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Yield problems that are broken, with the right findings."""
    gain = table.reward * (table.probability > 0)
    goal = gain == gain.max()
    leads = goal.any(axis=2)
    if (~leads).any(axis=1).all():
        yield "mask forbids the goal", ("mask-forbids-optimum",), replace(table, action_mask=~leads)
    yield "nothing can be earned", ("all-policies-equal",), replace(table, reward=np.zeros_like(table.reward))
    if gain.max() > 0:
        yield "reward after the end", ("reward-after-end",), after_the_end(table, goal)


def after_the_end(table: Any, goal: np.ndarray) -> Any:
    """The goal does not end the episode, and pays again at every step."""
    state = np.unique(table.next_state[goal])
    reward, ended = table.reward.copy(), table.terminated & ~goal
    following, probability = table.next_state.copy(), table.probability.copy()
    following[state], probability[state], ended[state] = state[:, None, None], 0.0, False
    probability[state, :, 0] = 1.0
    reward[state] = table.reward[goal].max()
    return replace(table, reward=reward, terminated=ended, next_state=following, probability=probability)


def keras_models(table: Any, discount: float, seed: int) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Yield Keras models that were built elsewhere, with the right findings."""
    import keras

    from deeptaxi.mdp.planning import value_iteration

    keras.utils.set_random_seed(seed)
    right = value_iteration(table, discount).q.astype("float32")

    def embedding(q: np.ndarray, *more: Any) -> Any:
        table_layer = keras.layers.Embedding(*q.shape)
        model = keras.Sequential([keras.Input((), dtype="int32"), table_layer, *more])
        table_layer.set_weights([q])
        return model

    yield "Keras, actions reversed", ("actions-permuted",), embedding(right[:, ::-1])
    one_hot = keras.layers.CategoryEncoding(num_tokens=table.states, output_mode="one_hot")
    layers = [one_hot, keras.layers.Dense(32, "relu"), keras.layers.Dense(table.actions)]
    yield "Keras, never fitted", ("model-not-trained",), keras.Sequential([keras.Input((1,), dtype="int32"), *layers])
    if np.abs(right).max() > 1.5:
        squashed = embedding(np.arctanh(np.clip(right / 30, -0.9, 0.9)), keras.layers.Activation("tanh"))
        yield "Keras, tanh on the output", ("saturated-output",), squashed
    yield "Keras, states by number", ("state-as-number", "model-not-trained"), keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(table.actions)])  # fmt: skip


@dataclass
class Row:
    """What became of one fault."""

    part: str
    problem: str
    seed: int
    fault: str
    causes: tuple[str, ...]
    harmful: bool = True
    named: str | None = None  # the cause named first; None if no cause is
    findings: tuple[str, ...] = ()
    exit_code: int = 0
    warned_before: bool = False  # by `train`, before its first update
    cure: str | None = None
    cured: bool | None = None  # by the first cure, typed as it is; None if it has none
    cured_optimally: bool | None = None  # by the same, to the letter: every start state is played optimally
    cured_by_trying: bool | None = None
    seconds: float = 0.0

    @property
    def right(self) -> bool:
        """Whether the true cause is named first."""
        return self.named in self.causes


def add_findings(row: Row, found: Any) -> None:
    """Add what a diagnosis names."""
    row.findings = tuple(f"{finding.name}:{finding.severity}" for finding in found.findings)
    row.exit_code = 3 if found.severe else 0
    named = [f for f in found.findings if f.name not in SYMPTOMS and f.severity != "note"]
    row.named = named[0].name if named else None


def of_setting(problem: Problem, setting: Setting, part: str, seed: int, cure: bool) -> Row:
    """Train with a bad setting and diagnose it."""
    import deeptaxi
    from deeptaxi.api.try_cures import train as train_again
    from deeptaxi.api.try_cures import without_environment
    from deeptaxi.diagnosis import cures
    from deeptaxi.errors import DeepTaxiError

    row = Row(part, problem.name, seed, setting.name, setting.causes)
    begun = time.monotonic()
    try:
        run = deeptaxi.train(problem.env(), seed=seed, **problem.kwargs, **setting.options)
    except DeepTaxiError as error:
        row.harmful, row.findings = False, (f"refused: {error}",)
        return row
    first = [record for record in run.history.records if record.kind == "warning" and record.update == 0]
    row.warned_before = bool(first)
    found = deeptaxi.diagnose(run, cure=cure, budget=60)
    row.harmful = bool(found.optimal is False and (run.exact["normalized_score"] or 0) < GOOD)
    add_findings(row, found)
    row.seconds = time.monotonic() - begun
    if not row.harmful or not cure or not found.findings:
        return row
    row.cure = found.findings[0].cure
    row.cured_by_trying = found.trials is not None and found.trials.best is not None
    changes = cures.parse_options(row.cure)
    if changes and cures.applies(run.config, changes):
        tried = tried_to_its_end(found.trials, changes)
        if tried is not None:
            row.cured, row.cured_optimally = tried.good, bool(tried.optimal)
        else:
            again = train_again(run.environment, config=without_environment(cures.change(run.config, changes)))
            row.cured_optimally = bool(again.exact["optimal"])
            row.cured = row.cured_optimally or (again.exact["normalized_score"] or 0) >= GOOD
    return row


def tried_to_its_end(trials: Any, changes: Any) -> Any:
    """Return what `--cure` reached with these changes; None if it did not train to the end with them.

    The same configuration and seed train the same agent again, so that need not be done.
    """
    from deeptaxi.diagnosis import cures

    for trial in trials.tried if trials is not None else ():
        if cures.parse_options(trial.cure) == changes and trial.failed is None:
            return trial if trial.good or trial.updates == trial.planned else None
    return None


def of_model(problem: Problem, fault: tuple[str, tuple[str, ...], Any], part: str, seed: int, env: Any = None) -> Row:
    """Diagnose a model from elsewhere."""
    import deeptaxi

    name, causes, model = fault
    row = Row(part, problem.name, seed, name, causes)
    where = {key: value for key, value in problem.kwargs.items() if key in ("env_args", "time_limit")}
    found = deeptaxi.diagnose(model, env if env is not None else problem.env(), **where if env is None else {})
    nearly = any(finding.name == "not-optimal" and finding.severity == "note" for finding in found.findings)
    row.harmful = (found.optimal is not True and not nearly) or env is not None  # broken however it is played
    add_findings(row, found)
    return row


def of_environment(problem: Problem, fault: tuple[str, tuple[str, ...], Any], part: str, seed: int) -> Row:
    """Train shortly on an environment that is wrong, and diagnose that; it is broken however it is played."""
    import deeptaxi

    name, causes, made = fault
    row = Row(part, problem.name, seed, name, causes)
    begun = time.monotonic()
    limit = problem.kwargs.get("time_limit", STEPS)
    run = deeptaxi.train(made, seed=seed, time_limit=limit, updates=1_000, q_table=True, eval_every=250)
    add_findings(row, deeptaxi.diagnose(run, seed=seed))
    row.seconds = time.monotonic() - begun
    return row


def rows(part: str, seeds: list[int], cure: bool, kinds: str, only: str) -> Iterator[Row]:
    """Yield what becomes of every fault."""
    for problem in TUNING if part == "tuning" else HELD_OUT:
        for seed in seeds if only in ("", problem.name) else ():
            for setting in SETTINGS if "settings" in kinds else ():
                yield of_setting(problem, setting, part, seed, cure)
            yield from rows_of_models(problem, part, seed, kinds)


def rows_of_models(problem: Problem, part: str, seed: int, kinds: str) -> Iterator[Row]:
    """Yield what becomes of models from elsewhere, of broken problems and of environments that are wrong."""
    from deeptaxi.api.environments import EnvSpec

    spec = EnvSpec(problem.env(), problem.kwargs.get("env_args", {}), problem.kwargs.get("time_limit"))
    table = spec.open().table
    for fault in foreign_tables(table, problem.discount, seed) if "tables" in kinds else ():
        yield of_model(problem, fault, part, seed)
    for name, causes, broken in broken_tables(table) if "broken" in kinds else ():
        q = learn(broken, "right", problem.discount, seed, 50)
        if broken.action_mask is not None:
            q = np.where(broken.action_mask, q, -np.inf)
        yield of_model(problem, (name, causes, q), part, seed, broken)
    for fault in keras_models(table, problem.discount, seed) if "keras" in kinds else ():
        yield of_model(problem, fault, part, seed)
    for fault in faulty_environments(table, seed) if "environments" in kinds else ():
        yield of_environment(problem, fault, part, seed)


def summary(found: list[Row]) -> dict[str, Any]:
    """Count what became of the harmful faults."""
    harmful = [row for row in found if row.harmful]
    typed = [row for row in harmful if row.cured is not None]
    return {
        "faults": len(found),
        "harmful": len(harmful),
        "true_cause_first": sum(row.right for row in harmful),
        "false_cause_first": sum(row.named is not None and not row.right for row in harmful),
        "no_cause_proven": sum(row.named is None for row in harmful),
        "nothing_said": sum(not row.findings for row in harmful),
        "exit_0": sum(row.exit_code == 0 for row in harmful),
        "cures_typed": len(typed),
        "first_cure_works": sum(bool(row.cured) for row in typed),
        "first_cure_optimal": sum(bool(row.cured_optimally) for row in typed),
        "trials": sum(row.cured_by_trying is not None for row in harmful),
        "cured_by_trying": sum(bool(row.cured_by_trying) for row in harmful),
        "warned_before_update_1": sum(row.warned_before for row in harmful),
        "falsely_named": dict(Counter(f"{row.fault}: {row.named}" for row in harmful if row.named and not row.right)),
    }


def main() -> None:
    """Measure, print a row for each fault, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("tuning", "held-out"), default="held-out")
    parser.add_argument("--kinds", default="settings,tables,broken,keras,environments")
    parser.add_argument("--problem", default="", help="one problem of the part, by name")
    parser.add_argument("--seeds", type=int, nargs="*", help="instead of the part's own")
    parser.add_argument("--no-cures", action="store_true", help="only name faults")
    parser.add_argument("--out", type=Path, help="append the rows to this file")
    asked = parser.parse_args()
    found: list[Row] = []
    seeds = list(asked.seeds or SEEDS[asked.part])
    for row in rows(asked.part, seeds, not asked.no_cures, asked.kinds, asked.problem):
        found.append(row)
        mark = "harmless" if not row.harmful else "right" if row.right else "FALSE" if row.named else "unproven"
        line = (
            f"{mark:9} {row.problem:11} {row.fault:34} {row.named or '-':28} {row.cured!s:5} {row.cured_by_trying!s:5}"
        )
        print(line, "warned" if row.warned_before else "", row.cure or "", " ".join(row.findings), flush=True)
        if asked.out:
            with asked.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")
    print(json.dumps(summary(found), indent=1), file=sys.stderr)


if __name__ == "__main__":
    main()
