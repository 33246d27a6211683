"""The writes (`disk_writes`) that make or read a run: to save one, to train one, to resume one."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deeptaxi.errors import DeepTaxiError
from deeptaxi.io.atomic import ASIDE
from deeptaxi.metrics import read_history
from deeptaxi.storage import checkpoints, runs
from deeptaxi.storage.logs import FAILED_FILE, LOG_FILE, PREVIOUS, end_of
from deeptaxi.storage.run_folder import CHECKPOINTS
from tests.reliability.disk_writes import NEW, OLD, Write, check, contents, small_table

SETTINGS: dict[str, Any] = {
    "q_table": True, "updates": 60, "eval_every": 20, "environments": 8, "batch_size": 32, "early_stop": False,
}  # fmt: skip
RUNS, SLOW = 90, 8  # points: a run takes half a second, an export that is read back five
OFTEN = 1e-9  # s: a checkpoint at every occasion
RUN_FILES = {"model.keras", "config.toml", "card.md", "card.json", "table.npz"}
LOG_FILES = {LOG_FILE, "visits.npz", FAILED_FILE}


@functools.cache
def agent(seed: int) -> Any:
    """Train an agent that is not kept: 0 is the old one, 1 the new one."""
    import deeptaxi

    return deeptaxi.train(small_table(), seed=seed, **SETTINGS)


class LogError(DeepTaxiError):
    """A training was saved, and reported that its log is incomplete."""


def with_whole_log(run: Any) -> Any:
    """Return a run; raise if its log is incomplete."""
    if run.log_unavailable is not None:
        raise LogError(run.log_unavailable)
    return run


def train(folder: Path, force: bool = False, **more: Any) -> Any:
    """Train the new agent into a run folder."""
    import deeptaxi

    options = {"out": folder / "models" / "x", "logs": folder / "logs", "force": force, "checkpoint_every": OFTEN}
    return with_whole_log(deeptaxi.train(small_table(), seed=1, **SETTINGS, **options, **more))


def resume(folder: Path) -> Any:
    """Resume the run in a folder."""
    import deeptaxi

    return with_whole_log(deeptaxi.train(resume=folder / "models" / "x", checkpoint_every=OFTEN))


def save(folder: Path, seed: int, force: bool = False) -> None:
    """Keep an agent."""
    agent(seed).save(folder / "models" / "x", logs=folder / "logs", force=force)


def digest_in(run: Path) -> str | None:
    """Return the digest of the weights of a run folder; None where there is none. Raises where files do not agree."""
    from deeptaxi.network.build import weights_digest
    from deeptaxi.storage.model_card import read_card
    from deeptaxi.storage.models import load_network

    there = RUN_FILES & {path.name for path in run.iterdir()} if run.is_dir() else set()
    if not there:
        return None
    check(there == RUN_FILES, f"a part of a run: {sorted(there)}")
    card = read_card(run)
    said = {runs.read_facts(run)["weights_digest"], card and card["weights_digest"]}
    said.add(weights_digest(load_network(run / "model.keras")))
    check(len(said) == 1, f"parts of different runs: {said}")
    return str(said.pop())


def look(folder: Path, killed: bool, success: bool, old: str | None, same_log: bool = False) -> str:
    """Answer which run stands, and check that its log does as well.

    Args:
        folder: of the write.
        killed: whether its process was.
        success: whether success was reported.
        old: the digest of the run before; None if there was none.
        same_log: whether the new run goes on with the log of the old.
    """
    run, log, new = folder / "models" / "x", folder / "logs" / "x", agent(1).weights_digest
    if killed:
        runs.reserve(run, folder / "logs", force=True, table=True).release()
    digest = digest_in(run)
    check(digest in (old, new), f"neither the old nor the new weights: {digest}")
    check(digest == new or not success, "the old one, though it was reported as written")
    if digest is not None:
        ends = [end_of(folder_of_log / LOG_FILE) for folder_of_log in (log, log / PREVIOUS)]
        at_hand = ends if killed else ends[:1]
        whole = any(end and end.weights_digest == digest for end in at_hand)
        known = success or killed or digest == old  # else the user knows that the new one has no whole log
        check(
            whole or not known or (same_log and digest == old and read_history(log / LOG_FILE).started),
            "the log is lost",
        )
    return NEW if digest == new else OLD


def is_taken(folder: Path) -> bool:
    """Whether the name is that of a run, or of a log that a killed training left."""
    return digest_in(folder / "models" / "x") is not None or (folder / "logs" / "x" / LOG_FILE).exists()


def check_left(folder: Path) -> None:
    """Check that a run has its files and nothing else is left behind."""
    left = {path.name for path in (folder / "models" / "x").iterdir()} - RUN_FILES - {CHECKPOINTS}
    left |= {path.name for path in (folder / "logs" / "x").iterdir() if not path.name.startswith("events")} - LOG_FILES
    left |= {path.name for path in folder.rglob(f"{ASIDE}*")}
    check(not left, f"left behind: {sorted(left)}")
    check(digest_in(folder / "models" / "x") == agent(1).weights_digest, "the second time it is not there either")


def once(folder: Path, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a preparation that makes its files once, and copies them from then on.

    Args:
        folder: of the copies, which is not there yet.
        make: makes the files in a folder, always the same one.
    """

    def prepare(target: Path) -> None:
        if folder.exists():
            shutil.copytree(folder, target, dirs_exist_ok=True)
            return
        make(target)
        shutil.copytree(target, folder)

    return prepare


def nothing(_target: Path) -> None:
    """Prepare nothing."""


def kept(folder: Path, over: bool) -> Write:
    """Return the saving of an agent that was trained before."""

    def again(target: Path, _stands: str) -> None:
        save(target, 1, force=is_taken(target))
        check_left(target)

    return Write(
        f"saving a run{' over another' if over else ''}",
        folder / "runs",
        once(folder / "saved before", lambda target: save(target, 0)) if over else nothing,
        lambda target: save(target, 1, force=over),
        lambda target, killed, success: look(target, killed, success, agent(0).weights_digest if over else None),
        again,
        most=RUNS,
    )


def training(folder: Path, over: bool) -> Write:
    """Return a training with a checkpoint at every occasion."""

    def again(target: Path, stands: str) -> None:
        can_go_on = stands == OLD and checkpoints.files_in(target / "models" / "x")
        done = resume(target) if can_go_on else train(target, force=is_taken(target))
        check(done.weights_digest == agent(1).weights_digest, "other weights than those of the undisturbed training")
        check_left(target)

    return Write(
        f"training a run{' over another' if over else ''}",
        folder / "runs",
        once(folder / "saved before", lambda target: save(target, 0)) if over else nothing,
        lambda target: train(target, force=over),
        lambda target, killed, success: look(target, killed, success, agent(0).weights_digest if over else None),
        again,
        most=RUNS,
    )


def resumed(folder: Path) -> Write:
    """Return the second half of a training."""
    known: list[str] = []

    def prepare(target: Path) -> None:
        known[:] = [train(target, stop_after=20).weights_digest]

    def again(target: Path, stands: str) -> None:
        done = train(target, force=True) if stands == NEW else resume(target)
        check(done.weights_digest == agent(1).weights_digest, "other weights than those of the undisturbed training")
        check_left(target)

    def what_stands(target: Path, killed: bool, success: bool) -> str:
        return look(target, killed, success, known[0], same_log=True)

    prepared = once(folder / "stopped before", prepare)
    return Write("resuming a run", folder / "runs", prepared, resume, what_stands, again, most=RUNS)


def run_writes(folder: Path) -> list[Write]:
    """Return the writes of runs."""
    found = [kept(folder, over) for over in (False, True)] + [training(folder, over) for over in (False, True)]
    return [*found, resumed(folder)]


def slow_writes(folder: Path) -> list[Write]:
    """Return the writes that read back what they wrote, or draw pictures."""
    act: dict[str, Callable[[Path], object]] = {
        f"export to {form}": functools.partial(export, form=form) for form in ("keras", "json")
    }
    act["a report"] = lambda target: agent(1).report(target / "page.html", figures=target / "figures", force=True)
    return [derived(name, folder, write) for name, write in act.items()]


def export(target: Path, form: str) -> None:
    """Export the new agent."""
    import deeptaxi

    deeptaxi.export(agent(1), form, target / f"export.{form}", force=True)


def derived(name: str, folder: Path, act: Callable[[Path], object]) -> Write:
    """Return the write of what is made from a run, over what was made before."""

    def look_for(target: Path, _killed: bool, success: bool) -> str:
        found = {path: digest for path, digest in contents(target).items() if ASIDE not in path}
        check(set(found) == set(before), f"not the files of before: {sorted(set(found) ^ set(before))}")
        same = [found[path] == before[path] for path in found]
        check(all(same) or success or not any(same) or name == "a report", "some are new and some old")
        return OLD if all(same) else NEW

    def prepare(target: Path) -> None:
        act(target)
        before.clear()
        before.update(contents(target))

    def again(target: Path, _stands: str) -> None:
        act(target)
        check(not list(target.rglob(f"{ASIDE}*")), "left behind")

    before: dict[str, str] = {}
    return Write(name, folder / "derived", prepare, act, look_for, again, most=SLOW)
