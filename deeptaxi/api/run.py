"""A trained agent beside its environment: what `train` and `load` return."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeptaxi import arguments, backend
from deeptaxi.api.rich_repr import RichRepr
from deeptaxi.api.status import status
from deeptaxi.api.training_log import BARE, TrainingLog, read_training_log
from deeptaxi.config import TrainConfig
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.evaluation import exact as verdicts
from deeptaxi.learning.coverage import Coverage
from deeptaxi.mdp.environment import DEFAULT_DISCOUNT, Environment, objective_discount
from deeptaxi.mdp.spaces import ObservationError, StateCodec, brief, contains, one_line
from deeptaxi.mdp.table import Ints
from deeptaxi.metrics import Finished, History

if TYPE_CHECKING:
    from rich.console import RenderableType

    from deeptaxi.api.report import Report
    from deeptaxi.evaluation.watching import Moment


def observed(codec: StateCodec, observation: Any) -> int:
    """Return the state number of an observation.

    Raises:
        UsageError: it is none.
    """
    try:
        return codec.encode(observation)
    except ObservationError as error:
        raise UsageError(f"{error}; state numbers go into a list or an array") from None


def ready() -> None:
    """Start Keras as always, and let it know our layers."""
    backend.start()
    import deeptaxi.network.layers  # noqa: F401  # which registers them


class Ready:
    """What is pickled before a network, as a process that reads it may not have started Keras: a call of `ready`."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return ready, ()


def restored(_ready: None, kind: type[Run], state: Mapping[str, Any]) -> Run:
    """Return the run that was pickled or copied."""
    run = object.__new__(kind)
    vars(run).update(state)
    return run


@dataclass(frozen=True, eq=False, repr=False)
class Run(RichRepr):
    """A Q-network beside the environment that it is looked at on.

    Attributes:
        name: what it is called: the run folder, or the name that one would have.
        environment: with `states` S, `actions` A, `time_limit`, `table` (or None) and `describe()`.
        network: a Keras model from state numbers `[B]` to Q values `[B, A]`.
        config: how it was trained; None for a bare `.keras` file.
        folder: the run folder; None where it is not kept in one.
        facts: what is known beside the configuration: preset, versions, log.
        episodes: what `train` sampled at its end, under the names of `evaluate`; None where the verdict is exact.
        episodes_unavailable: why `train` could not sample them, or None.
        log_unavailable: what of the log `train` could not write, and why, or None.
    """

    name: str
    environment: Environment
    network: Any
    config: TrainConfig | None = None
    folder: Path | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    kept_log: TrainingLog | None = None  # None: it is read from the folder where it is needed
    verdict: Mapping[str, Any] | None = None  # None: it is computed where it is needed
    episodes: Mapping[str, Any] | None = None
    episodes_unavailable: str | None = None
    log_unavailable: str | None = None

    @cached_property
    def q_values(self) -> NDArray[np.float32]:
        """The Q values of all states, float32 `[S, A]`; −∞ where the agent may not act."""
        from deeptaxi.network.tabulate import tabulate

        values = np.asarray(tabulate(self.network, self.environment.states))
        values.setflags(write=False)
        return values

    @cached_property
    def policy(self) -> Ints:
        """The greedy policy, int64 `[S]`.

        Raises:
            DeepTaxiError: the network gives Q values that are no numbers.
        """
        table = self.environment.table
        return verdicts.policy_of(self.q_values, table.action_mask if table else None)

    @cached_property
    def exact(self) -> Mapping[str, Any] | None:
        """The exact verdict under the names of the JSON of `evaluate`; None where there is no true table."""
        return self.exact_at() if self.verdict is None else self.verdict

    @property
    def exact_unavailable(self) -> str | None:
        """Why there is no exact verdict; None where there is one."""
        return self.environment.table_missing

    @property
    def optimal(self) -> bool | None:
        """Whether every start state is played optimally; None where that cannot be known."""
        return None if self.exact is None else self.exact["optimal"]

    @cached_property
    def weights_digest(self) -> str:
        """The sha256 of the weights: equal for the same settings, seed, machine and versions."""
        from deeptaxi.network.build import weights_digest

        return weights_digest(self.network)

    @cached_property
    def log(self) -> TrainingLog:
        """What its training left, and why something of it is missing."""
        if self.kept_log is not None:
            return self.kept_log
        return BARE if self.folder is None else read_training_log(self.folder)

    @property
    def history(self) -> History | None:
        """The records of its training (`progress`, `evaluations`, `snapshots`, `warnings`, …); None without a log."""
        return self.log.history

    @property
    def coverage(self) -> Coverage | None:
        """What its training tried, `visits` and `replay` `[S, A]`; None where that is not known."""
        coverage = self.log.coverage
        return coverage if coverage and coverage.visits.shape == self.q_values.shape else None

    @property
    def finished(self) -> Finished | None:
        """The end of its training; None where that is not known."""
        return self.history.finished if self.history else None

    @property
    def failure(self) -> str | None:
        """What broke its training off, if anything did; the network is then what was best before that."""
        return self.finished.failure if self.finished else None

    def discount(self, asked: float | None = None) -> float:
        """Return the discount that decides what is optimal: `asked`, else the run's, else the table's, else 0.99."""
        if asked is not None:
            return asked
        if self.config is not None:
            return self.config.evaluation.objective_discount
        return objective_discount(self.environment.table) if self.environment.table else DEFAULT_DISCOUNT

    def reference(self, discount: float | None = None) -> verdicts.Reference | None:
        """Return the optima that it is measured by at an objective's discount; None without a true table."""
        table = self.environment.table
        if table is None:
            return None
        training_discount = self.config.discount if self.config else None
        mask = self.q_values > float("-inf")
        return verdicts.reference(table, self.environment.horizon, self.discount(discount), training_discount, mask)

    def exact_at(self, discount: float | None = None) -> Mapping[str, Any] | None:
        """Return the exact verdict at an objective's discount; None where there is no true table."""
        with status("computing the exact verdict …"):
            reference = self.reference(discount)
            if reference is None:
                return None
            return verdicts.evaluate_greedy(reference, self.q_values, self.environment.start_resets).to_dict()

    def act(self, state: ArrayLike) -> Any:
        """Return the greedy action of a state number, or of several `[…]` those of each.

        Where observations have parts (Tuple, MultiDiscrete), a Python tuple is one observation, and its action is
        returned; `tuple(observation)` makes one of a list or an array. A list or array of integers is state numbers; it
        is refused where it could be an observation as well.

        Actions are numbered from 0: add `environment.first_action` for an environment that counts from elsewhere.
        Where it counts its observations from elsewhere, `environment.codec.encode(observation)` is the state number.

        Args:
            state: a state number, integers `[…]`, or a tuple that is an observation.

        Returns:
            An int, or an int64 array `[…]`.

        Raises:
            UsageError: there is no such state or observation, or it could be meant in two ways.
        """
        codec = self.environment.codec
        if codec.composite and isinstance(state, tuple):
            return int(self.policy[observed(codec, state)])
        try:
            states = np.asarray(state)
        except ValueError:  # a ragged list
            states = np.empty(0, np.object_)
        if states.dtype.kind not in "iu" or ((states < 0) | (states >= self.environment.states)).any():
            raise UsageError(
                f"state {brief(state)}: expected whole numbers from 0 to {self.environment.states - 1}"
                f"{f', or an observation of {one_line(codec.space)} as a tuple' if codec.composite else ''}"
            )
        if codec.composite and states.ndim and contains(codec.space, state):
            raise UsageError(
                f"{brief(state)} could be one observation or {states.size} state numbers: "
                "pass tuple(observation) for the one, run.policy[states] for the others"
            )
        actions = self.policy[states]
        return int(actions) if states.ndim == 0 else actions

    def play(
        self,
        episodes: int = 1,
        seed: int = 0,
        state: int | None = None,
        max_steps: int | None = None,
        render_mode: str | None = None,
        objective_discount: float | None = None,
    ) -> Iterator[Moment]:
        """Play by the greedy policy; yield every moment, the last of an episode with its `ending`.

        The arguments are checked at once; episodes are played as the moments are asked for.

        Args:
            episodes: how many.
            seed: of the environment.
            state: the state that each begins in; None for the environment's own starts.
            max_steps: steps after which an episode is over in any case; None for the horizon.
            render_mode: Gymnasium's `"ansi"` or `"rgb_array"`, for a `frame` in every moment.
            objective_discount: of the values that say which actions are optimal.

        Raises:
            UsageError: a number is out of range, the environment cannot be put into the state, or does not draw so.
        """
        from deeptaxi.api.play import play

        return play(self, objective_discount, episodes, seed, state, max_steps, render_mode)

    def film(self, path: str | Path, *, speed: float = 4.0, force: bool = False, **show: Any) -> list[Moment]:
        """Play as `play` does, and write the environment's pictures as a GIF.

        Args:
            path: the file, whose name ends in `.gif`.
            speed: steps a second.
            force: whether to replace what is there.
            **show: arguments of `play`.

        Returns:
            The moments, without their frames.

        Raises:
            UsageError: the file is there and `force` is not set, or the environment draws no pictures.
        """
        from deeptaxi.api.play import film

        return film(self, Path(path), speed, force, **show)

    def save(self, folder: str | Path, *, logs: str | Path = "logs", force: bool = False) -> Path:
        """Keep it as a run folder, with its log under `logs`, as `train(…, out=folder)` does; return the folder.

        Raises:
            UsageError: there is a run of that name already and `force` is not set, or it is not known how it was
                trained: `export` writes a network alone.
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
    ) -> Report:
        """Write a page about it: verdict, curves, policy map, findings.

        Args:
            path: the HTML file.
            beside: other runs on the same environment, to be shown with it.
            figures: a folder for its pictures as PNG and SVG files too.
            force: whether to replace what is there.

        Raises:
            UsageError: a file is there, or the runs are of different problems.
        """
        from deeptaxi.api.report import report

        return report([self, *beside], Path(path), None if figures is None else Path(figures), force)

    def to_dict(self) -> dict[str, Any]:
        """Return what `deeptaxi train --json` says; null where it is not known, or not kept."""
        from deeptaxi.api.save_run import summary

        return summary(self)

    def headline(self) -> str:
        """Return the verdict in a few words."""
        from deeptaxi.storage.model_card import describe_verdict

        try:
            return describe_verdict(self.exact, self.exact_unavailable)
        except DeepTaxiError as error:
            return str(error)

    def __reduce__(self) -> tuple[Any, ...]:
        state = {item.name: getattr(self, item.name) for item in fields(self)}  # what is computed from it is not kept
        return restored, (Ready(), type(self), state)

    def __repr__(self) -> str:
        broken = f"\n    broken off: {self.failure}" if self.kept_log and self.failure else ""
        return f"Run({self.name} on {arguments.title(self.environment.describe())}: {self.headline()}){broken}"

    def __rich__(self) -> RenderableType:
        from deeptaxi.display import tables

        title = f"{self.name} on {arguments.title(self.environment.describe())}"
        try:
            return tables.verdict_table(title, self.exact, self.exact_unavailable, self.episodes)
        except DeepTaxiError as error:
            return f"{title}: {error}"
