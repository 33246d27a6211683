"""Divide the real parts of a `Box` into bins, and its real actions into levels.

A part x with bounds low and high and n bins falls into bin

    i = min(⌊n · (x − low) / (high − low)⌋, n − 1),

and whatever lies outside the bounds into the first or the last bin: bounds may be narrower than those of the space, and
must be given where it has none. The middle of bin i stands for it. Of n levels, the first and the last are the bounds
themselves, so that an action can be as strong as the space allows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Tuple

from deeptaxi.errors import UsageError

UNBOUNDED = 1e30  # many spaces write the largest float32 for infinity
Range = tuple[float, ...]  # low and high; empty for the bounds of the space

Place = tuple[Any, ...]  # keys and indices that lead to a part of a value
Part = tuple[Place, float, float]  # of real numbers, with its bounds
MAX_BINS = 10_000
OTHERS = "use Stable-Baselines3 or CleanRL"


@dataclass(frozen=True)
class View:
    """How observations are turned to numbers where the space leaves a choice.

    Attributes:
        one_hot: whether a vector of zeros and ones is the one-hot encoding of a number.
        bins: the number of bins of each real part, or one for all; empty if there are none.
        ranges: their bounds: of all real parts, of those without bounds, or one for all of those.
    """

    one_hot: bool = False
    bins: tuple[int, ...] = ()
    ranges: tuple[Range, ...] = ()


@dataclass(frozen=True)
class Bins:
    """The bins of one part: `count` of them from `low` to `high`."""

    count: int
    low: float
    high: float

    def number(self, value: float) -> int:
        """Return the bin of a value, which must not be NaN."""
        if value <= self.low:
            return 0
        if value >= self.high:
            return self.count - 1
        return min(int(self.count * ((value - self.low) / (self.high - self.low))), self.count - 1)

    def edge(self, number: int) -> float:
        """Return the lower edge of a bin, and so the upper one of the bin before."""
        return self.low + (self.high - self.low) * number / self.count

    def middle(self, number: int) -> float:
        """Return the value that stands for a bin."""
        return self.edge(number) / 2 + self.edge(number + 1) / 2

    def level(self, number: int) -> float:
        """Return one of `count` evenly spaced values, the bounds included; of one alone, the middle."""
        return self.low + (self.high - self.low) * number / (self.count - 1) if self.count > 1 else self.middle(0)

    def nearest(self, value: float) -> int:
        """Return the number of the level nearest to a value."""
        if self.count == 1 or value <= self.low:
            return 0
        if value >= self.high:
            return self.count - 1
        return round((self.count - 1) * ((value - self.low) / (self.high - self.low)))

    def interval(self, number: int) -> str:
        """Describe a bin, as ``-0.6 to 0``."""
        if self.count == 1:
            return "any"
        if number in (0, self.count - 1):
            return f"below {self.edge(1):.3g}" if number == 0 else f"above {self.edge(number):.3g}"
        return f"{self.edge(number):.3g} to {self.edge(number + 1):.3g}"


def is_real(space: Space[Any]) -> bool:
    """Whether a space is a `Box` of real numbers."""
    return isinstance(space, Box) and np.issubdtype(space.dtype, np.floating)


def is_zero_one(space: Space[Any]) -> bool:
    """Whether a space is a `Box` from 0 to 1."""
    return isinstance(space, Box) and bool((space.low == 0).all() and (space.high == 1).all())


def real_parts(space: Space[Any], one_hot: bool = False, place: Place = ()) -> Iterator[Part]:
    """Yield place and bounds of each real part; the bounds may be infinite.

    Args:
        space: the space.
        one_hot: whether vectors from 0 to 1 are one-hot, and so no real numbers.
        place: of the space in the whole.
    """
    if isinstance(space, Tuple | Dict):
        inner = space.spaces.items() if isinstance(space, Dict) else enumerate(space.spaces)
        for key, part in inner:
            yield from real_parts(part, one_hot, (*place, key))
    elif isinstance(space, Box) and is_real(space) and not (one_hot and is_zero_one(space)):
        for index in np.ndindex(space.shape):
            low, high = (float(bound[index]) for bound in (space.low, space.high))
            yield (*place, *index), low if low > -UNBOUNDED else -np.inf, high if high < UNBOUNDED else np.inf


def divide(space: Space[Any], view: View, name: str = "the space", option: str = "--bins") -> dict[Place, Bins]:
    """Return the bins of each real part, by its place; empty without real parts.

    Args:
        space: the space.
        view: the bins and their ranges.
        name: the environment.
        option: the option that gives the bins; only observations, which have ``--bins``, take ranges.

    Raises:
        UsageError: there is no real part, or not as many bins or ranges as parts, or a range does not fit.
    """
    parts = list(real_parts(space, view.one_hot))
    if view.ranges and not view.bins:
        raise UsageError("--bin-range says where bins lie: say with --bins how many there are")
    if not view.bins:
        return {}
    if not parts:
        raise UsageError(f"{option}: {name} has no real numbers to divide in {one_line(space)}: leave it out")
    if len(view.bins) not in (1, len(parts)):
        raise UsageError(
            f"{option} {','.join(map(str, view.bins))}: expected {len(parts)} numbers, one for each real part of "
            f"{name}, or one for all"
        )
    counts = view.bins if len(view.bins) == len(parts) else view.bins * len(parts)
    ranges = [fitting_range(part, asked, name, option) for part, asked in zip(parts, spread(parts, view), strict=True)]
    found = {place: Bins(n, *bounds) for (place, *_), n, bounds in zip(parts, counts, ranges, strict=True)}
    for place, bins in found.items():
        check_width(bins, f"{option} {bins.count} of {name}'s part {place_text(place)}")
    return found


def spread(parts: Sequence[Part], view: View) -> list[Range]:
    """Return the range asked for each part, empty for the bounds of the space.

    Raises:
        UsageError: there are not as many ranges as parts, or as parts without bounds.
    """
    unbounded = [i for i, (_, low, high) in enumerate(parts) if not math.isfinite(high - low)]
    given = view.ranges
    if len(given) == len(parts) or not given:
        return list(given) or [()] * len(parts)
    if len(given) == 1:
        given = given * len(unbounded)
    if not unbounded or len(given) != len(unbounded):
        rest = f", or {len(unbounded)} for those without bounds, or one for all of these" if unbounded else ""
        raise UsageError(f"--bin-range: expected {len(parts)} ranges, one for each real part{rest}")
    places = dict(zip(unbounded, given, strict=True))
    return [places.get(i, ()) for i in range(len(parts))]


def fitting_range(part: Part, asked: Range, name: str, option: str) -> tuple[float, float]:
    """Return the bounds of the bins of a part.

    Raises:
        UsageError: it has no bounds and none are asked, or those asked do not lie in those it has.
    """
    place, low, high = part
    where = f"{name}'s part {place_text(place)}"
    if not asked:
        if not math.isfinite(high - low):
            lacking = "give low:high with --bin-range" if option == "--bins" else f"{option} cannot divide it"
            raise UsageError(f"{where} is not bounded: {lacking}")
        return low, high
    if len(asked) != 2 or not low <= asked[0] < asked[1] <= high:
        raise UsageError(
            f"--bin-range {range_text(asked)}: {where} takes low:high with {low:g} <= low < high <= {high:g}"
        )
    return asked[0], asked[1]


def check_width(bins: Bins, what: str) -> None:
    """Reject bins that float32 does not tell apart.

    Raises:
        UsageError: they are too narrow, or too many.
    """
    if bins.count > MAX_BINS:
        raise UsageError(f"{what}: expected at most {MAX_BINS:,}")
    middles = np.array([bins.middle(number) for number in range(bins.count)], np.float32)
    if bins.low < bins.high and any(bins.number(float(middle)) != i for i, middle in enumerate(middles)):
        raise UsageError(f"{what}: bins from {bins.low:g} to {bins.high:g} are too narrow for float32: use fewer")


def range_text(one: Range) -> str:
    """Format a range as ``--bin-range`` takes it."""
    return ":".join(f"{bound:g}" for bound in one) if one else ":"


def place_text(place: Place) -> str:
    """Format the place of a part, as ``['agent'][0]``."""
    return "".join(f"[{key!r}]" for key in place) or "[]"


def one_line(space: Space[Any]) -> str:
    """Format a space on one line, as Gymnasium does."""
    return " ".join(str(space).split())


MOST = 10_000_000  # states that a suggestion may make
TRIED = 1_000  # random steps that a suggested range is read from


def lacking_options(env: gymnasium.Env[Any, Any], view: View, action_bins: Sequence[int]) -> str | None:
    """Describe which bins an environment needs, with the options that give them; None if it needs no more.

    The range suggested for a part without bounds is that of `TRIED` random steps, rounded outward.
    """
    parts, levels = list(real_parts(env.observation_space, view.one_hot)), list(real_parts(env.action_space))
    unbounded = [] if view.ranges else [part for part in parts if not math.isfinite(part[2] - part[1])]
    faults, options = [], []
    if parts and (not view.bins or unbounded):
        without = (
            f", of which {', '.join(place_text(part[0]) for part in unbounded)} without bounds" if unbounded else ""
        )
        faults.append(f"observes {one_line(env.observation_space)}, {len(parts)} real numbers{without}")
        bins = view.bins or next(((n,) for n in (8, 6, 5, 4, 3, 2) if n ** len(parts) <= MOST), ())
        if not bins:
            return f"{faults[0]}: too many to divide into bins; {OTHERS}"
        options.append(f"--bins {','.join(map(str, bins))}")
        if unbounded:
            options.append(f"--bin-range {','.join(range_text(one) for one in seen_ranges(env, unbounded))}")
    if levels and not action_bins:
        faults.append(f"takes actions from {one_line(env.action_space)}")
        if not all(math.isfinite(high - low) for _, low, high in levels):
            return f"{faults[-1]}, which has no bounds: {OTHERS}"
        options.append(f"--action-bins {5 if len(levels) < 4 else 3}")
    if not faults:
        return None
    one_hot = not view.bins and any(is_zero_one(space) for space in leaves(env.observation_space))
    other = ", or --observation one-hot if it is a one-hot vector" if one_hot else ""
    return f"{' and '.join(faults)}: divide them into bins with {' '.join(options)}{other}"


def seen_ranges(env: gymnasium.Env[Any, Any], parts: Sequence[Part]) -> list[Range]:
    """Return the ranges of parts in `TRIED` random steps, rounded outward to two digits."""
    env.action_space.seed(0)
    observations = [env.reset(seed=0)[0]]
    for _ in range(TRIED):
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        observations.append(observation)
        if terminated or truncated:
            observations.append(env.reset()[0])
    found: list[Range] = []
    for place, low, high in parts:
        values = np.array([value_at(observation, place) for observation in observations], np.float64)
        least, most = round_outward(float(values.min()), -1), round_outward(float(values.max()), 1)
        if least == most:
            least, most = least - 1, most + 1
        found.append((max(least, low), min(most, high)))
    return found


def value_at(observation: Any, place: Place) -> float:
    """Return the real number at a place.

    Raises:
        UsageError: there is no number.
    """
    value = observation
    try:
        for index, key in enumerate(place):
            if isinstance(value, np.ndarray):
                return float(value[place[index:]])
            value = value[key]
        return float(value)
    except (IndexError, KeyError, TypeError, ValueError):
        what = f"it returned the observation {' '.join(repr(observation).split())[:80]}"
        raise UsageError(f"{what}, which has no real number at {place_text(place)}, as its space says") from None


def round_outward(value: float, direction: int) -> float:
    """Round to two digits, down for a negative direction, else up."""
    if value == 0 or not math.isfinite(value):
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return (math.floor if direction < 0 else math.ceil)(value / unit) * unit


def leaves(space: Space[Any]) -> Iterator[Space[Any]]:
    """Yield a space, or the spaces in a `Tuple` or `Dict`."""
    inner = space.spaces.values() if isinstance(space, Dict) else space.spaces if isinstance(space, Tuple) else None
    if inner is None:
        yield space
        return
    for part in inner:
        yield from leaves(part)
