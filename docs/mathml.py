"""Formulas as MathML, which browsers draw without a script or a download; one that cannot be parsed is a warning."""

from __future__ import annotations

from typing import Any

from docutils.nodes import SkipNode
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


#: What browsers without a font for mathematics draw wrongly: the bars of a norm, which sink below an exponent,
#: and the variant of a letter, which they leave out.
INSTEAD = {
    "<mo>&#x02016;</mo>": "<mi>&#x02016;</mi>",
    '<mi mathvariant="script">L</mi>': "<mi>&#x02112;</mi>",
    '<mi mathvariant="script">N</mi>': "<mi>&#x1D4A9;</mi>",
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def drawn(formula: str) -> str:
    """Return a formula in the elements that every browser draws."""
    for found, instead in INSTEAD.items():
        formula = formula.replace(found, instead)
    return formula


def inline(translator: Any, node: Any) -> None:
    """Write a formula in a line of text."""
    write(translator, node, "inline")


def block(translator: Any, node: Any) -> None:
    """Write a displayed formula, with room for what reaches above and below its line."""
    translator.body.append('<div class="math" style="padding: 0.4em 0">')
    try:
        write(translator, node, "block")
    finally:
        translator.body.append("</div>\n")


def write(translator: Any, node: Any, display: str) -> None:
    """Write a formula and end the node."""
    try:
        translator.body.append(drawn(convert(node.astext().strip(), display=display)))
    except Exception as error:  # the parser's errors have no common class
        logger.warning("formula %r: %s", node.astext(), type(error).__name__, location=node)
    raise SkipNode
