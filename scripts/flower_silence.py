"""Let nodes of a real network take tasks and never answer, and count the updates."""

import _checkout  # noqa: F401

from benchmarks.flower_silence import main

if __name__ == "__main__":
    main()
