"""Strict JAX and two CPU devices for all tests; must run before the back end starts.

The files that take longest begin first, and all others are marked ``quick``.
"""

# ruff: noqa: E402 (the environment is read when JAX is imported)

import gc
import importlib.metadata
import os
from pathlib import Path

# Tests compile many small programs and run them once. The older code generator takes
# half of the time; jaxlib 0.11 no longer has it, and an unknown flag ends the process.
_FLAGS = ["--xla_backend_optimization_level=0"]
_JAXLIB = importlib.metadata.version("jaxlib")
if _JAXLIB.startswith("0.10."):
    _FLAGS += [
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FLAGS])

# What was compiled once is read again: by other modules, by the other pytest process,
# by the commands that tests start, and by the next run of the tests.
# jaxlib 0.10.0 prints a warning at every program that it reads.
_CACHE = Path(__file__).parents[1] / ".pytest_cache" / f"jaxlib-{_JAXLIB}"
if _JAXLIB != "0.10.0":
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax
import pytest
from commands import end_parents
from seconds import SECONDS

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

_TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Sort by file, the longest first, and mark what is quick."""
    files = {item: item.path.relative_to(_TESTS).as_posix() for item in items}
    items.sort(key=lambda item: -SECONDS.get(files[item], 0))
    for item in items:
        if files[item] not in SECONDS:
            item.add_marker(pytest.mark.quick)


def pytest_collection_finish():
    """Thousands of tests and modules stay to the end: do not look for garbage in them.

    Tracing makes many small objects; with Python's own thresholds collecting takes 5%.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Compiled code takes memory mappings, of which Linux gives a process 65,530."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True, scope="session")
def _end_what_forks():
    yield
    end_parents()
