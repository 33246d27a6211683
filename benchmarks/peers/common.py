"""What the peers share: the specification of a measurement, the environment, the evaluation and the clock.

A peer is an object with two methods, `advance(updates)`, which blocks until that many more updates are made, and
`q_values()`, its Q values of all 500 states. `measure` asks it for a rate, or for the time to the exact optimum.

Rates are those of a steady state: everything was compiled and run before the clock starts. The time to the optimum
includes compilation and the checks, for everybody: a user waits for both.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deeptaxi.config import EnvironmentConfig
from deeptaxi.evaluation import exact
from deeptaxi.mdp.environment import Environment, open_environment

OBJECTIVE_DISCOUNT = 0.99
TIME_LIMIT = 200


@dataclass(frozen=True)
class Spec:
    """One measurement: what a peer is asked for, and the settings that all peers share.

    Attributes:
        peer: module of the peer.
        task: ``"rate"`` or ``"optimum"``.
        network: ``"dueling"`` or ``"q-table"``.
        optimizer: ``"adam"`` or ``"sgd"``.
        hidden: size of the hidden layer.
        batch: transitions in a minibatch.
        environments: copies of the environment; one step of each goes with an update.
        capacity: transitions that the memory keeps.
        start: transitions gathered before the first update.
        discount: of the targets.
        polyak: share by which the target network moves, each update.
        learning_rate: at the start; it falls to a hundredth along a cosine under Adam and is constant under SGD. For
            the Q table of plain JAX and plain Python it is the tabular step.
        epsilon_end: ε falls from 1 to it, linearly over the first half of the updates.
        updates: length of a training: the schedules run over it.
        block: updates between two looks at the clock.
        seconds: for how long a rate is measured.
        every: updates between two checks.
        cap: CPU seconds after which a training is given up.
        seed: of everything.
        extra: a peer's own settings.
    """

    peer: str = ""
    task: str = "rate"
    network: str = "dueling"
    optimizer: str = "adam"
    hidden: int = 64
    batch: int = 128
    environments: int = 16
    capacity: int = 500_000
    start: int = 1_000
    discount: float = 0.97
    polyak: float = 0.01
    learning_rate: float = 0.003
    epsilon_end: float = 0.5
    updates: int = 20_000
    block: int = 1_000
    seconds: float = 4.0
    every: int = 500
    cap: float = 120.0
    seed: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def epsilon(self, update: Any) -> Any:
        """Return ε at an update, or at an array of them."""
        return 1.0 + (self.epsilon_end - 1.0) * np.minimum(1.0, update / (0.5 * self.updates))

    def rate(self, update: Any) -> Any:
        """Return the learning rate at an update, or at an array of them."""
        if self.optimizer == "sgd":
            return np.full_like(np.asarray(update, np.float64), self.learning_rate)
        cosine = 0.5 * (1 + np.cos(np.pi * np.minimum(1.0, update / self.updates)))
        return self.learning_rate * (0.01 + 0.99 * cosine)


class Peer(Protocol):
    """What is measured."""

    def advance(self, updates: int) -> None:
        """Make that many more updates, and wait for them."""

    def q_values(self) -> NDArray[Any]:
        """Return the Q values of all states, `[S, A]`."""


@functools.cache
def taxi() -> Environment:
    """Open Taxi-v4."""
    return open_environment(EnvironmentConfig(id="Taxi-v4"))


@functools.cache
def reference(discount: float) -> exact.Reference:
    """Return what policies on Taxi-v4 are measured by."""
    table = taxi().table
    if table is None:
        raise RuntimeError("Taxi-v4 has no table")
    return exact.reference(table, TIME_LIMIT, OBJECTIVE_DISCOUNT, discount)


def read_spec(text: str) -> Spec:
    """Read a specification from JSON; what is not named keeps its default."""
    values = json.loads(text)
    known = {item.name for item in fields(Spec)}
    if unknown := values.keys() - known:
        raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
    return Spec(**values)


def to_json(spec: Spec) -> str:
    """Write a specification as JSON."""
    return json.dumps(asdict(spec))


class Clock:
    """Seconds since it was made: those of the core that this process used, all its threads, and those of the wall.

    A measurement is pinned to one core. Its CPU seconds leave out what other processes used of that core meanwhile.
    """

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    @property
    def cpu(self) -> float:
        """Seconds of the processor."""
        return time.process_time() - self._cpu

    @property
    def wall(self) -> float:
        """Seconds of the wall clock."""
        return time.perf_counter() - self._wall


def measure_rate(peer: Peer, spec: Spec, steps_per_update: float) -> dict[str, Any]:
    """Run the peer warm, then count updates for some seconds."""
    cold = Clock()
    peer.advance(spec.block)
    warm_up = cold.cpu
    peer.advance(spec.block)
    updates, clock = 0, Clock()
    while clock.wall < spec.seconds:
        peer.advance(spec.block)
        updates += spec.block
    return rate_result(updates, clock, steps_per_update, warm_up)


def rate_result(updates: int, clock: Clock, steps_per_update: float, warm_up: float) -> dict[str, Any]:
    """Return what a measurement of a rate reports."""
    cpu, wall = clock.cpu, clock.wall
    return {
        "updates_per_cpu_second": updates / cpu,
        "steps_per_cpu_second": updates / cpu * steps_per_update,
        "updates_per_wall_second": updates / wall,
        "cpu_share": cpu / wall,
        "warm_up_seconds": warm_up,
    }


def measure_optimum(make: Callable[[Spec], tuple[Peer, float]], spec: Spec) -> dict[str, Any]:
    """Train until the greedy policy is exactly optimal.

    ``train_seconds`` leaves out what compilation takes: the making of the peer, and what its first block took more than
    its second.
    """
    clock = Clock()
    peer, _ = make(spec)
    reference(spec.discount)
    made, done, verdict, blocks = clock.cpu, 0, None, []
    while done < spec.updates and clock.cpu < spec.cap:
        block = Clock()
        peer.advance(spec.every)
        blocks.append(block.cpu)
        done += spec.every
        verdict = exact.evaluate_greedy(reference(spec.discount), np.asarray(peer.q_values(), np.float32))
        if verdict.optimal:
            break
    compiling = max(0.0, blocks[0] - blocks[1]) if len(blocks) > 1 else 0.0
    found = optimum_result(verdict.optimal_start_states if verdict else 0, done, clock)
    return {**found, "train_seconds": found["cpu_seconds"] - made - compiling}


def optimum_result(optimal_starts: int, updates: int, clock: Clock) -> dict[str, Any]:
    """Return what a training to the optimum reports."""
    return {
        "optimal": optimal_starts == len(np.flatnonzero(taxi().table.start)),
        "optimal_starts": optimal_starts,
        "updates": updates,
        "cpu_seconds": clock.cpu,
        "process_cpu_seconds": time.process_time(),
        "wall_seconds": clock.wall,
        "cpu_share": clock.cpu / clock.wall,
    }


def main(make: Callable[[Spec], tuple[Peer, float]]) -> None:
    """Read the specification from the command line, measure, print one line of JSON.

    Args:
        make: opens the peer; returns it and its environment steps an update.
    """
    spec = read_spec(sys.argv[1])
    found = measure_optimum(make, spec) if spec.task == "optimum" else measure_rate(*with_spec(make, spec))
    print(json.dumps({"peer": spec.peer, "seed": spec.seed, **found}))


def with_spec(make: Callable[[Spec], tuple[Peer, float]], spec: Spec) -> tuple[Peer, Spec, float]:
    """Open the peer; return the arguments of `measure_rate`."""
    peer, steps = make(spec)
    return peer, spec, steps
