"""Which waves share a call: many, but none beyond a version that is due."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fedasync_jax as fa
from fedasync_jax.base import LocalInfo

UPDATES, EVERY, WIDTH = 60, 20, 4
RULE = fa.mixing.fedasync(0.5, fa.staleness.constant())
LONG = 1e6  # seconds: as many waves as there are


def worker(variables, client, key, num_steps):
    local = {"x": 0.5 * variables["x"] + client.astype(float)}
    return local, LocalInfo(loss=jnp.zeros(()))


def make_trace(seed=0):
    rng = np.random.default_rng(seed)
    return fa.sampled_staleness(8, UPDATES, max_staleness=6, rng=rng)


def run(
    call_seconds, eval_every: int | None = EVERY, traces=None, on_call=None, **more
):
    """Return the results, and the versions that were told after every call."""
    told = []

    def note(versions, make_snapshot):
        told.append(versions)
        return None if on_call is None else on_call(versions)

    start: Any = {"x": jnp.float32(0)}
    key = jax.random.key(0)
    runs = [
        fa.Run(trace, jax.tree_util.Partial(worker), RULE, start, key)._replace(
            eval_every=eval_every
        )
        for trace in traces or [make_trace()]
    ]
    batching = fa.Batching(max_width=WIDTH, call_seconds=call_seconds, **more)
    return fa.run_many(runs, batching=batching, on_call=note), told


def waves_of(trace, every=EVERY):
    stops = range(0, UPDATES + 1, every)
    return list(fa.schedule.make_waves(trace.start_version, WIDTH, stops=stops))


def test_without_time_every_wave_is_a_call():
    _, told = run(0)
    ends = [[end] for _, end in waves_of(make_trace())]
    assert told == ends and len(ends) > UPDATES / WIDTH


@pytest.mark.parametrize("chunk", [1, 2])
def test_with_time_a_call_lasts_until_a_version_is_due(chunk):
    """The first two measure how long they take; the last wave stands alone."""
    (first, second, *rest), last = waves_of(make_trace()), [[UPDATES]]
    _, told = run(LONG, chunk=chunk)
    assert told == [[first[1]], [second[1]], [20], [40], [rest[-1][0]], *last]
    _, told = run(LONG, eval_every=None, chunk=chunk)
    begin = waves_of(make_trace(), UPDATES)[-1][0]
    assert [version for (version,) in told][2:] == [begin, UPDATES]


def test_all_at_once_a_call_holds_waves_of_one_width():
    _, told = run(LONG, eval_every=None)
    batching, waves = fa.Batching(max_width=WIDTH), waves_of(make_trace(), UPDATES)
    widths = [batching.padded(end - begin) for begin, end in waves]
    changes = [waves[i][0] for i in range(1, len(waves)) if widths[i] != widths[i - 1]]
    assert len(changes) > 3 and {v for (v,) in told} >= set(changes)


def test_large_tasks_are_a_call_a_wave():
    _, told = run(LONG, one_at_a_time=True)
    assert told == [[end] for _, end in waves_of(make_trace())]


@pytest.mark.parametrize("call_seconds", [0, 0.1, LONG])
def test_results_do_not_depend_on_what_shares_a_call(call_seconds):
    traces = make_trace(), make_trace(1)
    for some in (traces[:1], traces):
        expected, _ = run(0.01, traces=some, chunk=2)
        found, _ = run(call_seconds, traces=some, chunk=2)
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_several_runs_stop_where_one_of_them_is_due():
    _, told = run(LONG, traces=(make_trace(), make_trace(1)), chunk=2)
    for due in (20, 40, 60):
        for number in (0, 1):
            assert any(versions[number] == due for versions in told)
    assert len(told) <= 2 + 2 * 3 + 1


def test_runs_that_are_dropped_leave_the_others_their_results():
    traces = make_trace(), make_trace(1)
    (alone, _), (both, told) = (
        run(LONG, traces=traces[:1], chunk=2),
        run(LONG, traces=traces, chunk=2, on_call=lambda v: [1] if v[1] > 9 else None),
    )
    mine, expected = both[0].state.variables, alone[0].state.variables
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-6), mine, expected
    )
    assert told[-1][0] == UPDATES and both[1].state.version == told[-1][1] < UPDATES


@pytest.mark.parametrize("seconds", [-0.1, float("nan")])
def test_seconds_below_zero_are_refused(seconds):
    with pytest.raises(ValueError, match=r"^call_seconds must be >= 0, got "):
        fa.Batching(call_seconds=seconds)
