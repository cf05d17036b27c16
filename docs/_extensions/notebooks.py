"""Every tutorial can be downloaded as a notebook without outputs."""

from pathlib import Path
from typing import Any

import nbformat
from myst_nb.core.read import read_myst_markdown_notebook

_FOLDER = "notebooks"


def convert(page: Path) -> nbformat.NotebookNode | None:
    """Return the notebook of a page; None if it is a page like any other."""
    text = page.read_text(encoding="utf-8")
    if not text.startswith("---\n") or "format_name: myst" not in text:
        return None
    return read_myst_markdown_notebook(text, path=page)


def _write_all(app: Any, error: Exception | None) -> None:
    if error or app.builder.format != "html":
        return
    folder = Path(app.outdir) / _FOLDER
    folder.mkdir(exist_ok=True)
    for name in app.env.found_docs:
        notebook = convert(Path(app.env.doc2path(name)))
        if notebook is not None:
            nbformat.write(notebook, folder / f"{Path(name).name}.ipynb")


def _link(app: Any, name: str, template: str, context: Any, doctree: Any) -> None:
    del template, doctree
    if name not in app.env.found_docs or not convert(Path(app.env.doc2path(name))):
        return
    path = context["pathto"](f"{_FOLDER}/{Path(name).name}.ipynb", resource=True)
    link = f'<p class="download"><a href="{path}" download>Download as a notebook</a>'
    context["body"] = context["body"].replace("</h1>", f"</h1>{link}</p>", 1)


def setup(app: Any) -> dict[str, bool]:
    """Write the notebooks beside the pages, and link them."""
    app.connect("html-page-context", _link)
    app.connect("build-finished", _write_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
