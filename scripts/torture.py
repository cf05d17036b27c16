"""Kill runs and damage files, and see whether anything is lost."""

import _checkout  # noqa: F401

from benchmarks.torture import main

if __name__ == "__main__":
    main()
