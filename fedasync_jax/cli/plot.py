"""Draw the pictures of run folders, and one more that compares several of them.

For the folder of a sweep, draw the curves of all settings, means over the seeds.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from fedasync_jax import plotting
from fedasync_jax.cli.endings import clear_endings
from fedasync_jax.cli.flags import fail, parse_flags
from fedasync_jax.cli.plain_help import show_help
from fedasync_jax.cli.summary import is_sweep


@dataclasses.dataclass(frozen=True)
class Flags:
    """The command line."""

    run_dirs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")
    ]
    """Folders that fedasync train or fedasync sweep wrote."""
    out: Path | None = None
    """Folder for the comparison of several runs (default: plots/ of the first)."""

    def __post_init__(self):
        """Check."""
        if not self.run_dirs:
            raise ValueError("run_dirs must be one run folder or more, got none")
        if self.out and len(self.run_dirs) < 2:
            raise ValueError("out is where two runs or more are compared, got one run")


@clear_endings()
def main() -> None:
    """Draw."""
    show_help(Flags, "fedasync plot RUN [RUN ...]", __doc__ or "")
    flags = parse_flags(Flags, "")
    try:
        sweeps = [path for path in flags.run_dirs if is_sweep(path)]
        runs = [path for path in flags.run_dirs if path not in sweeps]
        for sweep in sweeps:
            print(f"wrote {plotting.draw_sweep(sweep)}")
        for run_dir in runs:
            for picture in plotting.draw_run(run_dir):
                print(f"wrote {picture}")
        if len(runs) > 1:
            print(f"wrote {plotting.compare_runs(runs, flags.out)}")
    except ValueError as error:
        fail(error)


if __name__ == "__main__":
    main()
