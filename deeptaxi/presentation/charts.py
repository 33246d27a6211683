"""Charts out of letters: a curve of one line of blocks, and a curve of several lines of Braille dots.

A Braille letter is a grid of 2 × 4 dots; its code is U+2800 plus one bit for each dot. The bits are in the order of the
dots in the Braille alphabet, which had 2 × 3 of them before a row was added below: Unicode Standard, chapter 21.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
BRAILLE = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # [row][column] of a letter
NOISE = 1e-6  # of the numbers themselves: what differs by no more is drawn as one
Values = Sequence[float | None]


def buckets(places: Sequence[float], values: Values, count: int, last: float) -> list[float | None]:
    """Return the means of the values whose places, from 0 to `last`, fall into each of `count` equal parts.

    A part that nothing falls into, between two others, gets what lies on the line between them; one before the first
    or after the last gets None.
    """
    found: list[list[float]] = [[] for _ in range(count)]
    for place, value in zip(places, values, strict=True):
        if value is not None and math.isfinite(value):
            found[min(int(place / last * count) if last else 0, count - 1)].append(value)
    means = {index: sum(part) / len(part) for index, part in enumerate(found) if part}
    return bridged(means, count)


def bridged(known: dict[int, float], count: int) -> list[float | None]:
    """Return `count` values: those that are known, and straight lines between them."""
    line: list[float | None] = [None] * count
    before: int | None = None
    for index, value in sorted(known.items()):
        start = index if before is None else before
        for between in range(start, index + 1):
            share = (between - start) / (index - start) if index > start else 0.0
            line[between] = known[start] * (1 - share) + value * share
        before = index
    return line


def sparkline(values: Values, width: int, high: float | None = None) -> str:
    """Return a curve one line high, at most `width` letters wide; `high` is the value of a full block, if given."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known or width < 1:
        return ""
    parts = buckets(range(len(known)), known, min(width, len(known)), len(known))
    drawn = [value for value in parts if value is not None]
    low, top = min(drawn), max([*drawn, *([] if high is None else [high])])
    span = 0.0 if is_noise(low, top) else top - low
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1)) if span else 0] for value in drawn)


def is_noise(low: float, high: float) -> bool:
    """Whether numbers from `low` to `high` are the same but for rounding; a chart must not stretch that."""
    return high - low <= NOISE * max(abs(low), abs(high))


def braille(line: Values, height: int, low: float, high: float, reference: float | None = None) -> list[str]:
    """Return a curve as `height` lines of Braille letters.

    Args:
        line: a value for each column of dots, two to a letter; None leaves a gap.
        height: in letters, of four dots each.
        low: the value of the lowest row of dots.
        high: the value of the highest.
        reference: a value that is dotted across.
    """
    rows, width = 4 * height, -(-len(line) // 2)
    letters = [[0] * width for _ in range(height)]

    def row_of(value: float) -> int:
        share = 0.5 if is_noise(low, high) else (high - value) / (high - low)
        return round(min(max(share, 0.0), 1.0) * (rows - 1))

    def put(row: int, column: int) -> None:
        letters[row // 4][column // 2] |= DOTS[row % 4][column % 2]

    if reference is not None:
        for column in range(0, len(line), 4):
            put(row_of(reference), column)
    before: int | None = None
    for column, value in enumerate(line):
        now = None if value is None else row_of(value)
        if now is not None:
            put(now, column)
            for row in range(min(now, before) + 1, max(now, before)) if before is not None else ():
                put(row, column)
        before = now
    return ["".join(chr(BRAILLE + bits) for bits in letter_row) for letter_row in letters]
