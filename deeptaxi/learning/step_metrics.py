"""Step metrics that a loop yields, and their aggregation into progress records."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict, dataclass, fields
from typing import Any

from deeptaxi.config import TrainConfig
from deeptaxi.io.type_checks import LARGEST_COUNT, is_a
from deeptaxi.learning.schedules import learning_rate
from deeptaxi.learning.state import brief
from deeptaxi.metrics import Progress

SUMS = ("loss", "td_error", "returns")  # may be any number, and NaN if training diverges
REPORTS = 500  # progress records over the whole training


@dataclass(frozen=True)
class StepMetrics:
    """Metrics of one or more updates, summed since the previous ones."""

    update: int  # the last update, from 1
    environment_steps: int  # in total
    epsilon: float  # at the last step
    count: int  # number of updates
    loss: float  # sum
    td_error: float  # sum of the minibatches' mean |td_error|
    episodes: int  # episodes that ended
    returns: float  # sum
    settled: bool = True  # whether the weights are those right after this update, not later ones


def report_every(config: TrainConfig) -> int:
    """Return the number of updates per progress record."""
    return max(1, config.updates // REPORTS)


class Report:
    """Aggregates step metrics into progress records."""

    def __init__(self, config: TrainConfig, actions: int) -> None:
        self._config = config
        self._actions = actions
        self._every = report_every(config)
        self._ticks: list[StepMetrics] = []

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the unreported step metrics, JSON-serializable."""
        return [asdict(tick) for tick in self._ticks]

    def load_state_dict(self, ticks: list[dict[str, Any]]) -> None:
        """Restore unreported step metrics.

        Raises:
            TypeError: a field is missing, unknown or of the wrong type.
            ValueError: a number is out of range.
        """
        self._ticks = [StepMetrics(**tick) for tick in ticks]
        most = {"update": self._config.updates, "count": self._config.updates, "epsilon": 1.0}
        for tick in self._ticks:
            for item in fields(StepMetrics):
                value, high = getattr(tick, item.name), most.get(item.name, LARGEST_COUNT)
                kind: Any = {"int": int, "bool": bool}.get(str(item.type), int | float)
                if not is_a(value, kind):
                    raise TypeError(f"'{item.name}' is {str(value)[:40]!r}")
                if item.name not in SUMS and not 0 <= value <= high:
                    raise ValueError(f"'{item.name}' is {brief(value)}, expected 0 … {high}")

    def add(self, tick: StepMetrics, seconds: float) -> Generator[Progress]:
        """Add step metrics; yield a progress record if one is due."""
        self._ticks.append(tick)
        if tick.update % self._every == 0:
            yield from self.rest(seconds)

    def rest(self, seconds: float) -> Generator[Progress]:
        """Yield a progress record of the unreported updates, if any."""
        ticks, self._ticks = self._ticks, []
        count = sum(item.count for item in ticks)
        if count == 0:
            return
        last, episodes = ticks[-1], sum(item.episodes for item in ticks)
        yield Progress(
            last.update,
            last.environment_steps,
            seconds,
            sum(item.loss for item in ticks) / count,
            sum(item.td_error for item in ticks) / count,
            last.epsilon,
            learning_rate(self._config, self._actions, (last.update - 1) / self._config.schedule_length),
            episodes,
            sum(item.returns for item in ticks) / episodes if episodes else None,
        )
