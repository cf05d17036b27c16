"""What every rule must keep in the engine, by one contract over the registry.

One tiny problem with tasks that are not finite. A rule by the engine equals the serial
algorithm; cut in two it is the same bit for bit; it runs beside another of its numbers;
it stands a bound and an average around it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import run_serially
from tabled import tabled

import fedasync_jax as fa
from fedasync_jax.engine.state import find_evaluated
from fedasync_jax.mixing.rules import RULES

CLIENTS, UPDATES, HALF = 6, 36, 17
TRACE = fa.sampled_staleness(
    CLIENTS, UPDATES, max_staleness=5, rng=np.random.default_rng(3)
)
CENTERS = np.random.default_rng(1).normal(size=(CLIENTS, 3)).astype(np.float32)
START = fa.Variables({"w": jnp.ones(3)}, {"mean": jnp.zeros(2), "steps": jnp.int32(0)})
BATCHING = fa.Batching(max_width=4, min_width=4)  # one program
KEY = jax.random.key(7)


def train(variables, client, key, num_steps):
    """Halve the way to the client's center; client 5 sends a NaN now and then."""
    w = variables.params["w"]
    local = w - 0.5 * (w - jnp.asarray(CENTERS)[client])
    broken = (client == 5) & (jax.random.uniform(key) < 0.7)
    local = jnp.where(broken, jnp.nan, local)
    mean, steps = variables.state["mean"] + 0.1, variables.state["steps"] + num_steps
    state = {"mean": mean, "steps": steps}
    return fa.Variables({"w": local}, state), fa.base.LocalInfo(jnp.zeros(()))


def make(name, wrapped):
    rule = RULES.make(
        name,
        {f"{name}_size": 4, "tethered_guard": 0.7},
        alpha=0.6,
        staleness_fn=fa.staleness.polynomial(0.5),
        num_clients=CLIENTS,
    )
    return fa.mixing.bound_update(fa.mixing.averaged(rule), 1.5) if wrapped else rule


def run(rule, **more):
    return fa.run(TRACE, train, rule, START, KEY, batching=BATCHING, **more)


def close(one, other, rtol=2e-5):
    for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def cut(trace, num_updates):
    """Return the first rows, in as many slots."""
    columns = {k: v[:num_updates] for k, v in trace.columns().items()}
    return fa.schedule.Trace(**columns, num_slots=trace.num_slots)


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "wrapped"])
@pytest.mark.parametrize("name", RULES)
def test_a_rule_keeps_the_contract(name, wrapped):
    rule = make(name, wrapped)
    table = tabled(rule, TRACE)
    whole = run(table, evaluate_fn=lambda v: v._asdict(), eval_every=6)

    # It is the serial algorithm; what is not finite is not mixed.
    compiled = table._replace(update=jax.jit(table.update))
    serial = run_serially(TRACE, jax.jit(train), compiled, START, KEY)
    close(whole.state.variables, serial[-1])
    assert not np.asarray(whole.updates.applied).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(whole.state))
    moved = np.abs(serial[-1].params["w"] - START.params["w"]).max()
    assert moved > 0.05

    # What is judged is the average, if there is one, at every version.
    judged = find_evaluated(table, whole.state)
    close(whole.evaluations[-1].metrics, judged._asdict())
    assert wrapped != np.array_equal(
        judged.params["w"], whole.state.variables.params["w"]
    )

    # Cut in two it is the same, bit for bit if its waves are cut there as well.
    halved = run(table, eval_every=np.array([HALF])).state
    close(halved.variables, serial[-1])
    first = fa.run(cut(TRACE, HALF), train, table, START, KEY, batching=BATCHING)
    same(run(table, state=first.state).state, halved)


@pytest.mark.parametrize(
    "name", ["delta", "fedbuff", "asyncfeded", "tethered", "ca2fl"]
)
def test_a_rule_runs_beside_itself(name):
    table = tabled(make(name, True), TRACE)
    alone = run(table).state
    runs = [
        fa.Run(TRACE, jax.tree_util.Partial(train), table, START, key)
        for key in (KEY, jax.random.key(8))
    ]
    beside, other = fa.run_many(runs, batching=BATCHING)
    close(beside.state, alone)
    assert not np.allclose(
        other.state.variables.params["w"], alone.variables.params["w"]
    )


def test_staleness_of_a_buffer_counts_its_versions():
    """floor(t / K) - floor(tau / K), as in a server that makes a version per buffer."""
    seen = TRACE.count_staleness(4)
    for t, tau in enumerate(TRACE.start_version):
        versions = [v for v in range(1, t + 1) if v % 4 == 0 and v > tau]
        assert seen[t] == len(versions)
    s = fa.staleness.linear(1)
    rule = fa.mixing.fedbuff(4, 1.0, s)
    np.testing.assert_allclose(run(rule).updates.alpha, s(seen) / 4, rtol=1e-6)


def test_a_buffer_makes_no_version_for_an_arrival():
    result = run(
        fa.mixing.fedbuff(4),
        evaluate_fn=lambda v: {"w": v.params["w"], "mean": v.state["mean"]},
        eval_every=1,
    )
    models = np.array([e.metrics["w"] for e in result.evaluations])
    applied = np.cumsum(np.r_[0, np.asarray(result.updates.applied)])
    changes = np.any(np.diff(models, axis=0) != 0, axis=1)
    flushed = (np.diff(applied) == 1) & (applied[1:] % 4 == 0)
    np.testing.assert_array_equal(changes, flushed)


def test_runs_judged_differently_share_a_program():
    """What is judged is computed after a call."""
    rule = fa.mixing.delta()
    rules = [
        rule._replace(evaluated=evaluated)
        for evaluated in (lambda m, s: m, lambda m, s: jax.tree.map(jnp.negative, m))
    ]
    runs = [fa.Run(TRACE, train, rule, START, KEY) for rule in rules]
    one, other = fa.run_many(runs, batching=BATCHING, evaluate_fn=lambda v: v._asdict())
    same(one.state, other.state)
    assert len(one.evaluations) == 2
    mine, theirs = one.evaluations[-1].metrics, other.evaluations[-1].metrics
    # Counters in the state are carried, not judged.
    same(mine["params"], jax.tree.map(np.negative, theirs["params"]))
    same(mine["params"], one.state.variables.params)
