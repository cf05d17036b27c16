"""Compare the methods of the default job, each at its best."""

import _checkout  # noqa: F401

from benchmarks.fair.command import main

if __name__ == "__main__":
    main()
