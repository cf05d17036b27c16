"""constraints-lowest.txt has the lowest versions that pyproject.toml allows."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTED_EXTRAS = ("parquet", "plots", "tensorboard")
TOOLS = {"hypothesis", "pytest", "pytest-xdist"}  # of the extra dev


def read_lowest(requirements):
    """Return lowest versions by package, without zeros at their ends."""
    found = {}
    for line in requirements:
        match = re.match(r"([\w-]+)>=([\w.]+)", line)
        if match:
            found[match[1]] = re.sub(r"(\.0)+$", "", match[2])
    return found


def test_the_constraints_are_the_lowest_versions_that_are_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = read_lowest(project["dependencies"])
    for extra in TESTED_EXTRAS:
        wanted |= read_lowest(extras[extra])
    tools = read_lowest(extras["dev"])
    wanted |= {name: tools[name] for name in TOOLS}
    wanted["jaxlib"] = wanted["jax"]  # they are released together
    lines = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    pinned = read_lowest(line.replace("==", ">=") for line in lines)
    assert pinned == wanted
