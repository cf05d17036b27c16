"""Formulas as MathML, which browsers draw without scripts, fonts or a network."""

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert


def _write_inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(convert(node.astext(), display="inline"))
    raise nodes.SkipNode


def _write_block(translator: Any, node: nodes.math_block) -> None:
    for line in node.astext().split("\n\n"):
        formula = convert(line, display="block")
        translator.body.append(f'<div class="formula">{formula}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer(
        "mathml",
        inline_renderers=(_write_inline, None),
        block_renderers=(_write_block, None),
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
