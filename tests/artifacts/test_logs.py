from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from deeptaxi.artifacts.logs import find_log, read_visits, save_visits
from deeptaxi.errors import DeepTaxiError, UsageError


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Make a run folder that says where its log is, and the log in some other place."""
    monkeypatch.chdir(tmp_path)

    def make(said, there="logs/a"):
        folder, log = Path("models/a"), Path(there)
        folder.mkdir(parents=True)
        log.mkdir(parents=True)
        (folder / "config.toml").write_text(f'[run]\nlog = "{said}/metrics.jsonl"\n')
        (log / "metrics.jsonl").write_text("{}\n")
        return folder

    return make


def test_a_log_is_where_the_run_says(run):
    assert find_log(run("other/b", "other/b")) == Path("other/b")


def test_a_log_is_found_from_another_folder(run, monkeypatch, tmp_path):
    folder = run("logs/a").resolve()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert find_log(folder) == tmp_path / "logs" / "a"


def test_a_log_that_moved_with_its_run_is_found_by_the_name(run):
    assert find_log(run("gone/a")).resolve() == Path("logs/a").resolve()


def test_a_log_folder_is_its_own_log(run):
    run("logs/a")
    assert find_log(Path("logs/a")) == Path("logs/a")


def test_a_run_without_its_log_says_where_it_should_be(run):
    with pytest.raises(UsageError, match=r"models/a has no log: it says gone/metrics.jsonl, which is not there"):
        find_log(run("gone", "logs/b"))


def test_a_folder_that_is_neither_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is neither a run folder nor a log folder"):
        find_log(tmp_path)


def test_visits_are_read_back_as_they_were_written(tmp_path):
    visits, replay = np.arange(6).reshape(3, 2), np.ones((3, 2), np.int64)
    save_visits(tmp_path, visits, replay)
    read = read_visits(tmp_path)
    np.testing.assert_array_equal(read.visits, visits)
    np.testing.assert_array_equal(read.replay, replay)


def test_a_log_may_have_no_visits(tmp_path):
    assert read_visits(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut"])
def test_damaged_visits_are_named(tmp_path, content):
    (tmp_path / "visits.npz").write_bytes(content)
    with pytest.raises(DeepTaxiError, match=re.escape(f"{tmp_path / 'visits.npz'} is damaged")):
        read_visits(tmp_path)
