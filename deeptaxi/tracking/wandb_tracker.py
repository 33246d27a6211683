"""A run of Weights & Biases: online where you are logged in or `WANDB_MODE` says so, else offline.

An offline run is a folder in `wandb` in the current one; `wandb sync` sends it later. `WANDB_PROJECT` (default:
deeptaxi), `WANDB_DIR` and their like mean what they mean elsewhere.
"""

from __future__ import annotations

import contextlib
import netrc
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deeptaxi.errors import describe_fault
from deeptaxi.tracking.tracker import Point, RunDescription

PATIENCE = 10.0  # seconds until it is given up to start a run


def logged_in(address: str) -> bool:
    """Whether a key for the server at an address is known, without asking for one."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    names = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    for name in names:
        try:
            if netrc.netrc(os.path.expanduser(name)).authenticators(urlsplit(address).hostname or ""):  # noqa: PTH111
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Let Weights & Biases print nothing in the block, unless the user says so."""
    name = "WANDB_SILENT"
    given = name in os.environ
    os.environ.setdefault(name, "true")
    try:
        yield
    finally:
        if not given:
            os.environ.pop(name, None)


class WandbTracker:
    """A run of Weights & Biases: see `Tracker`."""

    def __init__(self, description: RunDescription) -> None:
        with warnings.catch_warnings(), silent():
            warnings.simplefilter("ignore")
            import wandb

            self._wandb: Any = wandb
            self.note: str | None = None
            self._run = self._start(description)
        self.run: str = self._run.id
        online = not self._run.offline and bool(self._run.url)
        self.place: str = self._run.url if online else os.path.relpath(Path(self._run.dir).parent)
        self.resumed = description.previous is not None
        self.logged = int(self._run.summary.get("update") or -1) if online and self.resumed else -1
        self._run.define_metric("*", step_metric="update")

    def _start(self, description: RunDescription) -> Any:
        """Start a run; offline, with a `note`, if its server is only assumed to answer and does not."""
        mode = os.environ.get("WANDB_MODE")
        if mode is None and logged_in(self._wandb.Settings().base_url):
            try:
                return self._init(description, "online")
            except self._wandb.errors.CommError as error:
                fault = describe_fault(error)
                self.note = f"the server of Weights & Biases does not answer, so this is tracked offline: {fault}"
        return self._init(description, mode or "offline")

    def _init(self, description: RunDescription, mode: str) -> Any:
        return self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", "deeptaxi"),
            name=description.name,
            id=description.previous,
            resume="allow" if description.previous and mode != "offline" else None,
            config={**description.settings, **description.tags},
            mode=mode,
            reinit="create_new",
            settings=self._wandb.Settings(console="off", init_timeout=PATIENCE),
        )

    def log(self, points: Sequence[Point]) -> None:
        """Add points to the curves."""
        for point in points:
            self._run.log({"update": point.update, **point.values})

    def add(self, tags: Mapping[str, str], files: Sequence[Path]) -> None:
        """Add facts and files."""
        self._run.config.update(dict(tags), allow_val_change=True)
        if files:
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{self._run.name or self.run}")[:120]
            model = self._wandb.Artifact(name, type="model")
            for path in files:
                model.add_file(str(path))
            self._run.log_artifact(model)

    def end(self, failed: bool) -> None:
        """End the run."""
        self._run.finish(exit_code=int(failed))
