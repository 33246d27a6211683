"""The callback that feeds a tracker.

It collects points of curves, and passes them on together: at most every `EVERY` seconds, and not before that will take
no more than one part in `SHARE` of the time since. Of a short training, this is at its end. A training is worth more
than its curves: if the tracker fails, it continues with one warning, and what is missing is sent once more at its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deeptaxi.errors import DeepTaxiError, describe_fault
from deeptaxi.learning.callbacks import Event
from deeptaxi.learning.state import CheckpointEvent
from deeptaxi.metrics import Record, Started, Tracked, Warned
from deeptaxi.storage.scalars import Series, update_of
from deeptaxi.tracking.tracker import TRACKERS, Point, RunDescription, Tracker

EVERY = 10.0  # seconds
SHARE = 50
SECONDS = 0.001  # to pass on a point, until that is measured
NOT_TRACKED, TRACKED_ELSEWHERE = "not-tracked", "tracked-elsewhere"  # findings: it failed; it is not where it was to be


def open_tracker(name: str, description: RunDescription) -> Tracker:
    """Start a run of a tracker, or continue the previous one.

    Raises:
        DeepTaxiError: it cannot be started, as where the server does not answer.
    """
    try:
        if name == "mlflow":
            from deeptaxi.tracking.mlflow_tracker import MlflowTracker

            return MlflowTracker(description)
        from deeptaxi.tracking.wandb_tracker import WandbTracker

        return WandbTracker(description)
    except Exception as error:  # of whatever kind: of a package, its server, or its disk
        fault = f"{TRACKERS[name]} cannot be started: {describe_fault(error)}; mend that, or leave out --track {name}"
        raise DeepTaxiError(fault) from error


class TrackingCallback:
    """A callback that feeds a tracker.

    Args:
        name: of the tracker.
        tracker: a run of it.
        clock: returns seconds.

    Attributes:
        lost: why the tracker's run is not whole; None if it is.
        warnings: what is to be said after the last event.
    """

    def __init__(self, name: str, tracker: Tracker, clock: Callable[[], float] = time.monotonic) -> None:
        self.lost: str | None = None
        self.warnings: list[Warned] = []
        self._name = name
        self._tracker = tracker
        self._clock = clock
        self._series = Series()
        self._points: list[Point] = []
        self._last = clock()  # when points were passed on
        self._seconds = SECONDS  # that this took
        self._count = 1  # how many they were
        self._update = 0

    def __call__(self, event: Event) -> list[Record]:
        """Collect the numbers of a record; pass on what is due. Return where the run is, or a warning."""
        if isinstance(event, CheckpointEvent):
            return []
        self._update = update_of(event)
        if isinstance(event, Started):
            return self._begin()
        values = self._series.scalars(event)
        if values and self._update > self._tracker.logged:
            self._points.append(Point(self._update, time.time(), values))
        if self.lost is None and self._is_due():
            self._attempt(self._log, "training continues without it, and tries again at its end")
        new, self.warnings = self.warnings, []
        return list(new)

    def _begin(self) -> list[Record]:
        tracker = self._tracker
        update = max(tracker.logged, 0)
        notes = [Warned(update, TRACKED_ELSEWHERE, f"{TRACKED_ELSEWHERE}: {tracker.note}")] if tracker.note else []
        return [Tracked(update, self._name, tracker.run, tracker.place, tracker.resumed), *notes]

    def _is_due(self) -> bool:
        """Whether passing the points on would take little enough of the time since the last ones."""
        expected = self._seconds * max(1.0, len(self._points) / self._count)
        return self._clock() - self._last >= max(EVERY, SHARE * expected)

    def _log(self) -> None:
        begun = self._clock()
        if self._points:
            self._tracker.log(self._points)
            self._count = len(self._points)
        self._points = []
        self._last = self._clock()
        self._seconds = self._last - begun

    def _attempt(self, act: Callable[[], None], then: str) -> bool:
        """Do something with the tracker and return whether it worked; warn the first time that it did not."""
        try:
            act()
        except Exception as error:  # of whatever kind: the training is worth more
            known, self.lost = self.lost, f"{TRACKERS[self._name]}: {describe_fault(error)}"
            if known is None:
                self.warnings.append(Warned(self._update, NOT_TRACKED, f"{NOT_TRACKED}: {self.lost}; {then}"))
            return False
        return True

    def finish(self, tags: Mapping[str, str], files: Sequence[Path], failed: bool) -> None:
        """Pass on the rest, and end the run; `lost` has the reason if that fails."""
        then = f"its run {self._tracker.run} is not whole"
        if self._attempt(self._log, then) and self._attempt(lambda: self._tracker.add(tags, files), then):
            self.lost = None  # what had failed has been made up for
        self._attempt(lambda: self._tracker.end(failed), then)
