"""Take snapshots of an environment, and put it back into them.

A snapshot holds the attributes of the environment and of its wrappers that change while it runs; the others are left
where they are, so that a table of a million entries is not copied a million times. Attributes that share an object are
kept together, as one *part*. A number or a text stands for itself; everything else is pickled, with classes, functions,
generators and the environment itself by reference.

Only a fresh environment that nothing else uses is walked through: its generators are replaced by stand-ins.
"""

from __future__ import annotations

import io
import itertools
import pickle
import types
import weakref
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from deeptaxi.mdp.chance import NotDiscoverableError, StandIns, Uniform
from deeptaxi.mdp.contract import Answers, CheckedEnv

STRIPPED = (Answers, CheckedEnv, TimeLimit, OrderEnforcing, PassiveEnvChecker)  # what they do is done here
ATOMS = (
    *(type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, weakref.ref),
    *(types.MethodDescriptorType, types.WrapperDescriptorType, property, np.ufunc),
)
VALUES = frozenset({int, float, str, bool, type(None), bytes, *(np.dtype(code).type for code in "?bhilqBHILQefdUS")})
PLAIN = (list, tuple, dict, set, frozenset, np.ndarray, pickle.PickleBuffer)
Snapshot = tuple[Any, ...]  # the value of each part
Attribute = tuple[int, str]  # of the layer with this number


class Missing:
    """Marks an attribute that does not exist."""

    def __reduce__(self) -> str:
        return "MISSING"


MISSING = Missing()


def layers_of(env: Any) -> tuple[list[Any], int | None]:
    """Take off the wrappers that check or cut; return the rest from the outside in, and the shortest time limit."""
    layers, limit = [], None
    while True:
        if isinstance(env, TimeLimit):
            steps = int(env._max_episode_steps)  # it has no public name
            limit = steps if limit is None else min(limit, steps)
        if not isinstance(env, STRIPPED):
            layers.append(env)
        if not isinstance(env, gymnasium.Wrapper):
            break
        env = env.env
    for outer, inner in itertools.pairwise(layers):
        outer.env = inner
    return layers, limit


STATE = "get_state()"  # stands for an attribute


class OwnState(dict[str, Any]):
    """What an environment's own `get_state` and `set_state` hold, as if it were its only attribute."""

    def __init__(self, env: Any) -> None:
        super().__init__()
        self._env = env

    def get(self, _name: str, _default: Any = None) -> Any:
        """Return the state."""
        return self._env.get_state()

    def __setitem__(self, _name: str, value: Any) -> None:
        self._env.set_state(value)


class Copier(pickle.Pickler):
    """Pickles by reference what must not be copied; notes the objects that are copied."""

    def __init__(self, file: io.BytesIO, box: SnapshotBox, seen: dict[int, Any] | None = None) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._box = box
        self._seen = seen

    def persistent_id(self, obj: Any) -> Any:
        """Return the reference of an object that is not copied, else None."""
        if type(obj) in VALUES:
            return None
        if isinstance(obj, Uniform):
            obj.__float__()
        known = self._box.reference(obj)
        if known is None and self._seen is not None and type(obj) is not tuple:
            self._seen[id(obj)] = obj
        return known

    def reducer_override(self, obj: Any) -> Any:
        """Let an object that passes on unknown attributes be filled without being asked for any.

        Such as ``__getattr__`` returning ``getattr(self._array, name)``: asked for ``__setstate__`` while it is empty,
        it asks itself for ``_array`` without end.
        """
        kind = type(obj)
        if isinstance(obj, type) or not hasattr(kind, "__getattr__") or hasattr(kind, "__setstate__"):
            return NotImplemented
        reduced = obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        if not isinstance(reduced, tuple) or len(reduced) < 3 or reduced[2] is None:
            return reduced
        entries = [*reduced[3:5], None, None][:2]
        return (*reduced[:3], *entries, fill)


def fill(obj: Any, state: Any) -> None:
    """Set the attributes of an empty object, as `pickle` does: of its dict, and of its slots."""
    own, slots = state if isinstance(state, tuple) else (state, None)
    vars(obj).update(own or {})
    for name, value in (slots or {}).items():
        object.__setattr__(obj, name, value)


class Restorer(pickle.Unpickler):
    """Reads what a `Copier` wrote."""

    def __init__(self, file: io.BytesIO, box: SnapshotBox) -> None:
        super().__init__(file)
        self._box = box

    def persistent_load(self, pid: Any) -> Any:
        """Return the object of a reference."""
        return self._box.references[pid]


@dataclass(frozen=True)
class Part:
    """Attributes that change, and share objects.

    Attributes:
        attributes: where they are.
        plain: whether they hold only Python's own containers, arrays, numbers and texts, so that they can be pickled
            without looking for references.
    """

    attributes: tuple[Attribute, ...]
    plain: bool

    @property
    def name(self) -> str:
        """Its names, as in the source of the environment."""
        return ", ".join(name for _, name in self.attributes)


class SnapshotBox:
    """The environment that is walked through, and where its parts are.

    Attributes:
        layers: the environment's own wrappers from the outside in; the last is the environment itself.
        time_limit: the steps after which a wrapper truncated its episodes, or None.
        parts: what a snapshot holds. Set by `watch`.
    """

    def __init__(self, env: Any, stand_ins: StandIns) -> None:
        self.references: dict[int, Any] = {}
        self._stand_ins = stand_ins
        self.layers, self.time_limit = layers_of(env)
        for layer in self.layers:
            self.references[id(layer)] = layer
        for stand_in in (stand_ins.generator, stand_ins.state, stand_ins.random):
            self.references[id(stand_in)] = stand_in
        self._begun = False  # `get_state` may need a reset first
        self._own_state: OwnState | None = None
        self._uncopyable: set[Attribute] = set()
        self._leave_out_uncopyable()
        self._replace_generators()
        self.parts: tuple[Part, ...] = ()

    def reference(self, obj: Any) -> int | None:
        """Return the reference of an object that is not copied, else None."""
        if id(obj) in self.references and self.references[id(obj)] is obj:
            return id(obj)
        stand_in = self._stand_ins.of(obj)
        if stand_in is not None:
            return id(stand_in)
        if isinstance(obj, ATOMS):
            self.references[id(obj)] = obj
            return id(obj)
        return None

    def begin(self) -> None:
        """Take note that the environment was reset, and has all its attributes."""
        self._begun = True
        self._leave_out_uncopyable()

    def _leave_out_uncopyable(self) -> None:
        """Take the environment's own word for its state where some attributes cannot be copied."""
        env = self.layers[-1]
        if not (callable(getattr(env, "get_state", None)) and callable(getattr(env, "set_state", None))):
            return
        for place, value in list(self.attributes()):
            try:
                Copier(io.BytesIO(), self).dump(value)
            except Exception:  # whatever an object's own __reduce__ raises
                self._uncopyable.add(place)
        if self._uncopyable:
            self._own_state = OwnState(env)

    def _holder(self, place: Attribute) -> dict[str, Any]:
        """Return what an attribute is kept in."""
        if place[1] == STATE and self._own_state is not None:
            return self._own_state
        holder: dict[str, Any] = vars(self.layers[place[0]])
        return holder

    def _replace_generators(self) -> None:
        """Replace all generators by their stand-ins, wherever they are kept."""
        values = dict(self.attributes())
        for (layer, name), value in self.unpack(self.pack(values, None)).items():
            if name != STATE:
                vars(self.layers[layer])[name] = value
        self.layers[-1]._np_random = self._stand_ins.generator
        self.layers[-1]._np_random_seed = -1

    def attributes(self) -> Iterator[tuple[Attribute, Any]]:
        """Yield the attributes of all layers."""
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            for name, value in vars(layer).items():
                if not (name == "env" and number < last) and (number, name) not in self._uncopyable:
                    yield (number, name), value
        if self._own_state is not None and self._begun:
            yield (last, STATE), self._own_state.get(STATE)

    def pack(self, value: Any, seen: dict[int, Any] | None) -> bytes:
        """Pickle a value; note the objects in it in `seen`.

        Raises:
            NotDiscoverableError: it cannot be copied; the message names the attribute.
        """
        file = io.BytesIO()
        try:
            Copier(file, self, seen).dump(value)
        except NotDiscoverableError:
            raise
        except Exception as error:  # whatever an object's own __reduce__ raises
            raise self._uncopied(error) from error
        return file.getvalue()

    def _uncopied(self, error: Exception) -> NotDiscoverableError:
        """Find the attribute that cannot be copied."""
        for (layer, name), value in self.attributes():
            try:
                Copier(io.BytesIO(), self).dump(value)
            except Exception:  # as above
                owner = type(self.layers[layer]).__name__
                return NotDiscoverableError(
                    f"it cannot be copied: its attribute {owner}.{name} holds {holding(value)} "
                    f"({' '.join(str(error).split())})"
                )
        return NotDiscoverableError(f"it cannot be copied: {error}")

    def unpack(self, data: bytes) -> Any:
        """Read what `pack` wrote.

        Raises:
            NotDiscoverableError: an object in it cannot be made again.
        """
        try:
            return Restorer(io.BytesIO(data), self).load()
        except Exception as error:  # whatever an object's own constructor raises
            raise NotDiscoverableError(
                f"it cannot be copied: {type(error).__name__}: {' '.join(str(error).split())}"
            ) from error

    def fingerprints(self, skip: Collection[Attribute] = ()) -> dict[Attribute, Any]:
        """Return a value for each attribute, but those to `skip`, that differs if the attribute does."""
        found = {}
        for place, value in self.attributes():
            if place in skip:
                continue
            found[place] = value if type(value) in VALUES else self.pack(value, None)
        return found

    def watch(self, changing: set[Attribute]) -> None:
        """Set the parts that a snapshot holds to the attributes in `changing`."""
        groups: list[tuple[set[Attribute], set[int], bool]] = []
        kept: list[Any] = []  # alive, so that no two objects have the same id
        for place in sorted(changing):
            value = self._holder(place).get(place[1], MISSING)
            seen: dict[int, Any] = {}
            self.pack(value, seen)
            kept.append(seen)
            plain = not isinstance(value, Missing) and all(map(is_plain, seen.values()))
            group = {place}, set(seen), plain
            for other in [other for other in groups if other[1] & group[1]]:
                groups.remove(other)
                group = (group[0] | other[0], group[1] | other[1], group[2] and other[2])
            groups.append(group)
        self.parts = tuple(Part(tuple(sorted(places)), plain) for places, _, plain in groups)
        self._places = [
            ([(self._holder(place), place[1]) for place in part.attributes], part.plain) for part in self.parts
        ]

    def save(self) -> Snapshot:
        """Take a snapshot."""
        values = []
        for places, plain in self._places:
            own, name = places[0]
            value = own.get(name, MISSING)
            if len(places) > 1:
                value = [own.get(name, MISSING) for own, name in places]
            if type(value) not in VALUES:
                value = Packed(pickle.dumps(value, 5) if plain else self.pack(value, None))
            values.append(value)
        return tuple(values)

    def restore(self, snapshot: Sequence[Any]) -> None:
        """Put the environment back into a snapshot."""
        for (places, plain), stored in zip(self._places, snapshot, strict=True):
            value = stored
            if type(stored) is Packed:
                value = pickle.loads(stored) if plain else self.unpack(stored)  # noqa: S301  # pickled by `save`
            if len(places) == 1 and value is not MISSING:
                own, name = places[0]
                own[name] = value
                continue
            for (own, name), one in zip(places, [value] if len(places) == 1 else value, strict=True):
                if one is MISSING:
                    own.pop(name, None)
                else:
                    own[name] = one

    def show(self, part: int, stored: Any) -> str:
        """Format the value of a part, such as ``hand=[1, 10]``."""
        value = self.unpack(stored) if type(stored) is Packed else stored
        names = [name for _, name in self.parts[part].attributes]
        values = value if len(names) > 1 else [value]
        text = ", ".join(f"{name}={one!r}" for name, one in zip(names, values, strict=True))
        text = " ".join(text.split())
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def is_plain(value: object) -> bool:
    """Whether a value is one of Python's own containers or an array, and so pickled without looking for references."""
    return type(value) in PLAIN or isinstance(value, np.dtype)


LONGEST = 80  # characters of a value in a message


class Packed(bytes):
    """A pickled value, as opposed to a value that is bytes itself."""


def holding(value: Any) -> str:
    """Describe a value by its type."""
    kind = type(value)
    return f"an object of {kind.__module__}.{kind.__qualname__}"
