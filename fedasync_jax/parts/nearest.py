"""The names that somebody may have meant."""

import difflib
from collections.abc import Callable, Collection


def name_nearest(
    name: str, known: Collection[str], show: Callable[[str], str] = str
) -> str:
    """Return the known names that are most like one, for the end of an error.

    >>> name_nearest("alhpa", ["alpha", "rho"])
    ' (nearest: alpha)'
    >>> name_nearest("xyz", ["alpha", "rho"])
    ''
    """
    near = difflib.get_close_matches(name, list(known), n=3)
    return f" (nearest: {', '.join(map(show, near))})" if near else ""
