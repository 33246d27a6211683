"""The command group: loads commands lazily, and turns every failure into one line and an exit code.

Neither this module nor the top level of a command's module imports Gymnasium, Keras or TensorFlow, so that help and
usage errors appear at once.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, NoReturn

import click

from deeptaxi import search_path
from deeptaxi.api.status import shown_by
from deeptaxi.backend import importing
from deeptaxi.cli import signals
from deeptaxi.cli.groups import Group
from deeptaxi.errors import DeepTaxiError, printable
from deeptaxi.renamed import OPTIONS

# NumPy's threads wait for each other by spinning: with another process running, solving the equations of a policy of
# 500 states takes fifty times as long with two threads as with one. NumPy reads this when it is imported.
for library in ("OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
importing.unused = ("matplotlib", "IPython")

ENDLESS = re.compile(r"\d{200,}")
NO_INTEGER = re.compile(r"(?<=\d{200}')(?: is not a valid integer(?: range)?)")

COMMANDS = {
    "train": "Train a Q-network and save it with its exact verdict.",
    "sweep": "Train a grid of settings over many seeds, on all processors.",
    "tune": "Search for settings that solve a problem on the most seeds.",
    "evaluate": "Evaluate a model, exactly if there is a transition table, and by episodes.",
    "watch": "Play episodes, with the Q values of every state.",
    "diagnose": "Diagnose what is wrong with a model, by name, and how to fix it.",
    "report": "Write an HTML page about one or more runs: verdict, curves, policy map, findings.",
    "compare": "Compare settings over many seeds, with intervals.",
    "logs": "Show how a training went: curves, warnings, outcome.",
    "explain": "Show every number of one update, or of the gradients of a dueling head.",
    "export": "Export a model to formats that other programs read.",
    "convert": "Convert a table of another form, or logged data, for use as ENV.",
    "discover": "Find the exact transition table of an environment that has none.",
    "check": "Check an environment against Gymnasium's API, and list all its faults.",
    "solve": "Compute the exact optimum of an environment, without learning.",
    "envs": "List what can be trained.",
    "presets": "List the settings tuned for known problems.",
    "zoo": "List trained agents with their verdicts.",
}


def status(text: str) -> AbstractContextManager[Any]:
    """Show a long-running step on the terminal."""
    from deeptaxi.display.console import err

    return err().status(text)


class InterruptedByUserError(Exception):
    """The user pressed Ctrl-C."""


class Cli(Group):
    """A command group that imports each command from the module of the same name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order in which users need them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"deeptaxi.cli.{cmd_name}_command").command
        command.short_help = COMMANDS[cmd_name]
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; report Ctrl-C as `InterruptedByUserError`."""
        try:
            with shown_by(status):
                return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptedByUserError from None

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> NoReturn:
        """Run a command line and exit; report errors as one line on standard error."""
        arguments = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        with signals.lasting_streams():
            try:
                self._carry_out(arguments, *rest, **extra)
            finally:
                signals.flush_output()

    def _carry_out(self, arguments: list[str], *rest: Any, **extra: Any) -> NoReturn:
        """Run a command line and exit, once the standard streams are protected."""
        try:
            if arguments and not {"-h", "--help", "--version"}.intersection(arguments):
                check_current_folder()
            with signals.ending_at_once():
                result = super().main(arguments, *rest, **extra)
            sys.stdout.flush()
        except click.exceptions.Exit as end:
            sys.exit(end.exit_code)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.ctx.get_help() if error.ctx else "")
            sys.exit(0)
        except BrokenPipeError:  # the reader of the pipe is gone, so there is no one to report to
            signals.stop_printing()
            sys.exit(128 + signals.received[0] if signals.received else 1)
        except BaseException as error:  # last resort: every error becomes one line
            if "--debug" in arguments and not isinstance(error, SystemExit):
                traceback.print_exc()
            fail(error)
        sys.exit(result if isinstance(result, int) else 0)


def check_current_folder() -> None:
    """Reject a current folder that no longer exists, which would cause misleading errors later.

    Raises:
        DeepTaxiError: the folder was removed.
    """
    try:
        os.getcwd()  # noqa: PTH109  # pathlib is not imported yet
    except OSError as error:
        raise DeepTaxiError(
            f"cannot use the current folder ({error.strerror}), which may have been removed: "
            "change to one that exists (cd) and try again"
        ) from None


def shortage(error: BaseException) -> str | None:
    """Describe a shortage of memory, files or threads, with its cure; None for other errors.

    The linker, which loads libraries, words it in many ways, and NumPy wraps that in pages of advice.
    """
    while isinstance(error, ImportError) and isinstance(error.__cause__, ImportError):
        error = error.__cause__
    of_system = error.errno if isinstance(error, OSError) else None
    said = str(error).strip()
    loaded = said if isinstance(error, ImportError) else ""
    mapped = ("failed to map segment", "annot allocate memory", "cannot create shared object descriptor")
    if isinstance(error, MemoryError) or of_system == errno.ENOMEM or any(say in loaded for say in mapped):
        what, cure = "not enough memory", "close other programs, or allow this one more (ulimit -v)"
    elif of_system in (errno.EMFILE, errno.ENFILE) or f"Error {errno.EMFILE}" in loaded:
        what, cure = "too many open files", "close other programs, or allow this one more (ulimit -n)"
    elif isinstance(error, RuntimeError) and said == "can't start new thread":
        what, cure = "not enough threads", "close other programs, or allow this one more (ulimit -u, -v)"
    else:
        return None
    return f"{what}{f': {said}' if said else ''}; {cure}"


def readable_numbers(line: str) -> str:
    """Shorten very long numbers in an error; click does not even recognize them as numbers."""
    line = NO_INTEGER.sub(" is too long a number", line)
    return ENDLESS.sub(lambda found: f"{found[0][:20]}…{found[0][-10:]} ({len(found[0]):,} digits)", line)


def describe_unforeseen(error: BaseException) -> str:
    """Describe an error that the program did not anticipate."""
    kind = type(error).__name__
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    if isinstance(error, Warning):
        return f"PYTHONWARNINGS or python -W turned a warning into an error: {kind}: {error}; unset it"
    return f"unexpected {kind}: {error} (--debug shows where)"


def refused_words(error: click.UsageError) -> str:
    """Return click's message on a command line; for a renamed option, its new name."""
    if isinstance(error, click.NoSuchOption) and error.option_name in OPTIONS:
        return f"{error.option_name} is now {OPTIONS[error.option_name]}"
    return error.format_message()


def fail(error: BaseException) -> NoReturn:
    """Print the error in one line and exit with its code."""
    if isinstance(error, SystemExit):
        raise error
    if signals.received:  # whatever it caused: an interrupted import may raise anything
        line, code = "interrupted", 128 + signals.received[0]
    elif isinstance(error, click.UsageError):
        where = f" (see '{error.ctx.command_path} --help')" if error.ctx else ""
        line, code = refused_words(error) + where, 2
    elif isinstance(error, click.ClickException):
        line, code = error.format_message(), error.exit_code
    elif isinstance(error, DeepTaxiError):
        line, code = str(error), error.exit_code
    elif isinstance(error, InterruptedByUserError | click.Abort | KeyboardInterrupt):
        line, code = "interrupted", 128 + signal.SIGINT
    elif short := shortage(error):
        line, code = short, 1
    else:
        line, code = describe_unforeseen(error), 1
    print("Error:", printable(" ".join(readable_numbers(line).split())), file=sys.stderr)  # noqa: T201  # rich is not needed for one plain line
    sys.exit(code)


@click.command("deeptaxi", cls=Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="deeptaxi", message="%(prog)s %(version)s")
def cli() -> None:
    """Train Keras Q-networks on small environments, and prove how good they are.

    \b
    deeptaxi train Taxi-v4               train an agent; it ends with the exact verdict
    deeptaxi evaluate models/RUN         compute the verdict again, and play episodes
    deeptaxi export models/RUN --format savedmodel
    """


def main() -> NoReturn:
    """Run the command line as a program."""
    search_path.leave_current_folder()
    cli.main(prog_name="deeptaxi")
