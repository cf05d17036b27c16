"""Measure what it costs that two processes share a run."""

import _checkout  # noqa: F401

from benchmarks.process_speed import main

if __name__ == "__main__":
    main()
