"""How well `deeptaxi diagnose` does: ``python -m benchmarks.diagnosis``.

Each fault of `benchmarks.faults` is put into a training, over several seeds, and counted where `diagnose` names it, and
where it calls it severe. Every preset is trained as it is, and each severe finding there is a false alarm; so is each
warning that `train` would have given. So it is with a hundred random trainings that end optimal
(`benchmarks.sound_trainings`). Each fault, each preset and the random trainings have a process of their own, one after
the other.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import faults, sound_trainings
from benchmarks.presets import WITHOUT_TABLE
from deeptaxi.presets import listed_presets

PARTS = ("faults", "presets", "random")
Row = dict[str, Any]
HERE = Path(__file__).parent


def healthy(name: str, folder: Path, seed: int) -> list[str]:
    """Train a preset as it is, unless `folder` has it; return the words to diagnose it with."""
    if not (folder / "run" / "card.md").exists():
        folder.mkdir(parents=True, exist_ok=True)
        faults.train(folder, seed, f"--preset {name} --force")
    return [str(folder / "run")]


def of_fault(index: int, folder: Path, seeds: Iterable[int]) -> Row:
    """Put one fault into trainings; return how often it is named."""
    fault = faults.FAULTS[index]
    found = [faults.names_of(faults.make(fault, folder / f"{index}-{fault.name}" / str(seed), seed)) for seed in seeds]
    beside = Counter(name for names in found for name, severity in names.items() if severity == "severe")
    return {
        "fault": fault.name,
        "how": fault.how,
        "seeds": len(found),
        "first_seed": min(seeds),
        "named": sum(fault.name in names for names in found),
        "severe": sum(names.get(fault.name) == "severe" for names in found),
        "severe_beside": {name: count for name, count in beside.most_common() if name != fault.name},
    }


def of_preset(name: str, folder: Path, seeds: Iterable[int]) -> Row:
    """Train one preset as it is; return the false alarms."""
    words = [healthy(name, folder / name / str(seed), seed) for seed in seeds]
    found = [faults.names_of(run) for run in words]
    return {
        "preset": name,
        "seeds": len(found),
        "severe": sum("severe" in names.values() for names in found),
        "other": dict(Counter(name for names in found for name in names)),
        "warned_while_training": sum(warned(Path(run)) for (run,) in words),
    }


def warned(run: Path) -> bool:
    """Whether `train` warns of anything in this training: its log is shown to the watch again."""
    from deeptaxi.diagnosis.monitor import Monitor
    from deeptaxi.mdp.environment import open_environment
    from deeptaxi.metrics import read_history
    from deeptaxi.storage.logs import LOG_FILE, find_log
    from deeptaxi.storage.models import find_model

    config = find_model(run).config
    if config is None:
        raise LookupError(f"{run} has no configuration")
    watch = Monitor(config, open_environment(config.environment).table)
    return any(watch(record) for record in read_history(find_log(run) / LOG_FILE).records)


def apart(*words: str) -> Row:
    """Do one part in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.diagnosis", "--part", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    row: Row = json.loads(done.stdout.strip().splitlines()[-1])
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def of_random(numbers: range) -> Row:
    """Train at random, from the first of `numbers` on, until as many agents are optimal; return the false alarms."""
    found: list[sound_trainings.SoundTraining] = []
    while sum(row.optimal for row in found) < len(numbers) and len(found) < sound_trainings.MOST_TRIES * len(numbers):
        found.append(sound_trainings.train_and_diagnose(numbers.start + len(found)))
    return sound_trainings.count_alarms(found)


def measure(parts: Iterable[str], folder: Path, first: int, seeds: int, few: int, count: int) -> dict[str, list[Row]]:
    """Measure the `parts`, keeping trainings in `folder`; presets without a table have `few` seeds from `first` on."""
    found: dict[str, list[Row]] = {}
    if "presets" in parts:
        found["presets"] = [
            apart("preset", preset.name, str(folder / "healthy"), str(first), str(few if slow(preset.name) else seeds))
            for preset in listed_presets()
        ]
    if "faults" in parts:
        found["faults"] = [
            apart("fault", str(i), str(folder / "faults"), str(first), str(seeds)) for i in range(len(faults.FAULTS))
        ]
    if "random" in parts:
        found["random"] = [apart("random", "", "", str(first), str(count))]
    return found


def slow(preset: str) -> bool:
    """Whether a preset has no table, so that a training takes a minute."""
    return preset.split(".")[0] in WITHOUT_TABLE


def show(results: dict[str, list[Row]]) -> str:
    """Return the tables as Markdown."""
    lines = ["| finding | the fault, and how it was put in | named | severe |", "| --- | --- | --- | --- |"]
    for row in results.get("faults", []):
        count = row["seeds"]
        lines.append(f"| `{row['fault']}` | {row['how']} | {row['named']} of {count} | {row['severe']} of {count} |")
    lines += ["", "| preset, as it is | severe | warned while training | other findings |", "| --- | --- | --- | --- |"]
    for row in results.get("presets", []):
        count = row["seeds"]
        other = ", ".join(f"`{name}` {times}" for name, times in row["other"].items()) or "none"
        alarms = f"{row['severe']} of {count} | {row['warned_while_training']} of {count}"
        lines.append(f"| `{row['preset']}` | {alarms} | {other} |")
    for row in results.get("random", []):
        lines += ["", "| random trainings | |", "| --- | --- |"]
        lines += [f"| {key.replace('_', ' ')} | {value or 0} |" for key, value in row.items()]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and keep the results beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts; the figures of the others are kept")
    parser.add_argument("--first", type=int, default=0, help="the first seed, and number of a random training")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--few", type=int, default=10, help="seeds of the presets that have no table: a minute each")
    parser.add_argument("--random", type=int, default=100, help="random trainings that end optimal")
    parser.add_argument("--runs", type=Path, help="keep the trainings here, and take those that are there")
    parser.add_argument("--part", nargs=5, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        kind, name, folder, first, count = asked.part
        seeds = range(int(first), int(first) + int(count))
        row = {
            "preset": lambda: of_preset(name, Path(folder), seeds),
            "fault": lambda: of_fault(int(name), Path(folder), seeds),
            "random": lambda: of_random(seeds),
        }[kind]()
        print(json.dumps(row))
        return
    kept = HERE / "diagnosis.json"
    before = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.runs or Path(temporary)
        results = before | measure(asked.only.split(","), folder, asked.first, asked.seeds, asked.few, asked.random)
    kept.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(show(results))


if __name__ == "__main__":
    main()
