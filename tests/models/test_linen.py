"""Any flax module: with and without ``train``, sown values, streams, bfloat16."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedasync_jax.models import from_linen, squared_error
from fedasync_jax.models.outputs import sum_metrics

X = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
BATCH = {"x": X, "y": np.arange(4, dtype=np.int32) % 2}


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x)


class Sown(nn.Module):
    collection: str
    adds: bool = False

    @nn.compact
    def __call__(self, x, train=False):
        how: Any = {"reduce_fn": jnp.add, "init_fn": lambda: jnp.zeros(())}
        value = jnp.mean(x**2)
        self.sow(self.collection, "value", value, **(how if self.adds else {}))
        kept = self.variable("memory", "pair", lambda: (jnp.ones((1, 2)), jnp.ones(1)))
        return nn.Dense(2)(x) + kept.value[0]


class Streams(nn.Module):
    names: tuple[str, ...]

    @nn.compact
    def __call__(self, x, train=False):
        params = self.param("w", nn.initializers.zeros, (1, 2))
        draws = [jnp.zeros((4, 2))]
        if train:
            draws = [jax.random.normal(self.make_rng(n), (4, 2)) for n in self.names]
        self.variable("drawn", "all", lambda: jnp.zeros((len(self.names), 4, 2)))
        if train:
            self.put_variable("drawn", "all", jnp.stack(draws))
        return sum(draws) + params


class Named(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(2)(x["left"]) + nn.Dense(2)(x["right"])


def _loss(model, batch: Any = BATCH, seed=1):
    variables = model.init(jax.random.key(0))
    loss, state = model.loss(variables, batch, jax.random.key(seed))
    assert jax.tree.structure(state) == jax.tree.structure(variables.state)
    assert np.isfinite(loss)
    metrics = model.metrics(variables, batch)
    assert metrics["count"] == 4
    return variables, loss, state


@pytest.mark.parametrize(
    "module",
    [Plain(), nn.Sequential([nn.Dense(3), nn.relu, nn.Dense(2)])],
    ids=["plain", "sequential"],
)
def test_a_module_need_not_take_train(module):
    variables, loss, _ = _loss(from_linen(module, jnp.zeros((1, 5))))
    logits = module.apply({"params": variables.params}, X)
    expected = -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(4), BATCH["y"]])
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_a_module_that_takes_train_is_told():
    module = nn.Sequential([Streams(("dropout",)), nn.Dense(2)])
    _, _, state = _loss(from_linen(module, jnp.zeros((1, 5))))
    assert np.any(state["drawn"]["layers_0"]["all"])


def test_sown_values_are_no_state_and_tuples_of_variables_are():
    for name in ("sown", "intermediates"):
        variables, _, _ = _loss(from_linen(Sown(name), jnp.zeros((1, 5))))
        assert variables.state.keys() == {"memory"}


@pytest.mark.parametrize("adds", [False, True])
def test_sown_losses_are_refused_by_name(adds):
    model = from_linen(Sown("aux_losses", adds), jnp.zeros((1, 5)))
    line = r"^Sown must not sow losses, got the collection aux_losses: .*$"
    with pytest.raises(ValueError, match=line):
        model.init(jax.random.key(0))


def test_every_stream_has_a_key_of_its_own_that_follows_from_the_steps():
    model = from_linen(Streams(("dropout", "noise", "mask")), jnp.zeros((1, 5)))
    drawn = [np.asarray(_loss(model, seed=s)[2]["drawn"]["all"]) for s in (1, 2, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert len(np.unique(np.stack(drawn[:2]))) == 2 * 3 * 4 * 2
    # Dropout draws what it always drew.
    alone = from_linen(Streams(("dropout",)), jnp.zeros((1, 5)))
    np.testing.assert_array_equal(_loss(alone)[2]["drawn"]["all"][0], drawn[0][0])


def test_inputs_may_be_named():
    sample = {"left": jnp.zeros((1, 5)), "right": jnp.zeros((1, 5))}
    _loss(from_linen(Named(), sample), BATCH | {"x": {"left": X, "right": X + 1}})


def test_metrics_of_bfloat16_are_summed_in_float32():
    logits = jnp.zeros((1001, 2), jnp.bfloat16)
    sums = sum_metrics(logits, jnp.zeros(1001, jnp.int32))
    assert {value.dtype.name for value in sums.values()} == {"float32"}
    assert (float(sums["count"]), float(sums["correct"])) == (1001, 1001)
    np.testing.assert_allclose(sums["loss"], 1001 * np.log(2), rtol=1e-6)


def raise_first(x, train):
    """Add 1 to the logits of class 0 in training."""
    return x + jnp.asarray([[1.0 if train else 0.0, 0.0]])


class Train(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return raise_first(nn.Dense(2)(x), train)


class Training(nn.Module):
    @nn.compact
    def __call__(self, x, *, training=False):
        return raise_first(nn.Dense(2)(x), training)


class IsTraining(nn.Module):
    @nn.compact
    def __call__(self, x, is_training):
        return raise_first(nn.Dense(2)(x), is_training)


class Deterministic(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=True):
        return raise_first(nn.Dense(2)(x), not deterministic)


@pytest.mark.parametrize("module", [Train, Training, IsTraining, Deterministic])
def test_the_mode_has_many_names(module):
    plain = from_linen(Plain(), jnp.zeros((1, 5)))
    model = from_linen(module(), jnp.zeros((1, 5)))
    variables = model.init(jax.random.key(0))
    assert model.metrics(variables, BATCH) == plain.metrics(variables, BATCH)
    losses = [m.loss(variables, BATCH, jax.random.key(0))[0] for m in (model, plain)]
    assert losses[0] != losses[1]


class Count(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        steps = self.variable("counters", "steps", lambda: jnp.zeros((), jnp.int32))
        if train:
            steps.value = steps.value + 1
        return nn.Dense(2)(x)


def test_a_counter_of_steps_is_part_of_the_model():
    _, _, state = _loss(from_linen(Count(), jnp.zeros((1, 5))))
    assert state["counters"]["steps"] == 1


def test_regression_by_any_loss_and_metrics():
    y = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)
    batch = {"x": X, "y": y, "weight": np.arange(4, dtype=np.float32)}

    def weighted(outputs, batch):
        return batch["weight"] * squared_error(outputs, batch)

    def mean_absolute(outputs, batch):
        error = jnp.abs(outputs - batch["y"])
        return {"mae": jnp.sum(error) / 2, "count": jnp.asarray(len(error), float)}

    model = from_linen(
        Plain(), jnp.zeros((1, 5)), loss_fn=weighted, metrics_fn=mean_absolute
    )
    variables = model.init(jax.random.key(0))
    outputs = np.asarray(Plain().apply({"params": variables.params}, X))
    expected = np.mean(np.arange(4) * np.mean((outputs - y) ** 2, axis=1))
    loss, _ = model.loss(variables, batch, jax.random.key(0))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    sums = model.metrics(variables, batch)
    assert sums.keys() == {"mae", "count"}
    np.testing.assert_allclose(sums["mae"] / 4, np.abs(outputs - y).mean(), rtol=1e-6)
