import importlib.util
import json
import subprocess
import sys

import pytest

from benchmarks import limits, plan, table
from benchmarks.peers.common import Spec, read_spec, to_json
from benchmarks.run import Job, in_turn

TABULAR = Spec(peer="tabular", learning_rate=1.0, seconds=0.2, block=1_000, every=10_000, updates=500_000)


def result(rows):
    return {"date": "2026-01-01", "machine": {"CPU": "x"}, "packages": {"keras": "3"}, "skipped": ["y"], "rows": rows}


def test_a_specification_survives_json():
    assert read_spec(to_json(TABULAR)) == TABULAR
    with pytest.raises(ValueError, match="nonsense"):
        read_spec('{"nonsense": 1}')


def test_a_cheap_peer_is_measured_and_written_down(tmp_path):
    rows = in_turn([Job("tabular", TABULAR)], 0, range(2))
    table.write(result(rows), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == rows
    text = (tmp_path / "RESULTS.md").read_text()
    assert rows[0]["updates_per_cpu_second"] > 1_000
    assert "| tabular |" in text
    assert "left out: y" in text


@pytest.mark.slow
def test_tabular_learning_reaches_the_exact_optimum():
    spec = {**json.loads(to_json(TABULAR)), "task": "optimum"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers.tabular", json.dumps(spec)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["optimal_starts"] == 300


@pytest.mark.slow
@pytest.mark.parametrize("module", ["jax_table", "jax_scan", "rejax_dqn", "sb3"])
def test_a_peer_runs_where_its_packages_are_installed(module):
    needed = {"sb3": plan.TORCH, "rejax_dqn": plan.REJAX}.get(module, ("jax",))
    if not all(importlib.util.find_spec(name) for name in needed):
        pytest.skip(f"{module} needs {', '.join(needed)}")
    row = in_turn([Job(module, Spec(peer=module, seconds=0.1, block=20, capacity=4_096))], 0, [0])[0]
    assert row["updates_per_cpu_second"] > 0, row


def test_a_peer_that_fails_says_why_and_is_not_run_again():
    rows = in_turn([Job("broken", Spec(peer="no_such_peer"))], 0, range(3))
    assert len(rows) == 1
    assert "no_such_peer" in rows[0]["failed"]
    assert "failed" in table.document(result(rows))


def test_every_part_has_a_table():
    optimum = {"optimal": True, "optimal_starts": 300, "updates": 5, "cpu_seconds": 1.0, "process_cpu_seconds": 2.0}
    preset = {"optimal": False, "updates": 5, "train_seconds": 1.0, "process_seconds": 2.0}
    rows = [
        {"part": "b", "name": "x", "cpu_share": 1.0, **optimum},
        {"part": "b", "name": "x", "cpu_share": 1.0, **optimum, "optimal": False},
        {"part": "c", "name": "x", **preset},
        {"part": "d", "name": "x", "updates_per_cpu_second": 1e4},
    ]
    text = table.document(result(rows))
    assert "| x | 1 of 2 | 1.00 (1.00 to 1.00) |" in text
    assert "| `x` | 0 of 1 |" in text
    assert "| x | 100.0 (100.0 to 100.0) |" in text


def test_the_work_of_an_update_by_hand():
    # S = 2, A = 1, H = 1, B = 1, N = 1: W = 2 outputs, 2 + 1 + 2 · 2 = 7 weights.
    work = limits.dueling(2, 1, 1, 1, 1, dense=True)
    assert work.operations == (4 + 2) + 2 * (4 + 2) + (2 * 4 + 2) + 12 * 7 + 3 * 7
    assert work.bytes == 4 * 3 + 2 * 4 + 24 * 7 + 8 * 7
    assert limits.distinct(2, 1) == pytest.approx(1.0)


def test_the_jobs_have_names_of_their_own():
    for jobs in (plan.rates("compiled"), plan.optima("compiled"), plan.sizes("compiled")):
        names = [job.name for job in jobs]
        assert len(names) == len(set(names))
