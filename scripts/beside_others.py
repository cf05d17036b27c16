"""Run FedAsync beside other methods and other people's numbers."""

import _checkout  # noqa: F401

from reproduction.beside.command import main

if __name__ == "__main__":
    main()
