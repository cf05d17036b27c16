"""Flags of commands that make many runs, stop, and go on when they are repeated."""

import dataclasses
import math
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fedasync_jax.cli.flags import parse_flags
from fedasync_jax.cli.plain_help import show_help
from fedasync_jax.cli.startup import choose_compile_cache, prepare_process
from fedasync_jax.parts.bounds import at_least, check_value
from fedasync_jax.parts.files import stat_folder


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFlags:
    """How what is missing is run."""

    together: int | None = None
    """Most runs that share a program (default: 8 on a CPU, else 64)."""
    max_minutes: float | None = None
    """Minutes after which it saves and stops, with exit code 3."""
    run: bool = True
    """Whether to run what is missing, or only to report what is there."""
    compile_cache: bool = True
    """Whether to keep compiled programs on the disk for the next command."""

    def __post_init__(self) -> None:
        """Check the fields."""
        check_positive(self, "together", "max_minutes")


_F = TypeVar("_F", bound=RunFlags)


def start_command(record: type[_F], usage: str, description: str) -> _F:
    """Prepare the process, and return its flags; print the help if it is asked for."""
    prepare_process()
    show_help(record, usage, description)
    flags = parse_flags(record, "")
    choose_compile_cache(flags.compile_cache)
    return flags


def check_positive(record: Any, *names: str) -> None:
    """Check that fields are above 0, or None.

    Raises:
      ValueError: if one of them is not.
    """
    for name in names:
        value = getattr(record, name)
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be > 0, got {value}")


def check_seeds(seeds: Sequence[int]) -> None:
    """Check that there are seeds, and none twice.

    Raises:
      ValueError: if there is none, or one is there twice or below 0.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        shown = " ".join(map(str, seeds)) or "none"
        raise ValueError(f"seeds must be one or more different numbers, got {shown}")
    for seed in seeds:
        check_value("seeds", Annotated[int, at_least(0)], seed)


def check_out(out: Path) -> None:
    """Check that ``out`` is a folder, or may become one.

    Raises:
      ValueError: if it is a file, or no folder can have this name.
    """
    found = stat_folder("out", out)
    if found is not None and not stat.S_ISDIR(found.st_mode):
        raise ValueError(f"out must be a folder, got the file {out}")


def find_deadline(max_minutes: float | None) -> float:
    """Return when so many minutes are over, on the clock of ``time.monotonic``."""
    return math.inf if max_minutes is None else time.monotonic() + 60 * max_minutes
