"""Keep the numbering of a model whose observations were numbered as they were first seen, beside its weights.

    <run>/observations.npz      observations    uint8 [N, W], of each state the index of its observation, big-endian
                                complete        whether they are those of a discovered table

The table ``[run]`` of the run's configuration has its SHA-256. A file without pickle, whose size is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.io.safe_archive import ArchiveError, read_npz
from deeptaxi.mdp.environment import Environment
from deeptaxi.mdp.numbering import MAX_BYTES, NumberingCodec, digest_of
from deeptaxi.storage.run_folder import OBSERVATIONS_FILE

FACT = "observations"  # in the table [run]
HEADERS = 2**16
OTHER_TABLE = (
    "the model has a numbering of its own, as its observations were numbered as they were first seen, and a table "
    "with another numbering does not apply to it"
)


def save_observations(file: BinaryIO, codec: NumberingCodec) -> str:
    """Write the numbering of a codec into an open file; return its digest."""
    observations = codec.observations()
    np.savez(file, allow_pickle=False, observations=observations, complete=np.array(codec.complete))
    return digest_of(observations)


def read_observations(path: Path, codec: NumberingCodec, digest: str) -> NumberingCodec:
    """Return a codec of the same space with the numbering in a file.

    Raises:
        DeepTaxiError: it is missing, damaged, not that of the run, or of another space.
    """
    if not path.exists():
        raise DeepTaxiError(f"{path} is missing, without which the model means nothing: copy the whole run folder")
    try:
        arrays = read_npz(path, MAX_BYTES + HEADERS)
        observations, complete = arrays["observations"], arrays["complete"]
        if complete.shape != () or complete.dtype != np.bool_:
            raise ArchiveError("'complete' is not true or false")
        found = codec.restore(observations, bool(complete))
    except KeyError as error:
        raise DeepTaxiError(f"{path} is damaged: it has no array {error}") from None
    except DeepTaxiError as error:
        raise DeepTaxiError(f"{path} is damaged, or of another environment: {error}") from None
    if digest_of(observations) != digest:
        raise DeepTaxiError(f"{path} is not the one that the run was saved with: its digest differs")
    return found


def restore_numbering(environment: Environment, folder: Path, facts: Mapping[str, str], name: str) -> Environment:
    """Return an environment whose observations have the numbers that a model knows them by.

    Args:
        environment: the environment that the model is for.
        folder: the run folder of the model.
        facts: the table ``[run]`` of its configuration; empty for a bare file.
        name: display name of the model.

    Raises:
        UsageError: nothing says how the model's observations were numbered.
        DeepTaxiError: the numbering is damaged.
    """
    codec, digest = environment.numbering, facts.get(FACT)
    if codec is None:
        return environment
    if digest is not None:
        codec = replace(codec, capacity=environment.config.state_capacity or codec.capacity)
        return renumber(environment, read_observations(folder / OBSERVATIONS_FILE, codec, digest))
    if codec.complete:
        return environment
    raise UsageError(
        f"{name} does not say how the observations of {environment.config.id} are numbered, which were numbered as its "
        "training saw them: name its run folder"
    )


def renumber(environment: Environment, codec: NumberingCodec) -> Environment:
    """Return an environment with another numbering; its discovered table is that of its own, and is left out."""
    own = environment.numbering
    if own is not None and own.complete and codec.complete and own.digest == codec.digest:
        return environment
    renumbered = environment.with_codec(codec)
    if environment.table is None:
        return renumbered
    return replace(renumbered, table=None, table_missing=OTHER_TABLE, discovered=None)
