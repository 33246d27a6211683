"""Write TensorBoard events: training records as scalars over updates, and settings as hyperparameters.

Each record becomes one event, with its numbers in groups: `train` (means since the previous record), `schedule`,
`speed`, `exact`, `q`, `policy`, `coverage`, and `final` at the end. `tensorboard --logdir logs` shows each run under
the name of its folder.

The file is a sequence of events, each framed as its length and its bytes, both with a checksum. They are framed here,
because tensorboardX's own writer computes checksums in Python, waits for the disk at every flush, and starts a thread.
"""

from __future__ import annotations

import contextlib
import itertools
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c

from deeptaxi.backend.importing import hide_modules
from deeptaxi.config import TrainConfig, dump_toml
from deeptaxi.metrics import Finished, Record, Warned
from deeptaxi.storage.scalars import FINAL, Series, hyperparameters, update_of

with hide_modules("torch"):  # tensorboardX imports PyTorch if it can, which takes three seconds and is of no use here
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.summary import hparams, text


class Events:
    """Writer of an event file in a log folder.

    Args:
        folder: the log folder.
        config: the training configuration.
    """

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self._file = new_file(folder)
        self._series = Series()
        settings = hyperparameters(config)
        # TensorBoard takes the columns of all runs from one of them, so every run lists all possible columns.
        every = {name: 0.0 if value is None else value for name, value in settings.items()}
        experiment, _, self._end = hparams(every, dict.fromkeys(f"final/{name}" for name in FINAL))
        _, start, _ = hparams(settings, {})
        self._add(file_version="brain.Event:2")
        for summary in (experiment, start, text("config", as_code(dump_toml(config, {})))):
            self._add(summary=summary)

    def write(self, records: Sequence[Record]) -> None:
        """Append records and flush them to the operating system."""
        for record in records:
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in self._series.scalars(record).items()]
            if values:
                self._add(step=update_of(record), summary=Summary(value=values))
            if isinstance(record, Warned):
                self._add(step=record.update, summary=text(f"warning/{record.finding}", record.text))
            if isinstance(record, Finished):
                self._add(summary=self._end)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _add(self, **content: Any) -> None:
        self._file.write(frame_event(Event(wall_time=time.time(), **content).SerializeToString()))


def new_file(folder: Path) -> BinaryIO:
    """Create a new event file."""
    for number in itertools.count(int(time.time())):
        with contextlib.suppress(FileExistsError):
            return (folder / f"events.out.tfevents.{number}.deeptaxi").open("xb")
    raise AssertionError  # unreachable: the counter is infinite


def frame_event(data: bytes) -> bytes:
    """Frame `data` as one entry of a TFRecord file."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, checksum(length), data, checksum(data)))


def checksum(data: bytes) -> bytes:
    """Return the CRC-32C of `data`, masked as TFRecord requires, because a CRC of data with CRCs is weak."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def as_code(toml: str) -> str:
    """Format a text as a Markdown code block."""
    return "\n".join(f"    {line}" for line in toml.splitlines())
