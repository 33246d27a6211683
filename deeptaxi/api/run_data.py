"""What is known of a trained agent: its network, environment, configuration, log and verdict.

The functions that play, save, diagnose and report take this; `Run` adds them as methods.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeptaxi.api.status import planning_status
from deeptaxi.config import TrainConfig
from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.evaluation import exact as verdicts
from deeptaxi.io.locks import in_use
from deeptaxi.learning.coverage import Coverage
from deeptaxi.mdp.binning import one_line
from deeptaxi.mdp.environment import DEFAULT_DISCOUNT, Environment, check_tabulated, objective_discount
from deeptaxi.mdp.numbering import NumberingCodec
from deeptaxi.mdp.spaces import ObservationError, StateCodec, brief, contains
from deeptaxi.metrics import Finished, History, read_history
from deeptaxi.storage.compact_group import run_folder_of
from deeptaxi.storage.logs import FAILED_FILE, LOG_FILE, find_log, read_visits
from deeptaxi.storage.models import describe_unfinished
from deeptaxi.storage.run_folder import MODEL_FILE

if TYPE_CHECKING:
    from deeptaxi.network.lazy import LazyNetwork
    from deeptaxi.network.tabulate import Streams


@dataclass(frozen=True, eq=False, repr=False)
class RunData:
    """A Q-network with its environment, and what follows from them.

    Attributes:
        name: the run folder, or the default name of an unsaved run.
        environment: has `states` S, `actions` A, `time_limit`, `table` (or None) and `describe()`.
        lazy_network: what builds `network`; None for a model that is only an array.
        config: the training configuration; None for a bare model file.
        folder: the run folder; None if the run is not saved.
        facts: further facts: preset, versions.
        episodes: episodes that `train` sampled at its end, keyed as in `evaluate`; None if the verdict is exact.
        episodes_unavailable: why `train` could not sample them, or None.
        not_evaluated: why `train` gave no exact verdict, or None.
        log_unavailable: which part of the log `train` could not write, and why, or None.
        tracking_unavailable: which run of a tracker `train` could not complete, and why, or None.
        array: the Q table `[S, A]` or policy `[S]` of a model without a network, else None.
    """

    name: str
    environment: Environment
    lazy_network: LazyNetwork | None
    config: TrainConfig | None = None
    folder: Path | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    training_log: TrainingLog | None = None  # None: read from the folder on demand
    verdict: Mapping[str, Any] | None = None  # None: computed on demand
    episodes: Mapping[str, Any] | None = None
    episodes_unavailable: str | None = None
    log_unavailable: str | None = None
    tracking_unavailable: str | None = None
    array: NDArray[Any] | None = None
    not_evaluated: str | None = None

    @property
    def network(self) -> Any:
        """The Keras model that maps states to Q values `[B, A]`; None for a model that is only an array."""
        return None if self.lazy_network is None else self.lazy_network.model

    @cached_property
    def decisions(self) -> NDArray[Any]:
        """What decides its actions: the Q values `[S, A]`, or of a model that has none, its policy, int64 `[S]`.

        Raises:
            DeepTaxiError: there are too many states for a table.
        """
        check_tabulated(self.environment)
        if self.array is not None:
            return self.array
        from deeptaxi.network.encodings import parts_for
        from deeptaxi.network.tabulate import tabulate

        values = np.asarray(tabulate(self.network, self.environment.states, parts_for(self.network, self.environment)))
        values.setflags(write=False)
        return values

    @property
    def q_values(self) -> NDArray[np.float32]:
        """The Q values of all states, `[S, A]`; −∞ for actions that are not allowed.

        Float32 if a network gives them, as exact as they are in an array.

        Raises:
            UsageError: the model is a policy, which has none.
        """
        if self.decisions.ndim == 1:
            raise UsageError(f"{self.name} is a policy: it has an action for each state, and no Q values")
        return self.decisions

    @cached_property
    def streams(self) -> Streams | None:
        """The streams of a dueling network in all states: `value`, V `[S]`, and `advantage`, A `[S, A]`.

        In the units of the rewards, whatever their scale in training; without the action mask. None if the model does
        not end in a `Dueling` layer.

        Raises:
            DeepTaxiError: there are too many states for a table.
        """
        if self.lazy_network is None:
            return None
        check_tabulated(self.environment)
        from deeptaxi.network.encodings import parts_for
        from deeptaxi.network.tabulate import tabulate_streams

        found = tabulate_streams(self.network, self.environment.states, parts_for(self.network, self.environment))
        for array in found or ():
            array.setflags(write=False)
        return found

    @cached_property
    def policy(self) -> Any:
        """The greedy policy: the action of each state, int64 `[S]`; of too many for a table, a `GreedyPolicy`.

        Raises:
            DeepTaxiError: the Q values are NaN or +∞, or a state has no allowed action.
        """
        if not self.environment.tabulated:
            from deeptaxi.network.tabulate import GreedyPolicy

            return GreedyPolicy(self.network)
        table = self.environment.table
        return verdicts.policy_of(self.decisions, table.action_mask if table else None, table)

    @cached_property
    def exact(self) -> Mapping[str, Any] | None:
        """The exact verdict, keyed as in the JSON of `evaluate`; None without one."""
        return self.exact_at() if self.verdict is None and self.not_evaluated is None else self.verdict

    @property
    def exact_unavailable(self) -> str | None:
        """Why there is no exact verdict; None if there is one."""
        return self.not_evaluated or self.environment.table_missing

    @property
    def optimal(self) -> bool | None:
        """Whether the policy is optimal from every start state; None if unknown."""
        return None if self.exact is None else self.exact["optimal"]

    @cached_property
    def weights_digest(self) -> str:
        """The SHA-256 of the weights: equal for the same settings, seed, machine and versions.

        Raises:
            UsageError: the model is an array, which has none.
        """
        if self.lazy_network is None:
            raise UsageError(f"{self.name} has no network, and so no weights")
        return self.lazy_network.weights_digest

    @cached_property
    def log(self) -> TrainingLog:
        """The records and visit counts of the training, and why any are missing."""
        if self.training_log is not None:
            return self.training_log
        return BARE if self.folder is None else read_training_log(self.folder)

    @property
    def history(self) -> History | None:
        """The training records (`progress`, `evaluations`, `snapshots`, `warnings`, …); None without a log."""
        return self.log.history

    @property
    def coverage(self) -> Coverage | None:
        """The training's counts of each (state, action), `visits` and `replay` `[S, A]`; None if unknown."""
        coverage = self.log.coverage if self.environment.tabulated else None
        shape = (self.environment.states, self.environment.actions)
        return coverage if coverage and coverage.visits.shape == shape else None

    @property
    def finished(self) -> Finished | None:
        """The final training record; None if unknown."""
        return self.history.finished if self.history else None

    @property
    def failure(self) -> str | None:
        """The error that ended the training, if any; the network then has the best weights before it."""
        return self.finished.failure if self.finished else None

    def discount(self, asked: float | None = None) -> float:
        """Return the discount that defines optimality: `asked`, else the run's, else the table's, else 0.99."""
        if asked is not None:
            return asked
        if self.config is not None:
            return self.config.evaluation.objective_discount
        return objective_discount(self.environment.table) if self.environment.table else DEFAULT_DISCOUNT

    def reference(self, discount: float | None = None) -> verdicts.Reference | None:
        """Return the reference optima at an objective discount; None without a transition table."""
        table = self.environment.table
        if table is None:
            return None
        training_discount = self.config.discount if self.config else None
        mask = self.decisions > float("-inf") if self.decisions.ndim > 1 else None
        return verdicts.reference(table, self.environment.horizon, self.discount(discount), training_discount, mask)

    def exact_at(self, discount: float | None = None) -> Mapping[str, Any] | None:
        """Compute the exact verdict at an objective discount; None without a transition table."""
        with planning_status("computing the exact verdict …"):
            reference = self.reference(discount)
            if reference is None:
                return None
            found = verdicts.evaluate_greedy(reference, self.decisions, self.environment.start_resets, intervals=True)
            return found.to_dict()

    def act(self, state: ArrayLike) -> Any:
        """Return the greedy action of a state, or of each state in an array `[…]`.

        An observation of several parts is given as a tuple or dict, or as an array of real numbers; convert a list or
        an array of integers with `tuple(observation)`. A list or array of integers holds state numbers; it is rejected
        if it could also be an observation.

        Actions are numbered from 0: `environment.decode_action(action)` is the environment's own.
        Where observations are numbered as they are first seen, any observation is taken as it is; one without a number
        of its own gets the action of the shared state, with an `UnseenObservationWarning`.
        If its observations do not start at 0, `environment.codec.encode(observation)` is the state number.

        Args:
            state: a state number, integers `[…]`, or an observation.

        Returns:
            An int, or an int64 array `[…]`.

        Raises:
            UsageError: the state or observation does not exist, or the argument is ambiguous.
        """
        codec = self.environment.codec
        if isinstance(codec, NumberingCodec) and codec.composite and contains(codec.space, state):
            return self._act_on(codec, state)
        if codec.composite and (isinstance(state, tuple | dict) or is_real_array(state)):
            return int(self.policy[observed(codec, state)])
        try:
            states = np.asarray(state)
        except ValueError:  # a ragged list
            states = np.empty(0, np.object_)
        if states.dtype.kind not in "iu" or ((states < 0) | (states >= self.environment.states)).any():
            raise UsageError(
                f"state {brief(state)}: expected whole numbers from 0 to {self.environment.states - 1}"
                f"{f', or an observation of {one_line(codec.space)}' if codec.composite else ''}"
            )
        if codec.composite and states.ndim and contains(codec.space, state):
            raise UsageError(
                f"{brief(state)} could be one observation or {states.size} state numbers: "
                "pass tuple(observation) for the one, run.policy[states] for the others"
            )
        actions = self.policy[states]
        return int(actions) if states.ndim == 0 else actions

    def _act_on(self, codec: NumberingCodec, observation: Any) -> int:
        """Return the action for an observation; warn if it has no number of its own."""
        state = observed(codec, observation)
        if state == codec.shared_state:
            warnings.warn(
                f"the observation {brief(observation)} has no number of its own: the action is that of all such",
                UnseenObservationWarning,
                stacklevel=3,
            )
        return int(self.policy[state])


class UnseenObservationWarning(UserWarning):
    """An observation was never seen in training."""


def is_real_array(value: Any) -> bool:
    """Whether a value is an array of real numbers, which can be no state numbers."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def observed(codec: StateCodec, observation: Any) -> int:
    """Encode an observation as a state number.

    Raises:
        UsageError: it is not an observation of this environment.
    """
    try:
        return codec.encode(observation)
    except ObservationError as error:
        raise UsageError(f"{error}; state numbers go into a list or an array") from None


class TrainingLog(NamedTuple):
    """The log of a run, as far as it exists; `missing` gives the reason for each missing field of a `Case`."""

    history: History | None
    coverage: Coverage | None
    missing: Mapping[str, str] = {}


BARE = TrainingLog(
    None,
    None,
    {
        "history": "a bare model file has no log",
        "visits": "a bare model file has no record of what its training tried",
        "replay": "a bare model file has no record of what its training tried",
    },
)


def read_training_log(run: Path) -> TrainingLog:
    """Read the log of a run folder."""
    history = None
    try:
        folder = find_log(run)
        history = read_history(folder / LOG_FILE)
        began = history.started
        return TrainingLog(history, read_visits(folder, began.states * began.actions if began else None))
    except DeepTaxiError as error:
        names = [name for name in BARE.missing if name != "history" or history is None]
        return TrainingLog(history, None, dict.fromkeys(names, str(error)))


def find_log_file(model: Path) -> Path | None:
    """Return the log file that `model` is, or that a folder without a model holds; None otherwise."""
    if model.suffix == ".jsonl":
        return model
    if (model / MODEL_FILE).exists():
        return None
    return next((model / name for name in (LOG_FILE, FAILED_FILE) if (model / name).is_file()), None)


def history_of(run: Path) -> History:
    """Return the records of a run folder, a log folder or a log file, finished or not.

    Raises:
        UsageError: the run does not exist, or has no log.
        DeepTaxiError: the log is empty.
    """
    run = run_folder_of(run)
    if run.is_file():
        return read_history(run)
    lone = find_log_file(run)
    if lone is not None:
        return read_history(lone)
    known = describe_unfinished(run)
    if known is None:
        return read_history(find_log(run) / LOG_FILE)
    if known.log is None:
        raise UsageError(str(known) if known.holder else f"{known}; it left no log")
    return read_history(known.log)


def training_now(log: Path | None) -> str | None:
    """Return the process that is still writing to a log; None if no process is, or it is unknown."""
    return None if log is None or log.name != LOG_FILE else in_use(log.parent)
