"""Leaves that are no floats: taken over from the newest model that was mixed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import fedasync_jax as fa
from fedasync_jax.base import LocalInfo
from fedasync_jax.engine.state import find_evaluated

BIG = 2**25 + 1  # no float32 holds it
UPDATES = 24
TRACE = fa.sampled_staleness(
    3, UPDATES, max_staleness=4, rng=np.random.default_rng(0), num_steps=5
)
RULE = fa.mixing.fedasync(0.5, fa.staleness.constant())


def start():
    state = {
        "steps": jnp.int32(BIG),
        "even": jnp.asarray(True),
        "key": jax.random.key(3),
        "mean": jnp.zeros(2),
    }
    return fa.Variables({"w": jnp.zeros(3)}, state)


def train(variables, client, key, num_steps):
    """Count the steps; client 1 sends a NaN."""
    del key
    state = variables.state
    state = {
        "steps": state["steps"] + num_steps,
        "even": ~state["even"],
        "key": jax.random.fold_in(state["key"], client),
        "mean": state["mean"] + 1,
    }
    w = variables.params["w"] + jnp.where(client == 1, jnp.nan, 1.0)
    return fa.Variables({"w": w}, state), LocalInfo(jnp.zeros(()))


def count_tasks(client, start_version, applied):
    """Return how many tasks lie behind version T, by hand."""
    behind = [0]
    for tau, one in zip(start_version, applied, strict=True):
        behind.append(behind[tau] + 1 if one else behind[-1])
    return behind[-1]


@pytest.mark.parametrize("num_devices", [1, 2])
def test_a_counter_is_that_of_the_newest_arrival_that_was_mixed(num_devices):
    devices = np.array(jax.devices()[:num_devices])
    mesh = Mesh(devices, ("devices",)) if num_devices > 1 else None
    batching = fa.Batching(max_width=4, mesh=mesh)
    result = fa.run(TRACE, train, RULE, start(), jax.random.key(0), batching=batching)
    applied = np.asarray(result.updates.applied)
    np.testing.assert_array_equal(applied, TRACE.client != 1)
    assert 0 < applied.sum() < UPDATES
    tasks = count_tasks(TRACE.client, TRACE.start_version, applied)
    state = result.state.variables.state
    assert int(state["steps"]) == BIG + 5 * tasks
    assert bool(state["even"]) == (tasks % 2 == 0)
    assert state["key"].dtype == jax.random.key(0).dtype
    assert 0 < float(state["mean"][0]) < tasks  # which is mixed


def test_alpha_one_without_staleness_counts_as_plain_sgd_does():
    trace = fa.sampled_staleness(
        1, 7, max_staleness=1, rng=np.random.default_rng(0), num_steps=5
    )
    rule = fa.mixing.fedasync(1.0, fa.staleness.constant())
    result = fa.run(trace, train, rule, start(), jax.random.key(0))
    key = start().state["key"]
    for _ in range(7):
        key = jax.random.fold_in(key, 0)
    state = result.state.variables.state
    assert int(state["steps"]) == BIG + 35
    assert jnp.array_equal(jax.random.key_data(state["key"]), jax.random.key_data(key))


def test_an_average_is_judged_with_the_counter_of_the_newest():
    rule = fa.mixing.averaged(RULE)
    seen = fa.run(
        TRACE,
        train,
        rule,
        start(),
        jax.random.key(0),
        evaluate_fn=lambda v: {"steps": v.state["steps"], "w": v.params["w"]},
        eval_every=1,
    )
    judged = find_evaluated(rule, seen.state)
    newest = seen.state.variables
    assert int(judged.state["steps"]) == int(newest.state["steps"])
    assert float(judged.params["w"][0]) != float(newest.params["w"][0])
    assert seen.evaluations[-1].metrics["steps"] == int(newest.state["steps"])


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        (fa.Variables({"n": jnp.int32(1)}), ".params['n']"),
        (fa.Variables({"w": jnp.ones(2)}, {"z": jnp.ones(2, complex)}), ".state['z']"),
    ],
)
def test_what_must_be_trained_or_has_a_mean_is_refused(variables, name):
    with pytest.raises(ValueError) as error:
        fa.run(TRACE, train, RULE, variables, jax.random.key(0))
    kind = jax.tree.leaves(variables)[-1].dtype
    line = f"variables{name} must be a float array to be mixed, got {kind}"
    assert str(error.value) == line
