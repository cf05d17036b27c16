"""The reference: signatures without bounds, fields in one place, nothing left out."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from sphinx.errors import ExtensionError

PACKAGE = "fedasync_jax"


def public_names() -> Iterator[tuple[str, str]]:
    """Yield module and name of everything in ``__all__`` of the package and its rooms.

    A module that the package names shows, without ``__all__``, what it defines.
    """
    package = importlib.import_module(PACKAGE)
    yield from ((PACKAGE, name) for name in package.__all__)
    for found in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{PACKAGE}.{found.name}")
        own = (
            key
            for key, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__ and key[0] != "_"
        )
        names = own if found.name in package.__all__ else ()
        yield from ((module.__name__, key) for key in getattr(module, "__all__", names))


def _check_complete(app: Any, error: Exception | None) -> None:
    if error or app.builder.format != "html":
        return
    objects = app.env.domains["py"].objects
    shown = [_find(name) for name in objects]
    missing = []
    for module, name in public_names():
        value = getattr(importlib.import_module(module), name)
        if f"{module}.{name}" in objects or isinstance(value, ModuleType):
            continue
        if not any(value is other for other in shown):
            missing.append(f"{module}.{name}")
    if missing:
        raise ExtensionError(f"the reference leaves out {', '.join(missing)}")


def _find(name: str) -> Any:
    """Return the object of a dotted name, as far as it is one of a module."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute, None)
    except (ImportError, ValueError):
        return None  # a field or a method


def _shorten(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: Any, returns: Any
) -> tuple[Any, Any] | None:
    """Leave bounds out of a signature: the arguments' descriptions have them."""
    del app, what, name, obj, options
    pattern = r"Annotated\[([^,\[\]]+|[^,]+?), ~[\w.]+\(.*?\)\]"
    if signature and "Annotated[" in signature:
        return re.sub(pattern, r"\1", signature), returns
    return None


def _skip(
    app: Any, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Skip fields: the docstring of their record has them under Attributes."""
    del app, name, skip, options
    is_method = inspect.isroutine(obj) and "." in obj.__qualname__
    is_field = not (is_method or isinstance(obj, property))
    return True if what == "class" and is_field else None


def _escape(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Keep "num_clients: C." from becoming a list that begins with its third item."""
    del app, what, name, obj, options
    lines[:] = [re.sub(r"(: [A-Z])\.$", r"\1\\.", line) for line in lines]


def setup(app: Any) -> dict[str, bool]:
    """Connect all of it; napoleon, which reads docstrings, comes later than 400."""
    app.connect("autodoc-process-signature", _shorten)
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-docstring", _escape, priority=400)
    app.connect("build-finished", _check_complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
