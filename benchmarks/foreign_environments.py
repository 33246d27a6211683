"""Environments that others wrote, each trained as its user would: ``python -m benchmarks.foreign_environments``.

`foreign_environments.toml` lists them. Nothing is installed or downloaded: what is not importable here is passed over,
and so are the public repositories unless ``--repositories FOLDER`` has them, each as ``FOLDER/owner+name``. A training
is short (500 updates), as what is looked for is whether it begins and what its verdict is made of. The results go to
`foreign_environments.json`, with ``--only`` in the place of earlier ones, and the table of docs/foreign_environments.md
to standard output.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.zoo import markdown_table

LIST = Path(__file__).with_suffix(".toml")
RESULTS = Path(__file__).with_suffix(".json")
UPDATES = 500
SECONDS = 300  # for each, at most
WITHOUT_A_SCREEN = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "MPLBACKEND": "Agg"}


def listed() -> list[dict[str, Any]]:
    """Return the environments that are listed."""
    with LIST.open("rb") as file:
        found: list[dict[str, Any]] = tomllib.load(file)["environment"]
    return found


def origin_of(entry: Mapping[str, Any]) -> str:
    """Return where an environment comes from, such as ``popgym 1.0.6`` or ``owner/name@commit``."""
    if "package" in entry:
        return f"{entry['package']} {entry['version']}"
    return f"{entry['repository']}@{entry['commit'][:7]}"


def env_of(entry: Mapping[str, Any]) -> str:
    """Return what is typed as ENV, in the folder of `folder_of`."""
    return entry["name"] if "package" in entry else f"{Path(entry['path']).name}:{entry['name']}"


def folder_of(entry: Mapping[str, Any], repositories: Path | None, scratch: Path) -> Path | None:
    """Return the folder to train in; None if the environment is not on this machine."""
    if "package" in entry:
        try:
            importlib.metadata.version(entry["package"])
        except importlib.metadata.PackageNotFoundError:
            return None
        return scratch
    if repositories is None:
        return None
    file = repositories / entry["repository"].replace("/", "+") / entry["path"]
    return file.parent.resolve() if file.is_file() else None


def train(entry: Mapping[str, Any], folder: Path, scratch: Path) -> dict[str, Any]:
    """Train on one environment; return what came of it.

    Returns:
        `outcome` (``exact``, ``sampled`` or ``refused``), `seconds`, and, where it was trained, `states`, `actions` and
        why there is no exact verdict; else the error.
    """
    command = [sys.executable, "-m", "deeptaxi", "train", env_of(entry), *entry.get("options", ())]
    command += [
        "--json",
        "--quiet",
        "--updates",
        str(UPDATES),
        "--out",
        str(scratch / "run"),
        "--logs",
        str(scratch / "log"),
        "--force",
    ]
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    began = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **WITHOUT_A_SCREEN, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return {"outcome": "refused", "seconds": SECONDS, "told": f"no answer in {SECONDS} s"}
    seconds = round(time.monotonic() - began, 1)
    if done.returncode:
        told = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1].replace(str(folder), "…")
        return {"outcome": "refused", "seconds": seconds, "told": told.removeprefix("Error: ")}
    card = json.loads(done.stdout)
    size = {key: card["environment"][key] for key in ("states", "actions")}
    if card["exact"]:
        return {"outcome": "exact", "seconds": seconds, **size, "told": ""}
    reason = (card["exact_unavailable"] or "").rpartition("none was discovered: ")[2]
    return {"outcome": "sampled", "seconds": seconds, **size, "told": reason}


def page_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the results as a table of Markdown."""
    rows = [["environment", "from", "states × actions", "verdict", "s"]]
    for result in results:
        size = f"{result['states']:,} × {result['actions']}" if "states" in result else ""
        told = " ".join(result["told"].replace("|", "\\|").split())
        told = told if len(told) <= 160 else f"{told[:159]}…"
        verdict = result["outcome"] + (f": {told}" if told else "")
        options = " ".join(result["options"])
        shown = " ".join(filter(None, [result["env"], options if len(options) <= 60 else f"{options[:59]}…"]))
        rows.append([f"`{shown}`", result["origin"], size, verdict, f"{result['seconds']:.0f}"])
    return markdown_table(rows)


def merge(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the kept results with these in the place of those of the same environments."""
    new = {(result["origin"], result["env"], *result["options"]): result for result in results}
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))
    return [new.get((result["origin"], result["env"], *result["options"]), result) for result in kept]


def keep(results: Sequence[Mapping[str, Any]]) -> None:
    """Write the results to their file."""
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Train on all that are here, keep the results, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.foreign_environments", description=__doc__)
    parser.add_argument("--repositories", type=Path, metavar="FOLDER", help="where the public repositories are")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="those with one of these in their origin or name")
    asked = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for entry in listed():
            env, origin = env_of(entry), origin_of(entry)
            if asked.only and not any(text in f"{origin} {env}" for text in asked.only):
                continue
            folder = folder_of(entry, asked.repositories, scratch)
            if folder is None:
                print(f"{env}: {origin} is not here", file=sys.stderr)
                continue
            result = {"env": env, "origin": origin, "options": entry.get("options", [])}
            result.update(train(entry, folder, scratch))
            results.append(result)
            print(
                f"{env}: {result['outcome']}, {result['seconds']} s {result['told'][:100]}", file=sys.stderr, flush=True
            )
            keep(merge(results) if asked.only else results)
    trained = sum(result["outcome"] != "refused" for result in results)
    print(page_table(results))
    print(f"\n{trained} of {len(results)} trained.")


if __name__ == "__main__":
    main()
