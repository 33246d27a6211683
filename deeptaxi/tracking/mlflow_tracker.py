"""A run of MLflow, in the store that MLflow's own variables and functions name.

Without these, that is the database `mlflow.db` in the current folder, with files in `mlruns`. `MLFLOW_TRACKING_URI`,
`MLFLOW_EXPERIMENT_NAME` and their like, `mlflow.set_experiment` and a run that is active, which becomes the parent, all
mean what they mean elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deeptaxi.errors import PASSWORD
from deeptaxi.tracking.tracker import Point, RunDescription

MOST_METRICS, MOST_OTHERS = 1_000, 100  # of a request: MLflow's limits
LONGEST_SETTING, LONGEST_TAG = 6_000, 8_000  # characters: likewise
# MLflow waits up to two minutes for an answer, seven times over; a training does not. Variables of the user stay.
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Make MLflow quiet and short of patience in the block."""
    mine = {name: value for name, value in PATIENCE.items() if name not in os.environ}
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    os.environ.update(mine)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            yield
    finally:
        for name in mine:
            os.environ.pop(name, None)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class MlflowTracker:
    """A run of MLflow: see `Tracker`."""

    def __init__(self, description: RunDescription) -> None:
        with impatient():
            import mlflow

        with impatient():  # again: the import has set the levels of loggers
            self._mlflow: Any = mlflow
            self._client: Any = mlflow.MlflowClient()
            self.note: str | None = None
            self.place = PASSWORD.sub("//", mlflow.get_tracking_uri())
            known = self._find(description.previous)
            self.resumed = known is not None
            self.run: str = mlflow.start_run(
                run_id=known, run_name=description.name, nested=mlflow.active_run() is not None
            ).info.run_id
            try:
                self._describe(description)
                self.logged = max(self._updates(), default=-1)
            except BaseException:
                self.end(failed=True)
                raise

    def _find(self, run: str | None) -> str | None:
        """Return the id of a run that can be continued; None, with a `note`, if it cannot."""
        if run is None:
            return None
        from mlflow.exceptions import MlflowException

        try:
            stage = self._client.get_run(run).info.lifecycle_stage
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            stage = "missing"
        if stage == "active":
            return run
        self.note = f"the run {run} of MLflow is {stage} in {self.place}: a new one is started"
        return None

    def _describe(self, description: RunDescription) -> None:
        """Log settings as parameters. What is another than that of a run that is continued becomes a tag."""
        settings = {name: shorten(str(value), LONGEST_SETTING) for name, value in description.settings.items()}
        known = self._client.get_run(self.run).data.params
        changed = {f"deeptaxi.{name}": value for name, value in settings.items() if known.get(name, value) != value}
        self._log_others("params", {name: value for name, value in settings.items() if name not in known})
        self._log_others("tags", {**description.tags, **changed})

    def _updates(self) -> Iterator[int]:
        """Yield the updates that have points."""
        for name in self._client.get_run(self.run).data.metrics if self.resumed else ():
            yield from (item.step for item in self._client.get_metric_history(self.run, name))

    def _log_others(self, kind: str, values: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        make: Any = {"params": Param, "tags": RunTag}[kind]
        found = [make(*item) for item in values.items()]
        for first in range(0, len(found), MOST_OTHERS):
            self._client.log_batch(self.run, **{kind: found[first : first + MOST_OTHERS]})

    def log(self, points: Sequence[Point]) -> None:
        """Add points to the curves."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, int(point.time * 1000), point.update)
            for point in points
            for name, value in point.values.items()
        ]
        with impatient():
            for first in range(0, len(metrics), MOST_METRICS):
                self._client.log_batch(self.run, metrics=metrics[first : first + MOST_METRICS])

    def add(self, tags: Mapping[str, str], files: Sequence[Path]) -> None:
        """Add facts and files."""
        with impatient():
            self._log_others("tags", {name: shorten(value, LONGEST_TAG) for name, value in tags.items()})
            for path in files:
                self._client.log_artifact(self.run, str(path))

    def end(self, failed: bool) -> None:
        """End the run, also where a callback of the user has ended it, or left another one active."""
        status = "FAILED" if failed else "FINISHED"
        with impatient():
            active = self._mlflow.active_run()
            if active is not None and active.info.run_id == self.run:
                self._mlflow.end_run(status)
            else:
                self._client.set_terminated(self.run, status)


def shorten(text: str, longest: int) -> str:
    """Cut a text that is too long for MLflow, visibly."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
