"""Arrivals that are mixed by a matrix product end as one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from tabled import tabled

import fedasync_jax as fa
from fedasync_jax.base import is_linear
from fedasync_jax.engine.coordinates import find_layout
from fedasync_jax.mixing.rules import RULES

CLIENTS, UPDATES = 12, 90
TRACE = fa.sampled_staleness(
    CLIENTS, UPDATES, max_staleness=40, rng=np.random.default_rng(3)
)
CENTERS = np.random.default_rng(1).normal(size=(CLIENTS, 2, 3)).astype(np.float32)
START = fa.Variables(
    {"w": jnp.ones((2, 3)), "bias": jnp.float32(0.5)},
    {"mean": jnp.zeros(2), "steps": jnp.int32(0), "key": jax.random.key(3)},
)
KEY = jax.random.key(7)
# Wider than a block, and a width that is not a multiple of one.
WIDE = {"max_width": 90, "product": True}
NOT_LINEAR = {"asyncfeded", "server", "fadas", "tethered", "ca2fl", "area", "trimmed"}


def train(variables, client, key, num_steps):
    """Halve the way to the client's center; client 5 sends an infinity now and then."""
    w, bias = variables.params["w"], variables.params["bias"]
    local = w - 0.5 * (w - jnp.asarray(CENTERS, w.dtype)[client])
    broken = (client == 5) & (jax.random.uniform(key) < 0.7)
    local = jnp.where(broken, jnp.inf, local)
    state = {
        "mean": variables.state["mean"] + 0.1,
        "steps": variables.state["steps"] + num_steps,
        "key": jax.random.fold_in(variables.state["key"], client),
    }
    params = {"w": local, "bias": bias * 0.9}
    return fa.Variables(params, state), fa.base.LocalInfo(w[0, 0].astype(float))


def make(name):
    return RULES.make(
        name,
        {f"{name}_size": 7},
        alpha=0.6,
        staleness_fn=fa.staleness.polynomial(0.5),
        num_clients=CLIENTS,
    )


LINEAR = [name for name in RULES if name not in NOT_LINEAR]
CASES = {name: (lambda name=name: tabled(make(name), TRACE)) for name in LINEAR} | {
    "as they come": lambda: make("fedasync"),
    "mean as they come": lambda: make("delay-adaptive"),
    "fedavg": lambda: fa.mixing.average_rounds(np.linspace(1, 3, CLIENTS)),
    "average": lambda: fa.mixing.averaged(tabled(make("fedasync"), TRACE)),
    "average of a buffer": lambda: fa.mixing.averaged(tabled(make("fedbuff"), TRACE)),
}


def run(rule, trace=TRACE, start=START, **batching):
    batching = fa.Batching(**batching)
    return fa.run(trace, train, rule, start, KEY, batching=batching)


def close(one, other):
    def check(a, b):
        if jnp.issubdtype(jnp.result_type(a), jax.dtypes.prng_key):
            a, b = map(jax.random.key_data, (a, b))
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)

    jax.tree.map(check, one, other)


@pytest.mark.parametrize("case", CASES)
def test_a_product_is_what_one_after_the_other_gives(case):
    rule = CASES[case]()
    assert find_layout(rule) is not None
    by_product, one_by_one = run(rule, **WIDE), run(rule, max_width=90)
    assert not np.asarray(one_by_one.updates.applied).all()
    close(by_product.state, one_by_one.state)
    close(by_product.updates, one_by_one.updates)
    # Nothing is carried along that was not mixed.
    assert all(
        np.isfinite(leaf).all()
        for leaf in jax.tree.leaves(by_product.state)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    )


def test_a_round_of_fedavg_replaces_the_model():
    rounds = fa.simulate(
        fa.make_fleet(CLIENTS, rng=np.random.default_rng(0)),
        UPDATES,
        scheduler=fa.Rounds(6),
        rng=np.random.default_rng(1),
    )
    rule = fa.mixing.average_rounds()
    by_product = run(rule, rounds, max_width=64, product=True)
    close(by_product.state, run(rule, rounds, max_width=64).state)


@pytest.mark.parametrize("name", ["fedasync", "fedbuff"])
def test_runs_side_by_side_do_not_mix(name):
    table = tabled(make(name), TRACE)
    traces = [
        fa.sampled_staleness(
            CLIENTS, UPDATES, max_staleness=20, rng=np.random.default_rng(seed)
        )
        for seed in (3, 4, 5)
    ]
    local_update = jax.tree_util.Partial(train)
    runs = [
        fa.Run(trace, local_update, table, START, jax.random.key(i))
        for i, trace in enumerate(traces)
    ]
    by_product = fa.run_many(runs, batching=fa.Batching(**WIDE))
    for one, result in zip(runs, by_product, strict=True):
        alone = fa.run(
            one.trace,
            local_update,
            table,
            START,
            one.key,
            batching=fa.Batching(max_width=4),
        )
        close(result.state.variables, alone.state.variables)
        close(result.state.mixer_state, alone.state.mixer_state)
        close(result.updates, alone.updates)


def test_several_devices_agree():
    mesh = Mesh(np.array(jax.devices()[:2]), ("devices",))
    rule = CASES["average of a buffer"]()
    one_by_one = run(rule, max_width=90)
    close(run(rule, mesh=mesh, **WIDE).state, one_by_one.state)


def test_a_narrow_type_is_rounded_once_a_version():
    start = START._replace(
        params=jax.tree.map(lambda x: x.astype(jnp.bfloat16), START.params)
    )
    result = run(CASES["fedasync"](), start=start, **WIDE).state.variables
    one_by_one = run(CASES["fedasync"](), start=start, max_width=90).state.variables
    assert result.params["w"].dtype == jnp.bfloat16
    actual, expected = (
        np.asarray(v.params["w"], np.float32) for v in (result, one_by_one)
    )
    np.testing.assert_allclose(actual, expected, atol=0.03)


def test_a_rule_that_looks_at_lengths_is_mixed_one_by_one():
    for name in NOT_LINEAR:
        assert find_layout(make(name)) is None
    bound = fa.mixing.bound_update(tabled(make("fedasync"), TRACE), 1.5)
    assert not is_linear(bound.update)
    assert not is_linear(fa.mixing.averaged(bound).update)
    close(run(bound, **WIDE).state, run(bound, max_width=90).state)


@pytest.mark.parametrize("name", LINEAR)
def test_what_a_rule_says_of_itself_is_true(name):
    """Scaled and added models give the scaled and added result."""
    rule, rng = tabled(make(name), TRACE), np.random.default_rng(2)

    def mix(models):
        local, start, current, *remembered = models
        state = rule.init(current)
        leaves, treedef = jax.tree.flatten(state)
        left = iter(remembered)
        leaves = [next(left) if leaf.shape == (5,) else leaf for leaf in leaves]
        mixed, state, _ = rule.update(
            local,
            treedef.unflatten(leaves),
            current,
            start=start,
            staleness=jnp.int32(2),
            version=jnp.int32(9),
            client=jnp.int32(1),
        )
        return [mixed, *(x for x in jax.tree.leaves(state) if x.shape == (5,))]

    one, other = rng.normal(size=(2, 4, 5)).astype(np.float32)
    mixed, *both = (mix(list(m)) for m in (2 * one - 3 * other, one, other))
    expected = [2 * a - 3 * b for a, b in zip(*both, strict=True)]
    np.testing.assert_allclose(mixed, expected, rtol=1e-4, atol=1e-5)
