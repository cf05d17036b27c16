"""Any nnx module: mode, streams, state that is mixed, carried or dropped, errors."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fedasync_jax as fa
from fedasync_jax.models import from_nnx, squared_error

RNG = np.random.default_rng(0)
BATCH = {
    "x": RNG.normal(size=(4, 5)).astype(np.float32),
    "y": np.arange(4, dtype=np.int32) % 2,
}


class Whole(nnx.Module):
    """Layers in a list, statistics, dropout, a counter, and something sown."""

    def __init__(self, *, rngs):
        self.layers = nnx.List([nnx.Linear(5, 6, rngs=rngs) for _ in range(1)])
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(6, 2, rngs=rngs)
        self.calls = nnx.Variable(jnp.int32(0))

    def __call__(self, x):
        self.calls[...] = self.calls[...] + 1
        for layer in self.layers:
            x = layer(x)
        self.seen = nnx.Intermediate(x)
        return self.out(self.dropout(self.norm(x)))


class AtCall(nnx.Module):
    """Takes its random streams with the call, as an adapter would."""

    def __init__(self, *, rngs):
        self.out = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x, *, rngs=None):
        drawn = 0.0 if rngs is None else jax.random.normal(rngs.noise(), x.shape)
        return self.out(x + drawn)


class Leaks(nnx.Module):
    def __init__(self, what, *, rngs):
        self.out, self.calls, self.what = nnx.Linear(5, 2, rngs=rngs), 0, what

    def __call__(self, x):
        if self.what == "number":
            self.calls += 1
        else:
            self.last = nnx.Variable(x)
        return self.out(x)


def test_what_is_trained_mixed_and_left_out():
    variables = from_nnx(Whole).init(jax.random.key(0))
    assert variables.params.keys() == {"layers", "norm", "out"}
    assert variables.params["layers"]["0"]["kernel"].shape == (5, 6)
    assert variables.state.keys() == {"norm", "calls"}
    other = from_nnx(lambda rngs: Whole(rngs=rngs)).init(jax.random.key(1))
    assert jax.tree.structure(other) == jax.tree.structure(variables)
    kernels = [v.params["out"]["kernel"] for v in (variables, other)]
    assert not np.array_equal(*kernels)


def test_the_mode_and_the_streams_follow_from_the_key():
    model = from_nnx(Whole)
    variables = model.init(jax.random.key(0))
    loss = jax.jit(model.loss)
    losses, states = zip(
        *(loss(variables, BATCH, jax.random.key(seed)) for seed in (1, 2, 1)),
        strict=True,
    )
    assert losses[0] == losses[2] != losses[1]  # dropout
    assert int(states[0]["calls"]) == 1
    mean = variables.state["norm"]["mean"]
    assert not np.array_equal(states[0]["norm"]["mean"], mean)
    # In evaluation nothing is dropped, and the statistics are those of the state.
    module = Whole(rngs=nnx.Rngs(jax.random.key(0)))
    module.eval()
    expected = optax.softmax_cross_entropy_with_integer_labels(
        module(BATCH["x"]), BATCH["y"]
    )
    found = model.metrics(variables, BATCH)
    np.testing.assert_allclose(found["loss"], expected.sum(), rtol=1e-6)
    assert found["count"] == 4


def test_a_whole_run_trains_it():
    x = RNG.normal(size=(200, 5)).astype(np.float32)
    data = {"x": x, "y": (x[:, 0] > 0).astype(np.int32)}
    clients = fa.data.make_client_data(data, fa.data.iid(200, 8, rng=RNG))
    model = from_nnx(Whole)
    trace = fa.sampled_staleness(8, 30, max_staleness=3, rng=RNG, num_steps=5)
    worker = fa.make_local_update(
        model, clients, optax.sgd(0.2), batch_size=20, max_steps=5
    )
    rule = fa.mixing.fedasync(0.6, fa.staleness.constant())
    start, key = model.init(jax.random.key(0)), jax.random.key(1)
    result = fa.run(trace, worker, rule, start, key)
    evaluate = fa.make_evaluate(model, data)
    before, after = evaluate(start), evaluate(result.state.variables)
    assert after["correct"] > 0.85 > before["correct"]
    calls = int(result.state.variables.state["calls"])
    assert calls % 5 == 0 and 5 <= calls <= 150


def test_streams_may_come_with_the_call():
    model = from_nnx(AtCall)
    variables = model.init(jax.random.key(0))
    losses = [model.loss(variables, BATCH, jax.random.key(s))[0] for s in (1, 2, 1)]
    assert losses[0] == losses[2] != losses[1]
    assert variables.state == ()
    model.metrics(variables, BATCH)


def test_a_module_gives_its_values_and_stays_as_it_is():
    module = Whole(rngs=nnx.Rngs(5))
    module.eval()
    model = from_nnx(module)
    one, other = (model.init(jax.random.key(seed)) for seed in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    np.testing.assert_array_equal(one.params["out"]["kernel"], module.out.kernel[...])
    model.loss(one, BATCH, jax.random.key(0))
    assert module.dropout.deterministic and int(module.calls[...]) == 0


def test_regression():
    def make(rngs):
        return nnx.Linear(5, 3, rngs=rngs)

    model = from_nnx(make, loss_fn=squared_error)
    variables = model.init(jax.random.key(0))
    y = RNG.normal(size=(4, 3)).astype(np.float32)
    kernel, bias = variables.params["kernel"], variables.params["bias"]
    expected = np.mean((BATCH["x"] @ kernel + bias[None] - y) ** 2)
    batch = {"x": BATCH["x"], "y": y}
    loss, _ = model.loss(variables, batch, jax.random.key(0))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    sums = model.metrics(variables, batch)
    assert sums.keys() == {"loss", "count"} and sums["count"] == 4
    np.testing.assert_allclose(sums["loss"], 4 * expected, rtol=1e-6)


@pytest.mark.parametrize("what", ["number", "attribute"])
def test_a_call_that_changes_the_module_is_one_line(what):
    model = from_nnx(lambda rngs: Leaks(what, rngs=rngs))
    variables = model.init(jax.random.key(0))
    for call in (
        lambda: model.loss(variables, BATCH, jax.random.key(0)),
        lambda: model.metrics(variables, BATCH),
    ):
        with pytest.raises(ValueError, match=r"^Leaks must not change its attrib.*$"):
            call()


def test_what_makes_no_module_is_one_line():
    make: Any = lambda rngs: 3  # noqa: E731
    with pytest.raises(ValueError) as error:
        from_nnx(make)
    assert str(error.value) == "module must make an nnx.Module, got int"


@pytest.mark.parametrize(
    ("loss_fn", "y", "wanted"),
    [
        (None, np.zeros((4, 2), np.int32), r"\(4, 2, 'K'\)"),
        (squared_error, np.zeros(4, np.float32), r"\(4,\)"),
    ],
)
def test_outputs_of_a_wrong_shape_are_one_line(loss_fn, y, wanted):
    model = from_nnx(AtCall, loss_fn=loss_fn)
    variables = model.init(jax.random.key(0))
    line = rf"^the model must return .*, {wanted}, got \(4, 2\)$"
    with pytest.raises(ValueError, match=line):
        model.loss(variables, {"x": BATCH["x"], "y": y}, jax.random.key(0))
