"""Evaluation by client: the means of every client, in one program, and their spread."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import fedasync_jax as fa
from fedasync_jax.engine.sharing import replicate
from fedasync_jax.models import freeze, make_classifier
from fedasync_jax.worker.client_evaluation import spread_on_device

RNG = np.random.default_rng(0)
COUNTS = [1, 7, 2, 30, 3]
X = RNG.normal(size=(60, 4)).astype(np.float32)
DATA = {"x": X, "y": (X[:, 0] > 0).astype(np.int32)}
INDICES = RNG.integers(60, size=sum(COUNTS))  # clients may share rows
CLIENTS = fa.data.make_client_data(DATA, fa.data.Partition(INDICES, np.array(COUNTS)))
MODEL = make_classifier("mlp", (4,), 2, hidden=(8,))
VARIABLES = MODEL.init(jax.random.key(0))


def one_by_one():
    """Return the metrics of every client, evaluated alone."""
    ends = np.cumsum(COUNTS)
    means = [
        fa.make_evaluate(MODEL, jax.tree.map(lambda a, r=rows: a[r], DATA))(VARIABLES)
        for rows in np.split(INDICES, ends[:-1])
    ]
    return {name: np.array([m[name] for m in means]) for name in means[0]}


@pytest.mark.parametrize("batch_size", [1, 10, 43, 1000])
@pytest.mark.parametrize("num_devices", [1, 2])
def test_every_client_has_the_means_of_its_own_samples(batch_size, num_devices):
    mesh = Mesh(np.array(jax.devices()[:num_devices]), ("devices",))
    variables = replicate(VARIABLES, mesh if num_devices > 1 else None)
    found = fa.make_client_evaluate(MODEL, CLIENTS, batch_size=batch_size)(variables)
    assert found["count"].tolist() == COUNTS
    for name, expected in one_by_one().items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)


def test_the_mean_over_the_samples_is_that_of_the_whole():
    found = fa.make_client_evaluate(MODEL, CLIENTS)(VARIABLES)
    whole = fa.make_evaluate(MODEL, jax.tree.map(lambda a: a[INDICES], DATA))(VARIABLES)
    for name, expected in whole.items():
        mean = np.average(np.asarray(found[name]), weights=np.asarray(found["count"]))
        np.testing.assert_allclose(mean, expected, rtol=1e-5)


def test_one_program_whatever_the_sizes():
    """Traced once: for all pieces, all clients, and the next model."""
    traced = []

    def metrics(variables, batch):
        traced.append(batch["x"].shape)
        return MODEL.metrics(variables, batch)

    model = MODEL._replace(metrics=metrics)
    evaluate = fa.make_client_evaluate(model, CLIENTS, batch_size=10)
    evaluate(VARIABLES)
    evaluate(jax.tree.map(lambda leaf: leaf + 1, VARIABLES))
    assert traced == [(1, 4)]


def test_a_model_with_a_frozen_part():
    part, start, _ = freeze(MODEL, VARIABLES, lambda path: "Dense_0" in path)
    found = fa.make_client_evaluate(part, CLIENTS)(start)
    expected = fa.make_client_evaluate(MODEL, CLIENTS)(VARIABLES)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_batch_size_out_of_range():
    with pytest.raises(ValueError, match=r"^batch_size must be >= 1, got 0$"):
        fa.make_client_evaluate(MODEL, CLIENTS, batch_size=0)


def test_metrics_without_a_count_are_one_line():
    model = MODEL._replace(metrics=lambda variables, batch: {"loss": jnp.zeros(())})
    with pytest.raises(ValueError) as error:
        fa.make_client_evaluate(model, CLIENTS)(VARIABLES)
    assert str(error.value) == "metrics must return a sum called count, got loss"


# The spread


def test_the_spread_by_hand():
    spread = fa.spread_over_clients([0.5, 1.0, 0.0, 0.5] + [1.0] * 8)
    assert spread.mean == pytest.approx(10 / 12)
    assert spread.worst_tenth == 0.25 and spread.best_tenth == 1.0  # two of twelve
    assert spread.std == pytest.approx(np.std([0.5, 1, 0, 0.5] + [1] * 8))
    loss = fa.spread_over_clients([0.1, 0.2, 3.0], higher_is_better=False)
    assert (loss.worst_tenth, loss.best_tenth) == (3.0, 0.1)


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_gini_is_the_mean_difference(size):
    values = np.random.default_rng(size).random(size)
    differences = np.abs(values[:, None] - values[None]).sum()
    expected = differences / (2 * size**2 * values.mean())
    assert fa.spread_over_clients(values).gini == pytest.approx(expected)


def test_gini_at_its_ends():
    assert fa.spread_over_clients([0.3] * 5).gini == pytest.approx(0)
    assert fa.spread_over_clients([0.0] * 5).gini == 0
    assert fa.spread_over_clients([0.0] * 99 + [1.0]).gini == pytest.approx(0.99)


@pytest.mark.parametrize(
    ("values", "found"),
    [([], "none"), ([-1.0, 2.0], "-1.0 to 2.0"), ([np.nan, 1.0], "1.0 to nan")],
)
def test_values_that_are_none_are_one_line(values, found):
    with pytest.raises(ValueError) as error:
        fa.spread_over_clients(values)
    line = f"values must be one or more finite numbers >= 0, got {found}"
    assert str(error.value) == line


@pytest.mark.parametrize("values", [[0.2], [0.5, 1.0, 0.0, 0.5] + [1.0] * 8, [0.0] * 4])
def test_on_the_device_the_spread_is_the_same(values):
    expected = fa.spread_over_clients(values)._asdict()
    found = spread_on_device(jnp.array(values))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, abs=1e-6), name
