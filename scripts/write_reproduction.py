"""Write the page of the reproduction from results files."""

import _checkout  # noqa: F401

from reproduction.write import main

if __name__ == "__main__":
    main()
