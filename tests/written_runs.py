"""Run folders as a training leaves them, but for the model, with results that a test chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deeptaxi.config import dump_toml, resolve
from deeptaxi.metrics import Evaluated, Finished, Progress, to_line
from deeptaxi.storage.model_card import card, write_card
from deeptaxi.storage.run_folder import CONFIG_FILE, MODEL_FILE

STEP = 100  # updates between two evaluations, each of which takes a second


def exact_verdict(optimal: bool | None, score: float | None, best: float = 0.95) -> dict[str, Any]:
    """A verdict on one start, whose optimal value is `best` and random value 0."""
    value = best * (1.0 if score is None else score)
    return {
        "optimal": optimal, "horizon": 100, "return": value, "optimal_return": best, "gap": best - value,
        "discount": 0.99, "value": value, "optimal_value": best, "value_gap": best - value,
        "normalized_score": score, "start_states": 1, "optimal_start_states": int(bool(optimal)),
        "optimal_unknown": {"reason": "it cannot be decided"} if optimal is None else None,
    }  # fmt: skip


def write_run(
    folder: Path,
    *,
    seed: int = 0,
    optimal: bool | None = True,
    score: float | None = None,
    reached: int | None = None,
    updates: int = 1_000,
    stopped: str = "updates",
    env: str = "FrozenLake-v1",
    kwargs: dict[str, Any] | None = None,
    best: float = 0.95,
    episodes: dict[str, Any] | None = None,
    log: bool = True,
    failure: str | None = None,
    **settings: Any,
) -> Path:
    """Write a run.

    Args:
        folder: where.
        seed: its seed.
        optimal: its verdict; sampled `episodes` take its place.
        score: its normalized score; by default 1 if it is optimal, else ½.
        reached: update from which its log finds it optimal; by default the middle of an optimal run.
        updates: of its training.
        stopped: how it ended.
        env: its environment.
        kwargs: arguments of that.
        best: the optimal value.
        episodes: the sampled verdict of a run without an exact one.
        log: whether it has a log.
        failure: what ended it.
        **settings: its sections of settings.
    """
    folder.mkdir(parents=True)
    if score is None and optimal is not None:
        score = 1.0 if optimal else 0.5
    exact = None if episodes else exact_verdict(optimal, score, best)
    environment = {"id": env, "kwargs": kwargs or {}}
    config = resolve({"environment": environment, "seed": seed, "updates": updates, **settings})
    digest = f"{abs(hash((str(folder), seed))):064x}"
    missing = "it has no table" if episodes else None
    end = Finished(stopped, updates, updates, updates, updates / STEP, 0.0, digest, exact, missing, failure)
    facts = card(folder, {**environment, "states": 16, "actions": 4, "time_limit": 100}, config, end)
    write_card(folder, {**facts, "episodes": episodes})
    (folder / CONFIG_FILE).write_text(dump_toml(config, {"weights_digest": digest}), encoding="utf-8")
    (folder / MODEL_FILE).touch()
    if log:
        since = reached if reached is not None else updates // 2 if optimal else updates + 1
        (folder / "metrics.jsonl").write_text(
            "".join(to_line(record) + "\n" for record in (*records(updates, since, best), end)), encoding="utf-8"
        )
    return folder


def records(updates: int, since: int, best: float) -> list[Evaluated | Progress]:
    """A log whose evaluations find the policy optimal from the update `since` on."""
    found: list[Evaluated | Progress] = []
    for update in range(STEP, updates + 1, STEP):
        good = update >= since
        found.append(Progress(update, update, update / STEP, 1.0, 1.0, 0.5, 0.01, 1, 0.0))
        value = best if good else best / 2
        found.append(Evaluated(update, good, value, best - value, best - value, 1, int(good), None))
    return found


def write_group(folder: Path, runs: int, optimal: int, first_seed: int = 0, **facts: Any) -> Path:
    """Write runs of consecutive seeds, the first of which are optimal."""
    for number in range(runs):
        write_run(folder / f"seed-{first_seed + number}", seed=first_seed + number, optimal=number < optimal, **facts)
    return folder


def rate(value: float) -> dict[str, Any]:
    """The section of settings with a learning rate."""
    return {"learning_rate": value}
