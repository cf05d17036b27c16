"""Say what runs and sweeps are, and how far they came."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fedasync_jax.cli.describe import describe_run
from fedasync_jax.cli.describe_sweep import describe_sweep
from fedasync_jax.cli.endings import clear_endings
from fedasync_jax.cli.flags import fail
from fedasync_jax.storage.ownership import has_runs

_USAGE = """\
usage: fedasync summary RUN [RUN ...]

Describe run folders or folders of sweeps, and their progress."""


@clear_endings()
def main() -> None:
    """Describe every folder of the command line."""
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        print(_USAGE)
        return
    for word in words:
        if word.startswith("-"):
            fail(f"summary takes folders and no flags, got {word}")
    if not words:
        fail("summary must name one run folder or more, got none")
    print_summaries(list(map(Path, words)))


def print_summaries(folders: Sequence[Path]) -> None:
    """Print what folders are; a bad one ends the process."""
    for folder in folders:
        try:
            describe = describe_sweep if is_sweep(folder) else describe_run
            for line in describe(folder):
                print(line)
        except ValueError as error:
            fail(error)


def is_sweep(folder: Path) -> bool:
    """Return whether a folder is none of a run, and has runs below it."""
    # Not ``Path.exists``, which fails at a name that is too long.
    return not os.path.exists(folder / "config.json") and has_runs(folder)


if __name__ == "__main__":
    main()
