"""What is measured: the list of jobs of each part, with the settings that each peer was tuned to."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from benchmarks.peers.common import Spec
from benchmarks.run import Job

TORCH = ("torch", "stable_baselines3")
REJAX = ("jax", "rejax", "flax")
SHORT = {"tensorflow": "TF", "jax": "JAX"}
BACKENDS = tuple(SHORT)
TUNED = {"target_period": 4, "tau": 0.01}  # Stable-Baselines3: of the settings tried, the first to reach the optimum
SB3_WORDS = "hidden [64], batch 128, lr 3e-3 along a cosine, ε 1 to 0.5, γ 0.97, Polyak 0.01 at each update"
DUELING = Spec(task="rate", network="dueling", seconds=1.5)
TABLE = replace(DUELING, network="q-table", optimizer="sgd", learning_rate=0.5)


def available(jobs: Iterable[Job]) -> tuple[list[Job], list[str]]:
    """Return the jobs whose packages are installed, and the names of the others."""
    jobs = list(jobs)
    there = [job for job in jobs if all(importlib.util.find_spec(name) for name in job.needs)]
    return there, [job.name for job in jobs if job not in there]


def deeptaxi(name: str, part: str, spec: Spec, loop: str, group: str = "", **extra: Any) -> list[Job]:
    """Return deeptaxi's jobs, one a backend."""
    asked = replace(spec, peer="deeptaxi_loop", extra={"loop": loop, **extra})
    return [
        Job(
            f"deeptaxi {SHORT[backend]} {name}",
            asked,
            part,
            (backend,),
            {"KERAS_BACKEND": backend},
            group=group and f"{group} {backend}",
        )
        for backend in BACKENDS
    ]


def rates(loop: str) -> list[Job]:
    """Part a: updates a second at equal work."""
    sparse = {"optimizer": {"row_sparse": True}}
    dense = {"optimizer": {"row_sparse": False}}
    return [
        *deeptaxi("dueling, dense Adam", "a", DUELING, loop, settings=dense),
        *deeptaxi("dueling, row-sparse Adam", "a", DUELING, loop, settings=sparse),
        *deeptaxi("dueling, SGD", "a", replace(DUELING, optimizer="sgd"), loop, settings=sparse),
        *deeptaxi("Q table, SGD", "a", TABLE, loop),
        peer("plain JAX scan, dueling, dense Adam", DUELING, "jax_scan", ("jax",)),
        peer("plain JAX scan, dueling, SGD", replace(DUELING, optimizer="sgd"), "jax_scan", ("jax",)),
        peer("plain JAX scan, Q table, SGD", TABLE, "jax_table", ("jax",)),
        *libraries(),
        *by_hand(),
    ]


def libraries() -> list[Job]:
    """Part a: what others have published."""
    rejax, torch = replace(DUELING, block=100), replace(DUELING, block=50)
    copies = "its memory is copied at every step; of 1,008, 5,008 and more the smallest is the fastest"
    linear = "net_arch=[]: one linear layer with bias, Adam; 4 steps an update"
    return [
        peer("rejax DQN, memory 500,000", rejax, "rejax_dqn", REJAX, "hidden (64,), Double DQN off"),
        peer("rejax DQN, memory 1,008", replace(rejax, capacity=1_008), "rejax_dqn", REJAX, copies),
        peer("SB3 DQN [64]", torch, "sb3", TORCH, "4 steps an update, no dueling head", **TUNED),
        peer("SB3 DQN linear", replace(torch, network="q-table"), "sb3", TORCH, linear, **TUNED),
    ]


def by_hand() -> list[Job]:
    """Part a: what one writes first, and deeptaxi's loop for environments without a table."""
    recipe, batches = "the recipe to the letter", "model(x) and train_on_batch"
    table = replace(TABLE, learning_rate=1.0, block=5_000)
    return [
        *deeptaxi("dueling, gymnasium loop", "a", DUELING, "gymnasium")[:1],
        peer(f"Keras, {batches}", replace(DUELING, block=10), "keras_recipe", (), style="train_on_batch"),
        peer("Keras, predict and fit", replace(DUELING, block=2), "keras_recipe", (), recipe, style="fit"),
        peer("tabular Q-learning, plain Python", table, "tabular", (), "an update is one transition"),
    ]


def peer(name: str, spec: Spec, module: str, needs: tuple[str, ...], settings: str = "", **extra: Any) -> Job:
    """Return a job of part a."""
    return Job(name, replace(spec, peer=module, extra=extra), "a", needs, {}, settings)


def optima(loop: str) -> list[Job]:
    """Part b: time to the exact optimum. Every peer has the settings that were the best found for it."""
    best = Spec(task="optimum", every=250)
    table = replace(best, network="q-table", optimizer="sgd", learning_rate=0.5)
    torch = replace(best, peer="sb3", every=500, cap=60.0, extra=TUNED)
    python = replace(best, peer="tabular", every=5_000, updates=2_000_000, learning_rate=1.0)
    words = "the preset; stops at the third optimal evaluation in a row"
    both = [deeptaxi(name, "b", spec, loop, preset=True) for name, spec in (("dueling", best), ("Q table", table))]
    return [
        *(replace(job, settings=words) for backend in zip(*both, strict=True) for job in backend),
        Job("plain JAX scan, dueling, dense Adam", replace(best, peer="jax_scan"), "b", ("jax",)),
        Job("plain JAX scan, Q table, SGD", replace(table, peer="jax_table"), "b", ("jax",)),
        Job("SB3 DQN [64]", torch, "b", TORCH, settings=SB3_WORDS),
        Job("tabular Q-learning, plain Python", python, "b", settings="α = 1 (Taxi is deterministic), ε = 0.5"),
    ]


def sizes(loop: str) -> list[Job]:
    """Part d: microseconds an update against the size of the problem and of the network, one factor at a time."""
    cases: list[tuple[str, int, dict[str, int]]] = [("S", value, {}) for value in (500, 50_000, 1_000_000)]
    cases += [("A", value, {}) for value in (16, 64)]
    cases += [("K", value, {}) for value in (4, 200)]
    cases += [("B", value, {"batch": value}) for value in (32, 512)]
    cases += [("H", value, {"hidden": value}) for value in (32, 128, 256)]
    by_backend: list[list[Job]] = [[], []]
    hard = {"target": {"polyak": 1.0, "period": 1_000}}
    for factor, value, change in cases:
        table = [value if factor == letter else usual for letter, usual in (("S", 500), ("A", 6), ("K", 1))]
        spec = replace(DUELING, seconds=1.0, **change)
        both = deeptaxi(f"{factor} = {value:,}", "d", spec, loop, "sizes", random_table=table, settings=hard)
        for jobs, job in zip(by_backend, both, strict=True):
            jobs.append(job)
    return [*by_backend[0], *by_backend[1]]


def quick(jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs with short measurements."""
    return [replace(job, spec=replace(job.spec, seconds=0.7, cap=min(job.spec.cap, 10.0))) for job in jobs]
