"""Attack a federation in simulated time, and measure what is left of it."""

import _checkout  # noqa: F401

from benchmarks.flower_attacks import main

if __name__ == "__main__":
    main()
