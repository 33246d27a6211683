"""The page RELIABILITY.md, from the figures of the parts."""

from __future__ import annotations

import os
import platform
import re
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import Any

from deeptaxi.backend.exactness import chosen_backend, versions

HEAD = """Measured on {date}: {machine}, {cores} cores, Linux, Python {python}, TensorFlow {tensorflow}, Keras {keras}.
All of it again: `python -m tests.reliability` (two and a half hours on two cores); `--short` takes five minutes,
and `tests/reliability` has a still shorter form of each part."""
GOALS = {
    "kill": (
        "`kill -9` at random moments, then `train --resume`",
        "200 of 200 end with the digest of the undisturbed run",
    ),
    "faults": ("a full disk, I/O errors and broken renames inside of writes", "1,500 of 1,500 lose nothing"),
    "full-disk": (
        "small file systems, filled at random moments of a training",
        "500 of 500 lose no weights, and resume once there is room",
    ),
    "fuzzing": (
        "mutated model, checkpoint, table, configuration and log files",
        "10,000 of 10,000 are read or refused",
    ),
    "commands": ("generated command lines", "2,000 of 2,000 end as promised"),
    "surroundings": (
        "the same with closed streams and odd variables, limits and folders",
        "2,000 of 2,000 end as promised",
    ),
    "soak": ("ten minutes of training, in two forms", "memory grows by at most 2 %"),
    "determinism": ("the same training in 20 processes, for two networks", "one digest each"),
    "cost": ("what checkpoints and a resume cost", "≤ 3 % every 5 seconds; ≤ 2 s"),
}
EXPLAINED = {
    "faults": """Every operation on the disk of every write fails once, with no space, an error of the device, a quota
or a read-only file system, as half of a write, or so that all later ones fail too. What stood before must be there and
sound, or the new one whole; the user gets one line; it can be done again; and nothing is left behind
(`tests/reliability/disk_faults.py`).""",
    "full-disk": """A training runs on a small file system of its own, which another process fills at a random moment
until no byte or no inode is left, or reaches a quota (EDQUOT from one write on). It must end by itself; the newest
checkpoint of before must be there, or the model; the model must be that of the undisturbed training; and what is
missing of its log must be in its JSON. Once there is room, `--resume` must end with the same model
(`tests/reliability/full_disk.py`). Where no file system can be mounted, only quotas are reached.""",
    "kill": """A process is killed at a random moment and resumed, some twice and more, until the training is done.
Its digest must be that of the same training left alone, the run folder must hold what a run folder holds and nothing
else, and the log every update once. The moments are spread: at any time, as soon as the run folder is reserved,
inside of the write of a checkpoint, while the model is written, and during a resume. Most are forks of a process that
has imported Keras, some are whole processes (`determinism` shows that the two compute the same).""",
    "fuzzing": """Sound files that deeptaxi made are broken: bits, cuts and splices; members of archives, HDF5 and
arrays, with checksums made right; values of JSON and TOML; bombs, pickles, and names of code. Each is read by commands
(`evaluate`, `diagnose`, `export`, `explain`, `solve`, `train`, `train --resume`, `zoo`, `logs`) in a process that can
neither hang nor take more than its share of memory, in a folder with a module of code that nobody may import. It must
be read, or refused in one line; an unexpected error, a Python warning, a second line, NaN in JSON, more than 1 GiB, 30
seconds, or code that was run is a failure. So is a change to what a link leads to that stands in the place of a file or
a folder of a run (`tests/fuzzing`).""",
    "commands": """Made by a seeded generator from what click knows of the commands, half of them right. Each must end
with an exit code of 0, 1, 2, 3, 130 or 143; if it is refused, with one line on standard error, nothing on standard
output and no file changed; with `--json`, with one JSON document or nothing; without a traceback, a warning, or a file
opened for writing outside of its folder.""",
    "surroundings": """Each line is typed twice: as usual, and with standard streams closed in all combinations, or
with variables that mean nothing, limits on files, memory and open files, an odd umask, a folder that was removed, is
read-only, or holds modules that nobody may import (`tests/reliability/surroundings.py` has all of them). What must
be so of every line must be so here; and where the surrounding is harmless, the exit code must be the usual one, and
neither stream may fall silent or begin to speak.""",
    "soak": """What a process has allocated itself, from the end of the warm-up on: the least in the last tenth of the
time less the least in the first, as a share of all that is resident with the libraries that are mapped into it. *One
training* is one of a thousand million updates, ended by SIGTERM; *many trainings* are short ones in one process, one
after the other, of three kinds, two in the compiled loop and one in the gymnasium loop. Their programs are used again,
as TensorFlow never frees what it has compiled.""",
    "determinism": """Half of the processes find an empty compile cache, and half run beside two that keep both cores
busy. One more is a fork.""",
    "cost": """Of a checkpoint: pairs of the same training with checkpoints every 5 seconds and without, in turns on
one core; *share* is the time inside of the checkpointer over that of the training. Of a resume: from the imports' end
until the next update, for Taxi with 500,000 transitions in the replay buffer, compilation by a filled cache
included.""",
}


def page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page; `found` has the outcome of every part as a mapping."""
    known = versions(chosen_backend())
    head = HEAD.format(
        date=max(outcome["date"] for outcome in found.values()),
        machine=platform.machine(),
        cores=os.cpu_count(),
        python=platform.python_version(),
        tensorflow=known.get("tensorflow", "none"),
        keras=known.get("keras", "none"),
    )
    parts = [part for part in GOALS if part in found]
    rows = [(part, *GOALS[part], result(found[part]), minutes(found[part]), found[part]["date"]) for part in parts]
    blocks = ["# What a run survives", "<!-- Written by `python -m tests.reliability`. -->", wrapped(head)]
    blocks.append(table(("part", "what", "goal", "found", "time", "measured"), rows))
    for part in parts:
        blocks += section(part, found[part])
    return "\n\n".join(blocks) + "\n"


def minutes(outcome: Mapping[str, Any]) -> str:
    """Return how long a part took."""
    return f"{outcome['seconds'] / 60:.0f} min"


def result(outcome: Mapping[str, Any]) -> str:
    """Return how many trials were sound, and whether all else was."""
    failed = len(outcome["failures"])
    return f"{outcome['sound']:,} of {outcome['done']:,}" + (f", {failed} failures" if failed else "")


def section(part: str, outcome: Mapping[str, Any]) -> list[str]:
    """Return what a part is, its figures, and what failed in it."""
    figures = [f"- {name}: {percent(name, value)}" for name, value in outcome["figures"].items()]
    failures = [f"- **failed:** {failure}" for failure in outcome["failures"]]
    lines = [wrapped(line, "  ") for line in (*figures, *failures)]
    return [f"## {part}", *filter(None, (wrapped(EXPLAINED.get(part, "")), "\n".join(lines)))]


def wrapped(text: str, indent: str = "") -> str:
    """Return a paragraph in lines, with what is code in one of them."""
    whole = re.sub("`[^`]*`", lambda code: code[0].replace(" ", "\0"), " ".join(text.split()))
    filled = textwrap.fill(whole, 120, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
    return filled.replace("\0", " ")


def percent(name: str, value: Any) -> str:
    """Return a figure as text; those that are shares as such."""
    return f"{value:.2%}" if name.endswith(("growth", "over smallest")) else shown(value)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, its columns as wide as they must be."""
    wide = [max(len(row[column]) for row in [head, *rows, ["---"] * len(head)]) for column in range(len(head))]
    lines = [head, ["-" * width for width in wide], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, wide, strict=True)) + " |" for line in lines
    )


def shown(value: Any) -> str:
    """Return a figure as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {shown(item)}" for name, item in value.items())
    if isinstance(value, list):
        return " to ".join(map(shown, value))
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def today() -> str:
    """Return the date."""
    return time.strftime("%Y-%m-%d")
