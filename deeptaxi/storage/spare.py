"""Room on the disk that a training keeps free for its model, so that a disk that fills up meanwhile does not cost it.

    <run>/.spare-<host>-<random>/    a file of the size of what is to come, and an empty one for each of its names

It is a temporary folder (`io.temporary`): that of a killed process is swept by the next training. It is given back just
before the run is written.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from deeptaxi.config import TrainConfig
from deeptaxi.io.atomic import SPARE, cannot_write
from deeptaxi.io.temporary import Scratch
from deeptaxi.learning.resolve import FLOAT, weights_of
from deeptaxi.mdp.describe import encoded_factors
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.table import ARRAYS, TransitionTable

NAMES = 12  # files and folders that the writing of a run makes
OTHERS = 2**18  # bytes of a run beside its weights and its table: configuration, cards, what Keras says of the layers
LAYER = 2**13  # bytes that a layer takes beside its weights
BLOCK = 2**20


class Spare:
    """Room in a run folder, until `release`.

    Args:
        run: the run folder.
        size: bytes.

    Raises:
        DiskError: there is not so much.
    """

    def __init__(self, run: Path, size: int) -> None:
        try:
            self._scratch: Scratch | None = Scratch(run, SPARE)
            try:
                for number in range(NAMES):
                    (self._scratch.path / str(number)).touch()
                occupy(self._scratch.path / "0", size)
            except BaseException:
                self.release()
                raise
        except OSError as error:
            raise cannot_write(run, error) from None

    def release(self) -> None:
        """Give the room back; a second time does nothing."""
        scratch, self._scratch = self._scratch, None
        if scratch is not None:
            scratch.close()


def occupy(path: Path, size: int) -> None:
    """Let a file take so many bytes of the disk; one that files may not have for their size is left smaller."""
    with path.open("wb") as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
                return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EFBIG):
                raise
            if error.errno == errno.EFBIG:
                return
        for start in range(0, size, BLOCK):
            file.write(bytes(min(BLOCK, size - start)))


def size_of(config: TrainConfig, environment: Environment, table: TransitionTable | None) -> int:
    """Return how many bytes a run may take that keeps this table beside its model, or none."""
    arrays = [getattr(table, name) for name in (*ARRAYS, "action_mask")] if table is not None else []
    hidden, factors = config.network.hidden, encoded_factors(environment, config.network)
    weights = weights_of(config, environment.states, environment.actions)
    weights += sum(factors or ()) * (
        hidden[0] if hidden else environment.actions
    )  # which it counts as low as they can be
    return FLOAT * weights + LAYER * (len(hidden) + 2) + OTHERS + sum(one.nbytes for one in arrays if one is not None)
