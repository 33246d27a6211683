"""How a training is conducted, beside what determines its result. Imports neither NumPy nor Gymnasium."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deeptaxi.errors import UsageError

EVERY = 60.0  # seconds between two checkpoints


def never() -> bool:
    """Go on."""
    return False


@dataclass(frozen=True)
class RunOptions:
    """What changes nothing in the weights after a given update.

    Attributes:
        stop: asked between updates; once it answers True, the training ends with what it has.
        stop_after: the update to end after.
        checkpoints: whether a run that is kept keeps what it can be resumed from.
        checkpoint_every: seconds from one checkpoint to the next.
        tensorboard: whether the log is for TensorBoard as well.
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
    """Refuse what a training that is resumed has said already.

    Raises:
        UsageError: one of these was given; it is named.
    """
    for name, value in given.items():
        if value:
            raise UsageError(f"--resume goes on with the run as it is: leave out --{name}")
