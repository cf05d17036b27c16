"""The house: imports only go down, nothing global, nothing printed, examples true."""

import ast
import doctest
import graphlib
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import fedasync_jax

_PACKAGE = Path(fedasync_jax.__file__).parent
_SCRIPTS = _PACKAGE.parent / "scripts"

# A room is a module of the package or a folder. A room that is missing here fails.
_NUMPY_ONLY = {
    "availability",
    "on_off",
    "fleet",
    "trace",
    "steps",
    "idle",
    "clock",
    "schedulers",
    "schedule",
    "invariants",
    "timeline",
    "packing",
}
_LAYERS = {
    0: {"base", "tree", "staleness", "batching", "history", "step_scales", "sharing"}
    | _NUMPY_ONLY,
    1: {"data", "models", "local", "proximal", "mixing", "evaluation"},
    2: {"wave", "engine", "many", "baselines"},
    3: {"checkpoint", "seals", "run_folder", "resume", "exports"},
    4: {
        "bounds",
        "fleet_settings",
        "schedule_settings",
        "config",
        "presets",
        "problem",
        "workload",
        "devices",
        "methods",
        "metrics",
        "experiment",
        "session",
        "running",
        "worker",
        "callbacks",
        "tensorboard",
        "report",
        "job",
        "side_by_side",
        "sweep",
        "estimates",
        "tables",
        "reproduction",
    },
    5: {"plotting", "flower"},  # the edge
}
_ENGINE = {("engine", "wave"), ("many", "wave"), ("many", "engine")}
_LAYER_OF = {room: layer for layer, rooms in _LAYERS.items() for room in rooms}
_EDGE = 5

# Modules may be longer than 300 lines for a reason.
_MAX_LINES = 300
_LONGER: dict[str, str] = {}


class _Import(NamedTuple):
    """One imported module; ``at_top`` unless it stands inside of a function."""

    module: str
    at_top: bool


def _module_paths() -> dict[str, Path]:
    """Return the files by module name without the package: "" is the package."""
    paths = {}
    for path in sorted(_PACKAGE.rglob("*.py")):
        parts = path.relative_to(_PACKAGE).with_suffix("").parts
        paths[".".join(part for part in parts if part != "__init__")] = path
    return paths


_PATHS = _module_paths()
_MODULES = sorted(_PATHS.keys() - {""})


def _room(module: str) -> str:
    return module.split(".")[0]


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def _imports(path: Path) -> Iterator[_Import]:
    """Yield everything imported, as dotted names."""
    tree = _parse(path)
    at_top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (_Import(name, id(node) in at_top) for name in names)


def _inner_imports(module: str) -> set[_Import]:
    """Return the modules of the package that a module imports."""
    inner = set()
    for name, at_top in _imports(_PATHS[module]):
        if _room(name) == "fedasync_jax":
            target = name.removeprefix("fedasync_jax").removeprefix(".")
            while target not in _PATHS:  # a name in a module
                target = target.rpartition(".")[0]
            inner.add(_Import(target, at_top))
    return inner


def _outer_imports(module: str) -> set[str]:
    """Return the packages from elsewhere that a module imports."""
    packages = {_room(name) for name, _ in _imports(_PATHS[module])}
    return packages - set(sys.stdlib_module_names) - {"fedasync_jax"}


def _may_import(source: str, target: str) -> bool:
    upper, lower = _LAYER_OF[source], _LAYER_OF[target]
    if source == target or (source, target) in _ENGINE:
        return True
    if source in _NUMPY_ONLY:
        return target in _NUMPY_ONLY
    if upper in (0, 1, 2):
        return lower == 0
    return lower < upper or (upper == lower and upper in (3, 4))


# Imports


def test_every_module_has_a_room_in_the_table():
    assert {_room(module) for module in _MODULES} <= _LAYER_OF.keys()
    assert sum(len(rooms) for rooms in _LAYERS.values()) == len(_LAYER_OF)


@pytest.mark.parametrize("module", _MODULES)
def test_imports_only_go_down(module):
    for target, _ in _inner_imports(module):
        assert target, f"{module} imports from the package itself"
        allowed = _may_import(_room(module), _room(target))
        assert allowed, f"{module} must not import {target}"


def test_no_module_imports_itself_through_others():
    graph = {
        module: {target for target, _ in _inner_imports(module)} - {module}
        for module in _MODULES
    }
    graphlib.TopologicalSorter(graph).prepare()


def test_nothing_imports_the_edge():
    edge = _LAYERS[_EDGE]
    for module in ["", *_MODULES]:
        for target, _ in _inner_imports(module):
            if _room(target) in edge - {_room(module)}:
                raise AssertionError(f"{module} must not import {target}")


@pytest.mark.parametrize(
    "module", [m for m in _MODULES if _LAYER_OF.get(_room(m)) == 0]
)
def test_ground_floor_needs_jax_and_numpy_only(module):
    allowed = {"numpy"} if module in _NUMPY_ONLY else {"numpy", "jax"}
    assert _outer_imports(module) <= allowed


@pytest.mark.parametrize("module", _MODULES)
def test_sklearn_and_matplotlib_stand_where_they_belong(module):
    packages = {_room(name) for name, at_top in _imports(_PATHS[module]) if at_top}
    assert not packages & {"sklearn", "tensorflow", "tensorflow_datasets"}
    assert "matplotlib" not in packages or _room(module) == "plotting"


def test_importing_the_package_imports_nothing_optional():
    code = "import sys, fedasync_jax; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "fedasync_jax" in loaded
    assert not loaded & {"sklearn", "matplotlib", "tyro", "torch"}
    assert not [name for name in loaded if name.startswith("tensorflow")]


def test_public_names_exist():
    assert len(set(fedasync_jax.__all__)) == len(fedasync_jax.__all__)
    for name in fedasync_jax.__all__:
        assert hasattr(fedasync_jax, name), name


# What a module must not do


def _sources() -> list[Path]:
    return [*_PATHS.values(), *sorted(_SCRIPTS.glob("*.py"))]


def _dotted(node: ast.expr) -> str:
    """Return ``a.b.c`` of an attribute chain, "" of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""


@pytest.mark.parametrize("path", _sources(), ids=lambda path: path.stem)
def test_no_global_random_generator(path):
    own_generator = {"Generator", "default_rng", "SeedSequence"}
    for name, _ in _imports(path):
        assert _room(name) != "random"
        assert name != "numpy.random" and not name.startswith("numpy.random.")
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.Attribute):
            owner = _dotted(node.value)
            if owner in ("np.random", "numpy.random"):
                assert node.attr in own_generator, f"line {node.lineno}"


@pytest.mark.parametrize("module", ["", *_MODULES])
def test_the_package_does_not_print(module):
    for node in ast.walk(_parse(_PATHS[module])):
        if isinstance(node, ast.Call):
            assert _dotted(node.func) not in ("print", "sys.stdout.write"), (
                f"line {node.lineno}"
            )


@pytest.mark.parametrize("module", ["", *_MODULES])
def test_module_is_short_or_has_a_reason(module):
    lines = len(_PATHS[module].read_text().splitlines())
    assert (lines > _MAX_LINES) == (module in _LONGER), (
        f"{lines} lines: put the reason into _LONGER, or take it out"
    )


@pytest.mark.parametrize("module", ["", *_MODULES])
def test_module_begins_with_a_docstring(module):
    assert ast.get_docstring(_parse(_PATHS[module]))


# Examples


@pytest.mark.parametrize("module", _MODULES)
def test_examples_in_docstrings(module):
    if _room(module) == "plotting":
        pytest.importorskip("matplotlib")
    if module.startswith("flower"):
        pytest.importorskip("flwr")
    result = doctest.testmod(importlib.import_module(f"fedasync_jax.{module}"))
    assert result.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    staleness = importlib.import_module("fedasync_jax.staleness")
    assert sum(len(test.examples) for test in finder.find(staleness)) >= 3
