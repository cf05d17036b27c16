"""Measure on an accelerator all that is unmeasured."""

import _checkout  # noqa: F401

from benchmarks.accelerator.command import main

if __name__ == "__main__":
    main()
