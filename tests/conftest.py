"""Strict JAX and two CPU devices for all tests; must run before the back end starts.

The files that take longest begin first, and all others are marked ``quick``.
"""

# ruff: noqa: E402 (the environment is read when JAX is imported)

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

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Seconds of the files that take the most. They begin first, so that no process is left
# alone with one at the end, and ``make test-quick`` runs the others. ``--durations 0``
# tells; a file belongs here if it takes more than 4 s.
_SECONDS = {
    "cli/test_train_command.py": 90,
    "cli/test_sweep_command.py": 80,
    "benchmarks/test_benchmark.py": 50,
    "parts/test_own_parts.py": 40,
    "jobs/test_compile_cache.py": 40,
    "leaderboard/test_race.py": 35,
    "engine/test_engine.py": 35,
    "schedule/test_idle_clients.py": 20,
    "benchmarks/test_fuzz.py": 20,
    "jobs/test_sweep.py": 20,
    "test_readme.py": 15,
    "experiment/test_workload.py": 15,
    "storage/test_checkpoints.py": 15,
    "reproduction/test_reproduction.py": 15,
    "models/test_models.py": 15,
    "models/test_paper_models.py": 15,
    "worker/test_local_update.py": 15,
    "flower/test_flower_network.py": 15,
    "cli/test_command.py": 12,
    "cli/test_old_runs.py": 12,
    "plotting/test_plotting.py": 12,
    "jobs/test_side_by_side.py": 12,
    "jobs/test_training.py": 12,
    "engine/test_many.py": 12,
    "flower/test_flower_rules.py": 10,
    "flower/test_flower_work.py": 10,
    "engine/test_compilation.py": 9,
    "engine/test_determinism.py": 9,
    "benchmarks/test_flower_attacks.py": 8,
    "cli/test_endings.py": 7,
    "data/test_tfds.py": 7,
    "test_architecture.py": 7,
    "engine/test_step_scales.py": 6,
    "engine/test_rule_contract.py": 6,
    "schedule/test_clock.py": 6,
    "models/test_frozen.py": 5,
    "worker/test_optimizers.py": 5,
    "models/test_models_page.py": 5,
}
_TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Sort by file, the longest first, and mark what is quick."""
    files = {item: item.path.relative_to(_TESTS).as_posix() for item in items}
    items.sort(key=lambda item: -_SECONDS.get(files[item], 0))
    for item in items:
        if files[item] not in _SECONDS:
            item.add_marker(pytest.mark.quick)


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Compiled code takes memory mappings, of which Linux gives a process 65,530."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True, scope="session")
def _end_what_forks():
    yield
    end_parents()
