"""Measure runs side by side against one after the other."""

import _checkout  # noqa: F401

from benchmarks.many_speed import main

if __name__ == "__main__":
    main()
