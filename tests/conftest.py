"""Strict JAX and two CPU devices for all tests; must run before the back end starts."""

import os

# Tests compile many small programs and run them once.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
)

import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Compiled code takes memory mappings, of which Linux gives a process 65,530."""
    yield
    jax.clear_caches()
