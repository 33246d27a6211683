"""Number the observations and the actions of a finite space.

A value has parts o_1, …, o_d with sizes n_1, …, n_d and first values b_1, …, b_d; its number is the row-major index of
(o_1 − b_1, …, o_d − b_d). All other code uses numbers only. The parts are

    Discrete, MultiDiscrete, MultiBinary, Box of integers    its integers
    Box of real numbers                                      the bin of each number, see `binning`
    a one-hot vector, where it is said to be one             the place of its 1
    Tuple, Dict                                              the parts of the spaces in it, in their order

Each space has a node that numbers it. Nodes take the types that environments usually return, in a microsecond or two;
anything else that ``space.contains`` accepts is converted to these first.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from numpy.typing import NDArray

from deeptaxi.errors import DeepTaxiError, UsageError
from deeptaxi.mdp.binning import OTHERS, Bins, Place, View, divide, is_real, is_zero_one, leaves, one_line, place_text

SUPPORTED = "Discrete, MultiDiscrete, MultiBinary, Box (of reals in bins), and Tuple and Dict of these"
MAX_STATES = 10_000_000  # that anything is tabulated for
MAX_NUMBER = 2**31 - 1
MAX_ACTIONS = 10_000
PLAIN = View()
MOST_DESCRIBED = 64  # parts of a space that a card tells one by one
NONE = -1  # the number of what a node does not take
Layout = tuple[tuple[int, int], ...]


class ObservationError(DeepTaxiError):
    """An observation outside its space."""


class Node(Protocol):
    """Numbers the values of one space; `layout` has ``(size, first value)`` of each part, `count` their product."""

    layout: Layout
    count: int

    def number(self, value: Any) -> int:
        """Return the number of a value of the usual type, else `NONE`."""

    def usual(self, value: Any) -> Any:
        """Convert a value that the space contains to the usual type."""

    def value(self, number: int) -> Any:
        """Return a value that has this number."""

    def name(self, number: int) -> str:
        """Describe the values that have this number."""

    def facts(self, place: Place) -> Iterator[dict[str, Any]]:
        """Yield how each part becomes a number, in JSON; `place` is that of the space."""


class Integer:
    """Numbers a `Discrete` space; usual are integers."""

    def __init__(self, space: Discrete) -> None:
        self.count, self._first = int(space.n), int(space.start)
        self.layout: Layout = ((self.count, self._first),)
        self._types = frozenset({int, bool, np.int64} if space.dtype == np.int64 else {int, bool})

    def number(self, value: Any) -> int:
        """Return the distance from the first integer."""
        if type(value) not in self._types:
            return NONE
        number = int(value) - self._first
        return number if 0 <= number < self.count else NONE

    def usual(self, value: Any) -> int:
        """Return an int."""
        return int(value)

    def value(self, number: int) -> int:
        """Return an int."""
        return number + self._first

    def name(self, number: int) -> str:
        """Return the integer."""
        return str(number + self._first)

    def facts(self, place: Place) -> Iterator[dict[str, Any]]:
        """Yield the integers."""
        yield {"part": place_text(place), "first": self._first, "size": self.count}


class ArrayNode:
    """Numbers arrays of one shape and type, part by part; usual are arrays of the space's own type."""

    def __init__(self, space: Space[Any], layout: Layout) -> None:
        self.layout = layout
        self.count = math.prod(size for size, _ in layout)
        self._shape, self._dtype = tuple(space.shape or ()), space.dtype

    def usual(self, value: Any) -> NDArray[Any]:
        """Return an array of the space's own type."""
        return np.asarray(value).astype(self._dtype)

    def parts(self, number: int) -> list[int]:
        """Return the part numbers of a number."""
        found = []
        for size, _ in reversed(self.layout):
            number, part = divmod(number, size)
            found.append(part)
        return found[::-1]

    def array(self, values: Sequence[Any]) -> NDArray[Any]:
        """Return an array of these parts."""
        return np.array(values, self._dtype).reshape(self._shape)

    def name(self, number: int) -> str:
        """Return the parts in parentheses; of one alone, without."""
        names = [self.part_name(index, part) for index, part in enumerate(self.parts(number))]
        return names[0] if len(names) == 1 else f"({', '.join(names)})"

    def part_name(self, index: int, part: int) -> str:
        """Return the integer of a part."""
        return str(part + self.layout[index][1])

    def facts(self, place: Place) -> Iterator[dict[str, Any]]:
        """Yield the integers of each part."""
        for index, (size, first) in zip(np.ndindex(self._shape), self.layout, strict=True):
            yield {"part": place_text((*place, *index)), "first": first, "size": size}


MANY_PARTS = 32  # from which an array is numbered in blocks
SMALL = 2**31


def are_small(layout: Layout) -> bool:
    """Whether the integers of all parts are small enough to be multiplied."""
    return all(size <= SMALL and abs(first) <= SMALL for size, first in layout)


class Blocks:
    """Numbers arrays of many parts: blocks of them whose numbers have 62 bits, then pairs of blocks, pairs of pairs, ….

    One after the other, the numbers of a picture would be multiplied by thousands of factors, each with all its digits.

    Args:
        layout: ``(size, first value)`` of each part.
    """

    def __init__(self, layout: Layout) -> None:
        self._sizes, self._firsts = (np.array(column, np.int64) for column in zip(*layout, strict=True))
        self._starts: list[int] = []
        counts: list[int] = []  # of each block
        self._weights = np.ones(len(layout), np.int64)
        for part, (size, _) in enumerate(layout):
            if not counts or counts[-1] * size >= 2**62:
                self._starts.append(part)
                counts.append(1)
            self._weights[self._starts[-1] : part] *= size
            counts[-1] *= size
        self._levels: list[list[int]] = []  # the factors of the first of each pair
        while len(counts) > 1:
            self._levels.append(counts[1::2])
            counts = [*(one * other for one, other in zip(counts[::2], counts[1::2], strict=False)), *unpaired(counts)]

    def number(self, value: NDArray[Any]) -> int:
        """Return the row-major index of an array, or `NONE`."""
        parts = value.ravel().astype(np.int64) - self._firsts
        if ((parts < 0) | (parts >= self._sizes)).any():
            return NONE
        numbers: list[int] = np.add.reduceat(parts * self._weights, self._starts).tolist()
        for factors in self._levels:
            pairs = zip(numbers[::2], numbers[1::2], factors, strict=False)
            numbers = [*(one * factor + other for one, other, factor in pairs), *unpaired(numbers)]
        return numbers[0]


def unpaired(values: list[int]) -> list[int]:
    """Return the last of values that are taken in pairs, if it is left over."""
    return values[-1:] if len(values) % 2 else []


class Integers(ArrayNode):
    """Numbers a `MultiDiscrete`, `MultiBinary` or integer `Box`."""

    def __init__(self, space: Space[Any], layout: Layout) -> None:
        super().__init__(space, layout)
        self._blocks = Blocks(layout) if len(layout) > MANY_PARTS and are_small(layout) else None

    def number(self, value: Any) -> int:
        """Return the row-major index of the distances from the first integers."""
        if type(value) is not np.ndarray or value.dtype != self._dtype or value.shape != self._shape:
            return NONE
        if self._blocks is not None:
            return self._blocks.number(value)
        number = 0
        for part, (size, first) in zip(value.ravel().tolist(), self.layout, strict=True):
            if not 0 <= part - first < size:
                return NONE
            number = number * size + part - first
        return number

    def value(self, number: int) -> NDArray[Any]:
        """Return an array."""
        return self.array([part + first for part, (_, first) in zip(self.parts(number), self.layout, strict=True)])


class Reals(ArrayNode):
    """Numbers a `Box` of real numbers by its `bins`, or of actions by levels."""

    def __init__(self, space: Box, bins: Sequence[Bins], levels: bool) -> None:
        super().__init__(space, tuple((one.count, 0) for one in bins))
        self._bins, self._levels = bins, levels
        bounds = zip(space.low.ravel().tolist(), space.high.ravel().tolist(), strict=True)
        self._rows = [(one, low, high) for one, (low, high) in zip(bins, bounds, strict=True)]

    def number(self, value: Any) -> int:
        """Return the row-major index of the bins, or of the nearest levels."""
        if type(value) is not np.ndarray or value.dtype != self._dtype or value.shape != self._shape:
            return NONE
        number = 0
        for part, (bins, low, high) in zip(value.ravel().tolist(), self._rows, strict=True):
            if not low <= part <= high:  # as NaN is
                return NONE
            number = number * bins.count + (bins.nearest(part) if self._levels else bins.number(part))
        return number

    def value(self, number: int) -> NDArray[Any]:
        """Return the middles of the bins, or the levels."""
        pairs = zip(self._bins, self.parts(number), strict=True)
        return self.array([one.level(part) if self._levels else one.middle(part) for one, part in pairs])

    def part_name(self, index: int, part: int) -> str:
        """Return the interval of a bin, or the level."""
        one = self._bins[index]
        return f"{one.level(part):.3g}" if self._levels else one.interval(part)

    def facts(self, place: Place) -> Iterator[dict[str, Any]]:
        """Yield the bounds of each part."""
        for index, one in zip(np.ndindex(self._shape), self._bins, strict=True):
            kind = "levels" if self._levels else "bins"
            yield {"part": place_text((*place, *index)), kind: one.count, "low": one.low, "high": one.high}


class OneHot(ArrayNode):
    """Numbers the one-hot vectors of a `Box` from 0 to 1 or a `MultiBinary`."""

    def __init__(self, space: Space[Any]) -> None:
        super().__init__(space, ((math.prod(space.shape or ()), 0),))

    def number(self, value: Any) -> int:
        """Return the place of the 1; `NONE` if there are other numbers than one 1 and zeros."""
        if type(value) is not np.ndarray or value.dtype != self._dtype or value.shape != self._shape:
            return NONE
        values = value.ravel().tolist()
        one = values.count(1) == 1 and values.count(0) == len(values) - 1
        return values.index(1) if one else NONE

    def value(self, number: int) -> NDArray[Any]:
        """Return the one-hot vector."""
        return self.array([part == number for part in range(self.count)])

    def facts(self, place: Place) -> Iterator[dict[str, Any]]:
        """Yield the length of the vector."""
        yield {"part": place_text(place), "one_hot": True, "size": self.count}


class Row:
    """Numbers a `Tuple` by its nodes; usual are tuples."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = tuple(nodes)
        self._pairs = [(node, node.count) for node in nodes]
        self.layout: Layout = tuple(part for node in nodes for part in node.layout)
        self.count = math.prod(node.count for node in nodes)

    def number(self, value: Any) -> int:
        """Return the row-major index of the numbers of the values in it."""
        if type(value) is not tuple or len(value) != len(self._nodes):
            return NONE
        number = 0
        for (node, count), part in zip(self._pairs, value, strict=True):
            inner = node.number(part)
            if inner < 0:
                return NONE
            number = number * count + inner
        return number

    def usual(self, value: Any) -> tuple[Any, ...]:
        """Return a tuple."""
        return tuple(node.usual(part) for node, part in zip(self._nodes, value, strict=True))

    def parts(self, number: int) -> list[tuple[Node, int]]:
        """Return the nodes with their numbers."""
        found = []
        for node in reversed(self._nodes):
            number, inner = divmod(number, node.count)
            found.append((node, inner))
        return found[::-1]

    def value(self, number: int) -> tuple[Any, ...]:
        """Return a tuple."""
        return tuple(node.value(inner) for node, inner in self.parts(number))

    def name(self, number: int) -> str:
        """Return the names of the values in it, in parentheses."""
        return f"({', '.join(node.name(inner) for node, inner in self.parts(number))})"

    def facts(self, place: Place) -> Iterator[dict[str, Any]]:
        """Yield those of the spaces in it."""
        for index, node in enumerate(self._nodes):
            yield from node.facts((*place, index))


class Record:
    """Numbers a `Dict` as the tuple of its values, in the space's order; usual are dicts."""

    def __init__(self, keys: Sequence[Any], nodes: Sequence[Node]) -> None:
        self._keys, self._row = tuple(keys), Row(nodes)
        self.layout, self.count = self._row.layout, self._row.count

    def number(self, value: Any) -> int:
        """Return the number of the tuple of its values."""
        if type(value) is not dict or len(value) != len(self._keys):
            return NONE
        try:
            return self._row.number(tuple([value[key] for key in self._keys]))
        except KeyError:
            return NONE

    def usual(self, value: Any) -> dict[Any, Any]:
        """Return a dict."""
        return dict(zip(self._keys, self._row.usual([value[key] for key in self._keys]), strict=True))

    def value(self, number: int) -> dict[Any, Any]:
        """Return a dict."""
        return dict(zip(self._keys, self._row.value(number), strict=True))

    def name(self, number: int) -> str:
        """Return the keys with the names of their values."""
        named = zip(self._keys, self._row.parts(number), strict=True)
        return ", ".join(f"{key} {node.name(inner)}" for key, (node, inner) in named)

    def facts(self, place: Place) -> Iterator[dict[str, Any]]:
        """Yield those of the spaces in it."""
        for key, node in zip(self._keys, self._row._nodes, strict=True):
            yield from node.facts((*place, key))


OWN = (Discrete, MultiDiscrete, MultiBinary, Box, Tuple, Dict)  # of which it is known what they contain


def node_of(space: Space[Any], bins: Mapping[Place, Bins], one_hot: bool, levels: bool, place: Place = ()) -> Node:
    """Return the node of a space.

    Args:
        space: the space.
        bins: the bins of its real parts, by their places.
        one_hot: whether vectors of zeros and ones are one-hot.
        levels: whether the bins are levels.
        place: of the space in the whole.

    Raises:
        TypeError: it is not finite.
    """
    if isinstance(space, Discrete):
        return Integer(space)
    if isinstance(space, Tuple):
        return Row([node_of(part, bins, one_hot, levels, (*place, i)) for i, part in enumerate(space.spaces)])
    if isinstance(space, Dict):
        nodes = [node_of(part, bins, one_hot, levels, (*place, key)) for key, part in space.spaces.items()]
        return Record(tuple(space.spaces), nodes)
    if one_hot and (isinstance(space, MultiBinary) or is_zero_one(space)):
        return OneHot(space)
    if isinstance(space, MultiDiscrete):
        firsts = space.start.ravel().tolist()
        return Integers(space, tuple(zip(space.nvec.ravel().tolist(), firsts, strict=True)))
    if isinstance(space, MultiBinary):
        return Integers(space, ((2, 0),) * math.prod(space.shape))
    if isinstance(space, Box) and is_real(space):
        return Reals(space, [bins[(*place, *index)] for index in np.ndindex(space.shape)], levels)
    if isinstance(space, Box):
        bounds = zip(space.low.ravel().tolist(), space.high.ravel().tolist(), strict=True)
        return Integers(space, tuple((int(high) - int(low) + 1, int(low)) for low, high in bounds))
    raise TypeError(type(space).__name__)


def contains(space: Space[Any], value: Any) -> bool:
    """Return ``space.contains(value)``, or False if it raises, as it does for ragged lists."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a Box warns of lists, and takes them
            return bool(space.contains(value))
    except Exception:  # the value and the space may be third-party code
        return False


@dataclass(frozen=True)
class Codec:
    """Numbers the values of a space.

    Attributes:
        space: the space.
        view: what the space leaves open.
        levels: whether its real parts have levels, as those of actions, or bins.
    """

    space: Space[Any]
    view: View = PLAIN
    levels: bool = False

    @cached_property
    def node(self) -> Node:
        """The node of the space."""
        return node_of(self.space, divide(self.space, self.view), self.view.one_hot, self.levels)

    @cached_property
    def layout(self) -> Layout:
        """``(size, first value)`` of each part."""
        return self.node.layout

    @cached_property
    def count(self) -> int:
        """The number of numbers."""
        return self.node.count

    @property
    def composite(self) -> bool:
        """Whether a value has parts instead of being a single integer."""
        return not isinstance(self.space, Discrete)

    @cached_property
    def _ready(self) -> bool:
        """Whether a number from the node means that the space contains the value."""
        return all(type(space) in OWN for space in spaces_in(self.space))

    def encode(self, value: Any) -> int:
        """Return the number of a value; accepts exactly what ``space.contains`` accepts.

        Raises:
            ObservationError: the space does not contain it, or it is no one-hot vector where one is expected.
        """
        if self._ready:
            number = self.node.number(value)
            if number >= 0:
                return number
        if not contains(self.space, value):
            raise ObservationError(unlike(self.space, value))
        number = self.node.number(self.node.usual(value))
        if number < 0:
            raise ObservationError(f"the observation {brief(value)}: expected a one-hot vector, with a single 1")
        return number

    def decode(self, number: int) -> Any:
        """Return a value that has this number: of bins the middle, of everything else the only one."""
        return self.node.value(number)

    def name(self, number: int) -> str:
        """Describe the values that have this number."""
        return self.node.name(number)

    def describe(self) -> dict[str, Any]:
        """Describe in JSON how a value of several parts becomes a number; empty if it is a number itself."""
        if not self.composite:
            return {}
        few = len(self.layout) <= MOST_DESCRIBED
        return {"space": one_line(self.space), "parts": list(self.node.facts(())) if few else None}


class StateCodec(Codec):
    """Maps the observations of one space to state numbers 0 … S−1."""

    @property
    def states(self) -> int:
        """S, the number of states."""
        return self.count


def spaces_in(space: Space[Any]) -> Iterator[Space[Any]]:
    """Yield a space and all spaces in it."""
    yield space
    inner = space.spaces.values() if isinstance(space, Dict) else space.spaces if isinstance(space, Tuple) else ()
    for part in inner:
        yield from spaces_in(part)


def strange(space: Space[Any]) -> str:
    """Name the kind of the first space in it that is not one of Gymnasium's finite ones, if it is a part."""
    kind = next((type(one).__name__ for one in spaces_in(space) if not isinstance(one, OWN)), "")
    return f", with a part of {kind}" if kind and isinstance(space, Tuple | Dict) else ""


def unlike(space: Space[Any], observation: Any) -> str:
    """Describe which value puts an observation outside its space, and what was expected."""
    place, value, expected = offender(space, observation, ())
    part = f", whose part {place_text(place)} is {brief(value)}" if place else ""
    return f"the observation {brief(observation)}{part}: expected {expected}"


def offender(space: Space[Any], value: Any, place: Place) -> tuple[Place, Any, str]:
    """Return the position of the first part outside its space, the part, and what was expected."""
    if isinstance(space, Tuple | Dict):
        return nested_offender(space, value, place)
    if isinstance(space, MultiDiscrete | MultiBinary | Box):
        return array_offender(space, value, place)
    if isinstance(space, Discrete):
        last = int(space.start) + int(space.n) - 1
        kind = "" if space.dtype == np.int64 or not isinstance(value, np.integer) else f" of type {space.dtype}"
        if isinstance(value, np.unsignedinteger):
            kind = f" of a type that {space.dtype} has room for"
        return place, value, f"an integer from {int(space.start)} to {last}{kind}"
    return place, value, f"a value of {one_line(space)}"


def nested_offender(space: Tuple[Any] | Dict, value: Any, place: Place) -> tuple[Place, Any, str]:
    """Like `offender`, for a tuple or a dict."""
    if isinstance(space, Dict):
        inner: Mapping[Any, Space[Any]] = space.spaces
        whole = f"a dict of {', '.join(map(repr, inner))}, of {one_line(space)}"
        alike = isinstance(value, dict) and value.keys() == inner.keys()
    else:
        inner = dict(enumerate(space.spaces))
        whole = f"a tuple of {len(inner)} values, of {one_line(space)}"
        alike = isinstance(value, tuple | list | np.ndarray) and len(value) == len(inner)
    for key, part in inner.items() if alike else ():
        if not contains(part, value[key]):
            return offender(part, value[key], (*place, key))
    return place, value, whole


def array_offender(space: MultiDiscrete | MultiBinary | Box, value: Any, place: Place) -> tuple[Place, Any, str]:
    """Like `offender`, for an array."""
    real = is_real(space)
    whole = f"an array of {'numbers' if real else 'integers'} of shape {space.shape}, of {one_line(space)}"
    try:
        array = np.asarray(value)
    except ValueError:  # a ragged list
        return place, value, whole
    if array.shape != space.shape or array.dtype.kind not in "biuf":
        return place, value, whole
    if isinstance(value, np.ndarray) and not (isinstance(space, MultiBinary) or np.can_cast(array.dtype, space.dtype)):
        return place, value, f"{whole}, and {array.dtype} does not fit into {space.dtype}: convert it"
    first, last = bounds_of(space)
    for index in np.argwhere(~((array >= first) & (array <= last))).tolist():
        at = tuple(index)
        kind = "a number" if real else "an integer"
        return (*place, *at), array[at].item(), f"{kind} from {first[at]} to {last[at]}"
    return place, value, whole


def bounds_of(space: MultiDiscrete | MultiBinary | Box) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the smallest and the largest values of an array."""
    if isinstance(space, Box):
        return space.low, space.high
    if isinstance(space, MultiDiscrete):
        return space.start, space.start + (space.nvec - 1)
    return np.zeros(space.shape, np.int8), np.ones(space.shape, np.int8)


def brief(value: Any, longest: int = 80) -> str:
    """Format a value on one line of at most `longest` characters, as Python does."""
    try:
        text = " ".join(repr(value).split())
    except Exception as error:
        text = f"an object of {type(value).__name__} that cannot be shown ({type(error).__name__})"
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def amount(count: int) -> str:
    """Format a count, which may have thousands of digits."""
    return f"{count:,}" if count < 10**15 else f"more than 10^{int(count.bit_length() * math.log10(2)) - 1}"


def whole_codec(space: Space[Any], name: str, view: View = PLAIN) -> StateCodec:
    """Return the codec of an observation space of any size.

    Raises:
        UsageError: the space is not finite.
    """
    if view.one_hot and not any(isinstance(one, MultiBinary) or is_zero_one(one) for one in leaves(space)):
        raise UsageError(f"--observation one-hot: {name} has no vector of zeros and ones in {one_line(space)}")
    divide(space, view, name)  # reports by name what is wrong with the view
    codec = StateCodec(space, view)
    try:
        _ = codec.count
    except TypeError:
        raise UsageError(
            f"{name} observes {one_line(space)}{strange(space)}; "
            f"deeptaxi trains on {SUPPORTED}: for other observations {OTHERS}"
        ) from None
    return codec


def state_codec(space: Space[Any], name: str, view: View = PLAIN) -> StateCodec:
    """Return the codec of an observation space that numbers all its observations.

    Raises:
        UsageError: the space is not finite, or has too many states.
    """
    codec = whole_codec(space, name, view)
    most = MAX_STATES if len(codec.layout) == 1 else MAX_NUMBER  # of parts, the network may see each by itself
    if codec.count > most:
        kind = "a one-hot network here takes" if len(codec.layout) == 1 else "their numbers have 32 bits, for"
        raise UsageError(f"{name} has {amount(codec.count)} states; {kind} at most {most:,}")
    return codec


class ActionCodec(Codec):
    """Maps action numbers 0 … A−1 to the actions of one space."""

    @property
    def actions(self) -> int:
        """A, the number of actions."""
        return self.count

    @property
    def first(self) -> int:
        """The environment's own number of action 0, where its actions are numbers; else 0."""
        return 0 if self.composite else self.layout[0][1]


def action_codec(space: Space[Any], name: str, bins: tuple[int, ...] = ()) -> ActionCodec:
    """Return the codec of an action space.

    Raises:
        UsageError: the space is not finite, or has too many actions for one output each.
    """
    divide(space, View(bins=bins), name, "--action-bins")
    codec = ActionCodec(space, View(bins=bins), levels=True)
    try:
        actions = codec.actions
    except TypeError:
        raise UsageError(
            f"{name} takes actions from {one_line(space)}{strange(space)}; "
            f"deeptaxi trains on {SUPPORTED}: for other actions {OTHERS}"
        ) from None
    if actions > MAX_ACTIONS:
        raise UsageError(
            f"{name} has {amount(actions)} actions; the network has one output each, and at most {MAX_ACTIONS:,}"
        )
    return codec
