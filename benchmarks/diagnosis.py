"""How well `deeptaxi diagnose` does: ``python -m benchmarks.diagnosis``.

Each fault of `benchmarks.faults` is put into a training, over several seeds, and counted where `diagnose` names it, and
where it calls it severe. Every preset is trained as it is, and each severe finding there is a false alarm; so is each
warning that `train` would have given. Each fault and each preset has a process of its own, one after the other.
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

from benchmarks import faults
from benchmarks.presets import WITHOUT_TABLE
from deeptaxi.presets import listed_presets

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


def measure(folder: Path, seeds: int, few: int) -> dict[str, list[Row]]:
    """Measure all faults and all presets; presets without a table have `few` seeds."""
    presets = [
        apart("preset", preset.name, str(folder / "healthy"), str(few if slow(preset.name) else seeds))
        for preset in listed_presets()
    ]
    injected = [apart("fault", str(i), str(folder / "faults"), str(seeds)) for i in range(len(faults.FAULTS))]
    return {"faults": injected, "presets": presets}


def slow(preset: str) -> bool:
    """Whether a preset has no table, so that a training takes a minute."""
    return preset.split(".")[0] in WITHOUT_TABLE


def show(results: dict[str, list[Row]]) -> str:
    """Return the tables as Markdown."""
    lines = ["| finding | the fault, and how it was put in | named | severe |", "| --- | --- | --- | --- |"]
    for row in results["faults"]:
        count = row["seeds"]
        lines.append(f"| `{row['fault']}` | {row['how']} | {row['named']} of {count} | {row['severe']} of {count} |")
    lines += ["", "| preset, as it is | severe | warned while training | other findings |", "| --- | --- | --- | --- |"]
    for row in results["presets"]:
        count = row["seeds"]
        other = ", ".join(f"`{name}` {times}" for name, times in row["other"].items()) or "none"
        told = f"{row['severe']} of {count} | {row['warned_while_training']} of {count}"
        lines.append(f"| `{row['preset']}` | {told} | {other} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and keep the results beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--few", type=int, default=10, help="seeds of the presets that have no table: a minute each")
    parser.add_argument("--runs", type=Path, help="keep the trainings here, and take those that are there")
    parser.add_argument("--part", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        kind, name, folder, seeds = asked.part
        row = of_preset(name, Path(folder), range(int(seeds))) if kind == "preset" else None
        print(json.dumps(row or of_fault(int(name), Path(folder), range(int(seeds)))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        results = measure(asked.runs or Path(temporary), asked.seeds, asked.few)
    (HERE / "diagnosis.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(show(results))


if __name__ == "__main__":
    main()
