import importlib.util
import json
import subprocess
import sys

import pytest

from benchmarks import __main__ as benchmark
from benchmarks import goals, limits, plan, startup, table
from benchmarks.peers import deeptaxi_loop
from benchmarks.peers.common import Spec, read_spec, to_json
from benchmarks.run import Job, in_turn
from deeptaxi.learning.progress import StepMetrics

NEEDS = {"sb3": plan.TORCH, "rejax_dqn": plan.REJAX, "jax_table": ("jax",), "jax_scan": ("jax",)}
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
@pytest.mark.parametrize("module", ["jax_table", "jax_scan", "rejax_dqn", "sb3", "keras_recipe", "deeptaxi_loop"])
def test_a_peer_runs_where_its_packages_are_installed(module):
    needed = NEEDS.get(module, ())
    if not all(importlib.util.find_spec(name) for name in needed):
        pytest.skip(f"{module} needs {', '.join(needed)}")
    row = in_turn([Job(module, Spec(peer=module, seconds=0.1, block=2, capacity=4_096))], 0, [0])[0]
    assert row["updates_per_cpu_second"] > 0, row


def test_a_peer_that_fails_says_why_and_is_not_run_again():
    rows = in_turn([Job("broken", Spec(peer="no_such_peer"))], 0, range(3))
    assert len(rows) == 1
    assert "no_such_peer" in rows[0]["failed"]
    assert "failed" in table.document(result(rows))


def test_every_part_has_a_table():
    optimum = {"optimal": True, "updates": 5, "train_seconds": 1.0, "cpu_seconds": 2.0, "cpu_share": 0.5}
    preset = {"seeds": 3, "optimal": 1, "near": 2, "good": 2, "updates": 5, "seconds": 1.0}
    rows = [
        {"part": "b", "name": "x", **optimum},
        {"part": "b", "name": "x", **optimum, "optimal": False},
        {"part": "p", "name": "y", "process_cpu_seconds": 3.0, "process_wall_seconds": 4.0},
        {"part": "c", "name": "z", **preset},
        {"part": "u", "name": "w", "failed": "it broke"},
        {"part": "d", "name": "deeptaxi TF S = 500", "updates_per_cpu_second": 1e4, "opening_seconds": 0.5},
        {"part": "d", "name": "deeptaxi JAX S = 500", "failed": "it broke too"},
    ]
    text = table.document(result(rows))
    assert "| x | 1 of 2 | 1.00 | – | 2.0 |" in text
    assert "| `y` | 3.0 | 4.0 |" in text
    assert "| z | 3 | 1 | 2 | 2 | 5 | 1.00 |" in text
    assert "| w | failed: it broke |" in text
    assert "| S = 500 | 100.0 | 1.00 | 0.5 | it broke too |" in text
    assert "between 50% and 50% of the core" in text


def test_a_goal_is_compared_repeat_by_repeat():
    ours, theirs = "deeptaxi TF dueling, row-sparse Adam", "SB3 DQN [64]"
    rows = [
        {"part": "a", "name": name, "seed": seed, "updates_per_cpu_second": rate}
        for name, rates in ((ours, (3_000, 4_000)), (theirs, (100, 100)))
        for seed, rate in enumerate(rates)
    ]
    (found,) = goals.ratios([*rows, {"part": "a", "name": theirs, "seed": 2, "failed": "it broke"}])
    assert (found["ratio"], found["least"], found["most"], found["met"]) == (35, 30, 40, True)
    assert goals.cells(found)[1:] == ["35", "30 to 40", "≥ 30", "yes"]


def test_fewer_seconds_are_better():
    pair = (("deeptaxi TF dueling", 1.0), ("SB3 DQN [64]", 20.0))
    rows = [{"part": "b", "name": name, "seed": 0, "optimal": True, "train_seconds": value} for name, value in pair]
    (found,) = goals.ratios(rows)
    assert goals.cells(found)[1:] == ["1/20", "", "≤ 1/30", "**no**"]


def test_goals_refer_to_existing_jobs():
    names = {"a": plan.rates("compiled"), "b": plan.optima("compiled")}
    known = {part: {job.name for job in jobs} for part, jobs in names.items()} | {"p": set(startup.COMMANDS)}
    assert all({goal.over, goal.under} <= known[goal.part] for goal in goals.goals())


def test_jobs_of_a_group_share_a_process_and_one_may_fail(monkeypatch):
    calls = []

    def start(words, core, timeout, environment):
        calls.append(len(words) - 1)
        return [{"optimal_starts": 0, "updates": 1, "cpu_seconds": 0.0}, {"failed": "it broke"}][: len(words) - 1]

    monkeypatch.setattr("benchmarks.run.start", start)
    jobs = [Job("one", TABULAR), Job("two", TABULAR, group="g"), Job("three", TABULAR, group="g")]
    rows = in_turn(jobs, 0, range(2))
    assert calls == [1, 2, 1, 1]
    assert [row["name"] for row in rows] == ["one", "two", "three", "one", "two"]
    assert "failed" in rows[2]


def test_reports_that_arrive_at_once_are_counted_over_their_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("benchmarks.peers.common.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("benchmarks.peers.common.time.process_time", lambda: now[0])

    def ticks():
        for piece in range(20):
            now[0] += 0.25  # a piece of 100 updates
            for update in (50, 100):
                number = 100 * piece + update
                yield StepMetrics(number, 16 * number, 0.5, 50, 0.0, 0.0, 0, 0.0, settled=update == 100)

    found = deeptaxi_loop.steady(ticks(), Spec(seconds=1.0))
    assert found["updates_per_cpu_second"] == pytest.approx(400)
    assert found["steps_per_cpu_second"] == pytest.approx(6_400)


def test_a_limit_stands_beside_the_rates_of_part_a_alone(monkeypatch):
    limit = {"limit_us": 10.0, "limit_of_shapes_us": 20.0}
    monkeypatch.setattr(benchmark, "start", lambda *words: [{"limits": {"Q table, SGD": limit}, "core": {}}])
    rates = [{"part": "a", "name": "x Q table, SGD", "updates_per_cpu_second": rate} for rate in (1e4, 4e4, 5e4)]
    rows = [*rates, {"part": "a", "name": "y Q table, SGD", "failed": "no"}, {"part": "b", "name": "x Q table, SGD"}]
    (found,) = benchmark.limit_rows(0, rows)
    assert (found["by"], found["measured_us"]) == ("x Q table, SGD", pytest.approx(25))


def test_the_work_of_an_update_by_hand():
    # S = 2, A = 1, H = 1, B = 1, N = 1: W = 2 outputs, 2 + 1 + 2 · 2 = 7 weights.
    work = limits.dueling(2, 1, 1, 1, 1, dense=True)
    assert work.operations == (4 + 2) + 2 * (4 + 2) + (2 * 4 + 2) + 12 * 7 + 3 * 7
    assert work.bytes == 4 * 3 + 2 * 4 + 24 * 7 + 8 * 7
    assert limits.distinct(2, 1) == pytest.approx(1.0)


def test_job_names_are_unique():
    for jobs in (plan.rates("compiled"), plan.optima("compiled"), plan.sizes("compiled")):
        names = [job.name for job in jobs]
        assert len(names) == len(set(names))
