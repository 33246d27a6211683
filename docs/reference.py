"""The reference, from the code itself: ``python docs/reference.py`` writes `commands.md`; a test keeps the two equal.

The build of the documentation writes `modules.md` too, a section for every public module.
"""

from __future__ import annotations

import inspect
from pathlib import Path

import click

import deeptaxi
from deeptaxi.cli.main import COMMANDS, cli
from deeptaxi.cli.options import SectionOption
from deeptaxi.config import TrainConfig
from deeptaxi.schema import leaf_settings

SETTINGS = {"__".join(path): (path, item) for path, item, _ in leaf_settings(TrainConfig)}

HEAD = """# Commands

<!-- Written by `python docs/reference.py`; edit the help texts in the code instead. -->

`deeptaxi --help` and `deeptaxi COMMAND --help` say the same. Exit codes: 0 done, 1 failure, 2 wrong use,
3 `diagnose` found something severe, 129 the terminal closed (SIGHUP),
130 Ctrl-C, 143 SIGTERM, 152 the limit on CPU time (SIGXCPU). Errors are one line on standard error;
`--debug` adds the traceback.

Completion: `eval "$(_DEEPTAXI_COMPLETE=bash_source deeptaxi)"` in `~/.bashrc` (`zsh_source`, `fish_source` likewise).
"""


def text_of(help_text: str) -> str:
    """Return a help text as Markdown: click's marker for kept lines becomes a code block."""
    blocks = inspect.cleandoc(help_text).split("\n\n")
    return "\n\n".join("```text\n" + block[2:] + "\n```" if block.startswith("\b\n") else block for block in blocks)


def option_cells(option: click.Option) -> list[str]:
    """Return names and description of an option, and its TOML key and default if it is a setting."""
    names = " / ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    text = option.help or ""
    if isinstance(option.type, click.Choice):
        text += " One of " + ", ".join(f"`{choice}`" for choice in option.type.choices) + "."
    if not isinstance(option, SectionOption):
        return [names, text, "", ""]
    path, item = SETTINGS[option.name or ""]
    default = ",".join(map(str, item.default)) if isinstance(item.default, tuple) else item.default
    shown = "" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    return [names, text, f"`{'.'.join(path)}`", shown]


def command_part(name: str, group: click.Group = cli, parent: click.Context | None = None) -> str:
    """Return the section of one command; after that of a group those of its commands."""
    above = parent or click.Context(cli, info_name="deeptaxi")
    command = group.get_command(above, name)
    if command is None or command.help is None:
        raise LookupError(name)
    context = click.Context(command, info_name=name, parent=above)
    usage = command.get_usage(context).removeprefix("Usage: ")
    head = f"## `{context.command_path}`\n\n    {usage}\n\n{text_of(command.help)}\n"
    if isinstance(command, click.Group):
        return "\n".join([head, *(command_part(part, command, context) for part in command.list_commands(context))])
    options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    return head + "\n" + options_table(options)


def options_table(options: list[click.Option]) -> str:
    """Return the table of a command's options."""
    rows = [option_cells(option) for option in options]
    width = 4 if any(row[2] for row in rows) else 2
    head = ["option", "", "TOML key", "default, before presets"][:width]
    lines = [f"| {' | '.join(row[:width])} |" for row in (head, ["---"] * width, *rows)]
    return "\n".join(lines) + "\n"


def render() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *(command_part(name) for name in COMMANDS)])


MODULES_HEAD = """# Modules

<!-- Written when the documentation is built. -->

From the ground up: a module imports only from its own floor or from below.
"""
FLOORS = ("mdp", "network", "evaluation", "learning", "diagnosis", "storage", "exports", "display", "report", "api")


def module_part(name: str) -> str:
    """Return the section of one module."""
    return f"## `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n"


def module_names() -> list[str]:
    """Return the modules that the reference describes, the lowest floor first."""
    package = Path(deeptaxi.__file__).parent
    return [
        ".".join(("deeptaxi", *path.relative_to(package).with_suffix("").parts))
        for floor in FLOORS
        for path in sorted((package / floor).rglob("*.py"))
        if path.stem != "__init__"
    ]


def write_modules() -> None:
    """Write `modules.md`."""
    page = "\n".join([MODULES_HEAD, *map(module_part, module_names())])
    Path(__file__).with_name("modules.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    Path(__file__).with_name("commands.md").write_text(render(), encoding="utf-8")
