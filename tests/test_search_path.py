from __future__ import annotations

import importlib
import importlib.util
import os
import sys

import pytest

import deeptaxi
from deeptaxi import search_path


def test_the_folder_that_the_package_stands_in_is_code_already(monkeypatch):
    monkeypatch.chdir(os.path.dirname(os.path.dirname(deeptaxi.__file__)))  # noqa: PTH120
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert search_path.current_entries() == []


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A current folder that holds a module, and a search path that names the folder three times."""
    (tmp_path / "stranger_here.py").write_text("FOUND = True\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path, "."])
    return tmp_path


def test_the_current_folder_is_found_under_all_its_names(stranger):
    assert search_path.current_entries() == ["", str(stranger), "."]


def test_nothing_is_imported_from_a_hidden_folder_and_the_path_is_restored(stranger):
    before = list(sys.path)
    with search_path.hide_current_folder(), pytest.raises(ModuleNotFoundError):
        importlib.import_module("stranger_here")
    assert sys.path == before


def test_a_folder_that_the_user_names_code_in_comes_first(stranger, monkeypatch):
    search_path.leave_current_folder()
    assert search_path.current_entries() == []
    before = list(sys.path)
    with search_path.folder_first(str(stranger)):
        assert importlib.import_module("stranger_here").FOUND
    assert sys.path == before
    monkeypatch.delitem(sys.modules, "stranger_here")


def test_a_removed_folder_is_no_entry(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    gone.rmdir()
    before = sys.path[1:]
    assert search_path.current_entries() == [""]
    with search_path.folder_first(""):
        assert sys.path[1:] == before
