"""A command group that suggests the nearest command for an unknown one."""

from __future__ import annotations

from typing import Any

import click

from deeptaxi.errors import nearest


class Group(click.Group):
    """A click group that reports an unknown command in one line, with a suggestion."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order in which they were added."""
        del ctx
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Resolve a command; suggest the nearest one if it does not exist."""
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            near = nearest(args[0], known) or f"; commands: {', '.join(known)}"
            raise click.UsageError(f"no command '{args[0]}'{near}", ctx)
        return super().resolve_command(ctx, args)
