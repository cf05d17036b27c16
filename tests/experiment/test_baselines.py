"""Baselines: a round of FedAvg ends with the mean of what arrived."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedasync_jax as fa
from fedasync_jax import fleet
from fedasync_jax.experiment.build import build_experiment, build_workload, make_methods
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.fleet import Fleet, make_fleet, single_worker
from fedasync_jax.mixing.rounds import RoundState, average_rounds
from fedasync_jax.schedule import find_violations, round_ends

_NUM_CLIENTS = 6
_WEIGHTS = np.array([500, 18, 3, 77, 1, 250])
_VALUES = np.random.default_rng(0).normal(size=(_NUM_CLIENTS, 3)).astype(np.float32)


def _arrive(rule, state, current, client, version, k):
    return rule.update(
        jnp.asarray(_VALUES[client]),
        state,
        current,
        start=jnp.full(3, 1e6),  # FedAvg does not look at it
        staleness=jnp.int32(version % k),
        version=jnp.int32(version),
        client=jnp.int32(client),
    )


@pytest.mark.parametrize("weights", [None, _WEIGHTS, _WEIGHTS / 7, 5.0 * _WEIGHTS])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_every_round_ends_with_the_mean_of_its_arrivals(k, weights):
    rule = average_rounds(weights)
    current = jnp.full(3, 7.0)
    state = rule.init(current)
    clients = np.random.default_rng(1).integers(0, _NUM_CLIENTS, 5 * k)
    for version, client in enumerate(clients.tolist()):
        current, state, info = _arrive(rule, state, current, client, version, k)
        arrived = clients[version // k * k : version + 1]
        w = np.ones(_NUM_CLIENTS) if weights is None else weights
        mean = np.average(_VALUES[arrived], axis=0, weights=w[arrived])
        np.testing.assert_allclose(current, mean, rtol=1e-4, atol=1e-5)
        assert float(info.alpha) == pytest.approx(w[client] / w[arrived].sum())
        assert bool(info.applied)
        assert int(state.start_version) == version // k * k
        assert float(state.weight) == pytest.approx(w[arrived].sum())


def test_first_arrival_of_a_round_replaces_the_model_exactly():
    rule = average_rounds()
    current = jnp.full(3, 1e20)
    state = rule.init(current)
    for version in (0, 3, 6):
        mixed, _, info = _arrive(rule, state, current, 2, version, 3)
        np.testing.assert_array_equal(mixed, _VALUES[2])
        assert float(info.alpha) == 1


def test_the_first_round_is_not_continued_from_the_initial_state():
    state = average_rounds().init(jnp.zeros(3))
    assert isinstance(state, RoundState)
    assert (int(state.start_version), float(state.weight)) == (-1, 0)


def _table_update(table):
    """Return a Worker whose result is the model it received plus a row of a table."""

    def local_update(variables, client, key, num_steps):
        moved = variables.params + jnp.asarray(table)[client]
        return fa.Variables(moved), fa.base.LocalInfo(loss=jnp.zeros(()))

    return local_update


def _run_rounds(table, k, num_rounds, weights=None):
    """Return the trace, x_0, the model after every round, and which were mixed."""
    devices = make_fleet(
        _NUM_CLIENTS, rng=np.random.default_rng(0), task_law=fleet.exponential()
    )
    trace = fa.simulate(
        devices,
        k * num_rounds,
        scheduler=fa.Rounds(k),
        rng=np.random.default_rng(1),
    )
    first = fa.Variables(jnp.arange(3.0))
    result = fa.run(
        trace,
        _table_update(table),
        average_rounds(weights),
        first,
        jax.random.key(0),
        evaluate_fn=lambda variables: {"x": variables.params},
        eval_every=k,
    )
    models = [evaluation.metrics["x"] for evaluation in result.evaluations]
    return trace, np.array(models), np.asarray(result.updates.applied)


def _literal_rounds(trace, table, k, weights=None):
    """FedAvg as it is written down, with those left out that are not finite."""
    w = np.ones(_NUM_CLIENTS) if weights is None else weights
    models = [np.arange(3.0)]
    for clients in trace.client.reshape(-1, k):
        finite = clients[np.isfinite(table[clients]).all(axis=1)]
        if len(finite) == 0:
            models.append(models[-1])
            continue
        arrived = models[-1] + table[finite]
        models.append(np.average(arrived, axis=0, weights=w[finite]))
    return np.array(models)


@pytest.mark.parametrize("weights", [None, _WEIGHTS])
@pytest.mark.parametrize("k", [1, 4, _NUM_CLIENTS])
def test_rounds_by_the_engine_are_fedavg(k, weights):
    trace, models, applied = _run_rounds(_VALUES, k, 5, weights)
    assert applied.all()
    expected = _literal_rounds(trace, _VALUES, k, weights)
    np.testing.assert_allclose(models, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weights", [None, _WEIGHTS])
@pytest.mark.parametrize("bad", [[0], [0, 3, 5]])
def test_a_rejected_arrival_is_left_out_of_its_mean(bad, weights):
    table = _VALUES.copy()
    table[bad, 1] = np.nan
    trace, models, applied = _run_rounds(table, 4, 8, weights)
    np.testing.assert_array_equal(applied, ~np.isin(trace.client, bad))
    expected = _literal_rounds(trace, table, 4, weights)
    np.testing.assert_allclose(models, expected, rtol=1e-4, atol=1e-5)
    first_of_round = trace.client.reshape(-1, 4)[:, 0]
    assert np.isin(first_of_round, bad).any()  # the example has the hard case


def test_a_round_without_a_finite_arrival_leaves_the_model():
    table = np.full_like(_VALUES, np.inf)
    _, models, applied = _run_rounds(table, 3, 2)
    assert not applied.any()
    np.testing.assert_array_equal(models, [np.arange(3.0)] * 3)


def _run_late_rounds(table):
    """Run rounds of 4 that begin with 6 workers and end at a deadline."""
    devices = make_fleet(
        _NUM_CLIENTS, rng=np.random.default_rng(0), task_law=fleet.exponential()
    )
    trace = fa.simulate(
        devices,
        60,
        scheduler=fa.Rounds(4, over_selection=0.5, deadline=0.8),
        rng=np.random.default_rng(1),
    )
    result = fa.run(
        trace,
        _table_update(table),
        average_rounds(),
        fa.Variables(jnp.arange(3.0)),
        jax.random.key(0),
        evaluate_fn=lambda variables: {"x": variables.params},
        eval_every=round_ends(trace),
    )
    return trace, result


def test_rounds_of_any_size_are_means_of_what_arrived_in_time():
    trace, result = _run_late_rounds(_VALUES)
    ends = round_ends(trace)
    sizes = np.diff(ends, prepend=0)
    assert len(set(sizes.tolist())) > 2  # some are cut short by the deadline
    assert sizes.max() == 4
    assert sum(sizes) == 60
    models = [evaluation.metrics["x"] for evaluation in result.evaluations]
    expected = [np.arange(3.0)]
    for begin, end in zip(ends - sizes, ends, strict=True):
        assert set(trace.start_version[begin:end]) == {begin}
        expected.append(expected[-1] + _VALUES[trace.client[begin:end]].mean(axis=0))
    np.testing.assert_allclose(models, expected, rtol=1e-4, atol=1e-5)


def _make_rounds(num_updates, **changes):
    """Return the schedule of FedAvg with rounds of five among twelve clients."""
    settings = make_settings(
        num_clients=12,
        clients_per_round=5,
        concurrency=2,
        hidden=(2,),
        methods=("fedavg",),
        num_updates=num_updates,
        **changes,
    )
    (method,) = make_methods(settings, build_workload(settings))
    return method.trace


@pytest.mark.parametrize("num_updates", [3, 40, 41, 45, 98, 200])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"failure_rate": 0.2},
        {"round_deadline": 6.0},
        {"over_selection": 0.5, "failure_rate": 0.2},
        {"availability": "on-off", "mean_on": 40.0, "mean_off": 40.0},
    ],
)
def test_a_run_ends_with_a_whole_round(num_updates, changes):
    trace = _make_rounds(num_updates, **changes)
    longer = _make_rounds(num_updates + 30, **changes)
    most = max(num_updates // 5, 1) * 5
    ends = round_ends(longer)[:-1]  # whose last round may have no next one
    assert trace.num_updates == ends[ends <= most][-1]
    assert trace.num_updates > most - 5
    np.testing.assert_array_equal(trace.client, longer.client[: trace.num_updates])
    assert trace.ended == ""


def test_rounds_of_a_fleet_that_is_gone_say_why():
    trace = _make_rounds(500, max_tasks_per_client=2, failure_rate=0.2)
    assert trace.num_updates < 24 and "nobody is available" in trace.ended


@pytest.mark.parametrize("bad", [0.0, -2.0, np.nan, np.inf])
def test_weight_error(bad):
    with pytest.raises(
        ValueError, match=r"^client_weights must be finite and > 0, "
    ) as e:
        average_rounds(np.array([1.0, bad]))
    assert str(bad) in str(e.value)
    assert "\n" not in str(e.value)


def test_single_worker_is_as_fast_as_the_median():
    worker = single_worker(Fleet(np.array([1.0, 9.0, 2.0]), fleet.uniform(2, 2)))
    assert worker.num_clients == 1
    assert worker.seconds_per_step.tolist() == [2.0]
    trace = fa.simulate(
        worker, 2, scheduler=fa.Rounds(1), num_steps=5, rng=np.random.default_rng(0)
    )
    assert trace.arrival_time.tolist() == [20.0, 40.0]


@pytest.mark.parametrize("num_steps", [5, (2, 9)], ids=["equal", "random"])
def test_a_longer_run_of_sgd_begins_with_the_tasks_of_a_shorter_one(num_steps):
    low, high = (num_steps, None) if num_steps == 5 else num_steps
    short, long = (
        build_experiment(
            make_settings(
                methods=("fedasync-constant", "sgd"),
                num_updates=num_updates,
                eval_every=7,
                num_steps=low,
                max_steps=high,
                num_clients=10,
                concurrency=3,
                clients_per_round=2,
            )
        ).methods
        for num_updates in (60, 130)
    )
    assert short[1].trace.num_steps.sum() == short[0].trace.num_steps.sum()
    assert not find_violations(short[1].trace)
    whole = 60 // 7  # tasks; the last one is cut by the end
    assert short[1].trace.num_updates == whole + 1
    for name in ("client", "num_steps", "arrival_time", "start_time"):
        first, second = (getattr(m[1].trace, name)[:whole] for m in (short, long))
        np.testing.assert_allclose(first, second, rtol=1e-12)
    data = [cast(Any, m[1].local_update).args[0] for m in (short, long)]
    end = sum(short[1].trace.num_steps[:whole]) * 10
    np.testing.assert_array_equal(*(d.indices[:end] for d in data))
