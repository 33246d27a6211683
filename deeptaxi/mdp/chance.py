"""Enumerate the chance of a program: every sequence of outcomes that its random draws can take.

A program draws from stand-ins for NumPy's and Python's generators. A draw with n outcomes is a choice point; a `Tape`
says which outcome it takes. `enumerate_runs` runs the program again and again, depth first over its choice points, and
yields each run with its probability: the product over its draws. What is drawn with probability 0 is left out.

A draw from [0, 1) is not made at once. `Uniform` stands for the number, with the interval that it is known to lie in,
and becomes a choice point where it is compared with a constant: ``u < 0.3``, ``cumulative > u``, ``int(n * u)``. Where
its value is needed as a number, or where a draw is from another continuous distribution, the chance cannot be
enumerated: the error names the method.

Rejection sampling (draw until it fits) never ends on the branch where nothing fits. A run is given up where its
probability falls below `NEGLIGIBLE`; what is lost so is at most `MAX_LOST`, and the rest is normalized.
"""

from __future__ import annotations

import itertools
import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from random import Random
from typing import Any, NoReturn, TypeVar

import numpy as np
from gymnasium.utils import seeding
from numpy.random import Generator, RandomState

from deeptaxi.errors import DeepTaxiError

NEGLIGIBLE = 1e-12  # probability of a run that is not followed
MAX_LOST = 1e-9  # probability of all runs of one step that are not followed
MAX_DRAWS = 1_000  # of one run
MAX_CERTAIN = 100_000  # draws of one run that have a single outcome, such as a draw that is rejected for ever
MAX_OUTCOMES = 100_000  # of a single draw
SIMPLE = {int, float, str}
T = TypeVar("T")


class NotDiscoverableError(DeepTaxiError):
    """The environment has no transition table that can be found by walking through it."""


class PrunedError(BaseException):
    """The run is too improbable to be followed. Not an `Exception`, so that an environment does not catch it."""


def refuse(name: str) -> NoReturn:
    """Raise the error for a draw that has no finite number of outcomes."""
    raise NotDiscoverableError(f"its chance is not finite: it draws from {name}()")


class Tape:
    """The outcomes that the draws of one run take.

    The first draws follow `script`; later ones take their first outcome, or a random one if there is a `generator`.

    Attributes:
        taken: the index of the outcome of each draw so far.
        counts: the number of outcomes of each draw so far.
        certain: how many draws so far had a single outcome; they are in neither list.
        probability: the probability of the run so far.
    """

    def __init__(self) -> None:
        self.script: Sequence[int] = ()
        self.generator: Random | None = None
        self.taken: list[int] = []
        self.counts: list[int] = []
        self.certain = 0
        self.probability = 1.0

    def rewind(self, script: Sequence[int] = (), generator: Random | None = None) -> None:
        """Start a run."""
        self.script, self.generator = script, generator
        self.taken, self.counts, self.certain, self.probability = [], [], 0, 1.0

    def pick(self, weights: Sequence[float]) -> int:
        """Make a draw with outcomes of these weights, which sum to 1; return the index of its outcome.

        Raises:
            PrunedError: the run has become too improbable.
        """
        count = len(weights)
        if count == 1:
            self.certain += 1
            if self.certain > MAX_CERTAIN:
                raise NotDiscoverableError(f"its draws do not end: there were {MAX_CERTAIN:,} in one step")
            return 0
        taken, script = self.taken, self.script
        place = len(taken)
        index = 0
        if place < len(script):
            index = script[place]
            if index >= count:
                index = 0
        elif self.generator is not None:
            index = self.generator.randrange(count)
        if place == MAX_DRAWS:
            raise NotDiscoverableError(f"its draws do not end: there were {MAX_DRAWS:,} in one step")
        taken.append(index)
        self.counts.append(count)
        self.probability = probability = self.probability * weights[index]
        if probability < NEGLIGIBLE:
            raise PrunedError
        return index


def enumerate_runs(tape: Tape, run: Callable[[], T]) -> Iterator[tuple[float, T]]:
    """Yield every run of `run`, which draws from `tape`, with its probability.

    Raises:
        NotDiscoverableError: the runs that are too improbable to be followed are not negligible together.
    """
    script: list[int] | None = []
    total = 0.0
    while script is not None:
        tape.rewind(script)
        try:
            result = run()
            taken, counts = tape.taken, tape.counts
        except PrunedError:
            taken, counts = tape.taken, tape.counts
        else:
            total += tape.probability
            yield tape.probability, result  # the caller may rewind the tape
        script = following(taken, counts)
    if total < 1 - MAX_LOST:
        raise NotDiscoverableError(
            f"its draws do not end: what it rejects and draws again has a probability of {1 - total:.2g} even where "
            f"each run is rarer than {NEGLIGIBLE:g}"
        )


def following(taken: Sequence[int], counts: Sequence[int]) -> list[int] | None:
    """Return the script of the next run, depth first; None after the last one."""
    for place in reversed(range(len(taken))):
        if taken[place] + 1 < counts[place]:
            return [*taken[:place], taken[place] + 1]
    return None


def outcomes_of(weights: Sequence[float]) -> tuple[list[int], list[float]]:
    """Return the indices of the outcomes that can happen, and their probabilities."""
    total = math.fsum(weights)
    if not total > 0 or min(weights) < 0:
        raise ValueError(f"probabilities {list(weights)[:10]}: expected numbers from 0 that sum to 1")
    chosen = [i for i, weight in enumerate(weights) if weight > NEGLIGIBLE * total]
    share = math.fsum(weights[i] for i in chosen)
    return chosen, [weights[i] / share for i in chosen]


class Interval:
    """What is known of a number drawn from [0, 1): that it lies in [low, high)."""

    def __init__(self, tape: Tape, name: str) -> None:
        self.tape = tape
        self.name = name
        self.low, self.high = 0.0, 1.0

    def split(self, thresholds: Sequence[float]) -> int:
        """Decide between which of the ascending thresholds the number lies; return how many are at most it."""
        ends = [self.low, *(min(max(t, self.low), self.high) for t in thresholds), self.high]
        chosen, weights = outcomes_of([b - a for a, b in itertools.pairwise(ends)])
        index = chosen[self.tape.pick(weights)]
        self.low, self.high = ends[index], ends[index + 1]
        return index


class Uniform:
    """A number a·U + b, where U is drawn from [0, 1), that is decided only as far as comparisons need it."""

    __array_ufunc__ = None  # so that NumPy's arrays leave comparisons and arithmetic to this class

    def __init__(self, interval: Interval, scale: float = 1.0, shift: float = 0.0) -> None:
        self._interval = interval
        self._scale = scale
        self._shift = shift

    def _below(self, value: Any) -> Any:
        """Whether the number is less than `value`, or than each value of an array."""
        if isinstance(value, np.ndarray):
            levels = np.asarray(value, np.float64)
            self._between(sorted(set(levels.ravel().tolist())))
            return np.array([self._below(level) for level in levels.ravel().tolist()], np.bool_).reshape(levels.shape)
        if isinstance(value, Uniform):
            if value._interval is not self._interval:
                refuse(self._interval.name)
            difference = Uniform(self._interval, self._scale - value._scale, self._shift - value._shift)
            return difference._between([0.0]) == 0
        return self._between([float(value)]) == 0

    def _between(self, values: list[float]) -> int:
        """Return how many of the ascending values are at most the number."""
        if self._scale == 0:
            return bisect_right(values, self._shift)
        levels = [(value - self._shift) / self._scale for value in values]
        if self._scale > 0:
            return self._interval.split(levels)
        return len(levels) - self._interval.split(levels[::-1])

    def __lt__(self, other: Any) -> Any:
        return self._below(other)

    def __le__(self, other: Any) -> Any:
        return self._below(other)

    def __gt__(self, other: Any) -> Any:
        return ~self._below(other) if isinstance(other, np.ndarray) else not self._below(other)

    def __ge__(self, other: Any) -> Any:
        return self.__gt__(other)

    def __eq__(self, other: object) -> bool:  # it has no single value with a probability above 0
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __bool__(self) -> bool:
        return True

    def _moved(self, scale: Any, shift: Any) -> Uniform:
        if isinstance(scale, np.ndarray | Uniform) or isinstance(shift, np.ndarray | Uniform):
            refuse(self._interval.name)
        return Uniform(self._interval, self._scale * float(scale), self._shift * float(scale) + float(shift))

    def __add__(self, other: Any) -> Uniform:
        return self._moved(1.0, other)

    def __radd__(self, other: Any) -> Uniform:
        return self._moved(1.0, other)

    def __sub__(self, other: Any) -> Uniform:
        return self._moved(1.0, -other)

    def __rsub__(self, other: Any) -> Uniform:
        return self._moved(-1.0, other)

    def __mul__(self, other: Any) -> Uniform:
        return self._moved(other, 0.0)

    def __rmul__(self, other: Any) -> Uniform:
        return self._moved(other, 0.0)

    def __truediv__(self, other: Any) -> Uniform:
        return self._moved(1.0 / other, 0.0)

    def __neg__(self) -> Uniform:
        return self._moved(-1.0, 0.0)

    def __floor__(self) -> int:
        ends = [self._scale * u + self._shift for u in (self._interval.low, self._interval.high)]
        first, last = math.floor(min(ends)), math.ceil(max(ends)) - 1
        if last - first >= MAX_OUTCOMES:
            refuse(self._interval.name)
        return first + self._between([float(value) for value in range(first + 1, last + 1)])

    def __trunc__(self) -> int:
        if self._between([0.0]) == 0:
            return -math.floor(-self)
        return math.floor(self)

    __int__ = __trunc__

    def __round__(self, digits: int | None = None) -> int:
        if digits:
            refuse(self._interval.name)
        return math.floor(self + 0.5)

    def _as_number(self, *_others: Any) -> NoReturn:
        refuse(self._interval.name)

    __float__ = __abs__ = __pow__ = __rpow__ = __mod__ = __floordiv__ = __rtruediv__ = _as_number
    __repr__ = __str__ = __format__ = _as_number  # a text would need its digits
    __reduce__ = __deepcopy__ = _as_number  # it would be kept in the environment, undecided


def number_of_outcomes(count: int, name: str) -> int:
    """Check the number of outcomes of a draw.

    Raises:
        NotDiscoverableError: it is too large to enumerate.
    """
    if count > MAX_OUTCOMES:
        raise NotDiscoverableError(f"its chance is too wide: {name}() draws one of {count:,} numbers")
    return count


class Draws:
    """Draws made of choice points, shared by the stand-ins of all generators."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self._known: dict[Any, tuple[list[Any], list[float]]] = {}

    def entry(self, values: list[Any]) -> Any:
        """Draw an entry of a list of numbers or texts, as NumPy converts it; None if it holds anything else."""
        try:
            known = self._known.get((type(values[0]), *values))
        except TypeError:  # unhashable
            return None
        if known is None:
            if not {type(values[0])} == set(map(type, values)) <= SIMPLE:
                return None
            firsts, odds = self.groups(values, None)
            known = [np.asarray(values)[i] for i in firsts], odds
            self._known[(type(values[0]), *values)] = known
        return known[0][self.tape.pick(known[1])]

    def below(self, count: int, name: str) -> int:
        """Draw a number from 0 to count − 1."""
        return self.tape.pick([1 / number_of_outcomes(count, name)] * count)

    def uniform(self, name: str) -> Uniform:
        """Draw a number from [0, 1)."""
        return Uniform(Interval(self.tape, name))

    def one_of(self, values: Sequence[Any], weights: Sequence[float] | None) -> int:
        """Draw the index of a value; equal ones are one outcome."""
        firsts, odds = self.groups(values, weights)
        return firsts[self.tape.pick(odds)]

    def groups(self, values: Sequence[Any], weights: Sequence[float] | None) -> tuple[list[int], list[float]]:
        """Return the index of the first of all equal values, and the probability of each."""
        number_of_outcomes(len(values), "choice")
        groups = group_equal(tuple(values)) if isinstance(values, tuple | list) else list(range(len(values)))
        share: dict[int, float] = {}
        for index, first in enumerate(groups):
            share[first] = share.get(first, 0.0) + (1.0 if weights is None else float(weights[index]))
        firsts = list(share)
        chosen, odds = outcomes_of(list(share.values()))
        return [firsts[i] for i in chosen], odds

    def arrange(self, values: Sequence[Any], count: int) -> list[int]:
        """Draw `count` indices in order, without replacement; equal values are interchangeable."""
        left, order = list(range(len(values))), []
        for _ in range(count):
            place = self.one_of([values[i] for i in left], None)
            order.append(left.pop(place))
        return order


def group_equal(values: tuple[Any, ...]) -> list[int]:
    """Return, for each value, the index of the first one that is equal to it and of the same type."""
    first: dict[Any, int] = {}
    try:
        return [first.setdefault((type(value), value), index) for index, value in enumerate(values)]
    except TypeError:  # unhashable
        return list(range(len(values)))


def shaped(size: Any, draw: Callable[[], Any], dtype: Any) -> Any:
    """Return one draw, or an array of draws of shape `size`."""
    if size is None:
        return draw()
    shape = (int(size),) if isinstance(size, int | np.integer) else tuple(int(n) for n in size)
    values = np.empty(shape, dtype)
    for place in np.ndindex(*shape):
        values[place] = draw()
    return values


class NumPyDraws:
    """The finite draws that `numpy.random.Generator` and `RandomState` share, as choice points."""

    _draws: Draws

    def random(self, size: Any = None, *_dtype: Any, **_more: Any) -> Any:
        """Draw from [0, 1)."""
        return shaped(size, lambda: self._draws.uniform("random"), np.object_)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """Draw from [low, high)."""
        if np.ndim(low) or np.ndim(high):
            refuse("uniform")
        return shaped(size, lambda: self._draws.uniform("uniform") * (high - low) + low, np.object_)

    def integers(
        self, low: Any, high: Any = None, size: Any = None, dtype: Any = np.int64, endpoint: bool = False
    ) -> Any:
        """Draw integers from low (0 if it is the only bound) to high, exclusive unless `endpoint`."""
        low, high = (0, low) if high is None else (low, high)
        kind = np.dtype(dtype)

        def draw(first: Any, last: Any) -> Any:
            count = int(last) + bool(endpoint) - int(first)
            if count < 1:
                raise ValueError("low >= high")
            return kind.type(int(first) + self._draws.below(count, "integers"))

        if np.ndim(low) or np.ndim(high):
            firsts, lasts = np.broadcast_arrays(low, high)
            bounds = iter(np.nditer([firsts, lasts]))
            return shaped(firsts.shape, lambda: draw(*(next(bounds))), kind)
        return shaped(size, lambda: draw(low, high), kind)

    def choice(
        self, a: Any, size: Any = None, replace: bool = True, p: Any = None, axis: int = 0, shuffle: bool = True
    ) -> Any:
        """Draw from 0 … a − 1 or from the entries of an array, each with its probability `p`."""
        if size is None and p is None and type(a) is list and a:
            entry = self._draws.entry(a)  # the common case, fast
            if entry is not None:
                return entry
        values = np.arange(a) if np.ndim(a) == 0 else np.asarray(a)
        entries = values.tolist() if values.ndim == 1 else [None] * values.shape[axis]
        known: Any = entries if values.ndim == 1 else range(values.shape[axis])
        weights = None if p is None else np.asarray(p, np.float64).tolist()
        count = 1 if size is None else math.prod(np.atleast_1d(size).tolist())
        if replace or count == 1:
            picked = shaped(size, lambda: self._draws.one_of(known, weights), np.int64)
        elif weights is not None or not shuffle:
            refuse("choice(replace=False) with p or shuffle=False")
        else:
            picked = np.array(self._draws.arrange(known, count), np.int64).reshape(size)
        return values.take(picked, axis=axis) if values.ndim > 1 else values[picked]

    def permutation(self, x: Any, axis: int = 0) -> Any:
        """Return 0 … x − 1, or an array, in a random order."""
        values = np.arange(x) if np.ndim(x) == 0 else np.array(x)
        known: Any = values.tolist() if values.ndim == 1 else range(values.shape[axis])
        return values.take(self._draws.arrange(known, values.shape[axis]), axis=axis)

    def shuffle(self, x: Any, axis: int = 0) -> None:
        """Put a list or an array in a random order."""
        if isinstance(x, np.ndarray):
            x[...] = self.permutation(x, axis)
        else:
            x[:] = [x[i] for i in self._draws.arrange(x, len(x))]

    def binomial(self, n: Any, p: Any, size: Any = None) -> Any:
        """Count the successes of n tries."""
        if np.ndim(n) or np.ndim(p):
            refuse("binomial")
        odds = [math.comb(int(n), k) * float(p) ** k * (1 - float(p)) ** (int(n) - k) for k in range(int(n) + 1)]
        return shaped(size, lambda: np.int64(self._draws.one_of(range(len(odds)), odds)), np.int64)


class ChanceGenerator(NumPyDraws, Generator):
    """Stands in for `numpy.random.Generator`."""

    def __init__(self, tape: Tape) -> None:
        super().__init__(np.random.PCG64(0))
        self._draws = Draws(tape)


class ChanceState(NumPyDraws, RandomState):
    """Stands in for `numpy.random.RandomState`, and for the functions of `numpy.random`."""

    def __init__(self, tape: Tape) -> None:
        super().__init__(0)
        self._draws = Draws(tape)

    def rand(self, *shape: int) -> Any:
        """Draw from [0, 1)."""
        return self.random(shape or None)

    random_sample = ranf = sample = NumPyDraws.random

    def randint(self, low: Any, high: Any = None, size: Any = None, dtype: Any = int) -> Any:
        """Draw integers."""
        return self.integers(low, high, size, dtype)

    def seed(self, *_seed: Any) -> None:
        """Ignore a seed: every sequence of draws is followed."""


class ChanceRandom(Random):
    """Stands in for `random.Random`, and for the functions of `random`."""

    def __init__(self, tape: Tape) -> None:
        super().__init__(0)
        self._draws = Draws(tape)

    def random(self) -> Any:
        """Draw from [0, 1)."""
        return self._draws.uniform("random")

    def uniform(self, a: Any, b: Any) -> Any:
        """Draw from [a, b)."""
        return self._draws.uniform("uniform") * (b - a) + a

    def getrandbits(self, k: int, /) -> int:
        """Draw a number of k bits."""
        return self._draws.below(2**k, "getrandbits")

    def randrange(self, start: Any, stop: Any = None, step: Any = 1) -> int:
        """Draw from a range."""
        values = range(start) if stop is None else range(start, stop, step)
        return values[self._draws.below(len(values), "randrange")]

    def randint(self, a: Any, b: Any) -> int:
        """Draw from a to b, inclusive."""
        return self.randrange(a, b + 1)

    def choice(self, seq: Any) -> Any:
        """Draw an entry."""
        return seq[self._draws.one_of(list(seq), None)]

    def choices(self, population: Any, weights: Any = None, *, cum_weights: Any = None, k: int = 1) -> list[Any]:
        """Draw k entries with replacement."""
        odds = None if weights is None else list(weights)
        if cum_weights is not None:
            odds = [b - a for a, b in itertools.pairwise([0.0, *cum_weights])]
        return [population[self._draws.one_of(list(population), odds)] for _ in range(k)]

    def sample(self, population: Any, k: int, *, counts: Any = None) -> list[Any]:
        """Draw k entries without replacement."""
        values = list(population)
        if counts is not None:
            values = [value for value, count in zip(values, counts, strict=True) for _ in range(count)]
        return [values[i] for i in self._draws.arrange(values, k)]

    def shuffle(self, x: Any) -> None:
        """Put a list in a random order."""
        x[:] = [x[i] for i in self._draws.arrange(x, len(x))]

    def seed(self, *_seed: Any, **_more: Any) -> None:
        """Ignore a seed: every sequence of draws is followed."""


STATE = {"bit_generator", "get_state", "set_state", "getstate", "setstate", "seed", "VERSION"}  # they do not draw


def draws_of(kind: type) -> set[str]:
    """Return the names of a generator's methods that draw."""
    return {name for name in dir(kind) if not name.startswith("_")} - STATE


def refuse_others(stand_in: type, base: type) -> None:
    """Define the methods of a generator that its stand-in does not, so that they refuse by name."""
    defined = {name for cls in stand_in.__mro__ if not issubclass(base, cls) for name in vars(cls)}
    for name in draws_of(base) - defined:
        setattr(stand_in, name, partial(refusal, name))


def refusal(name: str, *_arguments: Any, **_more: Any) -> NoReturn:
    """Refuse the draw `name`, whatever it is called with."""
    refuse(name)


refuse_others(ChanceGenerator, Generator)
refuse_others(ChanceState, RandomState)
refuse_others(ChanceRandom, Random)
GLOBAL = {"random": random, "numpy.random": np.random}  # modules whose functions draw from a generator of their own


def made_as(kind: type, stand_in: Any) -> type:
    """Return a subclass of a generator's class whose objects are the stand-in."""
    return type(kind.__name__, (kind,), {"__new__": lambda _cls, *_seed, **_more: stand_in})


def global_states() -> list[Any]:
    """Return the states of the global generators."""
    return [random.getstate(), repr(np.random.get_state())]  # noqa: NPY002  # environments may use it


class StandIns:
    """The stand-ins of all generators, which draw from one tape."""

    def __init__(self, tape: Tape) -> None:
        self.generator = ChanceGenerator(tape)
        self.state = ChanceState(tape)
        self.random = ChanceRandom(tape)

    def of(self, value: Any) -> Any:
        """Return the stand-in of a generator; None for any other object."""
        if isinstance(value, Generator):
            return self.generator
        if isinstance(value, RandomState):
            return self.state
        return self.random if isinstance(value, Random) else None

    def replacements(self) -> Iterator[tuple[Any, str, Any]]:
        """Yield the functions that draw from generators of their own or make new ones, with their stand-ins."""
        for name in draws_of(Random) & vars(random).keys():
            yield random, name, getattr(self.random, name)
        for name in draws_of(RandomState) & vars(np.random).keys():
            yield np.random, name, getattr(self.state, name)
        yield random, "seed", self.random.seed
        yield np.random, "seed", self.state.seed
        yield random, "Random", made_as(Random, self.random)
        yield np.random, "RandomState", made_as(RandomState, self.state)
        yield np.random, "default_rng", lambda *_seed: self.generator
        yield seeding, "np_random", lambda *_seed: (self.generator, 0)

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """Stand in for the global generators too, and for all that are made while the block runs.

        Raises:
            NotDiscoverableError: a global generator was drawn from nevertheless, by a name imported beforehand.
        """
        before = global_states()
        with ExitStack() as undoing:
            for module, name, stand_in in list(self.replacements()):
                undoing.callback(setattr, module, name, getattr(module, name))
                setattr(module, name, stand_in)
            yield
        for name, was, now in zip(GLOBAL, before, global_states(), strict=True):
            if was != now:
                raise NotDiscoverableError(
                    f"it draws from the global generator of `{name}` by a function imported by name: "
                    "draw from self.np_random instead"
                )
