"""Draw the README's picture, `train.svg`: a real training and its real output. ``python docs/picture.py``."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

COMMAND = ["train", "Taxi-v4"]
WIDTH = 112
# rich's own page names a font on the web; the picture must show without one.
PAGE = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px;
  line-height: {line_height}px;
}}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
  <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> None:
    """Train, and draw what the terminal shows."""
    terminal = {**os.environ, "TTY_COMPATIBLE": "1", "COLUMNS": str(WIDTH)}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(  # noqa: S603  # it starts deeptaxi itself
            [sys.executable, "-m", "deeptaxi", *COMMAND],
            cwd=folder,
            env=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text("$ ", style="dim") + Text(f"deeptaxi {' '.join(COMMAND)}", style="bold"))
    console.print(Text.from_ansi(done.stdout))
    console.save_svg(str(Path(__file__).with_name("train.svg")), title="deeptaxi", code_format=PAGE, unique_id="t")


if __name__ == "__main__":
    main()
