"""Which versions made a file. Where what runs here is older, the answer is to update, and not to look further."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

from deeptaxi.errors import DeepTaxiError
from deeptaxi.io.safe_archive import ArchiveError, opened
from deeptaxi.io.safe_load import read_toml

METADATA_BYTES = 2**16
ANY_BYTES = 2**62  # nothing else of the file is unpacked


def check_deeptaxi(config: Path) -> None:
    """Refuse the run of a newer deeptaxi.

    Args:
        config: the run's `config.toml`.

    Raises:
        DeepTaxiError: its table ``[run]`` names a newer version.
    """
    try:
        made = read_toml(config).get("run", {}).get("deeptaxi", "")
    except (OSError, ValueError, AttributeError):  # whoever reads the settings says what is wrong with the file
        return
    ours = metadata.version("deeptaxi")
    if release(made) > release(ours):
        raise DeepTaxiError(
            f"{config.parent} was made by deeptaxi {made}, and this is {ours}: "
            "update it (pip install --upgrade deeptaxi)"
        )


def newer_keras(model: Path) -> str:
    """Return a remark where a `.keras` file was saved by a newer Keras than this one; else an empty text."""
    import keras

    try:
        with opened(model, ANY_BYTES) as archive, archive.open("metadata.json") as file:
            saved = json.loads(file.read(METADATA_BYTES))["keras_version"]
    except ArchiveError:
        return ""
    if release(saved) <= release(keras.__version__):
        return ""
    return f"; it was saved by Keras {saved}, and this is {keras.__version__}: update it (pip install --upgrade keras)"


def release(version: object) -> tuple[int, ...]:
    """Return the numbers that a version begins with, such as (1, 20, 0); none where it is no version."""
    found = re.match(r"\d{1,9}(\.\d{1,9})*", str(version)[:50])
    return tuple(int(number) for number in found[0].split(".")) if found else ()
