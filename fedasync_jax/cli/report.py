"""Write a page that shows runs, side by side if they are several.

It is one HTML file with table, charts, settings and commands. It loads nothing from a
network, so it can be mailed and opened anywhere.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from fedasync_jax.cli.endings import clear_endings
from fedasync_jax.cli.flags import fail, parse_flags
from fedasync_jax.cli.plain_help import show_help
from fedasync_jax.cli.summary import is_sweep
from fedasync_jax.plotting.page.document import make_page
from fedasync_jax.storage.ownership import check_owned, write_owned


@dataclasses.dataclass(frozen=True)
class ReportFlags:
    """The command line."""

    run_dirs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")
    ]
    """Folders that fedasync train wrote; a run may still be on its way."""
    out: Path | None = None
    """The page; default: report.html in the first run."""

    def __post_init__(self):
        """Check."""
        if not self.run_dirs:
            raise ValueError("run_dirs must be one run folder or more, got none")
        if self.out is not None and self.out.is_dir():
            raise ValueError(f"out must be a file, got the folder {self.out}")
        for path in self.run_dirs:
            if is_sweep(path):
                raise ValueError(
                    f"run_dirs must be runs, got the sweep {path} (fedasync plot draws "
                    "it; name some of the runs in it for a page)"
                )


@clear_endings()
def main() -> None:
    """Write the page."""
    show_help(ReportFlags, "fedasync report RUN [RUN ...]", __doc__ or "")
    flags = parse_flags(ReportFlags, __doc__ or "")
    out = flags.out or flags.run_dirs[0] / "report.html"
    try:
        if flags.out is not None:
            check_owned(out)
        page = make_page(flags.run_dirs).encode()
        write_owned(out, page)
    except ValueError as error:
        fail(error)
    print(f"wrote {out} ({len(page) / 1e3:,.0f} kB)")


if __name__ == "__main__":
    main()
