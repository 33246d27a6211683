"""How the documentation is built: ``make docs``, with warnings as errors."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))
import reference

project = "deeptaxi"
author = "The deeptaxi authors"
release = metadata.version("deeptaxi")
extensions = ["mathml", "myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "deeptaxi"
html_show_copyright = False
html_static_path = ["math.css"]
html_css_files = ["math.css"]
html_math_renderer = "mathml"
myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 3
napoleon_use_ivar = True
default_role = "code"  # docstrings are plain text: a word in single backticks is code
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings give shapes, which types do not know
# Shapes such as `[S, A]` in docstrings look like types, whose names are then searched for everywhere.
suppress_warnings = ["ref.python"]


def escaped(line: str) -> str:
    """Let |x| be an absolute value and x* a star: docstrings are not markup."""
    return line.replace("|", "\\|").replace("*", "\\*").replace("\\*\\*", "**")


def plain_text(_app: Sphinx, kind: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Keep the lines of the formulas, which module docstrings indent, and take no sign of theirs for markup."""
    formula, found = False, []
    for line in lines:
        if kind == "module" and line.startswith("    ") and not formula:
            formula = True
            found += ["", "::", ""]
        elif line and not line.startswith(" ") and formula:
            formula = False
            found.append("")
        found.append(line if formula else escaped(line))
    lines[:] = found


def write_reference(_app: Sphinx) -> None:
    """Write the pages that are made from the code."""
    reference.write_modules()


def setup(app: Sphinx) -> None:
    """Hook into the build."""
    app.connect("builder-inited", write_reference)
    app.connect("autodoc-process-docstring", plain_text)
