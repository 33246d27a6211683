"""Trainings with one fault each, whose truth is known because it was put there: `python -m benchmarks.diagnosis`.

Most are a bad option of `deeptaxi train`. Those that deeptaxi's own training cannot be brought to are made elsewhere:
a model trained `by_hand`, a table, an environment.
"""

from __future__ import annotations

import contextlib
import io
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

Words = list[str]
Make = Callable[[Path, int], Words]  # (folder, seed) to the words that `diagnose` is typed with


@dataclass(frozen=True)
class Fault:
    """A fault: the finding that must name it, how it is put in, and what makes one."""

    name: str
    how: str
    make: Make


def run(*words: str) -> tuple[int, str]:
    """Type a command of deeptaxi in this process; return its exit code and standard output."""
    from deeptaxi.cli.main import cli

    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
            cli.main(list(words), prog_name="deeptaxi")
    except SystemExit as end:
        return int(end.code or 0), output.getvalue()
    return 0, output.getvalue()


def train(folder: Path, seed: int, words: str) -> Path:
    """Train by the command line; return the run folder."""
    place = ["--out", str(folder / "run"), "--logs", str(folder / "logs"), "--seed", str(seed), "--json"]
    run("train", *shlex.split(words), *place)
    return folder / "run"


def typed(name: str, words: str) -> Fault:
    """Return a fault that is a bad option."""
    return Fault(name, f"`deeptaxi train {words}`", lambda folder, seed: [str(train(folder, seed, words))])


def on_table(words: str, table: Callable[[], Any]) -> Make:
    """Return what trains on a table of our own."""

    def make(folder: Path, seed: int) -> Words:
        from deeptaxi.mdp.table import save_table

        save_table(table(), folder / "table.npz")
        return [str(train(folder, seed, f"{folder / 'table.npz'} {words}"))]

    return make


def opened_table(name: str, **kwargs: Any) -> Any:
    """Return the table of a Gymnasium environment."""
    from deeptaxi.config import EnvironmentConfig
    from deeptaxi.mdp.environment import open_environment

    return open_environment(EnvironmentConfig(name, kwargs)).table


def by_hand(
    environment: str,
    build: str,
    *arguments: Any,
    discount: float = 0.95,
    activation: str | None = None,
    **training: Any,
) -> Make:
    """Return what trains a model by hand and asks about its bare file."""

    def make(folder: Path, seed: int) -> Words:
        from deeptaxi.backend import keras_backend

        keras_backend.start()
        import keras

        from benchmarks import by_hand as hand

        keras.utils.set_random_seed(seed)
        table = opened_table(environment)
        model = getattr(hand, build)(*arguments, table.actions, *([activation] if activation else []))(table.states)
        hand.train(model, table, seed, discount, **training)
        model.save(folder / "model.keras")
        return [str(folder / "model.keras"), "--env", environment, "--discount", str(discount)]

    return make


def noisy_arms(arms: int = 12) -> Any:
    """Leave for 0, or enter a room whose arms all pay −0.1 in the mean and scatter by 1 (Sutton & Barto, 6.7)."""
    from deeptaxi.mdp.table import from_rows

    enter = [(1.0, 1, 0.0, False)]
    leave = [(1.0, 0, 0.0, True)]
    pay = [(0.5, 1, 0.9, True), (0.5, 1, -1.1, True)]
    return from_rows([[leave] + [enter] * (arms - 1), [pay] * arms], [1.0, 0.0])


def scaled(factor: float) -> Any:
    """FrozenLake without ice, its rewards times `factor`."""
    table = opened_table("FrozenLake-v1", is_slippery=False)
    return replace(table, reward=table.reward * factor)


def elsewhere(folder: Path, seed: int) -> Words:
    """Train on FrozenLake that does not slip; ask about the file on ground that slips."""
    made = train(folder, seed, "FrozenLake8x8-v1 --env-arg is_slippery=false --q-table --no-early-stop --updates 3000")
    return [str(made / "model.keras"), "--env", "FrozenLake8x8-v1", "--discount", "0.97"]


class Hurried(gymnasium.Env[Any, Any]):
    """CliffWalking without a table, which calls its limit of 15 steps the end."""

    LIMIT = 15

    def __init__(self) -> None:
        self.inner: Any = gymnasium.make("CliffWalking-v1").unwrapped
        self.observation_space, self.action_space = self.inner.observation_space, self.inner.action_space
        self.time = 0

    def reset(self, **arguments: Any) -> Any:
        """Begin an episode."""
        self.time = 0
        return self.inner.reset(**arguments)

    def step(self, action: Any) -> Any:
        """Make a step; after the last one, say that the episode has ended."""
        observation, reward, terminated, truncated, info = self.inner.step(action)
        self.time += 1
        return observation, reward, terminated or self.time >= self.LIMIT, truncated, info


gymnasium.register("Hurried-v0", Hurried)


def hurried(folder: Path, seed: int) -> Words:
    """Train on an environment that returns terminated at its time limit, and has no table."""
    words = "benchmarks.faults:Hurried-v0 --time-limit 1000 --loop gymnasium --updates 300 --q-table --eval-every 100"
    return [str(train(folder, seed, words)), "--trust-env"]


def broken_off(folder: Path, seed: int) -> Words:
    """Let a training diverge until nothing but its log is left."""
    train(folder, seed, "CliffWalking-v1 --time-limit 100 --q-table --optimizer sgd --tabular-step 4 --updates 2000")
    return [str(folder / "logs" / "run")] if not (folder / "run" / "model.keras").exists() else [str(folder / "run")]


SURE, LAKE = "--env-arg is_slippery=false", "FrozenLake8x8-v1 --env-arg is_slippery=false"
WALK = "CliffWalking-v1 --time-limit 100"
FROM_START = "--exploring-starts 0"
NOISY = f"--backup sample --q-table --optimizer sgd --tabular-step 0.1 --learning-rate-schedule constant {FROM_START}"
NOISY_SIZE = "--polyak 1 --batch-size 8 --environments 8 --updates 2000"
FAULTS = (
    typed("one-action-collapse", "Taxi-v4 --learning-rate 1 --updates 1500"),
    typed("states-never-visited", f"{WALK} --epsilon-start 0.01 --epsilon-end 0.01 {FROM_START} --updates 2000"),
    typed(
        "pairs-never-tried",
        f"Taxi-v4 --initial-value -50 --epsilon-start 0.02 --epsilon-end 0.02 {FROM_START} --updates 1500",
    ),
    typed(
        "epsilon-fell-too-early", f"Taxi-v4 --epsilon-end 0.01 --epsilon-fraction 0.02 {FROM_START} --updates 2000"
    ),
    typed("replay-forgot-pairs", "Taxi-v4 --replay-capacity 1000 --updates 2000"),
    typed("learning-rate-too-high", f"FrozenLake-v1 {SURE} --learning-rate 1 --updates 2000"),
    Fault("diverged", f"`deeptaxi train {WALK} --q-table --optimizer sgd --tabular-step 4`, of which a log is left",
          broken_off),
    Fault("overestimation", f"a room of noisy arms (Sutton & Barto, example 6.7), `{NOISY}`",
          on_table(f"{NOISY} {NOISY_SIZE}", noisy_arms)),
    typed("dead-relu-units", f"{LAKE} --learning-rate 0.5 --updates 2000"),
    Fault("saturated-output", "by hand: tanh on the output, CliffWalking",
          by_hand("CliffWalking-v1", "dense", 64, activation="tanh", updates=1500)),
    Fault("terminal-states-bootstrapped", "by hand: `reward + discount · max` at the end too, Taxi",
          by_hand("Taxi-v4", "dense", 64, updates=5000, bootstrap="always", learning_rate=0.005)),
    Fault("truncation-as-terminal", "by hand: no bootstrap where truncated after 20 steps, CliffWalking",
          by_hand("CliffWalking-v1", "dense", 0, updates=3000, bootstrap="unless over", time_limit=20,
                  learning_rate=0.3)),
    Fault("truncation-as-terminal", "an environment without a table that says terminated at its limit of 15 steps",
          hurried),
    Fault("reward-scale-off", "FrozenLake's rewards times 10,000, `--reward-scale 1`",
          on_table("--reward-scale 1 --updates 2000", lambda: scaled(1e4))),
    typed("discount-too-small", "FrozenLake8x8-v1 --discount 0.3 --updates 3000"),
    typed("policy-loops", "Taxi-v4 --updates 250"),
    Fault("state-as-number", "by hand: one input, the state's number, Taxi",
          by_hand("Taxi-v4", "over_number", 64, updates=2000)),
    Fault("wrong-environment", "trained where FrozenLake8x8 does not slip, asked about where it does", elsewhere),
    typed("untrained", "Taxi-v4 --updates 30"),
    typed("target-too-stale", f"{LAKE} --q-table --polyak 1 --target-period 500 --updates 3000"),
)  # fmt: skip


def make(fault: Fault, folder: Path, seed: int) -> Words:
    """Return the words to diagnose a training with that fault; it is trained unless `folder` has it already."""
    done = folder / "words.json"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        done.write_text(json.dumps(fault.make(folder, seed)))
    words: Words = json.loads(done.read_text())
    return words


def names_of(words: Words) -> dict[str, str]:
    """Diagnose; return the severity of each finding by its name."""
    code, text = run("diagnose", *words, "--json")
    if code not in (0, 3):
        raise RuntimeError(f"diagnose {' '.join(words)} failed with exit code {code}")
    return {finding["name"]: finding["severity"] for finding in json.loads(text)["findings"]}


def seeds(count: int) -> list[int]:
    """Return the seeds of the measurement."""
    return np.arange(count).tolist()
