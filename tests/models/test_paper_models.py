"""The networks of the paper: their size, their values and what they carry."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import fedasync_jax as fa
from fedasync_jax import mixing
from fedasync_jax.base import ClientData, Variables
from fedasync_jax.engine.batching import Batching
from fedasync_jax.mixing import staleness
from fedasync_jax.models import (
    PaperCNN,
    conv_as_matmul,
    from_linen,
    make_lstm_lm,
    make_paper_cnn,
)
from fedasync_jax.models.lstm import _drop

KEY = jax.random.key(0)


def count_numbers(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def take_row(tree, row):
    return jax.tree.map(lambda leaf: leaf[row], tree)


def assert_trees_close(left, right, **tolerance):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **tolerance), left, right
    )


def add_noise(tree, scale):
    """So that no bias is zero and no scale is one."""
    rng = np.random.default_rng(2)
    return jax.tree.map(
        lambda leaf: leaf + scale * rng.normal(size=leaf.shape).astype(np.float32), tree
    )


# --- the convolutional network ---

SMALL = {"features": (3,), "hidden": 5, "num_classes": 4}
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
IMAGE_BATCH = {"x": IMAGES, "y": (np.arange(12) % 4).astype(np.int32)}
MEAN_IMAGE = IMAGES.mean(axis=0)


def make_small_cnn(**settings):
    return make_paper_cnn(MEAN_IMAGE, **{**SMALL, "dropout": 0.0, **settings})


SMALL_CNN = make_small_cnn()
SMALL_CNN_VARIABLES = jax.jit(SMALL_CNN.init)(KEY)


@pytest.mark.parametrize(
    ("settings", "num_parameters", "num_statistics"),
    [
        ({}, 2_625_866, 768),
        ({"features": (16, 32), "hidden": 128}, 165_722, 192),
    ],
)
def test_size_of_the_paper_cnn(settings, num_parameters, num_statistics):
    model = make_paper_cnn(np.zeros((24, 24, 3)), **settings)
    variables = jax.eval_shape(model.init, KEY)
    assert count_numbers(variables.params) == num_parameters
    assert count_numbers(variables.state) == num_statistics


def test_paper_cnn_begins_glorot_uniform_with_zero_biases():
    params = SMALL_CNN_VARIABLES.params
    assert all(jnp.all(params[name]["bias"] == 0) for name in ("Conv_0", "Dense_0"))
    kernels = {"Conv_1": 9 * (3 + 3), "Dense_0": 4 * 4 * 3 + 5}
    for name, fans in kernels.items():
        largest = float(jnp.max(jnp.abs(params[name]["kernel"])))
        bound = (6 / fans) ** 0.5
        assert 0.9 * bound < largest <= bound


def batch_norm(x, layer):
    """Normalize by the batch's own statistics; return them, too."""
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axes), x.var(axes)
    x = (x - mean) / np.sqrt(variance + 1e-5)
    return x * layer["scale"] + layer["bias"], {"mean": mean, "var": variance}


def literal_paper_cnn(params, images):
    """Return logits and the batch's statistics, layer by layer, without dropout."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x, statistics = (images - MEAN_IMAGE) / 128, {}
    for i in range(4):
        kernel = params[f"Conv_{i}"]["kernel"]
        padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
        x = np.einsum("bpqcij,ijcd->bpqd", patches, kernel)
        x = np.maximum(x + params[f"Conv_{i}"]["bias"], 0)
        x, statistics[f"BatchNorm_{i}"] = batch_norm(x, params[f"BatchNorm_{i}"])
        if i % 2 == 1:
            size = x.shape[1] // 2
            x = x.reshape(len(x), size, 2, size, 2, -1).max((2, 4))
    x = x.reshape(len(x), -1)
    for i in range(2):
        x = x @ params[f"Dense_{i}"]["kernel"] + params[f"Dense_{i}"]["bias"]
        x = np.maximum(x, 0) if i == 0 else x
    return x, statistics


def cross_entropies(logits, labels):
    normalizers = np.log(np.exp(logits).sum(axis=-1))
    return normalizers - np.take_along_axis(logits, labels[..., None], -1)[..., 0]


def test_paper_cnn_equals_its_literal_layers():
    model = make_small_cnn(features=(3, 4))
    start = jax.jit(model.init)(KEY)
    variables = start._replace(params=add_noise(start.params, 0.1))
    logits, statistics = literal_paper_cnn(variables.params, IMAGES)
    loss, state = jax.jit(model.loss)(variables, IMAGE_BATCH, KEY)
    expected = cross_entropies(logits, IMAGE_BATCH["y"]).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    running = jax.tree.map(
        lambda r, s: 0.9 * r + 0.1 * s, start.state["batch_stats"], statistics
    )
    assert_trees_close(state["batch_stats"], running, rtol=1e-4, atol=1e-5)


def test_paper_cnn_is_the_same_with_either_convolution():
    def gradients(conv_fn):
        model = make_small_cnn(conv_general_dilated=conv_fn)
        grad_fn = jax.value_and_grad(model.loss, has_aux=True)
        return jax.jit(grad_fn)(SMALL_CNN_VARIABLES, IMAGE_BATCH, KEY)

    ours, xla = gradients(conv_as_matmul), gradients(lax.conv_general_dilated)
    assert_trees_close(ours, xla, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("conv_fn", [conv_as_matmul, lax.conv_general_dilated])
def test_paper_cnn_uses_the_convolution_that_it_is_given(conv_fn):
    model = make_small_cnn(conv_general_dilated=conv_fn)
    jaxpr = str(jax.make_jaxpr(model.metrics)(SMALL_CNN_VARIABLES, IMAGE_BATCH))
    assert ("conv_general_dilated" in jaxpr) == (conv_fn is lax.conv_general_dilated)


def test_images_are_normalized_within_the_model():
    bare = from_linen(PaperCNN(**SMALL, dropout=0.0), jnp.zeros((1, 8, 8, 3)))
    ready = (IMAGES.astype(np.float32) - MEAN_IMAGE.astype(np.float32)) / 128
    expected = jax.jit(bare.metrics)(SMALL_CNN_VARIABLES, {**IMAGE_BATCH, "x": ready})
    floats = {**IMAGE_BATCH, "x": IMAGES.astype(np.float32)}
    for batch in (IMAGE_BATCH, floats):
        metrics = jax.jit(SMALL_CNN.metrics)(SMALL_CNN_VARIABLES, batch)
        assert_trees_close(metrics, expected, rtol=1e-5)


def test_dropout_of_the_paper_cnn_follows_the_key():
    loss_fn = jax.jit(make_small_cnn(dropout=0.5).loss)
    first, again, other = (
        loss_fn(SMALL_CNN_VARIABLES, IMAGE_BATCH, jax.random.key(k))[0]
        for k in (1, 1, 2)
    )
    assert first == again != other


def test_paper_cnn_runs_under_vmap_with_weights_per_task():
    keys = jax.random.split(KEY, 2)
    variables = jax.jit(jax.vmap(SMALL_CNN.init))(keys)
    batched_fn = jax.jit(jax.vmap(SMALL_CNN.loss, in_axes=(0, None, 0)))
    batched, loss_fn = batched_fn(variables, IMAGE_BATCH, keys), jax.jit(SMALL_CNN.loss)
    for i in range(2):
        alone = loss_fn(take_row(variables, i), IMAGE_BATCH, keys[i])
        assert_trees_close(take_row(batched, i), alone, rtol=1e-4, atol=1e-5)


def make_image_worker():
    data = ClientData(
        IMAGE_BATCH,
        np.arange(12, dtype=np.int32),
        np.array([0, 6], np.int32),
        np.array([6, 6], np.int32),
    )
    optimizer = optax.sgd(0.1)
    return fa.make_local_update(SMALL_CNN, data, optimizer, batch_size=6, max_steps=2)


def test_running_statistics_are_mixed_as_the_parameters_are():
    worker, start = make_image_worker(), SMALL_CNN_VARIABLES
    trace = fa.sampled_staleness(
        2, 1, max_staleness=1, num_steps=2, rng=np.random.default_rng(0)
    )
    result = fa.run(
        trace,
        worker,
        mixing.fedasync(0.5, staleness.constant()),
        start,
        KEY,
        batching=Batching(),
    )
    client = np.int32(trace.client[0])
    local, _ = jax.jit(worker, static_argnums=3)(
        start, client, jax.random.fold_in(KEY, 0), 2
    )
    mean = jax.tree.map(lambda a, b: (a + b) / 2, start, local)
    assert_trees_close(result.state.variables, mean, rtol=1e-4, atol=1e-6)
    first = local.state["batch_stats"]["BatchNorm_0"]["mean"]
    assert jnp.all(first != start.state["batch_stats"]["BatchNorm_0"]["mean"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean_image": np.zeros((8, 8))}, r"image_shape of .* must be .*\(8, 8\)"),
        ({"mean_image": np.zeros((8, 3, 3))}, r"image_shape of .*\(8, 3, 3\)"),
        ({"num_classes": 1}, "num_classes must be >= 2, got 1"),
        ({"features": (3, 0)}, r"features and hidden must be .*\(3, 0\) and 512"),
        ({"hidden": 0}, "features and hidden must be >= 1, got .* and 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_settings_of_the_paper_cnn_are_named(settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make_paper_cnn(**{"mean_image": MEAN_IMAGE, **settings})


# --- the language model ---

VOCABULARY, LENGTH, WIDTH = 11, 4, 3


def make_small_lm(**settings):
    sizes = {"embed": 5, "hidden": 6, "batch_size": WIDTH, "dropout": 0.0}
    return make_lstm_lm(VOCABULARY, **{**sizes, **settings})


def make_texts(num_batches=2, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, VOCABULARY, (num_batches * LENGTH + 1, WIDTH), np.int32)
    shape = (num_batches, LENGTH, WIDTH)
    return {"x": tokens[:-1].reshape(shape), "y": tokens[1:].reshape(shape)}


def cut_texts(texts, begin, end):
    return jax.tree.map(lambda leaf: leaf[begin:end], texts)


LM = make_small_lm()
LM_VARIABLES = add_noise(jax.jit(LM.init)(KEY), 0.5)
TEXTS = make_texts()
START = LM_VARIABLES._replace(state=LM.start_task(LM_VARIABLES.state))
lm_loss = jax.jit(LM.loss)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 7_330_478),
        ({"num_biases": 2}, 7_332_078),
        ({"vocab_size": 65}, 65 * 201 + 4 * 200 * 802),
    ],
)
def test_size_of_the_language_model(settings, expected):
    variables = jax.eval_shape(make_lstm_lm(**settings).init, KEY)
    assert count_numbers(variables.params) == expected
    assert variables.state == ()


def test_language_model_begins_uniform_with_zero_biases():
    params = jax.jit(make_lstm_lm(200, embed=25, hidden=16).init)(KEY).params
    layers = params["layers"]
    bounds = [
        (params["embedding"], 0.1),
        (layers[0]["input"], 0.25),
        (layers[0]["recurrent"], 0.25),
        (layers[1]["input"], 0.2),
    ]
    for weights, bound in bounds:
        assert 0.95 * bound < -jnp.min(weights) <= bound
        assert 0.95 * bound < jnp.max(weights) <= bound
    assert all(jnp.all(layer["biases"] == 0) for layer in layers)
    assert jnp.all(params["output_bias"] == 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def literal_lm(params, x):
    """Return logits [T, B, V] of tokens [T, B]: text by text, token by token."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    logits = np.zeros((*x.shape, VOCABULARY))
    for b in range(x.shape[1]):
        hidden = [np.zeros(layer["recurrent"].shape[0]) for layer in params["layers"]]
        cells = [np.zeros_like(h) for h in hidden]
        for t in range(x.shape[0]):
            value = params["embedding"][x[t, b]]
            for k, layer in enumerate(params["layers"]):
                fused = np.concatenate([layer["input"], layer["recurrent"]])
                gates = np.concatenate([value, hidden[k]]) @ fused
                i, f, g, o = np.split(gates + layer["biases"].sum(0), 4)
                cells[k] = sigmoid(f) * cells[k] + sigmoid(i) * np.tanh(g)
                value = hidden[k] = sigmoid(o) * np.tanh(cells[k])
            logits[t, b] = params["embedding"] @ value + params["output_bias"]
    return logits


@pytest.mark.parametrize("settings", [{}, {"num_biases": 2}, {"num_layers": 3}])
def test_language_model_equals_one_cell_after_the_other(settings):
    model = make_small_lm(**settings)
    variables = add_noise(jax.jit(model.init)(KEY), 0.5)
    x, y = (TEXTS[name].reshape(-1, WIDTH) for name in ("x", "y"))
    logits = literal_lm(variables.params, x)
    losses = cross_entropies(logits, y)
    loss, _ = jax.jit(model.loss)(variables, TEXTS, KEY)
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-5)
    metrics = jax.jit(model.metrics)(variables, TEXTS)
    expected = {
        "loss": losses.sum(),
        "correct": (logits.argmax(-1) == y).sum(),
        "count": y.size,
    }
    assert_trees_close(metrics, expected, rtol=1e-5)


def test_a_layer_equals_the_cell_of_flax():
    model = make_small_lm(num_layers=1)
    variables = add_noise(jax.jit(model.init)(KEY), 0.5)
    layer = variables.params["layers"][0]
    cell_params = {}
    for side, name in (("i", "input"), ("h", "recurrent")):
        for gate, kernel in zip("ifgo", jnp.split(layer[name], 4, axis=1), strict=True):
            cell_params[side + gate] = {"kernel": kernel}
    for gate, bias in zip("ifgo", jnp.split(layer["biases"][0], 4), strict=True):
        cell_params["h" + gate]["bias"] = bias
    embedding = variables.params["embedding"]
    carry = (jnp.zeros((WIDTH, 5)), jnp.zeros((WIDTH, 5)))
    losses = []
    for t in range(LENGTH):
        carry, out = nn.OptimizedLSTMCell(5).apply(
            {"params": cell_params}, carry, embedding[TEXTS["x"][0, t]]
        )
        logits = out @ embedding.T + variables.params["output_bias"][None]
        losses.append(cross_entropies(np.asarray(logits), TEXTS["y"][0, t]))
    loss, _ = jax.jit(model.loss)(variables, cut_texts(TEXTS, 0, 1), KEY)
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)


def test_two_batches_of_a_task_equal_one_longer_text():
    first, state = lm_loss(START, cut_texts(TEXTS, 0, 1), KEY)
    second, end = lm_loss(START._replace(state=state), cut_texts(TEXTS, 1, 2), KEY)
    whole, expected_end = lm_loss(START, TEXTS, KEY)
    np.testing.assert_allclose((first + second) / 2, whole, rtol=1e-5)
    assert_trees_close(end, expected_end, rtol=1e-4, atol=1e-6)
    metrics = jax.jit(LM.metrics)(LM_VARIABLES, TEXTS)
    np.testing.assert_allclose(metrics["loss"] / metrics["count"], whole, rtol=1e-5)
    alone, _ = lm_loss(START, cut_texts(TEXTS, 1, 2), KEY)
    assert abs(float(alone - second)) > 1e-3


def test_no_gradient_flows_into_the_batch_before():
    def sum_losses(variables, detach_fn):
        first, state = LM.loss(variables, cut_texts(TEXTS, 0, 1), KEY)
        later = variables._replace(state=detach_fn(state))
        return first + LM.loss(later, cut_texts(TEXTS, 1, 2), KEY)[0]

    @jax.jit
    def gradients(variables):
        ours = jax.grad(sum_losses)(variables, lambda state: state)
        return ours, jax.grad(sum_losses)(variables, lax.stop_gradient)

    ours, expected = gradients(START)
    assert all(jnp.all(leaf == 0) for leaf in jax.tree.leaves(ours.state))
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(ours.params))
    assert_trees_close(ours, expected, rtol=1e-5, atol=1e-7)


def test_a_task_begins_at_zero_and_leaves_no_trace():
    assert all(jnp.all(leaf == 0) for leaf in jax.tree.leaves(START.state))
    _, state = lm_loss(START, cut_texts(TEXTS, 0, 1), KEY)
    assert jax.tree.structure(state) == jax.tree.structure(START.state)
    assert all(jnp.all(leaf != 0) for leaf in jax.tree.leaves(state))
    assert LM.end_task(state) == LM_VARIABLES.state == ()
    loss, state = lm_loss(LM_VARIABLES, TEXTS, KEY)  # outside of a task
    assert state == ()
    np.testing.assert_allclose(loss, lm_loss(START, TEXTS, KEY)[0], rtol=1e-5)


def test_metrics_take_any_number_of_texts():
    one = jax.tree.map(lambda leaf: leaf[..., :1], TEXTS)
    logits = literal_lm(LM_VARIABLES.params, one["x"].reshape(-1, 1))
    losses = cross_entropies(logits, one["y"].reshape(-1, 1))
    metrics = jax.jit(LM.metrics)(LM_VARIABLES, one)
    np.testing.assert_allclose(metrics["loss"], losses.sum(), rtol=1e-5)


def test_training_refuses_another_number_of_texts():
    one = jax.tree.map(lambda leaf: leaf[..., :1], TEXTS)
    with pytest.raises(ValueError, match=r"must be \[N, T, 3\] .* got 1 texts"):
        LM.loss(START, one, KEY)


def test_dropout_of_the_language_model_follows_the_key():
    loss_fn = jax.jit(make_small_lm(dropout=0.5).loss)
    first, again, other = (
        loss_fn(START, TEXTS, jax.random.key(k))[0] for k in (1, 1, 2)
    )
    assert first == again != other
    assert lm_loss(START, TEXTS, KEY)[0] != first


def test_dropout_zeroes_its_share_and_keeps_the_mean():
    dropped = _drop(jnp.ones((100, 100)), 0.2, KEY)
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1.25)}
    np.testing.assert_allclose(jnp.mean(dropped == 0), 0.2, atol=0.02)


def test_texts_that_stand_alone_are_those_of_fresh_hidden_states():
    sizes = {"embed": 6, "hidden": 6, "dropout": 0.0}
    alone = make_lstm_lm(9, carried=False, **sizes)
    carried = make_lstm_lm(9, batch_size=3, **sizes)
    variables = alone.init(KEY)
    x = np.random.default_rng(0).integers(0, 9, (3, 6)).astype(np.int32)
    batch = {"x": x[:, :-1], "y": x[:, 1:]}
    turned = {name: text.T[None] for name, text in batch.items()}
    loss, state = alone.loss(variables, batch, KEY)
    start = variables._replace(state=carried.start_task(()))
    assert state == () == alone.start_task(())
    np.testing.assert_allclose(loss, carried.loss(start, turned, KEY)[0], rtol=1e-6)
    for name, value in carried.metrics(variables, turned).items():
        np.testing.assert_allclose(alone.metrics(variables, batch)[name], value)


def test_language_model_runs_under_vmap_with_weights_per_task():
    keys = jax.random.split(KEY, 3)
    variables = jax.jit(jax.vmap(LM.init))(keys)
    started = variables._replace(state=LM.start_task(variables.state))
    losses, states = jax.jit(
        jax.vmap(LM.loss, in_axes=(Variables(0, None), None, 0))  # pyright: ignore[reportArgumentType]
    )(started, TEXTS, keys)
    for i in range(3):
        task = Variables(take_row(variables.params, i), started.state)
        loss, state = lm_loss(task, TEXTS, keys[i])
        np.testing.assert_allclose(losses[i], loss, rtol=1e-5)
        assert_trees_close(take_row(states, i), state, rtol=1e-4, atol=1e-6)


# --- the language model in a federation ---

NUM_CLIENTS = 3


def make_text_data():
    """Text in which every token is followed by the next one of an alphabet of five."""
    first = np.arange(2 * NUM_CLIENTS * WIDTH).reshape(-1, 1, WIDTH)
    x = (first + np.arange(LENGTH)[:, None]).astype(np.int32)
    return ClientData(
        {"x": x % 5, "y": (x + 1) % 5},
        np.arange(2 * NUM_CLIENTS),
        np.arange(0, 2 * NUM_CLIENTS, 2),
        np.full(NUM_CLIENTS, 2),
    )


def test_a_task_carries_the_hidden_state_and_takes_it_away():
    data = ClientData(TEXTS, np.arange(2), np.array([0]), np.array([2]))
    still = optax.sgd(0.0)
    worker = fa.make_local_update(LM, data, still, batch_size=1, max_steps=2)
    task = jax.jit(worker, static_argnums=3)
    trained, info = task(LM_VARIABLES, np.int32(0), KEY, 2)
    assert_trees_close(trained, LM_VARIABLES)
    backwards = jax.tree.map(lambda leaf: leaf[::-1], TEXTS)
    in_order, swapped = (
        lm_loss(LM_VARIABLES, texts, KEY)[0] for texts in (TEXTS, backwards)
    )
    assert abs(float(in_order - swapped)) > 1e-3
    assert min(abs(float(info.loss - loss)) for loss in (in_order, swapped)) < 1e-5


def test_language_model_learns_in_a_federation():
    model, data = make_small_lm(dropout=0.1, num_layers=1), make_text_data()
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), fa.add_proximal(1e-3), optax.sgd(2.0)
    )
    rng = np.random.default_rng(0)
    result = fa.run(
        fa.sampled_staleness(NUM_CLIENTS, 40, max_staleness=3, num_steps=4, rng=rng),
        fa.make_local_update(model, data, optimizer, batch_size=1, max_steps=4),
        mixing.fedasync(0.8, staleness.constant()),
        jax.jit(model.init)(KEY),
        KEY,
        batching=Batching(),
        evaluate_fn=fa.make_evaluate(model, data.arrays),
    )
    first, last = (evaluation.metrics["loss"] for evaluation in result.evaluations)
    assert result.state.variables.state == ()
    assert first > 2.3  # log 11: knows nothing
    assert last < 0.8  # log 5 = 1.6: knows the letters, but not their order


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 1}, "vocab_size must be >= 2, got 1"),
        ({"embed": 0}, "embed must be >= 1, got 0"),
        ({"hidden": 0}, "hidden must be >= 1, got 0"),
        ({"num_layers": 0}, "num_layers must be >= 1, got 0"),
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"dropout": -0.1}, r"dropout must be in \[0, 1\), got -0.1"),
        ({"num_biases": 3}, "num_biases must be 1 or 2, got 3"),
    ],
)
def test_bad_settings_of_the_language_model_are_named(settings, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make_lstm_lm(**settings)
