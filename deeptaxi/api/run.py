"""A trained agent with its environment, as returned by `train` and `load`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeptaxi import arguments
from deeptaxi.api.rich_repr import RichRepr
from deeptaxi.api.run_data import RunData
from deeptaxi.backend import keras_backend
from deeptaxi.errors import DeepTaxiError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from deeptaxi.api.report import Report
    from deeptaxi.diagnosis.case import Diagnosis
    from deeptaxi.evaluation.watching import EpisodeStep


def ready() -> None:
    """Start Keras and register deeptaxi's layers."""
    keras_backend.start()
    import deeptaxi.layers  # noqa: F401  # registers them


class Ready:
    """Placeholder pickled before a network: unpickling it calls `ready`, so that Keras is started first."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return ready, ()


def restored(_ready: None, kind: type[Run], state: Mapping[str, Any]) -> Run:
    """Rebuild a run that was pickled or copied."""
    run = object.__new__(kind)
    vars(run).update(state)
    return run


@dataclass(frozen=True, eq=False, repr=False)
class Run(RichRepr, RunData):
    """A Q-network with its environment, which plays, saves and reports.

    Its attributes are those of `RunData`. Methods import what they need when they are called: Pillow and Matplotlib
    take a second to import, and most programs use neither.
    """

    def play(
        self,
        episodes: int = 1,
        seed: int = 0,
        state: int | None = None,
        max_steps: int | None = None,
        render_mode: str | None = None,
        objective_discount: float | None = None,
    ) -> Iterator[EpisodeStep]:
        """Play with the greedy policy; yield a `EpisodeStep` per step, the last of an episode with its `ending`.

        Arguments are checked immediately; episodes are played lazily.

        Args:
            episodes: number of episodes.
            seed: seed of the environment.
            state: start state of each episode; None for the environment's own starts.
            max_steps: steps after which an episode is stopped; None for the horizon.
            render_mode: Gymnasium's `"ansi"` or `"rgb_array"`, to add a `frame` to every step.
            objective_discount: discount that defines which actions are optimal.

        Raises:
            UsageError: a number is out of range, or the environment cannot start in `state` or does not support
                `render_mode`.
        """
        from deeptaxi.api.play import play

        return play(self, objective_discount, episodes, seed, state, max_steps, render_mode)

    def film(self, path: str | Path, *, speed: float = 4.0, force: bool = False, **show: Any) -> list[EpisodeStep]:
        """Play as `play` does, and write the environment's frames as a GIF.

        Args:
            path: the file to write; its name must end in `.gif`.
            speed: steps per second.
            force: whether to overwrite an existing file.
            **show: arguments for `play`.

        Returns:
            The steps, without their frames.

        Raises:
            UsageError: the file exists and `force` is not set, or the environment renders no images.
        """
        from deeptaxi.api.play import film

        return film(self, Path(path), speed, force, **show)

    def save(self, folder: str | Path, *, logs: str | Path = "logs", force: bool = False) -> Path:
        """Save as a run folder, with the log under `logs`, as `train(…, out=folder)` does; return the folder.

        Raises:
            UsageError: a run of that name exists and `force` is not set, or it is unknown how this one was trained:
                use `export` to write the network alone.
        """
        from deeptaxi.api.save_run import save

        return save(self, Path(folder), Path(logs), force)

    def report(
        self,
        path: str | Path,
        *,
        beside: Sequence[Run] = (),
        figures: str | Path | None = None,
        force: bool = False,
        diagnosis: Diagnosis | None = None,
    ) -> Report:
        """Write an HTML report: verdict, curves, policy map, findings.

        Args:
            path: the HTML file.
            beside: other runs on the same environment to include.
            figures: folder to also write the figures to, as PNG and SVG files.
            force: whether to overwrite existing files.
            diagnosis: what `deeptaxi.diagnose` found, with what cures reached if they were tried; None to diagnose now.

        Raises:
            UsageError: a file exists and `force` is not set, the runs are of different problems, or there is a
                diagnosis and several runs.
        """
        from deeptaxi.api.report import report

        known = None if diagnosis is None else diagnosis.to_dict()
        return report([self, *beside], Path(path), None if figures is None else Path(figures), force, known)

    def to_dict(self) -> dict[str, Any]:
        """Return the document that `deeptaxi train --json` prints; unknown or unsaved values are None."""
        from deeptaxi.api.save_run import summary

        return summary(self)

    def headline(self) -> str:
        """Return a one-line verdict."""
        from deeptaxi.storage.model_card import describe_verdict

        try:
            return describe_verdict(self.exact, self.exact_unavailable)
        except DeepTaxiError as error:
            return str(error)

    def __reduce__(self) -> tuple[Any, ...]:
        state = {item.name: getattr(self, item.name) for item in fields(self)}  # cached properties are not pickled
        return restored, (Ready(), type(self), state)

    def __repr__(self) -> str:
        broken = f"\n    failed: {self.failure}" if self.training_log and self.failure else ""
        return f"Run({self.name} on {arguments.title(self.environment.describe())}: {self.headline()}){broken}"

    def __rich__(self) -> RenderableType:
        from deeptaxi.display import tables

        title = f"{self.name} on {arguments.title(self.environment.describe())}"
        try:
            return tables.verdict_table(title, self.exact, self.exact_unavailable, self.episodes)
        except DeepTaxiError as error:
            return f"{title}: {error}"
