"""What was exported, a line per format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deeptaxi.presentation import console


def show(exports: Sequence[Any], folder: Path | None) -> None:
    """Print what was written, `artifacts.export.exporting.Export`: several in a table, one in a sentence.

    Args:
        exports: what was written and what was passed over.
        folder: that holds them all; None for a single one.
    """
    screen = console.out()
    if folder is None:
        (one,) = exports
        screen.print(
            f"Wrote {one.path} ({one.format}); max difference {one.max_difference:g} over all {one.states:,} states, "
            f"{actions(one)}; a state outside: {one.outside}",
            soft_wrap=True,
        )
        return
    rows = [
        (one.format, Path(one.path).name, f"{one.max_difference:g}", actions(one), one.outside)
        for one in exports
        if one.path is not None
    ]
    console.print_wide(console.columns(None, ("format", "file", "max difference", "actions", "a state outside"), rows))
    total = f"Wrote {len(rows)} formats to {folder}, each read back by itself and compared on all"
    screen.print(f"{total} {exports[0].states:,} states", soft_wrap=True)
    for one in exports:
        if one.skipped is not None:
            screen.print(f"Skipped {one.format}: {one.skipped}", style="yellow", soft_wrap=True)
        if one.failed is not None:
            screen.print(f"Failed {one.format}: {one.failed}", style="red", soft_wrap=True)


def actions(one: Any) -> str:
    """Return whether the actions are the model's."""
    if not one.differing_actions:
        return "the same actions"
    return f"other actions in {one.differing_actions:,} states, in ties"
