"""Draw the pictures of run folders again; of several, one more that compares them."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from fedasync_jax import plotting
from fedasync_jax.cli.endings import clear_endings
from fedasync_jax.cli.flags import fail, parse_flags


@dataclasses.dataclass(frozen=True)
class Flags:
    """The command line."""

    run_dirs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")
    ]
    """Folders that scripts/train.py wrote."""
    out: Path | None = None
    """Folder for the comparison of several runs; default: plots/ of the first."""

    def __post_init__(self):
        """Check."""
        if not self.run_dirs:
            raise ValueError("run_dirs must be one run folder or more, got none")
        if self.out and len(self.run_dirs) < 2:
            raise ValueError("out is where two runs or more are compared, got one run")


@clear_endings()
def main() -> None:
    """Draw."""
    flags = parse_flags(Flags, __doc__ or "")
    try:
        for run_dir in flags.run_dirs:
            for picture in plotting.draw_run(run_dir):
                print(f"wrote {picture}")
        if len(flags.run_dirs) > 1:
            print(f"wrote {plotting.compare_runs(flags.run_dirs, flags.out)}")
    except ValueError as error:
        fail(error)


if __name__ == "__main__":
    main()
