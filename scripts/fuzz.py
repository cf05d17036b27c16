"""Damage command lines, data files and run folders at random, and count the faults."""

import _checkout  # noqa: F401

from benchmarks.fuzz.command import main

if __name__ == "__main__":
    main()
