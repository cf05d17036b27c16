"""The house: imports only go down, nothing global, nothing printed, examples true."""

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from house import (
    MAX_CHAIN,
    MAX_ROOMS,
    MAX_ROOT_FILES,
    PACKAGE,
    imports,
    inner_imports,
    measure_house,
    module_paths,
    parse,
    room_of,
)

import fedasync_jax

_ROOT = PACKAGE.parent
_BESIDE = ("scripts", "benchmarks", "reproduction")  # outside of the wheel

# Which rooms a room may import, besides itself. A room that is missing here fails.
_WORDS = {"base", "tree", "parts"}
_PARTS = {"mixing", "worker", "models", "data"}  # which do not import one another
_BELOW_ENGINE = _WORDS | {"schedule"}
_BELOW_EXPERIMENT = _WORDS | _PARTS | {"fleet", "schedule", "engine"}
_BELOW_JOBS = _BELOW_EXPERIMENT | {"experiment", "storage"}
_BELOW_EDGE = _BELOW_JOBS | {"jobs"}
_MAY_IMPORT: dict[str, set[str]] = {
    "base": set(),
    "tree": {"base"},
    "parts": set(),
    "fleet": {"parts"},
    "schedule": {"fleet", "parts"},
    "mixing": _WORDS,
    "worker": _WORDS,
    "models": _WORDS,
    "data": _WORDS,
    "engine": _BELOW_ENGINE,
    "storage": _BELOW_ENGINE | {"engine"},
    "experiment": _BELOW_EXPERIMENT,
    "jobs": _BELOW_JOBS,
    "plotting": _BELOW_EDGE,
    "flower": _BELOW_EDGE,
    "leaderboard": _BELOW_EDGE,
    "cli": _BELOW_EDGE | {"plotting", "leaderboard"},
    "__main__": {"cli"},
}
_NUMPY_ONLY = {"fleet", "schedule"}
_EDGE = {"cli", "plotting", "flower", "leaderboard"}

# Modules may be longer than 300 lines for a reason.
_MAX_LINES = 300
_LONGER: dict[str, str] = {}

_PATHS = module_paths()
_MODULES = sorted(_PATHS.keys() - {""})


def _outer_imports(module: str) -> set[str]:
    """Return the packages from elsewhere that a module imports."""
    packages = {room_of(name) for name, _ in imports(_PATHS[module])}
    return packages - set(sys.stdlib_module_names) - {"fedasync_jax"}


# Imports


def test_every_module_has_a_room_in_the_table():
    assert {room_of(module) for module in _MODULES} == _MAY_IMPORT.keys()


@pytest.mark.parametrize("module", _MODULES)
def test_imports_only_go_down(module):
    room = room_of(module)
    for target, _ in inner_imports(module):
        assert target, f"{module} imports from the package itself"
        allowed = _MAY_IMPORT[room] | {room}
        assert room_of(target) in allowed, f"{module} must not import {target}"


def test_the_house_is_small():
    house = measure_house()  # fails if modules import one another in a circle
    assert len(house.root_files) <= MAX_ROOT_FILES
    assert len(house.rooms) <= MAX_ROOMS
    assert len(house.chain) <= MAX_CHAIN, house.chain


def test_nothing_imports_the_edge():
    for module in ["", *_MODULES]:
        for target, _ in inner_imports(module):
            allowed = room_of(module) in {room_of(target), "cli", "__main__"}
            assert allowed or room_of(target) not in _EDGE, f"{module}: {target}"


@pytest.mark.parametrize("module", [m for m in _MODULES if room_of(m) in _WORDS])
def test_the_vocabulary_needs_jax_and_numpy_only(module):
    assert _outer_imports(module) <= {"numpy", "jax"}


@pytest.mark.parametrize("module", [m for m in _MODULES if room_of(m) in _NUMPY_ONLY])
def test_fleet_and_schedule_need_numpy_only(module):
    inside_functions = {"pyarrow"}  # optional
    assert _outer_imports(module) <= {"numpy"} | inside_functions
    assert (
        not {room_of(name) for name, at_top in imports(_PATHS[module]) if at_top}
        & inside_functions
    )


@pytest.mark.parametrize("module", _MODULES)
def test_sklearn_and_matplotlib_stand_where_they_belong(module):
    packages = {room_of(name) for name, at_top in imports(_PATHS[module]) if at_top}
    assert not packages & {"ray", "sklearn", "tensorflow", "tensorflow_datasets"}
    assert "matplotlib" not in packages or room_of(module) == "plotting"


def test_importing_the_package_imports_nothing_optional():
    code = "import sys, fedasync_jax; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    modules = done.stdout.split()
    loaded = {name.partition(".")[0] for name in modules}
    assert "fedasync_jax" in loaded
    assert "flax.nnx" not in modules  # half a second of every start
    assert not loaded & {"sklearn", "matplotlib", "ray", "tyro", "torch"}
    assert not [name for name in loaded if name.startswith("tensorflow")]


def test_public_names_exist():
    assert len(set(fedasync_jax.__all__)) == len(fedasync_jax.__all__)
    for name in fedasync_jax.__all__:
        assert hasattr(fedasync_jax, name), name


def test_no_two_public_things_share_a_name():
    """But for the executables' ``main`` and what the field itself calls alike."""
    allowed = {"main", "constant", "exponential"}  # s(d) and laws of delays
    places: dict[str, str] = {}
    for module in _MODULES:
        for node in parse(_PATHS[module]).body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef):
                continue
            if node.name.startswith("_") or node.name in allowed:
                continue
            before = places.setdefault(node.name, module)
            assert before == module, f"{node.name}: {before} and {module}"


# What a module must not do


def _sources() -> list[Path]:
    beside = [path for room in _BESIDE for path in sorted((_ROOT / room).glob("*.py"))]
    return [*_PATHS.values(), *beside]


def _dotted(node: ast.expr) -> str:
    """Return ``a.b.c`` of an attribute chain, "" of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""


@pytest.mark.parametrize("path", _sources(), ids=str)
def test_no_global_random_generator(path):
    own_generator = {"Generator", "default_rng", "SeedSequence"}
    for name, _ in imports(path):
        assert room_of(name) != "random"
        assert name != "numpy.random" and not name.startswith("numpy.random.")
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Attribute):
            owner = _dotted(node.value)
            if owner in ("np.random", "numpy.random"):
                assert node.attr in own_generator, f"line {node.lineno}"


@pytest.mark.parametrize("module", ["", *(m for m in _MODULES if room_of(m) != "cli")])
def test_only_the_command_line_prints(module):
    for node in ast.walk(parse(_PATHS[module])):
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
    assert ast.get_docstring(parse(_PATHS[module]))


# Examples


@pytest.mark.parametrize("module", _MODULES)
def test_examples_in_docstrings(module):
    if room_of(module) == "plotting":
        pytest.importorskip("matplotlib")
    if module.startswith("flower"):
        pytest.importorskip("flwr")
    result = doctest.testmod(importlib.import_module(f"fedasync_jax.{module}"))
    assert result.failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    staleness = importlib.import_module("fedasync_jax.mixing.staleness")
    assert sum(len(test.examples) for test in finder.find(staleness)) >= 3
