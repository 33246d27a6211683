"""A campaign: so many broken files of each kind, and figures of what became of them."""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzzing.readers import KINDS
from tests.fuzzing.supervision import Case, Found, make_seeds, supervise

TURNS = {"model": 6, "graph": 4, "table": 6, "foreign": 6, "log": 5, "card": 3, "config": 3, "checkpoint": 2, "link": 1}


@dataclass
class Tally:
    """What became of the files of one kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0  # the longest
    memory: int = 0  # bytes, the most

    def count(self, found: Found) -> None:
        """Count one."""
        self.outcomes[found.outcome] += 1
        self.seconds = max(self.seconds, found.seconds)
        self.memory = max(self.memory, found.memory)


@dataclass
class Figures:
    """What a campaign found, by kind, and every failure with the command that shows it again."""

    kinds: dict[str, Tally] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many files were read."""
        return sum(tally.outcomes.total() for tally in self.kinds.values())


def warm() -> None:
    """Import all that commands import, and compute nothing: a fork of this process can begin at once."""
    from deeptaxi.backend import keras_backend

    keras_backend.start()
    from deeptaxi.cli.main import COMMANDS

    names = [f"deeptaxi.cli.{name}_command" for name in COMMANDS]
    names += [
        "deeptaxi.learning.trainer",
        "deeptaxi.storage.tensorboard",
        "gymnasium.envs.toy_text",
        "h5py",
        "tomli_w",
    ]
    for name in (*names, "deeptaxi.api.resume", "deeptaxi.network.inspect", "deeptaxi.network.plain"):
        importlib.import_module(name)


def cases(count: int, seed: int, kinds: Sequence[str]) -> Iterator[Case]:
    """Yield `count` cases, the kinds in turns, those that are read in no time more often."""
    numbers: Counter[str] = Counter()
    turns = [kind for turn in range(max(TURNS.values())) for kind in kinds if turn < TURNS[kind]]
    for number in range(count):
        kind = turns[number % len(turns)]
        yield Case(kind, numbers[kind], seed)
        numbers[kind] += 1


def run(
    count: int,
    seed: int = 0,
    kinds: Sequence[str] = tuple(KINDS),
    jobs: int = 2,
    keep: Path | None = None,
    show: bool = False,
) -> Figures:
    """Break `count` files and read them.

    Args:
        count: files in all.
        seed: of the random numbers; the same one breaks the same files in the same way.
        kinds: which kinds of files.
        jobs: processes that read.
        keep: a folder for the sound files, which is used again; None for one that goes away.
        show: whether to say on standard error how far it is, and what failed.
    """
    warm()
    figures = Figures({kind: Tally() for kind in kinds})
    with contextlib.ExitStack() as ending:
        sound = keep or Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="sound-")))
        sound.mkdir(parents=True, exist_ok=True)
        if not (sound / "foreign.keras").exists():
            make_seeds(sound)
        for done, found in enumerate(supervise(cases(count, seed, kinds), sound.resolve(), jobs), start=1):
            figures.kinds[found.case.kind].count(found)
            if found.outcome == "failed":
                figures.failures.append(describe(found))
                if show:
                    print(figures.failures[-1], file=sys.stderr, flush=True)
            if show and done % 500 == 0:
                print(f"{done:,} of {count:,} files, {len(figures.failures)} failed", file=sys.stderr, flush=True)
    return figures


def describe(found: Found) -> str:
    """Return a failure with what makes it again."""
    kind, number, seed = found.case
    return f"{kind} {number} of seed {seed}: deeptaxi {found.command}: {found.said}"


def table(figures: Figures) -> str:
    """Return the figures as lines."""
    lines = [f"{'kind':<12}{'files':>8}{'read':>8}{'refused':>9}{'failed':>8}{'longest':>10}{'most memory':>13}"]
    for kind, tally in figures.kinds.items():
        read, refused, failed = (tally.outcomes[name] for name in ("read", "refused", "failed"))
        counts = f"{tally.outcomes.total():>8,}{read:>8,}{refused:>9,}{failed:>8,}"
        lines.append(f"{kind:<12}{counts}{tally.seconds:>8.1f} s{tally.memory / 2**20:>9,.0f} MiB")
    return "\n".join(lines)
