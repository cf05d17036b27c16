"""FedAvg from settings: the mean of a round, plain or weighted by n_i."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.mixing.settings import MixingSettings


@pytest.mark.parametrize(
    ("weights", "names"),
    [
        ("equal", ["FedAvg", "FedProx"]),
        ("samples", ["FedAvg (by samples)", "FedProx (by samples)"]),
    ],
)
def test_a_round_is_the_mean_that_the_setting_names(weights, names):
    built = build_experiment(
        make_settings(
            methods=("fedavg", "fedprox"),
            partition="power-law",
            num_clients=12,
            concurrency=4,
            num_updates=40,
            eval_every=10,
            clients_per_round=4,
            fedavg_weights=weights,
        )
    )
    assert [method.name for method in built.methods] == names
    counts = np.asarray(built.workload.clients.counts)
    assert len(set(counts.tolist())) > 3
    values = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    for method in built.methods:
        mixed = _run_first_round(method, values)
        clients = method.trace.client[:4]
        n = counts[clients] if weights == "samples" else np.ones(4)
        expected = (n[:, None] * values[clients]).sum(axis=0) / n.sum()
        np.testing.assert_allclose(mixed, expected, rtol=1e-5, atol=1e-6)


def _run_first_round(method, values):
    """Return the model after four arrivals, whose models are rows of a table."""
    model = jnp.zeros(3)
    state = method.mixer.init(model)
    for version, client in enumerate(method.trace.client[:4]):
        model, state, _ = method.mixer.update(
            jnp.asarray(values[client]),
            state,
            model,
            start=jnp.zeros(3),
            staleness=jnp.int32(version),
            version=jnp.int32(version),
            client=jnp.int32(client),
        )
    return jax.device_get(model)


def test_other_weights_are_refused():
    line = r"^fedavg_weights must be .*equal.*samples.*, got 'size'$"
    with pytest.raises(ValueError, match=line):
        MixingSettings(fedavg_weights="size")


def test_the_weights_are_equal_by_default():
    assert make_settings()["fedavg_weights"] == "equal"
