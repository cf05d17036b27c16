"""What the scripts share: flags from a dataclass, and errors in one line."""

import contextlib
import functools
import io
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import tyro

Flags = TypeVar("Flags")


def parse_flags(
    flags: Callable[..., Flags],
    description: str,
    *,
    args: Sequence[str] | None = None,
    default: Flags | None = None,
) -> Flags:
    """Return the command line as ``flags``; a bad one ends the process.

    tyro draws a box around an error; here an error is one line.

    Args:
      flags: a dataclass; it may raise ValueError when it is made.
      description: first words of ``--help``.
      args: the command line; default: that of the process.
      default: values of flags that are not given; default: those of the dataclass.
    """
    cli: Any = functools.partial(tyro.cli, flags, description=description, args=args)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return cli() if default is None else cli(default=default)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        fail(_read_box(said.getvalue()))


def fail(error: object) -> NoReturn:
    """End the process with exit code 2 and one line."""
    sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
    sys.exit(2)


def _read_box(box: str) -> str:
    """Return the first message of tyro's box as one line."""
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()]
    message = " ".join(lines[1:]).split("──")[0]  # without title and help
    for prefix in ("Error parsing Settings: ", "Error parsing Flags: "):
        message = message.removeprefix(prefix)
    return message.strip() or box
