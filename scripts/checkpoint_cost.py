"""Measure what checkpoints cost."""

import _checkout  # noqa: F401

from benchmarks.checkpoint_cost import main

if __name__ == "__main__":
    main()
