"""Typeset the formulas of the documentation as MathML, which browsers draw by themselves: no script and no network."""

from __future__ import annotations

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.writers.html5 import HTML5Translator


def to_mathml(latex: str, display: str) -> str:
    r"""Convert a formula; latex2mathml shows the backslash of `\_` in a text, so it gets the underscore alone.

    Raises:
        ExtensionError: the formula has a command that latex2mathml does not know, which it would show as it is.
    """
    formula = str(convert(latex.replace(r"\_", "_"), display=display))
    if "\\" in formula or "<mi>&</mi>" in formula:
        raise ExtensionError(f"cannot typeset this formula: {latex}")
    return formula


def write_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line of text."""
    translator.body.append(to_mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def write_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a formula that stands by itself."""
    translator.body.append(f'<div class="math">{to_mathml(node.astext(), "block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer; `html_math_renderer = "mathml"` selects it."""
    app.add_html_math_renderer("mathml", inline_renderers=(write_inline, None), block_renderers=(write_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
