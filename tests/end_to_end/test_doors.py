"""The ways by which an environment comes in: a class or a function by its name, a file, an object of Python."""

from __future__ import annotations

import json
import shutil
import sys

import gymnasium
import pytest

import deeptaxi
from deeptaxi.api.environments import EnvSpec
from deeptaxi.errors import UsageError
from deeptaxi.mdp import remembered
from deeptaxi.mdp.simulate import TableEnv
from tests.cli.conftest import QUICK, refused, run
from tests.problems import ToldEnv, chain, rows_of

CODE = """
from tests.problems import ToldEnv, chain, rows_of


class Walk(ToldEnv):
    def __init__(self, render_mode=None):
        super().__init__(chain(), rows_of(chain()), chain().start, render_mode)


class Sized(Walk):
    def __init__(self, size):
        super().__init__()
"""
NAME = "doors_end_to_end"
FAST = {"q_table": True, "updates": 400, "eval_every": 100, "environments": 8, "batch_size": 32}


class Walk(ToldEnv):
    """The chain, with something to set."""

    def __init__(self, start=0):
        super().__init__(chain(start), rows_of(chain()), chain(start).start)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's folder with a module in it."""
    monkeypatch.setenv(remembered.VARIABLE, str(tmp_path / "data"))
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / f"{NAME}.py").write_text(CODE)
    monkeypatch.chdir(folder)
    yield folder
    sys.modules.pop(NAME, None)


@pytest.mark.parametrize("code", [NAME, f"{NAME}.py"])
def test_a_class_is_trained_and_its_run_opened_without_a_word(own, code):
    done = run("train", f"{code}:Walk", "--q-table", *QUICK, "--out", "models/x", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["exact"]["optimal"]
    sys.modules.pop(NAME)
    for words in (["evaluate", "models/x", "--episodes", "0"], ["report", "models/x"], ["diagnose", "models/x"]):
        assert run(*words).exit_code == 0
    assert run("train", "--resume", "models/x", "--updates", "500", "--quiet").exit_code == 0
    assert deeptaxi.load("models/x").optimal
    facts = json.loads((own / "models/x/card.json").read_text())
    kind = "file" if code.endswith(".py") else "module"
    assert facts["environment"]["origin"] == f"code, of the {kind} {code}"
    assert f"| Origin | code, of the {kind} {code} |" in (own / "models/x/card.md").read_text()

    sys.modules.pop(NAME)
    (own / f"{NAME}.py").write_text(CODE + "# changed\n")
    refused(run("evaluate", "models/x"), 2, f"{NAME}.py has changed since you trained with it", "pass --trust-env")
    assert run("evaluate", "models/x", "--episodes", "0", "--trust-env").exit_code == 0


def test_a_run_that_is_given_to_someone_else_asks(own, monkeypatch):
    assert run("train", f"{NAME}:Walk", "--q-table", *QUICK, "--out", "models/x", "--quiet").exit_code == 0
    shutil.copytree(own, own.parent / "elsewhere")
    sys.modules.pop(NAME)
    monkeypatch.chdir(own.parent / "elsewhere")
    refused(run("evaluate", "models/x"), 2, f"names the environment module '{NAME}', which is code: pass --trust-env")
    monkeypatch.chdir(own)
    monkeypatch.setenv(remembered.VARIABLE, "off")
    refused(run("evaluate", "models/x"), 2, "which is code: pass --trust-env")
    assert NAME not in sys.modules


def test_what_a_line_advises_works(own):
    refused(run("envs", f"{NAME}:Sized"), 2, f"{NAME}:Sized needs the argument size: add --env-arg size=…")
    assert run("envs", f"{NAME}:Sized", "--env-arg", "size=3").exit_code == 0
    refused(run("solve", f"{NAME}:Walx"), 2, f"did you mean '{NAME}:Walk'?")
    assert run("solve", f"{NAME}:Walk").exit_code == 0


def test_an_object_is_trained_kept_and_resumed_with_the_object(own):
    mine = Walk()
    whole = deeptaxi.train(mine, **FAST)
    part = deeptaxi.train(mine, out="models/x", stop_after=150, **FAST)
    assert part.environment.config.id == "in-memory/Walk"
    assert "Walk was an object in memory" in refused(run("evaluate", "models/x"), 2)
    refused(run("train", "--resume", "models/x"), 2, "give it again in Python, env=…, or name what makes it")
    with pytest.raises(UsageError, match="Walk was an object in memory, which no file holds"):
        deeptaxi.load("models/x")
    rest = deeptaxi.train(mine, resume="models/x")
    assert rest.weights_digest == whole.weights_digest
    assert deeptaxi.load("models/x", mine).optimal
    assert deeptaxi.evaluate("models/x", lambda: Walk(), episodes=0).optimal
    assert deeptaxi.evaluate("models/x", Walk, episodes=0).optimal
    with pytest.raises(UsageError, match="is not what models/x was trained on: it has another transition table"):
        deeptaxi.train(Walk(1), resume="models/x", updates=500)


def test_the_card_of_an_object_has_lines_of_python(own):
    mine = Walk()
    deeptaxi.train(mine, out="models/x", **FAST)
    facts = json.loads((own / "models/x/card.json").read_text())
    assert facts["environment"]["origin"] == "an object in memory: the run opens only in Python, with env=…"
    assert any("Its environment was an object in memory" in sentence for sentence in facts["limits"])
    assert facts["commands"] == {
        "train": "deeptaxi.train(env, config='models/x/config.toml')",
        "evaluate": "deeptaxi.evaluate('models/x', env)",
    }
    again = eval(facts["commands"]["train"], {"deeptaxi": deeptaxi, "env": mine})  # noqa: S307  # what it advises
    assert again.weights_digest == facts["weights_digest"]
    assert eval(facts["commands"]["evaluate"], {"deeptaxi": deeptaxi, "env": mine}).optimal  # noqa: S307


def test_one_of_gymnasium_is_trained_as_by_its_id(own):
    lake = gymnasium.make("FrozenLake-v1", is_slippery=False)
    made = deeptaxi.train(lake, **FAST)
    named = deeptaxi.train("FrozenLake-v1", env_args={"is_slippery": False}, **FAST)
    assert made.weights_digest == named.weights_digest
    assert made.config == named.config


def test_functions_that_take_an_environment_take_objects(own):
    assert deeptaxi.solve(Walk()).optimal_return == 1
    assert deeptaxi.solve(lambda: Walk(1), time_limit=7).optimal_return == 1
    (row,) = deeptaxi.listing.envs(Walk(2))
    assert (row["id"], row["states"]) == ("in-memory/Walk", 3)
    assert deeptaxi.explain.update(env=Walk(), state=0, action=0)["outcome"]


class Hidden(TableEnv):
    """The chain without its table: what it is can only be discovered."""

    def __init__(self, start=0):
        super().__init__(chain(start))


def test_the_table_of_an_object_is_discovered_each_time_anew(own):
    for start, steps in ((0, 3), (1, 2)):  # one class and one id, two problems
        assert deeptaxi.solve(Hidden(start), discount=0.5).optimal_value == 0.5 ** (steps - 1)
    shorter = deeptaxi.solve(EnvSpec(Hidden()).open(), discount=0.5, time_limit=2)
    assert shorter.optimal_return == 0
    assert EnvSpec(Hidden(), discover=False).open().table is None
    assert deeptaxi.discover(Hidden()).table.states == 3
    assert EnvSpec(gymnasium.make("Blackjack-v1"), discover=False).open().table is None
