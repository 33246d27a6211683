from __future__ import annotations

import re
import sys

import gymnasium
import pytest

from deeptaxi.config import EnvironmentConfig
from deeptaxi.errors import UsageError
from deeptaxi.mdp.environment import open_environment
from deeptaxi.mdp.named_code import code_folder, importable_name, is_file, module_name, split_name
from deeptaxi.mdp.simulate import TableEnv

CODE = """
import gymnasium
from helper_beside import chain
from tests.problems import ToldEnv, rows_of


class Walk(ToldEnv):
    def __init__(self, render_mode=None):
        super().__init__(chain(), rows_of(chain()), chain().start, render_mode)


class Sized(Walk):
    def __init__(self, size, wind=0.5):
        super().__init__()


class Timed(Walk):
    class Inner(Walk):
        pass


class NoEnvironment:
    pass


def walk(length=3):
    return gymnasium.wrappers.TimeLimit(Walk(), length)


def taxi():
    return gymnasium.make("Taxi-v4")


one = Walk()
gymnasium.register("Timed-v2", Timed, max_episode_steps=9)
gymnasium.register("space/Other-v0", Walk)
"""
NAME = "doors_of_a_test"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that holds a module, and one that it imports; it is the current one."""
    (tmp_path / f"{NAME}.py").write_text(CODE)
    (tmp_path / "helper_beside.py").write_text("from tests.problems import chain\n")
    monkeypatch.chdir(tmp_path)
    registered, known = dict(gymnasium.registry), set(sys.modules)
    yield tmp_path
    for name in ("helper_beside", *(name for name in sys.modules.keys() - known if name.startswith(NAME))):
        sys.modules.pop(name, None)
    gymnasium.registry.clear()
    gymnasium.registry.update(registered)


def open_name(name, **settings):
    return open_environment(EnvironmentConfig(name, **settings))


@pytest.mark.parametrize("code", [NAME, f"{NAME}.py", f"./{NAME}.py"])
def test_a_class_a_function_and_an_id_are_named_alike(folder, code):
    before = list(sys.path)
    for name, limit in [("Walk", None), ("walk", 3), ("Timed.Inner", None), ("Timed-v2", 9), ("space/Other-v0", None)]:
        environment = open_name(f"{code}:{name}")
        assert (environment.config.id, environment.states) == (f"{code}:{name}", 3)
        assert (environment.time_limit, environment.table_missing) == (limit, None)
        environment.make().close()
    assert sys.path == before


def test_a_class_that_is_registered_by_its_name_has_the_time_limit_of_its_id(folder):
    assert (open_name(f"{NAME}:Timed").config.id, open_name(f"{NAME}:Timed").time_limit) == (f"{NAME}:Timed-v2", 9)


def test_what_a_function_makes_keeps_the_functions_name(folder):
    taxi = open_name(f"{NAME}:taxi")
    assert (taxi.config.id, taxi.states, taxi.time_limit) == (f"{NAME}:taxi", 500, 200)
    assert open_name(f"{NAME}:taxi", time_limit=7).time_limit == 7
    assert open_name(f"{NAME}:walk", kwargs={"length": 5}).time_limit == 5


def test_a_file_is_found_from_elsewhere_and_keeps_its_folder(folder, monkeypatch):
    (folder / "deep").mkdir()
    monkeypatch.chdir(folder / "deep")
    environment = open_name(f"../{NAME}.py:Walk")
    assert environment.config.id == f"../{NAME}.py:Walk"
    monkeypatch.chdir(folder.parent)
    environment.make().close()
    assert open_name(str(folder / f"{NAME}.py:Walk")).states == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"{NAME}:Wlak", f"{NAME} has no environment 'Wlak'; did you mean '{NAME}:Walk'?"),
        (f"{NAME}.py:Walks", f"{NAME}.py has no environment 'Walks'; did you mean '{NAME}.py:Walk'?"),
        (f"{NAME}:Qqqqq", f"it has {NAME}:Walk, {NAME}:Sized, {NAME}:Timed, {NAME}:Timed-v2, {NAME}:space/Other-v0"),
        (f"{NAME}.py", f"{NAME}.py is code: name an environment in it; it has {NAME}.py:Walk, "),
        (f"{NAME}:", f"{NAME} is code: name an environment in it; it has {NAME}:Walk, "),
        (NAME, f"'{NAME}' is a module: name an environment in it, {NAME}:NAME"),
        (f"{NAME}x.py:Walk", f"there is no file {NAME}x.py; did you mean '{NAME}.py'?"),
        (f"{NAME}x:Walk", f"there is no module '{NAME}x'; did you mean '{NAME}'?"),
        (f"{NAME}:Sized", f"{NAME}:Sized needs the argument size: add --env-arg size=…"),
        (f"{NAME}:one", f"{NAME}:one is an object of Walk: name a class, or a function that makes one"),
        (f"{NAME}:NoEnvironment", "makes no environment but an object of NoEnvironment: derive its class from"),
        (f"{NAME}:gymnasium", "is an object of module: name a class"),
        (f"a:{NAME}:Walk", "is not an environment: expected an id or module:Class"),
    ],
)
def test_what_code_does_not_have_is_refused_with_what_to_type(folder, name, message):
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        open_name(name)
    assert "\n" not in str(caught.value)


def test_a_class_takes_the_arguments_that_it_needs(folder):
    assert open_name(f"{NAME}:Sized", kwargs={"size": 3}).config.kwargs == {"size": 3}
    with pytest.raises(UsageError, match=r"wind=strong: .* expects a number"):
        open_name(f"{NAME}:Sized", kwargs={"size": 3, "wind": "strong"})


def test_a_file_with_the_name_of_a_module_does_not_replace_it(folder):
    (folder / "json.py").write_text(CODE)
    (folder / "colorsys.py").write_text(CODE)
    for name in ("json", "colorsys"):
        known = sys.modules.get(name)
        assert open_name(f"{name}.py:Walk").states == 3
        assert sys.modules.get(name) is known
        assert module_name(folder / f"{name}.py").startswith(f"{name}_")


def test_a_file_that_fails_is_not_kept(folder):
    (folder / f"{NAME}_bad.py").write_text("1 / 0\n")
    with pytest.raises(UsageError, match="could not be created: ZeroDivisionError"):
        open_name(f"{NAME}_bad.py:Walk")
    assert f"{NAME}_bad" not in sys.modules


def test_a_file_alone_is_code_that_needs_trust(folder):
    for name in (f"{NAME}.py", f"{NAME}.py:Walk", f"{NAME}:Walk", f"gymnasium:{NAME}.py"):
        with pytest.raises(UsageError, match="which is code: pass --trust-env"):
            open_environment(EnvironmentConfig(name), trust_module=False)
    assert NAME not in sys.modules


def test_a_name_has_a_module_and_what_is_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert split_name("Taxi-v4") == ("", "Taxi-v4")
    assert split_name("a.b:C") == ("a.b", "C")
    assert split_name(r"C:\x\file.py:Class") == (r"C:\x\file.py", "Class")
    assert is_file("x/y.py")
    assert [code_folder(name) for name in ("Taxi-v4", "a:B", "../x/y.py:B")] == [
        None,
        str(tmp_path),
        str(tmp_path.parent / "x"),
    ]


def test_only_what_can_be_imported_again_has_a_name():
    class Local(TableEnv):
        pass

    assert importable_name(TableEnv) == "deeptaxi.mdp.simulate:TableEnv"
    assert importable_name(importable_name) == "deeptaxi.mdp.named_code:importable_name"
    assert importable_name(Local) is importable_name(lambda: None) is importable_name(3) is importable_name(int) is None


@pytest.mark.parametrize("files", [(), ("__init__.py",), ("__init__.py", "../__init__.py")])
def test_a_file_may_import_relatively_what_is_in_its_package(files, folder, monkeypatch):
    names = f"outer_{len(files)}", f"inner_{len(files)}"
    inner = folder.joinpath(*names)
    inner.mkdir(parents=True)
    for name in files:
        (inner / name).write_text("")
    (inner / "part.py").write_text("from tests.problems import chain\n")
    (inner / "walks.py").write_text(CODE.replace("helper_beside", ".part").replace("Timed-v2", f"Timed{len(files)}-v2"))
    before = list(sys.path)
    environment = open_environment(EnvironmentConfig(f"{names[0]}/{names[1]}/walks.py:Walk"))
    assert environment.states == 3
    again = environment.make()
    assert type(again.unwrapped).__module__ == ".".join([*names[len(files) < 2 :], "walks"])
    assert sys.path == before
