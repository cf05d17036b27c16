"""The same network by every door: one result, whatever library it is written in."""

import importlib.util

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fedasync_jax as fa
from fedasync_jax.models import from_apply, from_eqx, from_linen, from_nnx, make_model

INPUTS, HIDDEN, CLASSES = 5, 8, 3
RNG = np.random.default_rng(0)
DATA = {
    "x": RNG.normal(size=(120, INPUTS)).astype(np.float32),
    "y": RNG.integers(CLASSES, size=120).astype(np.int32),
}
CLIENTS = fa.data.make_client_data(DATA, fa.data.iid(120, 6, rng=RNG))
TRACE = fa.sampled_staleness(
    6, 20, max_staleness=3, rng=np.random.default_rng(1), num_steps=4
)
# Kernels [inputs, outputs], and biases.
VALUES = {
    "first": (
        RNG.normal(size=(INPUTS, HIDDEN)).astype(np.float32),
        RNG.normal(size=HIDDEN).astype(np.float32),
    ),
    "second": (
        RNG.normal(size=(HIDDEN, CLASSES)).astype(np.float32),
        RNG.normal(size=CLASSES).astype(np.float32),
    ),
}


class LinenMLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(HIDDEN, name="first")(x))
        return nn.Dense(CLASSES, name="second")(x)


class NnxMLP(nnx.Module):
    def __init__(self, *, rngs):
        self.first = nnx.Linear(INPUTS, HIDDEN, rngs=rngs)
        self.second = nnx.Linear(HIDDEN, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x)))


def by_plain_functions():
    def forward(params, x):
        (w1, b1), (w2, b2) = params["first"], params["second"]
        return jnp.maximum(x @ w1 + b1[None], 0) @ w2 + b2[None]

    def losses(params, batch):
        logits = forward(params, batch["x"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])

    def metrics(params, batch):
        logits = forward(params, batch["x"])
        correct = jnp.argmax(logits, axis=1).astype(jnp.int32) == batch["y"]
        return {
            "loss": jnp.sum(losses(params, batch)),
            "correct": jnp.sum(correct, dtype=float),
            "count": jnp.asarray(len(logits), float),
        }

    model = make_model(
        lambda key: VALUES,
        lambda params, batch, key: losses(params, batch).mean(),
        metrics,
    )
    return model, lambda params: params


def by_flax(model):
    def fill(params):
        named = {
            layer: {"kernel": kernel, "bias": bias}
            for layer, (kernel, bias) in VALUES.items()
        }
        assert jax.tree.structure(named) == jax.tree.structure(params)
        return named

    def read(params):
        return {k: (v["kernel"], v["bias"]) for k, v in params.items()}

    return with_values(model, fill), read


def by_equinox():
    import equinox as eqx  # pyright: ignore[reportMissingImports]

    def make(key):
        return eqx.nn.MLP(INPUTS, CLASSES, HIDDEN, depth=1, key=key)

    def fill(params):
        named = {
            str(i): {"weight": kernel.T, "bias": bias}
            for i, (kernel, bias) in enumerate(VALUES.values())
        }
        assert jax.tree.structure({"layers": named}) == jax.tree.structure(params)
        return {"layers": named}

    def read(params):
        layers = params["layers"]
        pairs = [(layers[i]["weight"].T, layers[i]["bias"]) for i in ("0", "1")]
        return dict(zip(VALUES, pairs, strict=True))

    return with_values(from_eqx(make), fill), read


def by_haiku():
    import haiku as hk  # pyright: ignore[reportMissingImports]

    net = hk.transform_with_state(
        lambda x: hk.Linear(CLASSES, name="second")(
            jax.nn.relu(hk.Linear(HIDDEN, name="first")(x))
        )
    )
    model = from_apply(
        lambda key: fa.Variables(*net.init(key, jnp.zeros((1, INPUTS)))),
        lambda variables, x, key: net.apply(*variables, key, x),
    )

    def fill(params):
        del params
        return {layer: {"w": w, "b": b} for layer, (w, b) in VALUES.items()}

    return with_values(model, fill), lambda params: {
        layer: (each["w"], each["b"]) for layer, each in params.items()
    }


def with_values(model, fill):
    """Return the model with the common initial values."""

    def init(key):
        variables = model.init(key)
        return variables._replace(params=fill(variables.params))

    return model._replace(init=init)


def train(model):
    worker = fa.make_local_update(
        model, CLIENTS, optax.sgd(0.3), batch_size=10, max_steps=4, rho=0.1
    )
    rule = fa.mixing.fedasync(0.6, fa.staleness.polynomial(0.5))
    start, key = model.init(jax.random.key(0)), jax.random.key(1)
    variables = fa.run(TRACE, worker, rule, start, key).state.variables
    return variables, fa.make_evaluate(model, DATA)(variables)


DOORS = {
    "linen": lambda: by_flax(from_linen(LinenMLP(), jnp.zeros((1, INPUTS)))),
    "nnx": lambda: by_flax(from_nnx(NnxMLP)),
    "nnx-instance": lambda: by_flax(from_nnx(NnxMLP(rngs=nnx.Rngs(9)))),
    "equinox": by_equinox,
    "haiku": by_haiku,
}


@pytest.fixture(scope="module")
def plain():
    model, read = by_plain_functions()
    variables, metrics = train(model)
    return read(variables.params), metrics


@pytest.mark.parametrize("door", DOORS)
def test_the_same_network_comes_to_the_same_result(door, plain):
    if door in ("equinox", "haiku") and importlib.util.find_spec(door) is None:
        pytest.skip(f"{door} is not installed")
    params, metrics = plain
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), params, VALUES)
    assert min(jax.tree.leaves(moved)) > 0.01
    model, read = DOORS[door]()
    variables, found = train(model)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6),
        read(variables.params),
        params,
    )
    assert found.keys() == metrics.keys() == {"loss", "correct"}
    for name, value in metrics.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6)


@pytest.mark.parametrize("door", ["linen", "nnx", "equinox"])
def test_a_model_of_a_library_is_saved_and_loaded(door, tmp_path):
    if door == "equinox" and importlib.util.find_spec(door) is None:
        pytest.skip(f"{door} is not installed")
    variables = DOORS[door]()[0].init(jax.random.key(0))
    fa.save_model(tmp_path, variables)
    loaded = fa.load_model(tmp_path)
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
