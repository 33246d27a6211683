from __future__ import annotations

import errno
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import click
import pytest

from deeptaxi.cli.main import COMMANDS, cli, fail
from deeptaxi.errors import DeepTaxiError
from deeptaxi.mdp.contract import blaming
from tests.cli.conftest import refused, run

ROOT = Path(__file__).parents[2]


def commands_of(group: click.Group, path: str = "") -> dict[str, click.Command]:
    """Return all commands below a group by what is typed, groups included."""
    found: dict[str, click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found[f"{path}{name}"] = command
        if isinstance(command, click.Group):
            found.update(commands_of(command, f"{path}{name} "))
    return found


ALL = commands_of(cli)
COMMAND_OPTIONS = [(name, option) for name, command in ALL.items() for option in command.params]


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["train", "--help"],
        ["evaluate", "--help"],
        ["train", "--sed", "1"],
        ["tran"],
        ["convert", "--help"],
        ["export", "--help"],
        ["export", "models/x", "--format", "excel"],
        ["export", "models/x"],
        ["explain"],
        ["explain", "update", "--help"],
        ["explain", "gradients", "--help"],
        ["explain", "updat"],
        ["explain", "gradients", "--actions", "0"],
        ["explain", "update", "--action", "1"],
    ],
)
def test_help_and_usage_errors_answer_without_the_heavy_imports(words: list[str]) -> None:
    code = f"""
import sys
from deeptaxi.cli.main import cli
try:
    cli.main({words!r}, prog_name="deeptaxi")
finally:
    heavy = {{"tensorflow", "keras", "jax", "gymnasium", "numpy", "jinja2", "yaml"}} & set(sys.modules)
    assert not heavy, heavy
"""
    done = python(code)
    assert "AssertionError" not in done.stderr
    assert done.returncode in (0, 2)


def test_numpy_has_one_thread_unless_the_user_says_so() -> None:
    code = "import os, deeptaxi.cli.main; print(os.environ['OPENBLAS_NUM_THREADS'])"
    assert python(code, OPENBLAS_NUM_THREADS="3").stdout == "3\n"
    assert python(f"import os; os.environ.pop('OPENBLAS_NUM_THREADS', None); {code}").stdout == "1\n"


def test_solve_envs_and_logs_never_import_keras(lake_run: Path) -> None:
    code = f"""
import sys
from deeptaxi.cli.main import cli
for words in (["solve", "FrozenLake-v1"], ["envs", "FrozenLake-v1"], ["logs", {str(lake_run)!r}]):
    try:
        cli.main(words, prog_name="deeptaxi")
    except SystemExit as end:
        assert end.code == 0, end.code
assert not {{"tensorflow", "keras", "jax", "jinja2", "yaml"}} & set(sys.modules)
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_every_command_and_every_option_has_help() -> None:
    for name, command in ALL.items():
        assert command.help, name
    for name, option in COMMAND_OPTIONS:
        assert option.param_type_name == "argument" or option.help, f"{name} {option.name}"  # type: ignore[attr-defined]


def test_the_reference_page_is_up_to_date() -> None:
    # `python docs/reference.py` writes them anew.
    page = runpy.run_path(str(ROOT / "docs" / "reference.py"))["render"]()
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == page
    assert all(f"## `deeptaxi {name}`" in page for name in ALL)
    for name, option in COMMAND_OPTIONS:
        assert all(f"`{word}`" in page for word in option.opts if word.startswith("-")), f"{name} {option.name}"


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"deeptaxi {name}" in text


def test_an_unknown_command_is_answered_with_the_nearest_one() -> None:
    refused(run("evalute"), 2, "no command 'evalute'", "did you mean 'evaluate'?")


def test_an_unknown_option_points_to_the_help_of_its_command() -> None:
    refused(run("train", "Taxi-v4", "--sed", "1"), 2, "--seed", "deeptaxi train --help")


def test_no_arguments_at_all_shows_the_help() -> None:
    result = run()
    assert "Commands:" in result.stdout
    assert result.exit_code == 0


def test_debug_shows_the_traceback_and_without_it_there_is_none() -> None:
    quiet, loud = run("solve", "Taxi-v3"), run("solve", "Taxi-v3", "--debug")
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr
    assert quiet.exit_code == loud.exit_code == 2


def test_a_closed_pipe_prints_no_error() -> None:
    command = f"{sys.executable} -m deeptaxi solve Taxi-v4 --json | head -c 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)  # noqa: S607
    assert done.stdout == "{"
    assert done.stderr == ""


def test_json_is_the_only_thing_on_standard_output() -> None:
    assert json.loads(run("solve", "CliffWalking-v1", "--json").stdout)["optimal_return"] == -13


COMMAND_LINES = [
    ["train", "FrozenLake-v1"],
    ["sweep", "--env", "FrozenLake-v1"],
    ["tune", "FrozenLake-v1"],
    ["evaluate", "x"],
    ["watch", "x"],
    ["diagnose", "x"],
    ["report", "x"],
    ["compare", "x"],
    ["logs", "x"],
    ["explain", "gradients"],
    ["explain", "update", "x"],
    ["export", "x", "--all"],
    ["convert", "x.csv", "x.npz"],
    ["discover", "FrozenLake-v1", "--out", "x.npz"],
    ["check", "FrozenLake-v1"],
    ["solve", "FrozenLake-v1", "--out", "x.csv"],
    ["envs"],
    ["presets"],
    ["zoo"],
]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_a_removed_current_folder_is_named_as_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert {words[0] for words in COMMAND_LINES} == set(COMMANDS)
    for words in COMMAND_LINES:
        refused(run(*words), 1, "cannot use the current folder (No such file or directory)", "change to one")
    assert run("train", "--help").exit_code == 0


def advised(cause: ImportError) -> ImportError:
    """Return the error that NumPy makes of another one."""
    error = ImportError("IMPORTANT: PLEASE READ THIS FOR ADVICE ON HOW TO SOLVE THIS ISSUE!")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "Error: not enough memory; close other programs, or allow this one more (ulimit -v)\n"),
        (MemoryError("3 GiB"), "Error: not enough memory: 3 GiB; close other"),
        (ImportError("libx.so: failed to map segment from shared object"), "Error: not enough memory: libx.so"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "Error: not enough memory: [Errno 12] Cannot allocate"),
        (advised(ImportError("libx.so: failed to map segment")), "Error: not enough memory: libx.so: failed to map"),
        (OSError(errno.EMFILE, "Too many open files", "x"), "Error: too many open files: [Errno 24] Too many"),
        (ImportError("libx.so: cannot open shared object file: Error 24"), "Error: too many open files: lib"),
        (RuntimeError("can't start new thread"), "Error: not enough threads: can't start new thread; close other"),
        (DeprecationWarning("x"), "Error: PYTHONWARNINGS or python -W turned a warning into an error: Deprecation"),
        (ImportError("no x"), "Error: unexpected ImportError: no x"),
    ],
)
def test_the_cause_of_a_failure_is_named(error: BaseException, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fail(error)
    assert capsys.readouterr().err.startswith(line)


def test_running_out_of_memory_is_not_blamed_on_the_environment() -> None:
    with pytest.raises(DeepTaxiError, match="not enough memory for the environment x: 3 GiB"), blaming("x"):
        raise MemoryError("3 GiB")


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])  # the rest, without Keras: tests/reliability
def test_closed_streams_change_no_answer(closed: str, lake_run: Path) -> None:
    words = [sys.executable, "-m", "deeptaxi", "evaluate", str(lake_run), "--json"]
    line = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert bool(done.stdout) == (">&-" not in closed.split())
    assert not done.stderr


def test_a_reused_file_descriptor_is_not_written_to(tmp_path: Path) -> None:
    code = """
import os, sys
number = os.open("kept", os.O_CREAT | os.O_WRONLY)
from deeptaxi.cli import signals
with signals.lasting_streams():
    print("x", file=sys.stderr, flush=True)
sys.exit(number)
"""
    line = ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", code]
    done = subprocess.run(line, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 2
    assert (tmp_path / "kept").read_text() == ""


def test_too_little_address_space_is_reported_and_does_not_hang(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))
from deeptaxi.__main__ import main
sys.argv = ["deeptaxi", "solve", "CliffWalking-v1", "--objective-discount", "1"]
main()
"""
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: not enough memory")
