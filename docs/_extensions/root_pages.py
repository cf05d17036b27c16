"""Pages that lie beside the folder of the documentation, such as CONTRIBUTING.md."""

from typing import Any

_PAGES = {"../CONTRIBUTING.md": "contributing.md", "../CHANGELOG.md": "changelog.md"}


def _read(app: Any, name: str, source: list[str]) -> None:
    del app, name
    for path, page in _PAGES.items():
        source[0] = source[0].replace(f"]({path}", f"]({page}")


def setup(app: Any) -> dict[str, bool]:
    """Let links to those files lead to their pages."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
