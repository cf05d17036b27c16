"""Measure how fast this machine does federated learning."""

import _checkout  # noqa: F401

from benchmarks.command import main

if __name__ == "__main__":
    main()
