"""Options of a training run that do not affect its result. Imports neither NumPy nor Gymnasium."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deeptaxi.errors import UsageError

EVERY = 60.0  # seconds between checkpoints


def never() -> bool:
    """Never stop."""
    return False


@dataclass(frozen=True)
class RunOptions:
    """Options that do not affect the weights after a given update.

    Attributes:
        stop: called between updates; training ends once it returns True.
        stop_after: update to stop after.
        checkpoints: whether a saved run writes checkpoints to resume from.
        checkpoint_every: seconds between checkpoints.
        tensorboard: whether to also log for TensorBoard.
    """

    stop: Callable[[], bool] = never
    stop_after: int | None = None
    checkpoints: bool = True
    checkpoint_every: float = EVERY
    tensorboard: bool = True

    def __post_init__(self) -> None:
        if self.stop_after is not None and self.stop_after < 1:
            raise UsageError(f"stop_after = {self.stop_after}: expected an update, from 1 on")
        if not self.checkpoint_every > 0:
            raise UsageError(f"checkpoint_every = {self.checkpoint_every}: expected seconds above 0")


PLAIN = RunOptions()


def refuse_with_resume(**given: object) -> None:
    """Reject options that are fixed when a run is resumed.

    Raises:
        UsageError: an option is given; the message names it.
    """
    for name, value in given.items():
        if value:
            raise UsageError(f"--resume goes on with the run as it is: leave out --{name}")
