"""The list of environments of others is whole, and its runner tells what came of each."""

from __future__ import annotations

import json

from benchmarks import foreign_environments as foreign

HERE = {"package": "gymnasium", "version": "1.4.0"}


def test_every_environment_says_where_it_is_from_and_has_a_result():
    entries = foreign.listed()
    assert len(entries) >= 40
    for entry in entries:
        assert entry["name"]
        assert set(entry) - {"name", "options"} in ({"package", "version"}, {"repository", "commit", "path"})
    results = json.loads(foreign.RESULTS.read_text(encoding="utf-8"))
    told = {(result["origin"], result["env"]) for result in results}
    assert told == {(foreign.origin_of(entry), foreign.env_of(entry)) for entry in entries}


def test_what_is_not_on_this_machine_is_passed_over(tmp_path):
    absent = {"package": "of-nobody", "version": "1", "name": "of_nobody:Env"}
    entry = {"repository": "owner/name", "commit": "0" * 40, "path": "part/grid.py", "name": "Grid"}
    assert foreign.folder_of(absent, tmp_path, tmp_path) is None
    assert foreign.folder_of(entry, None, tmp_path) is foreign.folder_of(entry, tmp_path, tmp_path) is None
    (tmp_path / "owner+name" / "part").mkdir(parents=True)
    (tmp_path / "owner+name" / "part" / "grid.py").touch()
    assert foreign.folder_of(entry, tmp_path, tmp_path) == (tmp_path / "owner+name" / "part").resolve()
    assert (foreign.env_of(entry), foreign.origin_of(entry)) == ("grid.py:Grid", "owner/name@0000000")
    assert foreign.folder_of({**HERE, "name": "Taxi-v4"}, None, tmp_path) == tmp_path


def test_a_refusal_is_told_by_its_line(tmp_path):
    told = foreign.train({**HERE, "name": "CartPole-v7"}, tmp_path, tmp_path)
    assert told["outcome"] == "refused"
    assert told["told"].startswith("unknown environment 'CartPole-v7'")
    row = {"env": "CartPole-v7", "origin": "gymnasium 1.4.0", "options": [], **told}
    assert "| refused: unknown environment 'CartPole-v7'" in foreign.page_table([row])


def test_new_results_take_the_place_of_those_of_the_same_environment(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign, "RESULTS", tmp_path / "results.json")
    old = [{"origin": "a 1", "env": env, "options": ["--bins", "2"], "outcome": "refused"} for env in "xyz"]
    foreign.keep(old)
    foreign.keep(foreign.merge([{**old[1], "outcome": "exact"}]))
    kept = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [(result["env"], result["outcome"]) for result in kept] == [
        ("x", "refused"),
        ("y", "exact"),
        ("z", "refused"),
    ]
