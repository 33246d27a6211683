"""Display results as the command line does: as text when printed, as HTML in a notebook."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDTH = 100  # characters per line
HTML = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'


class RichRepr(ABC):
    """A result with a rich display besides its data."""

    @abstractmethod
    def __rich__(self) -> RenderableType:
        """Return the display of the command line, for `rich.print`."""

    def __str__(self) -> str:
        screen = canvas()
        screen.print(self)
        return "\n".join(line.rstrip() for line in screen.export_text(clear=False).splitlines())

    def _repr_html_(self) -> str:
        screen = canvas()
        screen.print(self)
        return screen.export_html(inline_styles=True, code_format=HTML)


def canvas() -> Console:
    """Return a console that records its output without displaying it."""
    from deeptaxi.display.console import PLAIN, Screen

    return Screen(**PLAIN, record=True, file=io.StringIO(), width=WIDTH, force_terminal=True, force_jupyter=False)
