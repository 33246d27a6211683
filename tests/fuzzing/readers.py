"""What reads each kind of file: commands typed in this process, and what must not come of them."""

from __future__ import annotations

import contextlib
import io
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzzing import graphs, hostile, links, mutants
from tests.fuzzing.seeds import FOREIGN

Break = Callable[[random.Random, bytes], bytes]
ENV = ["--env", "FrozenLake-v1", "--env-arg", "is_slippery=false"]
CHEAP = [
    "--updates", "1", "--environments", "2", "--replay-capacity", "64", "--batch-size", "4", "--replay-start", "4",
    "--hidden", "4", "--loop", "gymnasium", "--eval-every", "1", "--n-step", "1", "--json", "--steps-per-update", "1",
]  # fmt: skip


# What Python, NumPy and Keras say where nobody has thought of something.
SIGNS = re.compile(
    r"Traceback|\w+Warning: |unexpected \w+(Error|Exception): |not enough memory|more memory than there is"
)


@dataclass(frozen=True)
class Kind:
    """A kind of file: which ones there are, how they are broken and how often, what reads them, who looks again."""

    files: tuple[str, ...]
    breaks: tuple[tuple[Break, int], ...]
    readers: tuple[Callable[[str], list[str]], ...]
    look: Callable[[list[str], str], list[str]] | None = None  # at what came out


def on_run(*words: str) -> Callable[[str], list[str]]:
    """Return a reader that takes the run that a file belongs to; a `.keras` file stands for itself, on FrozenLake."""

    def reader(file: str) -> list[str]:
        parts = Path(file).parts
        run = [file, *ENV] if file.endswith(".keras") and parts[0] != "models" else [f"models/{parts[1]}"]
        return [words[0], *run, *words[1:]]

    return reader


def on_file(*words: str) -> Callable[[str], list[str]]:
    """Return a reader that takes the file; ``FILE`` stands for it."""
    return lambda file: [word.replace("FILE", file) for word in words]


def broken_card(rng: random.Random, content: bytes) -> bytes:
    """Break a card, as facts or as a page."""
    return mutants.as_json(rng, content) if content[:1] == b"{" else mutants.text(rng, content)


def broken_log(rng: random.Random, content: bytes) -> bytes:
    """Break a log, or the counts that belong to it."""
    return mutants.as_archive(rng, content) if content[:2] == b"PK" else mutants.as_lines(rng, content)


def broken_table(rng: random.Random, content: bytes) -> bytes:
    """Break a table of another form: an archive, a text, or the bytes of anything else."""
    if content[:2] == b"PK":
        return (mutants.as_archive if rng.random() < 0.9 else hostile.with_pickle)(rng, content)
    return mutants.text(rng, content) if content.isascii() and rng.random() < 0.7 else mutants.raw(rng, content)


def resume(file: str) -> list[str]:
    """Resume from a checkpoint for an update or two."""
    run = Path(file).parent.parent
    return ["train", "--resume", str(run), "--stop-after", "9" if run.name == "fit" else "10", "--json"]


def seen(reader: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """Return a reader that takes a run, also where the file is a copy of its settings."""
    return lambda file: reader("models/q/config.toml" if file == "settings.toml" else file)


COUNTS = ("updates", "best_update", "environment_steps", "train_seconds", "compile_seconds")  # of a training's JSON
PAGE = "card"  # no command of deeptaxi: reads a card and makes a page of it, as `export --all` does, but in no time
SEEN = (
    on_run("evaluate", "--episodes", "2", "--json"),
    on_run("evaluate", "--episodes", "2"),
    on_run("diagnose", "--json"),
    on_run("diagnose"),
)
KINDS = {
    "model": Kind(
        ("models/q/model.keras", "models/d/model.keras", "agent.keras", "plain.keras", "foreign.keras"),
        ((mutants.as_archive, 18), (hostile.bomb, 1), (hostile.with_pickle, 1)),
        (
            *SEEN,
            on_run("export", "--format", "npz", "--out", "out.npz", "--json"),
            on_run("explain", "update", "--json"),
        ),
    ),
    "graph": Kind(
        ("optimal.keras",),
        ((graphs.around_table, 1),),
        (
            on_run("evaluate", "--episodes", "2", "--json"),
            on_run("diagnose"),
            on_run("diagnose"),
            on_run("diagnose"),
            on_run("export", "--format", "npz", "--out", "out.npz", "--json"),
            on_run("export", "--format", "plain", "--out", "out.keras", "--json"),
            on_run("explain", "update", "--json"),
        ),
        graphs.false_verdicts,
    ),
    "checkpoint": Kind(
        tuple(f"models/{name}/checkpoints/000002.npz" for name in ("gymnasium", *["table"] * 3, "fit")),
        (
            (mutants.as_archive, 12),
            (mutants.as_counts, 6),
            (hostile.bomb, 1),
            (hostile.with_pickle, 1),
            (hostile.module_in_checkpoint, 4),
        ),
        (resume,),
    ),
    "table": Kind(
        ("table.npz",),
        ((mutants.as_archive, 18), (hostile.bomb, 1), (hostile.with_pickle, 1)),
        (
            on_file("solve", "FILE", "--json"),
            on_file("solve", "FILE"),
            on_file("evaluate", "models/q", "--env", "FILE", "--episodes", "2", "--json"),
            on_file("diagnose", "models/q", "--env", "FILE", "--json"),
            on_file("train", "FILE", *CHEAP, "--out", "models/new"),
            on_file("watch", "models/q", "--env", "FILE", "--max-steps", "5"),
        ),
    ),
    "foreign": Kind(
        tuple(f"tables/{name}" for name in FOREIGN),
        ((broken_table, 1),),
        (
            on_file("solve", "FILE", "--json"),
            on_file("convert", "FILE", "out.npz"),
            on_file("convert", "FILE", "out.npz", "--json", "--prior", "0.5"),
        ),
    ),
    "config": Kind(
        ("models/q/config.toml", "models/d/config.toml", "settings.toml"),
        ((mutants.as_toml, 14), (hostile.module_in_settings, 6)),
        (
            *map(seen, (*SEEN[::2], on_run("watch", "--max-steps", "2"), on_run("report", "--out", "report.html"))),
            seen(on_run("export", "--format", "npz", "--out", "out.npz")),
            seen(on_run("explain", "update", "--json")),
            on_file("zoo", "--json"),
            on_file("train", "--config", "FILE", *CHEAP, "--out", "models/new"),
            on_file("train", "FrozenLake-v1", "--config", "FILE", *CHEAP, "--out", "models/new"),
            on_file("explain", "update", "--env", "FrozenLake-v1", "--config", "FILE", "--json"),
        ),
    ),
    "card": Kind(
        ("models/q/card.json", "models/d/card.json", "models/q/card.md"),
        ((broken_card, 1),),
        (on_file("zoo", "--json"), on_file("zoo"), on_run(PAGE)),
    ),
    "log": Kind(
        ("logs/q/metrics.jsonl", "logs/d/metrics.jsonl", "logs/q/visits.npz"),
        ((broken_log, 1),),
        (
            lambda file: ["logs", str(Path(file).parent)],
            lambda file: ["logs", str(Path(file).parent), "--json"],
            lambda file: ["diagnose", str(Path(file).parent), "--json"],
            on_run("diagnose"),
            on_run("report", "--out", "report.html", "--json"),
        ),
    ),
    "link": Kind(
        links.PLACES,
        ((mutants.raw, 1),),  # links stand in their places instead (`links.lay`)
        (
            *[on_file("train", "--resume", "models/table", "--json")] * 2,
            on_file("train", "FrozenLake-v1", "--q-table", *CHEAP, "--force", "--out", "models/table"),
            on_file("train", "FrozenLake-v1", "--q-table", *CHEAP, "--out", "models/table"),
            on_file("report", "models/q", "--out", "out.html"),
            on_file("report", "models/q", "--out", "out.html", "--force"),
            on_file("solve", "FrozenLake-v1", "--out", "out.csv"),
            on_file("export", "models/q", "--format", "npz", "--out", "out.npz", "--force"),
        ),
    ),
}  # fmt: skip


def type_in(words: list[str]) -> tuple[int, str, str]:
    """Type a command in this process; return its exit code, standard output and standard error."""
    from deeptaxi.cli.main import cli, fail

    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if words[0] == PAGE:
                make_page(Path(words[1]))
            else:
                cli.main(words, prog_name="deeptaxi")
        except Exception as error:  # of a page
            with contextlib.suppress(SystemExit):
                fail(error)
            code = 1
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    for stream in (out, err):
        stream.flush()
    return code, *(stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]


def make_page(run: Path) -> None:
    """Read the card of a run, and make the page of its exports."""
    from deeptaxi.storage.model_card import markdown, read_card

    made = {"file": "x", "format": "npz", "max_difference": 0.0, "outside": "error"}
    if (facts := read_card(run)) is not None:
        markdown({**facts, "exports": [made]}).encode()


def faults(code: int, out: str, err: str, as_json: bool) -> list[str]:
    """Return what should not have come of a command."""
    import json

    lines = err.strip().splitlines()
    errors = [line for line in lines if line.startswith("Error: ")]
    found = [line[:400] for line in lines if SIGNS.search(line)]
    if code not in (0, 1, 2, 3):
        found.append(f"it ended with {code}")
    if code in (1, 2) and (len(errors) != 1 or lines[-1:] != errors):
        found.append(f"it was refused in other than one line: {err[-300:]!r}")
    if code in (0, 3) and errors:
        found.append(f"it went on after an error: {errors[0]}")
    if "\x1b" in out + err or "\x00" in out + err:
        found.append("it printed what a terminal obeys")
    if as_json and code in (0, 3):
        try:
            found_json = json.loads(out, parse_constant=lambda word: found.append(f"its JSON holds {word}"))
            counts = [found_json.get(name) or 0 for name in COUNTS] if isinstance(found_json, dict) else []
            if counts and (min(counts) < 0 or counts[1] > counts[0]):
                found.append(f"it counts what cannot be: {dict(zip(COUNTS, counts, strict=True))}")
        except ValueError as error:
            found.append(f"its JSON is none: {error}")
    return found
