"""Measure what a mixing rule costs the engine."""

import _checkout  # noqa: F401

from benchmarks.rule_speed import main

if __name__ == "__main__":
    main()
