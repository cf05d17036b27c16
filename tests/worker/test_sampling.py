"""The order of a client's samples: two ways to sort, one result."""

import jax.numpy as jnp
import numpy as np
import pytest

from fedasync_jax.worker import sampling


@pytest.mark.parametrize("size", [1, 2, 67, 100])
@pytest.mark.parametrize("num_keys", [1, 3, 2**32])  # few keys: many are equal
def test_few_rows_are_sorted_as_many_are(size, num_keys):
    rng = np.random.default_rng(size)
    first = np.sort(rng.integers(4, size=size)).astype(np.int32)
    second = rng.integers(num_keys, size=size, dtype=np.uint32)
    values = rng.integers(100, size=size).astype(np.int32)
    rows = jnp.asarray(first), jnp.asarray(second), jnp.asarray(values)
    wanted = values[np.lexsort((np.arange(size), second, first))]
    np.testing.assert_array_equal(sampling._sort_many(*rows), wanted)
    np.testing.assert_array_equal(sampling._sort_few(*rows), wanted)
