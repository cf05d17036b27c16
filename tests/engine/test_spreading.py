"""Chunks of a wave: however they fall, every task is trained and mixed once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import fedasync_jax as fa
from fedasync_jax import tree
from fedasync_jax.base import LocalInfo, Variables
from fedasync_jax.schedule.trace import make_waves

UPDATES, KEY = 411, jax.random.key(5)
START = Variables({"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(())}, ())
TRACE = fa.simulate(
    fa.make_fleet(60, rng=np.random.default_rng(1)),
    UPDATES,
    scheduler=fa.Immediate(55),
    num_steps=1,
    rng=np.random.default_rng(2),
)


def train(variables, client, key, num_steps):
    """Move by an amount that depends on the start, the client and the key."""
    noise = jax.random.normal(key, variables.params["w"].shape)
    params = {
        "w": 0.9 * variables.params["w"] + noise + client.astype(float),
        "b": variables.params["b"] + noise[0, 0],
    }
    return Variables(params, ()), LocalInfo(variables.params["w"].sum())


def run(**batching):
    mixer = fa.mixing.fedasync(0.6, fa.staleness.polynomial(0.5))
    return fa.run(TRACE, train, mixer, START, KEY, batching=fa.Batching(**batching))


@pytest.fixture(scope="module")
def one_by_one():
    return run(max_width=1)


# A wave of 16 in chunks of 6 ends with one that reaches back into the one before.
@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize("num_devices", [1, 2])
@pytest.mark.parametrize("chunk", [1, 3, 6, 16])
def test_every_task_is_trained_and_mixed_once(one_by_one, chunk, num_devices, product):
    max_width = 16 * num_devices
    widths = {end - begin for begin, end in make_waves(TRACE.start_version, max_width)}
    assert max_width in widths and len(widths) > 1
    mesh = Mesh(np.array(jax.devices()[:2]), ("devices",)) if num_devices == 2 else None
    found = run(max_width=max_width, chunk=chunk, mesh=mesh, product=product)
    pairs = zip(*map(jax.tree.leaves, (found, one_by_one)), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_rows", [1, 5, 40])
def test_rows_are_gathered_by_number(num_rows):
    leaves = {"x": np.arange(60.0).reshape(20, 3), "n": np.arange(20)}
    rows = np.random.default_rng(0).integers(20, size=num_rows)
    found = jax.jit(tree.gather)(leaves, rows)
    for name, leaf in leaves.items():
        np.testing.assert_array_equal(found[name], leaf[rows])
