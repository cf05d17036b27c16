"""The house in numbers: ``python -m tests.house`` prints them, a test holds them.

A room is a folder of the package. A chain is a path along the imports at the top of
modules, its length the number of modules on it.
"""

import ast
import functools
import graphlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parents[1] / "fedasync_jax"

MAX_ROOT_FILES = 4
MAX_ROOMS = 15
MAX_CHAIN = 14


class Import(NamedTuple):
    """One imported module; ``at_top`` unless it stands inside of a function."""

    module: str
    at_top: bool


class House(NamedTuple):
    """What is counted.

    Attributes:
      root_files: modules in the root of the package.
      rooms: its folders.
      arrows: pairs of rooms of which one imports from the other.
      chain: the longest chain, from the top.
    """

    root_files: list[str]
    rooms: list[str]
    arrows: list[tuple[str, str]]
    chain: list[str]


@functools.cache
def module_paths() -> dict[str, Path]:
    """Return the files by module name without the package: "" is the package."""
    paths = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        paths[".".join(part for part in parts if part != "__init__")] = path
    return paths


def room_of(module: str) -> str:
    """Return the folder of a module, or its own name in the root."""
    return module.split(".")[0]


@functools.cache
def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[Import]:
    """Yield everything imported, as dotted names."""
    tree = parse(path)
    at_top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (Import(name, id(node) in at_top) for name in names)


@functools.cache
def inner_imports(module: str) -> frozenset[Import]:
    """Return the modules of the package that a module imports."""
    paths, inner = module_paths(), set()
    for name, at_top in imports(paths[module]):
        if room_of(name) == PACKAGE.name:
            target = name.removeprefix(PACKAGE.name).removeprefix(".")
            while target not in paths:  # a name in a module
                target = target.rpartition(".")[0]
            inner.add(Import(target, at_top))
    return frozenset(inner)


def import_graph() -> dict[str, set[str]]:
    """Return whom each module imports at its top."""
    return {
        module: {target for target, at_top in inner_imports(module) if at_top}
        for module in module_paths()
    }


def find_longest_chain() -> list[str]:
    """Return the longest chain of imports.

    Raises:
      graphlib.CycleError: if modules import one another in a circle.
    """
    graph = import_graph()
    below: dict[str, list[str]] = {}
    for module in graphlib.TopologicalSorter(graph).static_order():
        chains = [below[target] for target in sorted(graph[module])]
        below[module] = [module or PACKAGE.name, *max(chains, key=len, default=[])]
    return max(below.values(), key=len)


def measure_house() -> House:
    """Count files, rooms, arrows and the longest chain."""
    arrows = {
        (room_of(module), room_of(target))
        for module in module_paths()
        for target, _ in inner_imports(module)
        if module and room_of(module) != room_of(target)
    }
    return House(
        root_files=sorted(path.name for path in PACKAGE.glob("*.py")),
        rooms=sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")),
        arrows=sorted(arrows),
        chain=find_longest_chain(),
    )


def main() -> None:
    """Print the numbers and what they are made of."""
    house = measure_house()
    rows = (
        ("files in the root", house.root_files, MAX_ROOT_FILES),
        ("rooms", house.rooms, MAX_ROOMS),
        ("longest chain of imports", house.chain, MAX_CHAIN),
    )
    for title, items, most in rows:
        print(f"{title}: {len(items)} (at most {most}): {', '.join(items)}")
    print(f"arrows between rooms: {len(house.arrows)}, no circle")


if __name__ == "__main__":
    main()
