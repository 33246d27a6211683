from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.console import Console

from deeptaxi.display.tables import agents_table
from deeptaxi.storage.zoo import agents
from tests.cli.conftest import refused, run

TypeIn = Callable[..., Result]
MODELS = Path(__file__).parents[2] / "models"
TAXI = MODELS / "taxi-v4-dueling"


def test_the_list_agrees_with_the_cards() -> None:
    rows = {row["name"]: row for row in json.loads(run("zoo", MODELS, "--json").stdout)}
    assert {"taxi-v4-dueling", "taxi-v4-q-table", "taxi-v4-factored"} <= set(rows)
    text = run("zoo", MODELS).stdout
    for name, row in rows.items():
        if row["note"]:  # a run of somebody who works here
            continue
        card = json.loads((MODELS / name / "card.json").read_text())
        for key in ("verdict", "exact", "environment", "network", "preset", "weights_digest"):
            assert row[key] == card[key]
        assert name in text
    line = next(line for line in text.splitlines() if line.startswith("taxi-v4-dueling "))
    assert "Taxi-v4  " in line
    assert "yes, 300 of 300" in line
    assert line.split()[-6:-3] == ["×", "6", "taxi"]
    assert line.count("7.93") == 2


def test_the_list_needs_neither_keras_nor_gymnasium_nor_numpy() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from deeptaxi.cli.main import cli\n"
        f"assert CliRunner().invoke(cli, ['zoo', {str(MODELS)!r}]).exit_code == 0\n"
        "print({'keras', 'tensorflow', 'gymnasium', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_run_joins_the_list(lake_run: Path, tmp_path: Path) -> None:
    shutil.copytree(lake_run, tmp_path / "mine")
    shutil.copytree(lake_run, tmp_path / "old")
    (tmp_path / "old" / "card.json").unlink()
    result = run("zoo", tmp_path)
    mine, old = (next(line for line in result.stdout.splitlines() if line.startswith(name)) for name in ("mine", "old"))
    assert "FrozenLake-v1 is_slippery=false" in mine
    assert "yes, 1 of 1" in mine
    assert "FrozenLake-v1 is_slippery=false" in old
    assert "yes" not in old
    assert "Note on old: it has no card.json" in result.stderr
    assert [row["note"] is None for row in json.loads(run("zoo", tmp_path, "--json").stdout)] == [True, False]


def test_a_folder_without_agents_says_so_in_one_line(tmp_path: Path) -> None:
    refused(run("zoo", tmp_path / "nowhere"), 2, "nowhere does not exist")
    empty = run("zoo", tmp_path)
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert "contains no agents: `deeptaxi train Taxi-v4` trains one" in empty.stderr
    assert json.loads(run("zoo", tmp_path, "--json").stdout) == []


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_verdict_fits_every_terminal_and_the_rest_if_there_is_room(width: int) -> None:
    rows = agents(TAXI) + agents(MODELS / "frozenlake8x8-v1-sure-dueling")
    lines = shown(rows, width)
    assert len(lines) == 1 + len(rows)
    assert max(map(len, lines)) <= width
    assert lines[1].startswith("taxi-v4-dueling  ")
    assert "yes, 300 of 300" in lines[1]
    assert ("Taxi-v4  " in lines[1]) == (width >= 100)
    assert ("124 KB" in lines[1]) == (width == 200)


def test_a_long_name_is_wrapped_and_the_verdict_never() -> None:
    (row,) = agents(TAXI)
    lines = shown([{**row, "name": "name-" * 30}], 60)
    assert "".join(line.split()[0] for line in lines[1:]) == "name-" * 30
    assert "yes, 300 of 300    7.93  7.93" in lines[1]


def test_a_cell_is_one_line_whatever_a_card_says() -> None:
    (row,) = agents(TAXI)
    lines = shown([{**row, "name": "a\tb", "preset": "x\n\x1b[31mfaked  yes"}, row], 200)
    assert len(lines) == 3
    assert lines[1].startswith("a b  ")
    assert "x [31mfaked yes" in lines[1]


def test_a_list_of_thousands_takes_no_longer_to_show_than_to_read() -> None:
    (row,) = agents(TAXI)
    before = time.process_time()
    assert len(shown([row] * 5000, 200)) == 5001
    assert time.process_time() - before < 1  # a tenth of that; by a table of rich, 4 seconds


def shown(rows: list[dict[str, Any]], width: int) -> list[str]:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(agents_table(rows, width))
    return capture.get().splitlines()


@pytest.mark.slow
def test_a_shipped_agent_is_a_run_without_a_log(type_in: TypeIn) -> None:
    agent = MODELS / "taxi-v4-q-table"
    refused(type_in("logs", agent), 2, "has no log", "train it again to get one")
    assert "its policy is optimal" in type_in("diagnose", agent).stdout
    assert "Takes" in type_in("watch", agent).stdout
    page = type_in("report", agent, "--out", "page.html")
    assert page.exit_code == 0
    assert "learning curves and visits are missing here" in page.stderr
    assert "There are no learning curves" in Path("page.html").read_text()


def test_a_shipped_agent_is_not_overwritten(type_in: TypeIn) -> None:
    shutil.copytree(TAXI, "models/taxi-v4-dueling")
    before = Path("models/taxi-v4-dueling/model.keras").read_bytes()
    refused(type_in("train", "Taxi-v4", "--out", "models/taxi-v4-dueling"), 2, "exists", "--force")
    quick = ["--loop", "gymnasium", "--exploring-starts", 0, "--updates", 1, "--environments", 2, "--batch-size", 4]
    again = type_in("train", "--config", "models/taxi-v4-dueling/config.toml", *quick, "--json")
    assert json.loads(again.stdout)["run"] == "models/taxi-v4-dueling-0"
    assert Path("models/taxi-v4-dueling/model.keras").read_bytes() == before
