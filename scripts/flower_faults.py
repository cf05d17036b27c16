"""Harm a federation over a real network, and see what is mixed."""

import _checkout  # noqa: F401

from benchmarks.flower_faults import main

if __name__ == "__main__":
    main()
