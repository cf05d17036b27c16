"""Which software made a result; written beside every result."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

_LIBRARIES = (
    "fedasync-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
)


def describe_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that do the work."""
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), **libraries}


def describe_revision() -> str | None:
    """Return the source revision, marked if files were changed; None if unknown."""
    here = Path(__file__).parent
    try:
        # An installed copy may lie in the repository of somebody else.
        _ask_git(here, "ls-files", "--error-unmatch", Path(__file__).name)
        revision = _ask_git(here, "rev-parse", "HEAD")
        changes = _ask_git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{revision}, with changes" if changes else revision


def _ask_git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
