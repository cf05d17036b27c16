"""Draw the pictures of a run folder again."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from _cli import fail, parse_flags

from fedasync_jax import plotting


@dataclasses.dataclass(frozen=True)
class Flags:
    """The command line."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    """A folder that scripts/train.py wrote."""


def main() -> None:
    """Draw."""
    flags = parse_flags(Flags, __doc__ or "")
    try:
        for picture in plotting.draw_run(flags.run_dir):
            print(f"wrote {picture}")
    except ValueError as error:
        fail(error)


if __name__ == "__main__":
    main()
