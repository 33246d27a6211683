"""Options shared by several commands, the argument MODEL, and the training options made from the settings."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import click

from deeptaxi import arguments
from deeptaxi.api.settings import paths
from deeptaxi.config import TrainConfig
from deeptaxi.metrics import to_json
from deeptaxi.schema import leaf_settings, nest

Function = Callable[..., Any]


class NonEmptyPath(click.Path):
    """A path that must not be empty: an unset shell variable does not mean the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reject an empty string."""
        if value == "":
            self.fail("expected a path, received nothing", param, ctx)
        return super().convert(value, param, ctx)


PATH = NonEmptyPath(path_type=Path)


class FiniteRange(click.FloatRange):
    """A range of numbers that rejects NaN, which no comparison finds out of range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reject NaN."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not in the range {self._describe_range()}.", param, ctx)
        return number


def keyword_arguments(_ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Parse KEY=VALUE strings into keyword arguments."""
    found: dict[str, Any] = {}
    for given in values:
        key, equals, text = given.partition("=")
        if not equals or not key.isidentifier():
            raise click.BadParameter(f"expected KEY=VALUE, received '{key}{equals}'")
        if key in found:
            raise click.BadParameter(f"{key} is given twice: leave one of the two out")
        try:
            found[key] = arguments.parse(text)
        except ValueError as error:
            raise click.BadParameter(f"{key}={arguments.shorten(text)}: {error}") from None
    return found


def shared_options(function: Function) -> Function:
    """Add ``--debug``, which the group reads from the command line."""
    return click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")(function)


def json_option(function: Function) -> Function:
    """Add ``--json``, which reserves standard output for the document and redirects all else to standard error."""
    help_text = "Print one JSON document on standard output, and nothing else."

    def keep_output(ctx: click.Context, _parameter: click.Parameter, asked: bool) -> bool:
        if asked:
            ctx.obj = sys.stdout
            ctx.with_resource(contextlib.redirect_stdout(sys.stderr))
        return asked

    return click.option("--json", "as_json", is_flag=True, help=help_text, callback=keep_output)(function)


def print_json(document: Any) -> None:
    """Print the document of ``--json`` in UTF-8, whatever the terminal's encoding."""
    stream = click.get_current_context().obj
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(encoding="utf-8")
    click.echo(to_json(document, indent=2), file=stream)


def env_arg_option(function: Function) -> Function:
    """Add ``--env-arg``."""
    return click.option(
        "--env-arg",
        "env_args",
        metavar="KEY=VALUE",
        multiple=True,
        callback=keyword_arguments,
        help="Argument for gymnasium.make: a TOML or Python literal, else plain text (repeatable).",
    )(function)


def network_arg_option(function: Function) -> Function:
    """Add ``--network-arg``."""
    return click.option(
        "--network-arg",
        "network__kwargs",
        metavar="KEY=VALUE",
        multiple=True,
        callback=lambda *given: keyword_arguments(*given) or None,
        help="Argument of the function that --network names, like --env-arg (repeatable).",
    )(function)


def time_limit_option(function: Function) -> Function:
    """Add ``--time-limit``."""
    return click.option("--time-limit", type=click.IntRange(1), help="Steps before an episode is cut.")(function)


def objective_discount_option(default: str) -> Callable[[Function], Function]:
    """Add ``--objective-discount``; `default` describes the default in the help text."""
    return click.option(
        "--objective-discount",
        type=FiniteRange(0, 1),
        help=f"Discount of the value that decides what is optimal.  [default: {default}]",
    )


def trust_option(function: Function) -> Function:
    """Add ``--trust-env``."""
    help_text = "Import the module of an environment or network that a file names, which runs its code."
    return click.option("--trust-env", is_flag=True, help=help_text)(function)


def force_option(function: Function) -> Function:
    """Add ``--force``."""
    return click.option("--force", is_flag=True, help="Overwrite existing files.")(function)


CURE_BUDGET = 60.0  # seconds


def budget_option(function: Function) -> Function:
    """Add ``--budget``."""
    return click.option(
        "--budget",
        type=FiniteRange(0, min_open=True),
        metavar="SECONDS",
        help=f"Time for all cures together.  [default: {CURE_BUDGET:g}]",
    )(function)


def check_budget(cure: bool, budget: float | None) -> None:
    """Reject a time for cures where none is tried.

    Raises:
        UsageError: there is one.
    """
    if budget is not None and not cure:
        raise click.UsageError("--budget is the time that cures may take: add --cure")


class Sizes(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """Comma-separated layer sizes, such as ``128,64``."""

    name = "N,N,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        """Parse comma-separated sizes."""
        if isinstance(value, list):
            return value
        try:
            return [int(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"expected whole numbers such as 128,64, received '{value}'", param, ctx)


class Ranges(click.ParamType):  # type: ignore[type-arg]
    """Comma-separated ranges, such as ``-3:3,-3.5:3.5``; an empty one is ``:``."""

    name = "LOW:HIGH,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[list[float]]:
        """Parse comma-separated ranges."""
        if isinstance(value, list):
            return value
        try:
            pairs = [part.split(":") for part in str(value).split(",")]
            return [[] if pair == ["", ""] else [float(low) for low in pair] for pair in pairs]
        except ValueError:
            self.fail(f"expected ranges such as -3:3,-3.5:3.5, received '{value}'", param, ctx)


def option_type(hint: Any, choices: tuple[str, ...]) -> Any:
    """Return the click type of a setting."""
    if choices:
        return click.Choice(choices)
    if isinstance(hint, UnionType):
        hint = get_args(hint)[0]
    if get_origin(hint) is tuple and get_origin(get_args(hint)[0]) is tuple:
        return Ranges()
    return Sizes() if get_origin(hint) is tuple else hint


def training_options(
    function: Function, shown: Callable[[tuple[str, ...]], bool] = lambda _: True, without: tuple[str, ...] = ()
) -> Function:
    """Add an option for every setting of `TrainConfig` that has one, named after the setting's path.

    Options whose path is not `shown` are hidden from help but still accepted; those in `without` are not added.
    """
    for path, item, hint in reversed(list(leaf_settings(TrainConfig))):
        name = item.metadata["option"]
        if name is None or name in without:
            continue
        check = item.metadata["check"]
        kwargs: dict[str, Any] = {} if hint is bool else {"type": option_type(hint, check.choices if check else ())}
        section = path[0] if len(path) > 1 else "training"
        function = click.option(
            name,
            "__".join(path),
            default=None,
            help=sentence(item.metadata["help"]),
            cls=SectionOption,
            section=section,
            hidden=not shown(path),
            **kwargs,
        )(function)
    return function


def sentence(text: str) -> str:
    """Format a help text like those of the other options."""
    return text[0].upper() + text[1:] + "."


class TransitionType(click.ParamType):  # type: ignore[type-arg]
    """A transition, such as ``0,1,-1,4`` or ``62,2,1,63,terminated``."""

    name = "S,A,R,S2[,terminated]"
    words = {"terminated": True, "true": True, "1": True, "false": False, "0": False}  # noqa: RUF012  # never changed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Parse state, action, reward, next state and `terminated`."""
        if isinstance(value, tuple):
            return value
        try:
            state, action, reward, reached, *end = str(value).split(",")
            (terminated,) = [self.words[word.strip()] for word in end] or [False]
            found = int(state), int(action), float(reward), int(reached), terminated
        except (KeyError, ValueError):
            self.fail(f"expected a transition such as 0,1,-1,4 or 62,2,1,63,terminated, received '{value}'", param, ctx)
        if not math.isfinite(found[2]):
            self.fail(f"expected a finite reward, received '{value}'", param, ctx)
        return found


class SectionOption(click.Option):
    """An option listed under its section in help."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose help groups options by section."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those without a section first."""
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                title = parameter.section.capitalize() if isinstance(parameter, SectionOption) else "Options"
                groups.setdefault(title, []).append(record)
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def settings_by_name(options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings given on the command line by their names, as the functions of Python take them."""
    names = {"__".join(path): name for name, path in paths().items()}
    return {names[key]: value for key, value in options.items() if key in names and value is not None}


def given_settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings given on the command line, nested as in the TOML file."""
    return nest({tuple(name.split("__")): value for name, value in options.items()})


def model_options(purpose: str) -> Callable[[Function], Function]:
    """Add the argument MODEL and the options that select its environment."""

    def add(function: Function) -> Function:
        for decorate in (
            trust_option,
            time_limit_option,
            env_arg_option,
            click.option("--env", help=f"Environment to {purpose}.  [default: the run's own]"),
            click.argument("model", type=PATH),
        ):
            function = decorate(function)
        return function

    return add
