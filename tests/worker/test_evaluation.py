"""Evaluation: means over all samples, whatever the size of the pieces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from fedasync_jax import make_evaluate
from fedasync_jax.base import Model, Variables
from fedasync_jax.engine.sharing import replicate
from fedasync_jax.models import make_classifier, make_model

VARIABLES = Variables({"w": jnp.array([1.0, -2.0])})


def metrics_fn(variables, batch):
    error = batch["x"] @ variables.params["w"] - batch["y"]
    count = jnp.asarray(error.size, error.dtype)
    large = jnp.sum(jnp.abs(error) > 1, dtype=error.dtype)
    return {"loss": jnp.sum(error**2), "large": large, "count": count}


MODEL = Model(
    lambda key: VARIABLES, lambda variables, batch, key: (jnp.zeros(()), ()), metrics_fn
)


def make_arrays(num_samples=10):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_samples, 2)).astype(np.float32)
    return {"x": x, "y": rng.normal(size=num_samples).astype(np.float32)}


@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 1024])
def test_the_means_are_over_all_samples_also_of_a_short_last_batch(batch_size):
    arrays = make_arrays()
    error = arrays["x"] @ np.array([1.0, -2.0]) - arrays["y"]
    means = make_evaluate(MODEL, arrays, batch_size=batch_size)(VARIABLES)
    assert set(means) == {"loss", "large"}
    np.testing.assert_allclose(means["loss"], np.mean(error**2), rtol=1e-6)
    np.testing.assert_allclose(means["large"], np.mean(np.abs(error) > 1), rtol=1e-6)
    assert all(value.shape == () for value in means.values())


@pytest.mark.parametrize("num_samples", [1, 2, 3, 10])
@pytest.mark.parametrize("batch_size", [2, 1024])
def test_a_model_on_two_devices_is_evaluated_by_both(num_samples, batch_size):
    arrays = make_arrays(num_samples)
    mesh = Mesh(np.array(jax.devices()[:2]), ("devices",))
    rows = {}

    def metrics_by_device(variables, batch):
        jax.debug.callback(lambda x: rows.setdefault(x.tobytes(), len(x)), batch["x"])
        return metrics_fn(variables, batch)

    model = MODEL._replace(metrics=metrics_by_device)
    evaluate = make_evaluate(model, arrays, batch_size=batch_size)
    means = jax.device_get(evaluate(replicate(VARIABLES, mesh)))
    jax.effects_barrier()
    expected = make_evaluate(MODEL, arrays)(VARIABLES)
    for name, value in expected.items():
        np.testing.assert_allclose(means[name], value, rtol=1e-6)
    assert sum(rows.values()) == num_samples  # every sample once, by one device
    assert len(rows) >= min(num_samples, 2)


def test_texts_side_by_side_are_cut_along_their_own_axis():
    x = np.arange(4 * 3 * 5, dtype=np.float32).reshape(4, 3, 5)

    def metrics(variables, batch):  # depends on the order along axis 0
        weights = jnp.arange(1.0, 5.0)[:, None, None]
        count = jnp.asarray(batch["x"].size, jnp.float32)
        return {"loss": jnp.sum(batch["x"] * weights), "count": count}

    evaluate = make_evaluate(
        MODEL._replace(metrics=metrics), {"x": x}, batch_size=2, axis=2
    )
    expected = np.mean(x * np.arange(1, 5)[:, None, None])
    np.testing.assert_allclose(evaluate(VARIABLES)["loss"], expected, rtol=1e-6)


def test_the_metrics_are_those_of_the_variables_that_are_given():
    evaluate = make_evaluate(MODEL, make_arrays(), batch_size=4)
    zero = evaluate(jax.tree.map(jnp.zeros_like, VARIABLES))
    np.testing.assert_allclose(
        zero["loss"], np.mean(make_arrays()["y"] ** 2), rtol=1e-6
    )
    assert zero["loss"] != evaluate(VARIABLES)["loss"]


def test_one_sample_is_enough():
    arrays = make_arrays(1)
    error = arrays["x"] @ np.array([1.0, -2.0]) - arrays["y"]
    means = make_evaluate(MODEL, arrays)(VARIABLES)
    np.testing.assert_allclose(means["loss"], error[0] ** 2, rtol=1e-6)


def test_a_classifier_is_counted_label_by_label():
    model = make_classifier("mlp", (4,), 3, hidden=(5,))
    variables = model.init(jax.random.key(0))
    rng = np.random.default_rng(1)
    x = rng.normal(size=(11, 4)).astype(np.float32)
    y = rng.integers(0, 3, 11).astype(np.int32)
    means = make_evaluate(model, {"x": x, "y": y}, batch_size=4)(variables)
    right = [
        float(
            model.metrics(variables, {"x": x[i : i + 1], "y": y[i : i + 1]})["correct"]
        )
        for i in range(11)
    ]
    np.testing.assert_allclose(means["correct"], np.mean(right), rtol=1e-6)
    assert 0 < np.mean(right) < 1


@pytest.mark.parametrize(
    ("num_samples", "batch_size", "found"),
    [
        (0, 4, "0 samples and batch_size 4"),
        (10, 0, "10 samples and batch_size 0"),
    ],
)
def test_nothing_to_evaluate_is_an_error(num_samples, batch_size, found):
    line = f"^evaluation needs at least 1 sample and batch_size >= 1, got {found}$"
    with pytest.raises(ValueError, match=line):
        make_evaluate(MODEL, make_arrays(num_samples), batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [1000, 64, 7])
def test_a_metric_may_be_a_vector_or_a_matrix(batch_size):
    """It is summed over the pieces only, however many there are."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 4)).astype(np.float32)
    weights = rng.normal(size=(4, 3)).astype(np.float32)
    predicted = np.argmax(x @ weights, axis=1)
    y = np.where(rng.random(100) < 0.7, predicted, 0).astype(np.int32)

    def metrics(params, batch):
        guess = jnp.argmax(batch["x"] @ params["w"], axis=1)
        one_hot = jax.nn.one_hot(guess, 3)
        return {
            "count": jnp.float32(len(guess)),
            "of_class": jnp.sum(one_hot, axis=0),
            "confusion": jax.nn.one_hot(batch["y"], 3).T @ one_hot,
        }

    model = make_model(
        lambda key: {"w": jnp.asarray(weights)},
        lambda params, batch, key: jnp.zeros(()),
        metrics,
    )
    evaluate = make_evaluate(model, {"x": x, "y": y}, batch_size=batch_size)
    found = jax.device_get(evaluate(model.init(jax.random.key(0))))
    confusion = np.zeros((3, 3))
    np.add.at(confusion, (y, predicted), 1)
    np.testing.assert_allclose(found["confusion"], confusion / 100, rtol=1e-5)
    np.testing.assert_allclose(
        found["of_class"], np.bincount(predicted, minlength=3) / 100, rtol=1e-5
    )


def test_metrics_without_a_count_are_refused_by_name():
    model = make_model(
        lambda key: {"w": jnp.zeros(())},
        lambda params, batch, key: jnp.zeros(()),
        lambda params, batch: {"loss": jnp.sum(batch["x"])},
    )
    evaluate = make_evaluate(model, {"x": np.ones((4, 1), np.float32)})
    with pytest.raises(ValueError, match=r"^metrics must return a sum called count, "):
        evaluate(model.init(jax.random.key(0)))
