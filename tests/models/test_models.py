"""Models: what they compute, what they carry, and the convolution that they use."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fedasync_jax.base import Variables
from fedasync_jax.models import (
    CLASSIFIERS,
    CNN,
    MLP,
    conv_as_matmul,
    from_linen,
    make_classifier,
    make_model,
)

NHWC = ("NHWC", "HWIO", "NHWC")


@pytest.fixture(autouse=True)
def strict_types():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def make_batch(shape=(8, 8, 1), size=6, num_classes=10):
    key_x, key_y = jax.random.split(jax.random.key(7))
    return {
        "x": jax.random.normal(key_x, (size, *shape)),
        "y": jax.random.randint(key_y, (size,), 0, num_classes),
    }


def take_rows(tree, rows):
    return jax.tree.map(lambda leaf: leaf[rows], tree)


def count_parameters(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables.params))


class NormAndDropout(nn.Module):
    """A module that has state and draws randomness."""

    rate: float = 0.0

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(5)(x.reshape(x.shape[0], -1))
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(10)(nn.Dropout(self.rate, deterministic=not train)(x))


# --- plain functions ---


def make_linear_regression(metrics_fn=None):
    def loss_fn(params, batch, key):
        del key
        return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2)

    return make_model(lambda key: {"w": jnp.zeros(2)}, loss_fn, metrics_fn)


REGRESSION_BATCH = {"x": jnp.eye(2), "y": jnp.array([1.0, 3.0])}


def test_plain_functions_become_a_model():
    model = make_linear_regression()
    variables = jax.jit(model.init)(jax.random.key(0))
    loss, state = model.loss(variables, REGRESSION_BATCH, jax.random.key(1))
    assert variables.state == state == ()
    assert loss == 5.0


def test_default_metrics_are_the_summed_loss_and_the_count():
    model = make_linear_regression()
    metrics = model.metrics(jax.jit(model.init)(jax.random.key(0)), REGRESSION_BATCH)
    assert {name: float(value) for name, value in metrics.items()} == {
        "loss": 10.0,
        "count": 2.0,
    }


def test_own_metrics_take_the_place_of_the_default():
    model = make_linear_regression(
        lambda params, batch: {"error": params["w"].sum(), "count": jnp.ones(())}
    )
    metrics = model.metrics(jax.jit(model.init)(jax.random.key(0)), REGRESSION_BATCH)
    assert set(metrics) == {"error", "count"}


# --- classifiers by name ---


@pytest.mark.parametrize(
    ("name", "shape", "hidden", "expected"),
    [
        ("mlp", (8, 8, 1), (64, 64), 64 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10),
        ("mlp", (5,), (), 5 * 10 + 10),
        ("cnn", (8, 8, 1), (), 9 * 16 + 16 + 9 * 16 * 32 + 32 + 4 * 32 * 10 + 10),
        ("cnn", (32, 32, 3), (), 27 * 16 + 16 + 9 * 16 * 32 + 32 + 2048 * 10 + 10),
        ("cnn", (7, 5, 1), (), 9 * 16 + 16 + 9 * 16 * 32 + 32 + 32 * 10 + 10),
    ],
)
def test_number_of_parameters(name, shape, hidden, expected):
    model = make_classifier(name, shape, 10, hidden=hidden)
    assert count_parameters(jax.eval_shape(model.init, jax.random.key(0))) == expected


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_computes_a_loss_and_reaches_every_parameter(name):
    model = make_classifier(name, (8, 8, 1), 10)
    variables, batch = jax.jit(model.init)(jax.random.key(0)), make_batch()
    grad_fn = jax.jit(jax.value_and_grad(model.loss, has_aux=True))
    (loss, state), gradients = grad_fn(variables, batch, jax.random.key(1))
    assert loss.shape == () and jnp.isfinite(loss)
    assert jax.tree.structure(state) == jax.tree.structure(variables.state)
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(gradients.params))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_learns_a_batch_by_heart(name):
    model = make_classifier(name, (8, 8, 1), 10)
    batch = make_batch()

    def step(variables, _):
        grads, state = jax.grad(model.loss, has_aux=True)(
            variables, batch, jax.random.key(0)
        )
        params = jax.tree.map(lambda p, g: p - 0.1 * g, variables.params, grads.params)
        return variables._replace(params=params, state=state), None

    start = jax.jit(model.init)(jax.random.key(0))
    end, _ = jax.jit(lambda v: lax.scan(step, v, length=100))(start)
    assert model.metrics(end, batch)["correct"] == 6


@pytest.mark.parametrize(
    "module",
    [MLP((8,), 3), CNN(3), CNN(3, conv_general_dilated=lax.conv_general_dilated)],
)
def test_logits_have_one_row_per_sample_and_one_column_per_class(module):
    x = make_batch()["x"]
    logits, _ = module.init_with_output(jax.random.key(0), x)
    assert logits.shape == (6, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vgg", (8, 8, 1), 10), "name must be one of mlp, cnn, paper-cnn, got 'vgg'"),
        (("cnn", (64,), 10), r"sample_shape of cnn must be .*, got \(64,\)"),
        (("cnn", (3, 9, 1), 10), r"sample_shape of cnn must be .*, got \(3, 9, 1\)"),
        (("mlp", (), 10), r"sample_shape must be .*, got \(\)"),
        (("mlp", (0,), 10), r"sample_shape must be .*, got \(0,\)"),
        (("mlp", (4,), 1), "num_classes must be >= 2, got 1"),
    ],
)
def test_bad_settings_are_named_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make_classifier(*arguments)


def test_bad_hidden_widths_are_named():
    with pytest.raises(ValueError, match=r"^hidden must be .*, got \(8, 0\)$"):
        make_classifier("mlp", (4,), 2, hidden=(8, 0))


# --- linen modules ---


def test_metrics_are_sums_over_the_batch():
    model = make_classifier("mlp", (8, 8, 1), 10)
    variables, batch = jax.jit(model.init)(jax.random.key(0)), make_batch(size=9)
    logits = MLP((64,), 10).apply({"params": variables.params}, batch["x"])
    logits = np.asarray(logits, np.float64)
    labels = np.asarray(batch["y"])
    log_normalizers = np.log(np.exp(logits).sum(axis=1))
    losses = log_normalizers - logits[np.arange(9), labels]
    metrics = model.metrics(variables, batch)
    assert set(metrics) == {"loss", "correct", "count"}
    np.testing.assert_allclose(metrics["loss"], losses.sum(), rtol=1e-5)
    assert float(metrics["correct"]) == (logits.argmax(axis=1) == labels).sum()
    assert metrics["count"] == 9
    loss, _ = model.loss(variables, batch, jax.random.key(1))
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-5)


def test_metrics_of_parts_add_up_to_those_of_the_whole():
    model = make_classifier("cnn", (8, 8, 1), 10)
    variables, batch = jax.jit(model.init)(jax.random.key(0)), make_batch(size=9)
    metrics_fn = jax.jit(model.metrics)
    parts = [
        metrics_fn(variables, take_rows(batch, rows))
        for rows in (slice(0, 4), slice(4, 9))
    ]
    summed = jax.tree.map(jnp.add, *parts)
    whole = metrics_fn(variables, batch)
    for name in whole:
        np.testing.assert_allclose(summed[name], whole[name], rtol=1e-5)


def test_labels_may_have_a_second_axis():
    class Embedder(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Embed(7, 7)(x)

    tokens = jnp.arange(12, dtype=jnp.int32).reshape(3, 4) % 7
    model = from_linen(Embedder(), tokens[:1])
    metrics = model.metrics(
        jax.jit(model.init)(jax.random.key(0)), {"x": tokens, "y": (tokens + 1) % 7}
    )
    assert metrics["count"] == 12
    assert metrics["loss"].shape == metrics["correct"].shape == ()


def test_state_is_carried_in_training_and_only_read_in_metrics():
    batch = make_batch()
    model = from_linen(NormAndDropout(), batch["x"][:1])
    variables = jax.jit(model.init)(jax.random.key(0))
    assert set(variables.state) == {"batch_stats"}
    assert "batch_stats" not in variables.params

    _, state = jax.jit(model.loss)(variables, batch, jax.random.key(1))
    assert jax.tree.structure(state) == jax.tree.structure(variables.state)
    (before, after) = (
        s["batch_stats"]["BatchNorm_0"]["mean"] for s in (variables.state, state)
    )
    assert jnp.all(before == 0) and jnp.all(after != 0)

    trained = Variables(variables.params, state)
    metrics = model.metrics(trained, batch)
    assert metrics["loss"] != model.metrics(variables, batch)["loss"]
    # With the running statistics a sample's loss does not depend on its batch.
    parts = [
        model.metrics(trained, take_rows(batch, slice(i, i + 1))) for i in range(6)
    ]
    summed = sum(float(part["loss"]) for part in parts)
    np.testing.assert_allclose(summed, metrics["loss"], rtol=1e-5)


def test_dropout_draws_from_the_key_in_training_only():
    batch = make_batch()
    model = from_linen(NormAndDropout(rate=0.5), batch["x"][:1])
    variables = jax.jit(model.init)(jax.random.key(0))
    first, again, other = (
        model.loss(variables, batch, jax.random.key(k))[0] for k in (1, 1, 2)
    )
    assert first == again
    assert first != other
    model.metrics(variables, batch)  # takes no key: raises if dropout were on


def test_models_run_under_vmap_with_parameters_per_worker():
    model = make_classifier("cnn", (8, 8, 1), 10)
    keys = jax.random.split(jax.random.key(0), 3)
    variables, batch = jax.jit(jax.vmap(model.init))(keys), make_batch()
    loss_fn = jax.jit(model.loss)
    losses, _ = jax.jit(jax.vmap(model.loss, (0, None, 0)))(variables, batch, keys)
    for i in range(3):
        expected, _ = loss_fn(take_rows(variables, i), batch, keys[i])
        np.testing.assert_allclose(losses[i], expected, rtol=1e-5)


# --- convolution ---

CONVOLUTIONS = [
    ((8, 8), (3, 3), (1, 1), "SAME"),
    ((7, 9), (3, 3), (2, 2), "SAME"),
    ((8, 6), (3, 3), (2, 3), "SAME"),
    ((8, 8), (2, 4), (2, 1), "SAME"),
    ((9, 8), (2, 2), (2, 2), "SAME_LOWER"),
    ((8, 8), (3, 3), (1, 1), "VALID"),
    ((9, 8), (5, 3), (3, 2), "VALID"),
    ((8, 7), (1, 1), (2, 2), "VALID"),
    ((7, 7), (3, 3), (2, 1), ((0, 2), (3, 1))),
    ((8, 8), (3, 3), (1, 1), ((-1, 0), (0, -2))),
    ((4, 3), (4, 3), (1, 1), "VALID"),
]


def make_convolution_inputs(size, kernel_size):
    key_x, key_k = jax.random.split(jax.random.key(3))
    images = jax.random.normal(key_x, (2, *size, 3))
    return images, jax.random.normal(key_k, (*kernel_size, 3, 4))


@pytest.mark.parametrize(("size", "kernel_size", "strides", "padding"), CONVOLUTIONS)
def test_convolution_and_its_gradients_equal_those_of_xla(
    size, kernel_size, strides, padding
):
    images, kernel = make_convolution_inputs(size, kernel_size)

    def pull_back(conv_fn):
        out, vjp_fn = jax.vjp(
            lambda x, k: conv_fn(x, k, strides, padding, dimension_numbers=NHWC),
            images,
            kernel,
        )
        return out, *vjp_fn(jax.random.normal(jax.random.key(4), out.shape))

    ours, xla = (
        jax.jit(pull_back, static_argnums=0)(conv_fn)
        for conv_fn in (conv_as_matmul, lax.conv_general_dilated)
    )
    for mine, expected in zip(ours, xla, strict=True):
        assert mine.shape == expected.shape
        np.testing.assert_allclose(mine, expected, rtol=2e-4, atol=2e-4)


def test_convolution_under_vmap_over_kernels_equals_one_after_the_other():
    images, kernel = make_convolution_inputs((7, 8), (3, 3))
    kernels = jnp.stack([kernel, 2 * kernel, kernel - 1])
    batched = jax.vmap(lambda k: conv_as_matmul(images, k, (2, 1), "SAME"))(kernels)
    for i in range(3):
        expected = lax.conv_general_dilated(
            images, kernels[i], (2, 1), "SAME", dimension_numbers=NHWC
        )
        np.testing.assert_allclose(batched[i], expected, rtol=2e-4, atol=2e-4)


def test_convolution_compiles_to_no_convolution():
    images, kernel = make_convolution_inputs((8, 8), (3, 3))
    grad_fn = jax.grad(lambda k: conv_as_matmul(images, k, (1, 1), "SAME").sum())
    assert "conv" not in str(jax.make_jaxpr(grad_fn)(kernel))


@pytest.mark.parametrize("conv_fn", [conv_as_matmul, lax.conv_general_dilated])
def test_cnn_uses_the_convolution_that_it_is_given(conv_fn):
    x = make_batch()["x"]
    given, default = CNN(3, conv_general_dilated=conv_fn), CNN(3)
    expected, variables = default.init_with_output(jax.random.key(0), x)
    jaxpr = str(jax.make_jaxpr(given.apply)(variables, x))
    assert ("conv_general_dilated" in jaxpr) == (conv_fn is lax.conv_general_dilated)
    np.testing.assert_allclose(
        jnp.asarray(given.apply(variables, x)), expected, atol=1e-5
    )


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID", 1, "CIRCULAR"])
def test_flax_convolution_is_the_same_with_either_function(strides, padding):
    images = make_batch((9, 8, 3))["x"]
    xla = nn.Conv(4, (3, 3), strides, padding)
    matmul = nn.Conv(4, (3, 3), strides, padding, conv_general_dilated=conv_as_matmul)
    expected, variables = xla.init_with_output(jax.random.key(0), images)
    ours = jnp.asarray(matmul.apply(variables, images))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lhs_dilation": (2, 1)}, "lhs_dilation must be 1"),
        ({"rhs_dilation": (1, 2)}, "rhs_dilation must be 1"),
        ({"feature_group_count": 3}, "feature_group_count must be 1"),
        ({"batch_group_count": 2}, "batch_group_count must be 1"),
        ({"dimension_numbers": None}, "dimension_numbers must be"),
        ({"dimension_numbers": ("NHWC", "OIHW", "NHWC")}, "dimension_numbers must be"),
    ],
)
def test_convolution_refuses_what_it_does_not_do(settings, message):
    images, kernel = make_convolution_inputs((8, 8), (3, 3))
    with pytest.raises(ValueError, match=f"^{message}.*, got .*$"):
        conv_as_matmul(images, kernel, (1, 1), "SAME", **settings)


def test_convolution_refuses_shapes_that_do_not_fit():
    images, kernel = make_convolution_inputs((8, 8), (9, 3))
    with pytest.raises(ValueError, match="kernel size must be at most"):
        conv_as_matmul(images, kernel, (1, 1), "VALID")
    with pytest.raises(ValueError, match="must agree in channels"):
        conv_as_matmul(images[..., :1], kernel, (1, 1), "SAME")
    with pytest.raises(ValueError, match="lhs and rhs must be"):
        conv_as_matmul(images[0], kernel, (1, 1), "SAME")
