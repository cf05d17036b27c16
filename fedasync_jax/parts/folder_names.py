"""Names of methods as names of folders."""

import re
from collections.abc import Sequence


def slugify(method: str) -> str:
    """Return a folder name for a method.

    >>> slugify("FedAsync polynomial(0.5)")
    'fedasync-polynomial-0-5'
    """
    return re.sub(r"[^a-z0-9]+", "-", method.lower()).strip("-")


def check_folder_names(methods: Sequence[str]) -> None:
    """Raise ValueError, in one line, unless every method has a folder of its own.

    What differs in nothing but capitals and punctuation would share one, and go on from
    the other's checkpoints.
    """
    known = {"plots": "plots (the folder of the pictures)"}
    for method in methods:
        folder = slugify(method)
        if not folder:
            raise ValueError(
                "methods must have a letter a-z or a digit in their names, got "
                f"{method}"
            )
        if folder in known:
            raise ValueError(
                "methods must have names that differ in letters or digits, whatever "
                f"the case, got {known[folder]} and {method}"
            )
        known[folder] = method
