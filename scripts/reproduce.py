"""Make the figures of the paper again, and decide its findings."""

import _checkout  # noqa: F401

from reproduction.command import main

if __name__ == "__main__":
    main()
