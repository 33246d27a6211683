"""Cassandra's `.MDP` files, as of pomdp-solve, without observations.

    discount: 0.95
    values: reward                       or cost
    states: here there                   or a number
    actions: stay go                     or a number
    start: 1.0 0.0                       or uniform, a state, "include: …", "exclude: …"
    T: go : here : there 1.0             a number, a row, or a matrix; `identity`, `uniform`; * is any
    R: go : here : there 5.0             likewise; a last ": *" for the observation may follow

A later entry replaces an earlier one. What is not given is 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deeptaxi.errors import UsageError, printable
from deeptaxi.mdp.files.columns import text_of
from deeptaxi.mdp.files.outcomes import Facts, Outcomes, Reading, ReadOptions, Source, assemble_table
from deeptaxi.mdp.table import Floats, TableError, check_memory

TOKEN = re.compile(r":|\*|[^\s:*]+")
HEADS = ("discount", "values", "states", "actions", "observations", "start", "T", "R", "O", "E")
SOME = ("include", "exclude")
PARTIAL = (
    "{} is partially observable: it has observations instead of states, and deeptaxi's networks see the state; "
    "take the .MDP without observations, if there is one"
)


@dataclass
class Tokens:
    """The words of a file, each with its line."""

    source: Source
    words: list[tuple[str, int]]
    at: int = 0

    def peek(self, ahead: int = 0) -> str:
        """Return a word to come, or an empty string at the end."""
        return self.words[self.at + ahead][0] if self.at + ahead < len(self.words) else ""

    @property
    def line(self) -> int:
        """The line of the next word; at the end, of the last."""
        return self.words[min(self.at, len(self.words) - 1)][1]

    def take(self) -> str:
        """Return the next word."""
        word = self.peek()
        if not word:
            raise self.fault("the file ends too early")
        self.at += 1
        return word

    def expect(self, word: str) -> None:
        """Take a word that must come.

        Raises:
            TableError: another comes.
        """
        found = self.peek()
        if found != word:
            raise self.fault(f"expected '{word}', received {printable(found)[:40]!r}")
        self.at += 1

    def fault(self, what: str) -> TableError:
        """Create the error for the line of the next word."""
        return self.source.fault(what, self.line)

    def at_head(self) -> bool:
        """Whether a section begins here, or the file ends."""
        head = self.peek()
        return not head or (head in HEADS and (self.peek(1) == ":" or (head == "start" and self.peek(1) in SOME)))

    def number(self) -> float:
        """Take a number.

        Raises:
            TableError: it is not a finite number.
        """
        word = self.peek()
        try:
            value = float(word)
        except ValueError:
            raise self.fault(f"{printable(word)[:40]!r}: expected a number") from None
        if not np.isfinite(value):
            raise self.fault(f"{printable(word)}: expected a finite number")
        self.at += 1
        return value

    def block(self, size: int, what: str) -> Floats:
        """Take as many numbers as a row or matrix has."""
        found: list[float] = []
        for _ in range(size):
            if self.at_head():
                raise self.fault(f"{len(found):,} numbers, where {what} has {size:,}")
            found.append(self.number())
        return np.array(found)

    def names(self) -> list[str]:
        """Take all words to the next section."""
        found: list[str] = []
        while not self.at_head():
            found.append(self.take())
        return found


@dataclass
class Named:
    """States or actions: their names, or only their number."""

    kind: str
    count: int
    names: dict[str, int]

    def find(self, tokens: Tokens) -> slice | int:
        """Take a name, a number or ``*``.

        Raises:
            TableError: there is no such state or action.
        """
        word = tokens.peek()
        if word == "*":
            tokens.at += 1
            return slice(None)
        number = self.names.get(word)
        if number is None and word.isascii() and word.isdecimal() and int(word) < self.count:
            number = int(word)
        if number is None:
            raise tokens.fault(f"no {self.kind} {printable(word)[:40]!r}: there are {self.count:,}, from 0")
        tokens.at += 1
        return number


def read_cassandra(path: Path, options: ReadOptions) -> Reading:
    """Read an `.MDP`.

    Raises:
        UsageError: it is partially observable, or the start in `options` does not exist.
        TableError: it is damaged, or its rows do not sum to 1.
    """
    source = Source(str(path))
    words = [
        (word, number)
        for number, line in enumerate(text_of(path).splitlines(), 1)
        for word in TOKEN.findall(line.partition("#")[0])
    ]
    if not words:
        raise TableError(f"{path} is empty")
    model = Model(Tokens(source, words))
    while model.tokens.peek():
        model.read_section()
    return model.reading(options)


class Model:
    """What was read so far."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.discount: float | None = None
        self.sign = 1.0
        self.parts: dict[str, Named] = {}
        self.start: Floats | None = None
        self.chance = np.zeros((0, 0, 0))
        self.reward = np.zeros((0, 0, 0))
        self.lines = np.zeros((0, 0), np.int64)

    def read_section(self) -> None:
        """Read one section.

        Raises:
            TableError: it is not known, or wrong.
        """
        head = self.tokens.peek()
        readers: dict[str, Callable[[], None]] = {
            "discount": self.read_discount, "values": self.read_values, "states": self.read_states,
            "actions": self.read_actions, "start": self.read_start, "T": self.read_transition, "R": self.read_reward,
        }  # fmt: skip
        if head in ("observations", "O"):
            raise UsageError(PARTIAL.format(self.tokens.source.name))
        if head not in readers:
            raise self.tokens.fault(f"{printable(head)[:40]!r}: expected one of {', '.join(readers)}")
        self.tokens.at += 1
        if head != "start":
            self.tokens.expect(":")
        readers[head]()

    def read_discount(self) -> None:
        """Read the discount."""
        self.discount = self.tokens.number()

    def read_values(self) -> None:
        """Read whether numbers are rewards or costs."""
        word = self.tokens.take()
        if word not in ("reward", "cost"):
            self.tokens.at -= 1
            raise self.tokens.fault(f"values: {printable(word)[:40]!r}: expected reward or cost")
        self.sign = 1.0 if word == "reward" else -1.0

    def read_states(self) -> None:
        """Read the states."""
        self.parts["states"] = self.read_named("state")

    def read_actions(self) -> None:
        """Read the actions."""
        self.parts["actions"] = self.read_named("action")

    def read_named(self, kind: str) -> Named:
        """Read a number, or names."""
        line, words = self.tokens.line, self.tokens.names()
        if len(words) == 1 and words[0].isascii() and words[0].isdecimal() and 0 < int(words[0]) < 10**9:
            return Named(kind, int(words[0]), {})
        if not words or len(set(words)) != len(words) or any(word in (":", "*") or word[0].isdigit() for word in words):
            raise self.tokens.source.fault(
                f"{kind}s: expected how many, or different names that begin with a letter", line
            )
        return Named(kind, len(words), {word: number for number, word in enumerate(words)})

    @property
    def sizes(self) -> tuple[int, int]:
        """S and A.

        Raises:
            TableError: they have not been read.
        """
        for part in ("states", "actions"):
            if part not in self.parts:
                raise self.tokens.fault(f"'{part}:' must come before this")
        return self.parts["states"].count, self.parts["actions"].count

    def prepare(self) -> None:
        """Make room for transitions and rewards once the sizes are known."""
        states, actions = self.sizes
        if not self.chance.size:
            check_memory((states, actions, states))
            self.chance, self.reward = np.zeros((actions, states, states)), np.zeros((actions, states, states))
            self.lines = np.zeros((actions, states), np.int64)

    def read_start(self) -> None:
        """Read the start distribution."""
        states, _ = self.sizes
        tokens, named = self.tokens, self.parts["states"]
        how = tokens.take() if tokens.peek() in SOME else ""
        tokens.expect(":")
        self.start = np.zeros(states)
        if how:
            while not tokens.at_head():
                self.start[named.find(tokens)] = 1
            self.start = 1 - self.start if how == "exclude" else self.start
        elif tokens.peek() == "uniform":
            tokens.at += 1
            self.start[:] = 1
        elif tokens.peek() in named.names or (states > 1 and tokens.peek().isdecimal() and self.is_last(1)):
            self.start[named.find(tokens)] = 1
        else:
            self.start = tokens.block(states, "the start distribution")
            return
        if not self.start.any():
            raise tokens.fault("start: no state is left to start in")
        self.start /= self.start.sum()

    def is_last(self, ahead: int) -> bool:
        """Whether a section begins after `ahead` words."""
        self.tokens.at += ahead
        last = self.tokens.at_head()
        self.tokens.at -= ahead
        return last

    def read_where(self) -> list[slice | int]:
        """Take up to three parts between colons: action, state, next state."""
        tokens = self.tokens
        found: list[slice | int] = []
        for named in (self.parts["actions"], self.parts["states"], self.parts["states"]):
            found.append(named.find(tokens))
            if tokens.peek() != ":":
                break
            tokens.at += 1
        return found

    def read_transition(self) -> None:
        """Read an entry of T."""
        self.prepare()
        line = self.tokens.line
        where = self.read_where()
        states, _ = self.sizes
        self.lines[tuple(where[:2])] = line
        word = self.tokens.peek()
        if word in ("identity", "uniform") and len(where) < 3:
            if word == "identity" and len(where) == 2:
                raise self.tokens.fault("identity is for a matrix: name the action alone")
            self.tokens.at += 1
            self.chance[tuple(where)] = np.eye(states) if word == "identity" else 1 / states
        elif word == "reset" and len(where) == 2:
            self.tokens.at += 1
            self.chance[tuple(where)] = np.full(states, 1 / states) if self.start is None else self.start
        else:
            self.chance[tuple(where)] = self.read_numbers(len(where))

    def read_reward(self) -> None:
        """Read an entry of R."""
        self.prepare()
        where = self.read_where()
        if self.tokens.peek() == "*" and len(where) == 3:  # the observation
            self.tokens.at += 1
        self.reward[tuple(where)] = self.read_numbers(len(where))

    def read_numbers(self, given: int) -> Floats:
        """Take a number, a row or a matrix, depending on how many parts are given."""
        states, _ = self.sizes
        shape, what = {3: ((), "an entry"), 2: ((states,), "a row"), 1: ((states, states), "a matrix")}[given]
        return self.tokens.block(int(np.prod(shape)), what).reshape(shape)

    def reading(self, options: ReadOptions) -> Reading:
        """Make the table."""
        states, actions = self.sizes
        self.prepare()
        action, state, next_state = np.nonzero(self.chance)
        where = (action, state, next_state)
        named, line = self.parts, self.lines[action, state]
        outcomes = Outcomes(
            state,
            action,
            next_state,
            self.chance[where],
            self.sign * self.reward[where],
            np.zeros(len(state), np.bool_),
            line,
        )
        facts = Facts(
            states,
            actions,
            self.start,
            self.discount,
            state_names=tuple(map(printable, named["states"].names)) or None,
            action_names=tuple(map(printable, named["actions"].names)) or None,
            cure="give it a T; where a state is an end, let each action stay there, with a reward of 0",
        )
        found = assemble_table(self.tokens.source, outcomes, facts, options)
        return Reading(
            found.table, f"Cassandra's MDP{', costs as negative rewards' if self.sign < 0 else ''}", found.notes
        )
