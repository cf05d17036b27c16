"""Which software made a result; written beside every result."""

import importlib.metadata
import platform

_LIBRARIES = ("fedasync-jax", "jax", "jaxlib", "flax", "optax", "numpy")


def describe_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that do the work."""
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), **libraries}
