"""What every part of a registry must keep, with its default settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedasync_jax as fa
from fedasync_jax.fleet.habits import AVAILABILITIES
from fedasync_jax.fleet.laws import DELAY_LAWS
from fedasync_jax.mixing.rules import RULES
from fedasync_jax.mixing.staleness import STALENESS_FNS
from fedasync_jax.schedule.schedulers import SCHEDULES, Sampled

CLIENTS = 40


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", STALENESS_FNS)
def test_a_staleness_function_begins_at_1_and_never_rises(name):
    s = jax.jit(STALENESS_FNS.make(name, {}))
    values = np.array(s(jnp.arange(200)))
    assert values.shape == (200,) and values[0] == 1.0
    assert (np.diff(values) <= 0).all() and (values > 0).all()
    assert float(s(jnp.int32(7))) == values[7]


@pytest.mark.parametrize("name", DELAY_LAWS)
def test_a_law_draws_positive_factors_the_same_for_the_same_seed(name):
    law = DELAY_LAWS.make(name, {})
    factors = law(rng(), 1000)
    assert factors.shape == (1000,) and factors.dtype == np.float64
    assert ((factors > 0) & (factors < np.inf)).all()
    np.testing.assert_array_equal(factors, law(rng(), 1000))


@pytest.mark.parametrize("name", AVAILABILITIES)
def test_an_availability_is_a_function_of_client_and_time(name, tmp_path):
    path = tmp_path / "windows.csv"
    path.write_text("client,start,end\n0,0,3600\n1,7200,inf\n")
    values = {"availability_path": path}
    there = AVAILABILITIES.make(name, values, num_clients=CLIENTS, rng=rng())
    clients = np.arange(CLIENTS)
    for time in (0.0, 5e3, 9e4, 1e6):
        on, until = there(clients, np.full(CLIENTS, time))
        assert on.shape == until.shape == (CLIENTS,) and on.dtype == bool
        assert (until > time).all()
        order = rng(1).permutation(CLIENTS)  # asked in any order and company
        on_again, until_again = there(clients[order], np.full(CLIENTS, time))
        np.testing.assert_array_equal(on_again, on[order])
        np.testing.assert_array_equal(until_again[on_again], until[order][on_again])


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_scheduler_makes_a_trace_in_order(name):
    scheduler = SCHEDULES.make(name, {})
    fleet = fa.make_fleet(CLIENTS, rng=rng(), client_law=fa.fleet.log_normal(1.0))
    if isinstance(scheduler, Sampled):
        k = scheduler.max_staleness
        trace = fa.sampled_staleness(CLIENTS, 200, max_staleness=k, rng=rng())
        assert fa.schedule.find_violations(trace) == []
    else:
        trace = fa.simulate(fleet, 200, scheduler=scheduler, num_steps=3, rng=rng())
        assert fa.schedule.find_violations(trace, fleet) == []
        with pytest.raises(ValueError, match=r"\(the number of clients\)"):
            scheduler.check(1)
    assert trace.num_updates == 200


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_a_pair_of_pure_functions(name):
    rule = RULES.make(
        name,
        {},
        alpha=0.6,
        staleness_fn=fa.staleness.polynomial(0.5),
        num_clients=CLIENTS,
    )
    current = {"w": jnp.arange(3.0), "b": jnp.float32(1)}
    start = jax.tree.map(lambda leaf: leaf - 0.5, current)
    local = jax.tree.map(lambda leaf: leaf + 1.0, start)
    state = rule.init(current)
    arguments = {
        "start": start,
        "staleness": jnp.int32(3),
        "version": jnp.int32(5),
        "client": jnp.int32(2),
    }
    mixed, after, info = jax.jit(rule.update)(local, state, current, **arguments)
    assert jax.tree.structure(mixed) == jax.tree.structure(current)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for new, old in zip(*map(jax.tree.leaves, (mixed, current)), strict=True):
        assert (new.shape, new.dtype) == (old.shape, old.dtype)
        assert bool(jnp.isfinite(new).all())
    assert info.alpha.shape == info.applied.shape == ()
    again, *_ = jax.jit(rule.update)(local, state, current, **arguments)
    jax.tree.map(np.testing.assert_array_equal, mixed, again)
