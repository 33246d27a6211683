"""Frames as a GIF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from deeptaxi.io.atomic import written_aside

COLORS = 128
LAST_MILLISECONDS = 1500  # the end of an episode stays for a while


class Animation:
    """Gathers frames, small from the start: a long episode has thousands.

    Args:
        speed: frames a second.
    """

    def __init__(self, speed: float) -> None:
        self._milliseconds = round(1000 / speed)
        self._pictures: list[Image.Image] = []
        self._durations: list[int] = []

    def add(self, frame: Any, last: bool) -> None:
        """Add a picture, uint8 `[height, width, 3]`; `last` is that of an episode."""
        self._pictures.append(Image.fromarray(frame).quantize(COLORS))
        self._durations.append(LAST_MILLISECONDS if last else self._milliseconds)

    def write(self, path: Path, force: bool = True) -> None:
        """Write the frames, which then repeat forever; `force` replaces what is there.

        Raises:
            DeepTaxiError: the disk or the permissions do not allow it.
        """
        first, *others = self._pictures
        with written_aside(path, force) as aside:
            first.save(aside, save_all=True, append_images=others, duration=self._durations, loop=0)
