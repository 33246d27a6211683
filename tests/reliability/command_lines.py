"""Command lines made from what click knows of the commands, right and wrong in all ways that we could think of.

Every parameter of every command is taken from its declaration, so a new option comes in by itself: its values come from
its type (`of_type`) and, where the name tells more, from `KNOWN`; the first half of what either gives is good. Every
second line has good values only; in the others each value may be good, beside the limits of its type, or `JUNK`.

Trainings stay tiny: `SMALL` comes first, and what would make work for hours without being wrong is never drawn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import click

from deeptaxi.cli.main import cli
from deeptaxi.cli.options import Sizes
from tests.reliability.workspace import ENVIRONMENTS, MODELS, PATHS, TOMLS

JUNK = (
    *("", " ", "x", "-", "--", "=", "a=b", "None", "null", "true", "[]", "{}", "'", '"', "%s", "{0}", "$HOME", "~"),
    *("-1", "0", "1.5", "-0.0", "1e400", "1e-400", "nan", "-nan", "inf", "-inf", "Infinity", "0x10", "1_0", " 5 ", "٣"),
    *("9" * 30, "-" + "9" * 30, "9" * 5000, "1" + "0" * 400, "2147483648", "9223372036854775808", "x" * 3000),
    *("ü", "😀", "\udcff", "\x1b[31mred", "a\nb", "a\tb", "\r", "\x07", "\u202eleft", "a/b", "../..", "/", "[/bold]"),
)  # fmt: skip
FLOATS = ["0.5", "0.9", "0.001", "0.25", "1", "1e-30", "1e30"]
INTEGERS = ["1", "2", "3", "5", "4", "0", "-1", "100000", "1000000000"]
SIZES = ("8", "8,4", "4,4,4,4,4,4", "0", "-1", "8,", ",", "8;4", "8.0", "1000000000", "8, 4")
BRIEF = (
    *("--updates", "5", "--environments", "2", "--batch-size", "4", "--replay-start", "8", "--eval-every", "5"),
    *("--replay-capacity", "100"),
)
SMALL = {
    "train": (*BRIEF, "--no-tensorboard"),
    "sweep": (*BRIEF, "--no-tensorboard", "--workers", "0"),
    "tune": (*BRIEF, "--trials", "1", "--seeds", "0"),
    "evaluate": ("--episodes", "2"),
    "watch": ("--max-steps", "3", "--plain"),
    "diagnose": ("--episodes", "2"),
}
KNOWN: dict[str, Sequence[str]] = {
    "env": ENVIRONMENTS,
    "model": MODELS,
    "run": MODELS,
    "runs": MODELS,
    "resume": ("part", "part", "part", "run", "half", "folder", "missing"),
    "folder": (".", "models", "folder", "missing", "logs", "file.txt"),
    "config_file": TOMLS,
    "preset": ("table", "none", "frozenlake", "taxi", "taxi.q-table", "Taxi", "cliff"),
    "env_args": (
        *("is_slippery=false", "is_slippery=true", "map_name=4x4", "map_name=8x8", "desc=['SFFG']", "is_slippery=1"),
        *("success_rate=0.5", "is_slippery='no'", "x", "=1", "max_episode_steps=5", "max_episode_steps=-1", "desc=[]"),
        *("render_mode=ansi", "render_mode=1", "a b=1", "map_name=9x9", "desc=7"),
        *("is_slippery=nan", "success_rate=2", "id=FrozenLake-v1", "is_rainy=true", "kwargs={}", "self=1", "ü=1"),
    ),
    "transitions": ("0,1,-1,4", "0,0,0,0,terminated", "1,0,1,2", "99,0,0,0", "0,0,inf,0", "0,0,0", "0,0,1e39,1"),
    "gradient": ("0,8,0,0", "1", "nan,1", "1e308,1e308", ",", "1e-320,0"),
    "updates": ("1", "7"),
    "steps_per_update": ("1", "3"),
    "episodes": ("1", "3"),
    "max_steps": ("1", "5"),
    "replay__start": ("0", "1", "200"),
    "stop_after": ("1", "3", "0"),
    "speed": ("1000", "4", "0", "1001"),
}  # fmt: skip
RESUMES = 0.2  # share of the trainings
LEFT_OUT = ("debug",)  # it shows tracebacks
WEIGHTS = {"train": 3, "explain update": 3, "evaluate": 2, "watch": 2, "diagnose": 2}


@dataclass(frozen=True)
class Line:
    """One command line."""

    number: int
    words: tuple[str, ...]
    as_json: bool


@cache
def commands() -> dict[str, click.Command]:
    """Return all commands that are no groups, by what is typed."""
    found: dict[str, click.Command] = {}

    def walk(group: click.Group, path: str) -> None:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                walk(command, f"{path}{name} ")
            elif command is not None:
                found[f"{path}{name}"] = command

    walk(cli, "")
    return found


def generate(count: int, seed: int, often: Mapping[str, int] = WEIGHTS) -> Iterator[Line]:
    """Yield `count` lines; the same ones for the same seed, the same commands, and how `often` each comes."""
    names = list(commands())
    weights = [often.get(name, 1) for name in names]
    for number in range(count):
        chance = random.Random(f"{seed}/{number}")  # nothing is to be kept secret
        name = chance.choices(names, weights)[0]
        words = typed(name, commands()[name], chance)
        yield Line(number, tuple(words), "--json" in words)


def typed(name: str, command: click.Command, chance: random.Random) -> list[str]:
    """Return the words of one line."""
    good = chance.random() < 0.5
    if not good and chance.random() < 0.04:  # no command at all, or none that exists
        return [mangled(name, chance), *chance.choices(JUNK, k=chance.randrange(3))]
    arguments: list[str] = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            times = chance.randrange(1, 4) if parameter.nargs != 1 else 1 if good else chance.choice([0, 1, 1, 1, 1, 2])
            arguments += [value_of(parameter, chance, good) for _ in range(times)]
    options = [item for item in command.params if isinstance(item, click.Option) and item.name not in LEFT_OUT]
    words: list[str] = []
    for option in chance.sample(options, min(len(options), chance.choices([0, 1, 2, 3, 5], [2, 5, 4, 2, 1])[0])):
        words += spelled(option, chance, good)
    if name == "train" and chance.random() < RESUMES:
        arguments, words = ([], ["--quiet"]) if good else (arguments, words)
        words = [*words, "--resume", chance.choice(KNOWN["resume"])]
    if chance.random() < 0.5 and any("--json" in option.opts for option in options):
        words.append("--json")
    parts = [[word for word in arguments if word != "--"], words]
    chance.shuffle(parts)
    small = () if any(word.startswith("--resume") for word in words) else SMALL.get(name, ())
    return [*name.split(), *small, *parts[0], *parts[1]]


def mangled(name: str, chance: random.Random) -> str:
    """Return something that resembles a command or does not."""
    return chance.choice([name[:-1], name.upper(), name + name, chance.choice(JUNK), "--" + name])


def spelled(option: click.Option, chance: random.Random, good: bool) -> list[str]:
    """Return an option as one or two words; now and then misspelled, or without its value."""
    word = chance.choice([*option.opts, *option.secondary_opts])
    fault = 1.0 if good else chance.random()
    if fault < 0.03:
        return [word[:-1]]
    if option.is_flag:
        return [word + "=1"] if fault < 0.06 else [word]
    if fault < 0.06:
        return [word]
    value = value_of(option, chance, good)
    return [f"{word}={value}"] if word.startswith("--") and chance.random() < 0.3 else [word, value]


def value_of(parameter: click.Parameter, chance: random.Random, good: bool) -> str:
    """Return a value: a good one, or whatever its name or its type suggest, or junk."""
    name = parameter.name or ""
    known = KNOWN.get(name) or KNOWN.get(name.rpartition("__")[2]) or of_type(parameter.type)
    if good:
        return chance.choice(known[: (len(known) + 1) // 2])
    return chance.choice(known if chance.random() < 0.7 else JUNK)


def of_type(kind: Any) -> Sequence[str]:
    """Return values of a click type, those beside its limits too."""
    if isinstance(kind, click.Choice):
        names = [str(choice) for choice in kind.choices]
        return [*names, *(name.upper() for name in names[1:]), ",".join(names)]
    if isinstance(kind, click.Path):
        return PATHS
    if isinstance(kind, Sizes):
        return SIZES
    ends = [end for end in (getattr(kind, "min", None), getattr(kind, "max", None)) if end is not None]
    if isinstance(kind, click.types.FloatParamType | click.types.FloatRange):
        return [*FLOATS, *(str(end + by) for end in ends for by in (-0.1, 0, 0.1))]
    if isinstance(kind, click.types.IntParamType | click.types.IntRange):
        return [*INTEGERS, *(str(end + by) for end in ends for by in (-1, 0, 1))]
    return ["x", "1", "", "ü"]
