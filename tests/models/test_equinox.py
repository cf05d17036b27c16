"""Any equinox module: keys, mode, state, what is not trained."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedasync_jax as fa
from fedasync_jax.models import from_eqx, squared_error

eqx = pytest.importorskip("equinox")

RNG = np.random.default_rng(0)
BATCH = {
    "x": RNG.normal(size=(4, 5)).astype(np.float32),
    "y": np.arange(4, dtype=np.int32) % 2,
}


def make_dropout(key):
    layers = [eqx.nn.Linear(5, 40, key=key), eqx.nn.Dropout(0.5)]
    return eqx.nn.Sequential([*layers, eqx.nn.Linear(40, 2, key=key)])


def make_normalized(key):
    class Normalized(eqx.Module):
        linear: Any
        norm: Any

        def __init__(self, key):
            self.linear = eqx.nn.Linear(5, 2, key=key)
            self.norm = eqx.nn.BatchNorm(2, "batch", mode="batch")

        def __call__(self, x, state):
            return self.norm(self.linear(x), state)

    return eqx.nn.make_with_state(Normalized)(key=key)


def test_dropout_draws_for_every_sample_in_training_alone():
    model = from_eqx(make_dropout)
    variables = model.init(jax.random.key(0))
    losses = [model.loss(variables, BATCH, jax.random.key(s))[0] for s in (1, 2, 1)]
    assert losses[0] == losses[2] != losses[1]
    twice = {"x": np.repeat(BATCH["x"][:1], 2, axis=0), "y": np.zeros(2, np.int32)}
    one = from_eqx(make_dropout, loss_fn=lambda outputs, batch: outputs[:, 0])
    drawn = from_eqx(make_dropout, loss_fn=lambda o, b: jnp.ptp(o, axis=0))
    assert drawn.loss(variables, twice, jax.random.key(1))[0] > 0
    assert drawn.metrics(variables, twice)["loss"] == 0
    assert one.init(jax.random.key(0)).state == ()


def test_state_is_that_of_the_model():
    with jax.numpy_dtype_promotion("standard"):  # equinox relies on it
        model = from_eqx(make_normalized)
        variables = model.init(jax.random.key(0))
        assert jax.tree.leaves(variables.state)
        _, state = model.loss(variables, BATCH, jax.random.key(0))
        assert jax.tree.structure(state) == jax.tree.structure(variables.state)
        changed = jax.tree.map(np.array_equal, state, variables.state)
        assert not all(jax.tree.leaves(changed))
        model.metrics(variables._replace(state=state), BATCH)


def test_a_run_and_a_regression():
    x = RNG.normal(size=(200, 5)).astype(np.float32)
    data = {"x": x, "y": x[:, :2] * 3}
    clients = fa.data.make_client_data(data, fa.data.iid(200, 8, rng=RNG))

    def make(key):
        return eqx.nn.Linear(5, 2, key=key)

    model = from_eqx(make, loss_fn=squared_error)
    trace = fa.sampled_staleness(8, 30, max_staleness=3, rng=RNG, num_steps=5)
    worker = fa.make_local_update(
        model, clients, optax.sgd(0.2), batch_size=20, max_steps=5
    )
    rule = fa.mixing.fedasync(0.6, fa.staleness.constant())
    start, key = model.init(jax.random.key(0)), jax.random.key(1)
    result = fa.run(trace, worker, rule, start, key)
    assert fa.make_evaluate(model, data)(result.state.variables)["loss"] < 0.01
