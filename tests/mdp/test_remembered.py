from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click
import gymnasium
import pytest

from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import UsageError
from deeptaxi.mdp import remembered
from deeptaxi.mdp.environment import open_environment
from deeptaxi.mdp.remembered import Recalled, data_root, locate, recall, remember

CODE = """
from beside_of_a_test import chain
from tests.problems import ToldEnv, rows_of


class Walk(ToldEnv):
    def __init__(self, render_mode=None, size=3, map="x"):
        super().__init__(chain(), rows_of(chain()), chain().start, render_mode)
"""
NAME, BESIDE = "remembered_of_a_test", "beside_of_a_test"
WALK = EnvironmentConfig(f"{NAME}:Walk")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The folder of a user: a module, one that it imports, and a data folder."""
    monkeypatch.setenv(remembered.VARIABLE, str(tmp_path / "data"))
    known = set(sys.modules)
    registered = dict(gymnasium.registry)
    place = write(tmp_path / "own")
    monkeypatch.chdir(place)
    yield place
    forget(known)
    gymnasium.registry.clear()
    gymnasium.registry.update(registered)


def write(folder):
    folder.mkdir()
    (folder / f"{NAME}.py").write_text(CODE)
    (folder / f"{BESIDE}.py").write_text("from tests.problems import chain\n")
    return folder


def forget(known=()):
    """Drop the modules, as a new process would have none of them."""
    for name in [name for name in sys.modules if name not in known and name.startswith((NAME, BESIDE, "pack_of_a"))]:
        del sys.modules[name]


def trained(config):
    """Open an environment that the user names, and remember it as a training does."""
    opened = open_environment(config)
    remember(opened.config)
    forget()
    return opened.config


def asks(config, message="which is code: pass --trust-env"):
    forget()
    with pytest.raises(UsageError, match=message):
        open_environment(config, trust_module=False)
    assert not {NAME, BESIDE} & sys.modules.keys()
    return True


@pytest.mark.parametrize("name", [f"{NAME}:Walk", f"{NAME}.py:Walk"])
def test_what_was_trained_here_opens_without_asking(own, name):
    config = EnvironmentConfig(name)
    assert asks(config)
    assert trained(config) == config
    before = list(sys.path)
    assert open_environment(config, trust_module=False).states == 3
    assert sys.path == before


def test_a_file_is_remembered_by_its_place_however_it_is_named(own, monkeypatch):
    trained(EnvironmentConfig(f"{NAME}.py:Walk"))
    monkeypatch.chdir(own.parent)
    assert open_environment(EnvironmentConfig(f"own/{NAME}.py:Walk"), trust_module=False).states == 3


def test_numbers_may_change_and_texts_may_not(own):
    trained(EnvironmentConfig(WALK.id, {"size": 4, "map": "mine"}))
    assert open_environment(EnvironmentConfig(WALK.id, {"size": 9}), trust_module=False).config.kwargs == {"size": 9}
    assert recall(EnvironmentConfig(WALK.id, {"size": 4, "map": "mine"})).folder == own
    assert asks(EnvironmentConfig(WALK.id, {"size": 4, "map": "os:system"}))
    trained(EnvironmentConfig(WALK.id, {"map": "other"}))
    for text in ("mine", "other"):
        kwargs = {"size": 4, "map": text} if text == "mine" else {"map": text}
        assert recall(EnvironmentConfig(WALK.id, kwargs)).folder == own


@pytest.mark.parametrize("name", [NAME, BESIDE])
def test_code_that_changed_is_named(own, name):
    trained(WALK)
    with (own / f"{name}.py").open("a") as file:
        file.write("# more\n")
    assert asks(WALK, f"the run names the environment module '{NAME}', whose file .*{name}.py has changed since you")
    trained(WALK)
    assert recall(WALK) == Recalled(own)


def test_another_name_or_place_is_asked_for(own, monkeypatch):
    trained(WALK)
    assert asks(EnvironmentConfig(f"{NAME}:chain"))
    assert asks(EnvironmentConfig("os:system"))
    elsewhere = write(own.parent / "elsewhere")  # the same code, with something else beside it
    (elsewhere / f"{BESIDE}.py").write_text("raise AssertionError('imported')\n")
    monkeypatch.chdir(elsewhere)
    assert asks(WALK)
    monkeypatch.setattr(sys, "path", [*sys.path, str(own)])  # what stands in the current folder comes first
    assert asks(WALK)


def test_the_current_folder_is_not_searched_for_a_module_of_elsewhere(own, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(own)])
    trained(WALK)
    stranger = own.parent / "stranger"
    stranger.mkdir()
    (stranger / f"{BESIDE}.py").write_text("raise AssertionError('imported')\n")
    monkeypatch.chdir(stranger)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert open_environment(WALK, trust_module=False).states == 3


def test_a_package_is_remembered_with_all_that_it_imported(own):
    pack = own / "pack_of_a_test"
    pack.mkdir()
    (pack / "__init__.py").write_text("from .inner import Walk\n")
    (pack / "inner.py").write_text(CODE)
    for name in ("pack_of_a_test:Walk", "pack_of_a_test.inner:Walk"):
        config = trained(EnvironmentConfig(name))
        assert recall(config) == Recalled(own)
        (pack / "inner.py").write_text(f"# {name}\n{CODE}")
        assert recall(config) == Recalled(changed=pack / "inner.py")


def test_what_is_loaded_from_elsewhere_is_not_taken_for_it(own, monkeypatch):
    trained(WALK)
    monkeypatch.setitem(sys.modules, NAME, sys.modules[__name__])
    assert locate(WALK.id) is None
    assert recall(WALK) == Recalled()


def records(own):
    return list((own.parent / "data" / remembered.FOLDER).iterdir())


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has other permissions")
def test_a_record_that_others_may_have_written_is_not_believed(own):
    trained(WALK)
    (record,) = records(own)
    assert record.stat().st_mode & 0o777 == 0o600
    for path in (record, record.parent, own.parent / "data"):
        mode = path.stat().st_mode
        path.chmod(mode | 0o022)
        assert recall(WALK) == Recalled()
        path.chmod(mode)
    assert recall(WALK) == Recalled(own)


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", '{"files": {}, "arguments": []}', '{"files": {"a": 1}}'])
def test_a_damaged_record_is_none(own, text):
    trained(WALK)
    (record,) = records(own)
    record.write_text(text)
    assert recall(WALK) == Recalled()


def test_a_record_holds_names_and_digests_alone(own):
    trained(EnvironmentConfig(WALK.id, {"size": 5}))
    (record,) = records(own)
    told = json.loads(record.read_text())
    assert (told["name"], told["arguments"]) == (WALK.id, ["size=5"])
    assert {Path(file).name for file in told["files"]} == {f"{NAME}.py", f"{BESIDE}.py"}
    assert not [path for path in record.parent.iterdir() if path != record]


@pytest.mark.parametrize("value", ["", "off", " OFF "])
def test_it_can_be_switched_off(own, monkeypatch, value):
    monkeypatch.setenv(remembered.VARIABLE, value)
    assert data_root() is None
    trained(WALK)
    assert asks(WALK)


def test_without_a_home_or_room_nothing_is_remembered(own, monkeypatch):
    monkeypatch.setenv(remembered.VARIABLE, str(own / f"{NAME}.py" / "data"))  # below a file
    trained(WALK)
    assert recall(WALK) == Recalled()
    monkeypatch.setattr(remembered, "MOST_FILES", 1)
    monkeypatch.setenv(remembered.VARIABLE, str(own.parent / "other"))
    trained(WALK)
    assert recall(WALK) == Recalled()


def test_what_names_no_code_is_not_remembered(own):
    for name in (
        "Taxi-v4",
        "gymnasium:Taxi-v4",
        "in-memory/Walk",
        "table.npz",
        f"{NAME}x:Walk",
        "json.nothing:x",
        ":x",
    ):
        assert locate(name) is None
    assert locate("click.core:Command").folder == Path(click.__file__).resolve().parents[1]
