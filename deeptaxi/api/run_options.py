"""Options of functions, as dataclasses. Imports neither NumPy nor Gymnasium, so usage errors come at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeptaxi.api.settings import Config
from deeptaxi.errors import UsageError
from deeptaxi.storage.run_folder import is_compact
from deeptaxi.tracking.tracker import check_trackers

if TYPE_CHECKING:
    from deeptaxi.api.environments import EnvSpec

EVERY = 60.0  # seconds between checkpoints


def never() -> bool:
    """Never stop."""
    return False


@dataclass(frozen=True)
class RunOptions:
    """Options that do not affect the weights after a given update.

    Attributes:
        stop: called between updates and in long evaluations; training ends once it returns True.
        stop_after: update to stop after.
        checkpoints: whether a saved run writes checkpoints to resume from.
        checkpoint_every: seconds between checkpoints.
        last_checkpoint: whether a training that was not interrupted writes one at its end, to resume for more updates.
        tensorboard: whether to also log for TensorBoard.
        track: names of trackers.
        name: of the run in trackers; None for that of its folder.
        vectorized: whether the agents of a group are trained at once; None for on accelerators.
    """

    stop: Callable[[], bool] = never
    stop_after: int | None = None
    checkpoints: bool = True
    checkpoint_every: float = EVERY
    last_checkpoint: bool = True
    tensorboard: bool = True
    track: tuple[str, ...] = ()
    name: str | None = None
    vectorized: bool | None = None

    def __post_init__(self) -> None:
        if self.stop_after is not None and self.stop_after < 1:
            raise UsageError(f"stop_after = {self.stop_after}: expected an update of 1 or more")
        if not self.checkpoint_every > 0:
            raise UsageError(f"checkpoint_every = {self.checkpoint_every}: expected a number of seconds above 0")
        check_trackers(self.track)


PLAIN = RunOptions()


def refuse(reason: str, given: Mapping[str, object]) -> None:
    """Reject options that do not go with another.

    Args:
        reason: the message, with `{}` for the option.
        given: options by name; those that are None, False or empty are not given. Zero is.

    Raises:
        UsageError: an option is given.
    """
    for name, value in given.items():
        if value is None or value is False or (isinstance(value, Sized) and not len(value)):
            continue
        raise UsageError(reason.format(f"--{name.replace('_', '-')}"))


def refuse_with_resume(**given: object) -> None:
    """Reject options that are fixed when a run is resumed; see `refuse`."""
    refuse("--resume continues the run unchanged: leave out {}", given)


def refuse_with_seeds(**given: object) -> None:
    """Reject options that do not go with several seeds; see `refuse`."""
    refuse("--seeds trains one agent for each: leave out {}", given)


def refuse_alone(**given: object) -> None:
    """Reject options of several seeds in a training of one; see `refuse`."""
    refuse("{} is for the agents of several seeds: give --seeds too", given)


def are_given(settings: Mapping[str, object]) -> dict[str, bool]:
    """Return which settings are given, by name, for `refuse`: all but None, since False may be one."""
    return {name: value is not None for name, value in settings.items()}


def check_compact(compact: bool, resume: Path | None = None, out: object = True, logs: object = None) -> bool:
    """Return whether the agents of a group are saved in one file.

    Args:
        compact: whether that is asked for.
        resume: the folder of a group to continue.
        out: where the group is to be saved.
        logs: where its logs are to go.

    Raises:
        UsageError: it is asked for where it cannot be.
    """
    if resume is not None:
        if compact and not is_compact(resume):
            raise UsageError("--resume continues the seeds as they were begun, in folders: leave out --compact")
        compact = is_compact(resume)
    elif compact and out is None:
        raise UsageError("--compact saves the agents in a file: give its folder with --out")
    if compact and logs is not None:
        raise UsageError("--compact keeps the logs with the agents: leave out --logs")
    return compact


@dataclass(frozen=True)
class NetworkOptions:
    """Options that select the network, as `train` takes them; `given` holds individual settings, nested.

    `network` is the one that they name, if it is an object.
    """

    spec: EnvSpec
    config: Config | None = None
    preset: str | None = None
    q_table: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)
    network: Any = None


@dataclass(frozen=True)
class UpdateOptions:
    """Options that select the update: a state-action pair, transitions, or a random transition."""

    state: int | None
    action: int | None
    transitions: tuple[tuple[Any, ...], ...]
    seed: int | None

    def check(self, at_random: bool = False) -> None:
        """Reject mutually exclusive options.

        Raises:
            UsageError: two of them are given, or an action without its state.
        """
        if self.action is not None and self.state is None:
            raise UsageError("--action needs the state that it is taken in: add --state S")
        given = {"--state": self.state is not None, "--transition": bool(self.transitions), "--random": at_random}
        names = [name for name, is_given in given.items() if is_given]
        if len(names) > 1:
            raise UsageError(f"{' and '.join(names)} each select the transition: give only one of them")
