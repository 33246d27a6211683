from __future__ import annotations

import numpy as np
import pytest

from benchmarks.grids import random_grid
from deeptaxi.backend.cache import remove_oldest
from deeptaxi.mdp import planning, remembered_values, sparse_rows, sweeps


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """Plan on every table by sparse rows, and remember their values in a folder of its own."""
    monkeypatch.setattr(sparse_rows, "SPARSE_FROM", 0)
    monkeypatch.setattr(planning, "DIRECT", 0)
    monkeypatch.setenv("DEEPTAXI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "values"


@pytest.fixture
def swept(monkeypatch):
    """Count the sweeps."""
    counts, sweep = [], sweeps.sweep

    def counted(*args, **kwargs):
        found = sweep(*args, **kwargs)
        counts.append(found.sweeps)
        return found

    monkeypatch.setattr(sweeps, "sweep", counted)
    return counts


def assert_same(found, expected):
    np.testing.assert_array_equal(found.value, expected.value)
    np.testing.assert_array_equal(found.q, expected.q)
    assert (found.bound, found.iterations) == (expected.bound, expected.iterations)


def test_an_equal_table_recalls_the_very_same_optimum(folder, swept):
    optimum = planning.value_iteration(random_grid(9), 0.9)
    assert len(swept) == 1
    (entry,) = folder.iterdir()
    assert entry.suffix == ".npy"
    assert_same(planning.value_iteration(random_grid(9), 0.9), optimum)
    assert len(swept) == 1


def test_one_table_is_solved_once_without_a_cache(monkeypatch, folder, swept):
    monkeypatch.setenv("DEEPTAXI_CACHE", "off")
    table = random_grid(9)
    everything = np.ones((table.states, table.actions), bool)
    optimum = planning.value_iteration(table, 0.9)
    assert planning.value_iteration(table, 0.9, everything) is optimum
    assert len(swept) == 1
    assert not folder.exists()


@pytest.mark.parametrize(
    ("tampered", "ignored"), [(-1.0, True), (1e-3, True), (1e300, True), (float("nan"), True), (0.0, False)]
)
def test_an_altered_entry_is_computed_again(folder, swept, tampered, ignored):
    optimum = planning.value_iteration(random_grid(9), 0.9)
    (entry,) = folder.iterdir()
    values = np.load(entry)
    values[3] += tampered
    np.save(entry, values)
    with np.errstate(over="ignore", invalid="ignore"):
        assert_same(planning.value_iteration(random_grid(9), 0.9), optimum)
    assert (len(swept) == 2) == ignored
    assert np.load(entry)[3] == optimum_entry(optimum, entry)


def optimum_entry(optimum, entry):
    """Return the entry's value at 3, which is that of the optimum within its bound."""
    value = np.load(entry)[3]
    assert abs(value - optimum.value[3]) <= optimum.bound
    return value


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", bytes(128 + 8 * 82), b"x" * 10_000])
def test_a_foreign_entry_is_computed_again(folder, swept, content):
    optimum = planning.value_iteration(random_grid(9), 0.9)
    (entry,) = folder.iterdir()
    entry.write_bytes(content)
    assert_same(planning.value_iteration(random_grid(9), 0.9), optimum)
    assert len(swept) == 2


def test_what_differs_is_not_recalled(swept):
    mask = np.ones((81, 4), bool)
    mask[0, 1] = False
    for compute in (
        lambda: planning.value_iteration(random_grid(9), 0.9),
        lambda: planning.value_iteration(random_grid(9), 0.95),
        lambda: planning.value_iteration(random_grid(9, seed=1), 0.9),
        lambda: planning.value_iteration(random_grid(9), 0.9, mask),
        lambda: planning.worst_values(random_grid(9), 0.9),
        lambda: planning.evaluate_uniform(random_grid(9), 0.9),
    ):
        before = len(swept)
        first = compute()
        assert len(swept) == before + 1
        again = compute()
        assert len(swept) == before + 1
        np.testing.assert_array_equal(first.value, again.value)


def test_an_interrupted_plan_keeps_nothing(monkeypatch, folder):
    monkeypatch.setattr(sweeps, "EVERY", 0.0)

    def interrupt(*_report):
        raise KeyboardInterrupt

    with sweeps.reported_to(interrupt), pytest.raises(KeyboardInterrupt):
        planning.value_iteration(random_grid(9), 0.99)
    assert not folder.exists() or not list(folder.iterdir())


def test_a_folder_that_cannot_be_written_is_no_failure(folder):
    folder.parent.mkdir()
    folder.write_text("a file")
    assert planning.value_iteration(random_grid(9), 0.9).bound < 1e-9


def test_the_oldest_entries_are_removed_above_the_limit(folder):
    import os

    for age, seed in enumerate(range(3)):
        planning.value_iteration(random_grid(9, seed=seed), 0.9)
        for path in folder.iterdir():
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 100))
        assert len(list(folder.iterdir())) == age + 1
    newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    remove_oldest(folder.iterdir(), limit=newest.stat().st_size)
    assert list(folder.iterdir()) == [newest]


def test_of_many_results_of_a_table_the_oldest_are_forgotten():
    table, computed = random_grid(3), []

    def compute():
        computed.append(len(computed))
        return computed[-1]

    most = remembered_values.MOST_RESULTS
    assert [remembered_values.once(table, str(key), compute) for key in range(most)] == list(range(most))
    assert remembered_values.once(table, "0", compute) == 0
    assert remembered_values.once(table, "more", compute) == most
    assert remembered_values.once(table, "1", compute) == 1
    assert remembered_values.once(table, "0", compute) == most + 1
