"""How much memory there is, so that what can never fit is refused beforehand."""

import os

from fedasync_jax.parts.bounds import show_value


def physical_memory() -> int:
    """Return the bytes of main memory that the machine has; 2^63 where unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 2**63


def check_fits(
    name: str, value: object, num_bytes: int, *, present: int | None = None
) -> None:
    """Refuse what needs more memory than there is.

    Args:
      name: of the setting or array that needs it.
      value: its value, as it is shown.
      num_bytes: what it needs at least.
      present: bytes that there are; default: the main memory.

    Raises:
      ValueError: in a line such as "num_updates must fit into memory, 62.0 GB, got
        2000000000, which needs 80.0 GB at least".
    """
    present = physical_memory() if present is None else present
    if num_bytes > present:
        raise ValueError(
            f"{name} must fit into memory, {show_bytes(present)}, got "
            f"{show_value(value)}, which needs {show_bytes(num_bytes)} at least"
        )


def show_bytes(num_bytes: int) -> str:
    """Return a size in GB.

    >>> show_bytes(2_500_000_000)
    '2.5 GB'
    """
    return f"{num_bytes / 1e9:.1f} GB"
