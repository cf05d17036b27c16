"""The factor on the step size belongs to the version that a task starts from."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from reference import run_serially

import fedasync_jax as fa

NUM_CLIENTS, NUM_UPDATES, EVERY = 6, 48, 4
KEY = jax.random.key(3)


def loss_fn(params, batch, key):
    """Noisy enough for an evaluation to be worse than the one before."""
    noise = 3 * jax.random.normal(key, params["w"].shape)
    return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2) + noise @ params["w"]


rng = np.random.default_rng(0)
x = rng.normal(size=(60, 3)).astype(np.float32)
samples = {"x": x, "y": x @ np.array([1.0, -2.0, 3.0], np.float32)}
MODEL = fa.models.make_model(lambda key: {"w": jnp.zeros(3)}, loss_fn)
CLIENTS = fa.data.make_client_data(samples, fa.data.iid(60, NUM_CLIENTS, rng=rng))
LOCAL_UPDATE: Any = fa.make_local_update(
    MODEL,
    CLIENTS,
    optax.chain(fa.add_proximal(0.1), optax.sgd(0.2)),
    batch_size=5,
    max_steps=2,
)
MIXER = fa.mixing.fedasync(0.6, fa.staleness.polynomial(0.5))
X_0 = MODEL.init(KEY)


@jax.jit
def error_of(variables):
    """Return the metric: the distance from what should be found."""
    target = jnp.array([1.0, -2.0, 3.0])
    return {"error": jnp.sum((variables.params["w"] - target) ** 2)}


def sample(max_staleness, rng):
    return fa.sampled_staleness(
        NUM_CLIENTS, NUM_UPDATES, max_staleness=max_staleness, num_steps=2, rng=rng
    )


def make_trace(kind):
    rng = np.random.default_rng(7)
    if kind == "sampled":
        return sample(5, rng)
    law = fa.fleet.log_normal(1.0)
    return fa.simulate(
        fa.make_fleet(NUM_CLIENTS, rng=rng, client_law=law),
        NUM_UPDATES,
        scheduler=fa.Immediate(4),
        num_steps=2,
        rng=rng,
    )


@functools.partial(jax.jit, static_argnums=3)
def train(variables, client, key, num_steps, step_scale):
    return LOCAL_UPDATE(variables, client, key, num_steps, step_scale)


@functools.cache
def run_reference(kind, at_once=False):
    """Return the last model and the factors, by a rule written out once more."""
    best, scale, history = np.inf, 1.0, []

    def step_scale_fn(models):
        nonlocal best, scale
        version = len(models) - 1
        if version % EVERY == 0 or version == NUM_UPDATES:
            error = float(error_of(models[-1])["error"])
            if error < best:
                best = error
            else:
                scale *= 0.5
        history.append(scale)
        return scale

    mixer = MIXER._replace(update=jax.jit(MIXER.update))
    models = run_serially(
        make_trace(kind), train, mixer, X_0, KEY, step_scale_fn, at_once
    )
    return models[-1], history


def run_engine(trace, batching, scales, **kwargs):
    return fa.run(
        trace,
        LOCAL_UPDATE,
        MIXER,
        X_0,
        KEY,
        batching=batching,
        evaluate_fn=error_of,
        eval_every=EVERY,
        step_scales=scales,
        **kwargs,
    )


def make_scales(**kwargs):
    return fa.engine.StepScales(fa.engine.reduce_on_plateau("error", 0.5), **kwargs)


@pytest.mark.parametrize("kind", ["sampled", "clock"])
@pytest.mark.parametrize("max_width", [1, 2, 16])
@pytest.mark.parametrize("num_devices", [1, 2])
def test_a_task_trains_with_the_factor_of_the_version_it_received(
    kind, max_width, num_devices
):
    devices = np.array(jax.devices()[:num_devices])
    mesh = Mesh(devices, ("devices",)) if num_devices > 1 else None
    trace = make_trace(kind)
    scales = make_scales()
    batching = fa.Batching(max_width=max_width, mesh=mesh)
    result = run_engine(trace, batching, scales)
    expected, history = run_reference(kind)
    assert len(set(history)) > 3  # it did change
    np.testing.assert_allclose(
        result.state.variables.params["w"], expected.params["w"], rtol=1e-4
    )
    np.testing.assert_array_equal(scales.at(np.arange(NUM_UPDATES + 1)), history)


@pytest.mark.parametrize("kind", ["sampled", "clock"])
@pytest.mark.parametrize("max_width", [1, 16])
def test_at_once_a_task_trains_with_the_newest_factor(kind, max_width):
    scales = make_scales(at_once=True)
    batching = fa.Batching(max_width=max_width)
    result = run_engine(make_trace(kind), batching, scales)
    expected, history = run_reference(kind, at_once=True)
    assert len(set(history)) > 3  # it did change
    np.testing.assert_allclose(
        result.state.variables.params["w"], expected.params["w"], rtol=1e-4
    )
    np.testing.assert_array_equal(scales.at(np.arange(NUM_UPDATES + 1)), history)
    by_version, _ = run_reference(kind)
    assert not np.allclose(expected.params["w"], by_version.params["w"], rtol=1e-2)


def test_at_once_is_by_version_where_every_task_starts_from_the_newest():
    def run(max_staleness, **kwargs):
        trace = sample(max_staleness, np.random.default_rng(8))
        scales = make_scales(**kwargs)
        result = run_engine(trace, fa.Batching(max_width=16), scales)
        return result.state.variables.params["w"], scales.scales

    (fresh, scales), (fresh_at_once, scales_at_once) = run(1), run(1, at_once=True)
    assert min(scales) < 1
    assert scales == scales_at_once
    np.testing.assert_array_equal(fresh, fresh_at_once)
    stale, stale_at_once = run(2)[0], run(2, at_once=True)[0]
    assert not np.allclose(stale, stale_at_once, rtol=1e-3)


def test_a_resumed_run_has_the_factors_of_the_uninterrupted_one():
    trace = make_trace("clock")
    batching = fa.Batching(max_width=1)
    whole, scales = run_engine(trace, batching, make_scales()), make_scales()
    state = fa.engine.init_state(trace, MIXER, X_0)
    half = 22
    first = dataclasses.replace(
        trace, **{k: v[:half] for k, v in trace.columns().items()}
    )
    partial = run_engine(first, batching, scales, state=state)
    # The end of the part was evaluated, too, which the whole run did not do.
    replayed = make_scales()
    for evaluation in partial.evaluations:
        if evaluation.version % EVERY == 0:
            replayed.observe(evaluation)
    rest = run_engine(trace, batching, replayed, state=partial.state)
    np.testing.assert_array_equal(
        rest.state.variables.params["w"], whole.state.variables.params["w"]
    )


def test_the_factor_multiplies_the_step_size_of_sgd():
    def step(step_size, *step_scale):
        worker: Any = fa.make_local_update(
            MODEL,
            CLIENTS,
            optax.sgd(step_size, momentum=0.5),
            batch_size=5,
            max_steps=2,
        )
        local, _ = worker(X_0, jnp.int32(1), KEY, 2, *step_scale)
        return local.params["w"]

    np.testing.assert_allclose(step(0.1), step(0.4, jnp.float32(0.25)), rtol=1e-6)
    assert not np.allclose(step(0.1), step(0.4))


def test_a_metric_that_is_not_finite_is_no_better():
    rule = fa.engine.reduce_on_plateau("loss", 0.1)
    values = (np.nan, 2.0, np.inf, 1.0)
    assert [rule({"loss": v}) for v in values] == pytest.approx([0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("factor", [0.0, 1.0, -1.0, np.nan])
def test_a_factor_out_of_range_is_refused(factor):
    with pytest.raises(ValueError, match=r"factor must be in \(0, 1\)"):
        fa.engine.reduce_on_plateau("loss", factor)


def test_evaluations_must_come_in_order():
    scales = make_scales()
    for version in (0, 4):
        scales.observe(fa.engine.Evaluation(version, {"error": 1.0}))
    with pytest.raises(ValueError, match="version must be above 4, got 4"):
        scales.observe(fa.engine.Evaluation(4, {"error": 1.0}))
