"""Many runs in one program: each equals the run that is made alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh

import fedasync_jax as fa
from fedasync_jax.engine.batching import Batching
from fedasync_jax.engine.loop import Run
from fedasync_jax.engine.many import run_many
from fedasync_jax.engine.packing import pack
from fedasync_jax.engine.wave import compile_calls

MODEL = fa.models.make_classifier("mlp", (6,), 3, hidden=(4,))
UPDATES = 23


def make_optimizer(numbers):
    step_size, rho = numbers
    return optax.chain(fa.add_proximal(rho), optax.sgd(step_size))


def make_run(
    seed, *, step_size=0.1, rho=0.1, alpha=None, s=None, clock=False, **kwargs
):
    rng = np.random.default_rng(seed)
    samples = {
        "x": np.random.default_rng(99).normal(size=(40, 6)).astype(np.float32),
        "y": np.random.default_rng(98).integers(3, size=40).astype(np.int32),
    }
    clients = fa.data.make_client_data(samples, fa.data.iid(40, 8, rng=rng))
    worker = fa.make_local_update(
        MODEL,
        clients,
        make_optimizer,
        batch_size=2,
        max_steps=3,
        numbers=np.array([step_size, rho], np.float32),
    )
    if clock:
        fleet = fa.make_fleet(8, rng=rng, client_law=fa.fleet.log_normal(1.0))
        trace = fa.simulate(
            fleet, UPDATES, scheduler=fa.Immediate(4), num_steps=3, rng=rng
        )
    else:
        trace = fa.sampled_staleness(8, UPDATES, max_staleness=4, num_steps=3, rng=rng)
    s = fa.staleness.polynomial(0.5) if s is None else s
    weights = fa.mixing.make_weights(alpha or 0.6, s, trace.staleness)
    key = jax.random.key(seed)
    run = Run(trace, worker, fa.mixing.weighted(weights), MODEL.init(key), key)
    return run._replace(**kwargs)


EVALUATE = fa.make_evaluate(
    MODEL,
    {"x": np.ones((5, 6), np.float32), "y": np.arange(5, dtype=np.int32) % 3},
)


def run_alone(run, batching=None):
    fields = run._asdict()
    first = [fields.pop(name) for name in Run._fields[:5]]
    return fa.run(
        *first, **fields, evaluate_fn=EVALUATE, batching=batching or Batching()
    )


def assert_same(result, alone, exactly=False):
    pairs = zip(*map(jax.tree.leaves, (result, alone)), strict=True)
    for a, b in pairs:
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if exactly or a.dtype != np.float32:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def different_runs():
    """Runs that differ in everything that may differ."""

    def halved(version):
        return jnp.where(version < 10, 0.9, 0.45)

    return [
        make_run(0),
        make_run(1, step_size=0.5, eval_every=5),
        make_run(2, rho=0.0, alpha=1.0, s=fa.staleness.constant(), eval_every=7),
        make_run(3, alpha=halved, s=fa.staleness.hinge(10, 1), clock=True),
        make_run(0, alpha=0.3),
    ]


BATCHINGS = {
    "narrow": lambda: Batching(max_width=2),
    "one width": lambda: Batching(max_width=16, chunk=3, min_width=16),
    "wide": lambda: Batching(max_width=64),
    "in chunks": lambda: Batching(max_width=16, chunk=3),
    "two devices": lambda: Batching(
        max_width=16, chunk=2, mesh=Mesh(np.array(jax.devices()[:2]), ("devices",))
    ),
    "large tasks": lambda: Batching(
        max_width=2,
        mesh=Mesh(np.array(jax.devices()[:2]), ("devices",)),
        one_at_a_time=True,
    ),
}


@pytest.mark.parametrize("name", BATCHINGS)
def test_every_run_equals_the_run_alone(name):
    runs = different_runs()
    results = run_many(runs, batching=BATCHINGS[name](), evaluate_fn=EVALUATE)
    for run, result in zip(runs, results, strict=True):
        assert_same(result, run_alone(run))


def test_one_run_is_a_run():
    (result,) = run_many([make_run(0)], batching=Batching(), evaluate_fn=EVALUATE)
    assert_same(result, run_alone(make_run(0)))


def test_baselines_run_side_by_side():
    """FedAvg has a mixer with a state; rounds of other clients."""

    def fedavg(seed):
        run = make_run(seed, rho=0.0)
        fleet = fa.make_fleet(8, rng=np.random.default_rng(seed))
        trace = fa.simulate(
            fleet,
            12,
            scheduler=fa.Rounds(3),
            num_steps=3,
            rng=np.random.default_rng(seed),
        )
        return run._replace(trace=trace, mixer=fa.mixing.average_rounds())

    runs = [fedavg(0), fedavg(1)]
    for run, result in zip(runs, run_many(runs, evaluate_fn=EVALUATE), strict=True):
        assert_same(result, run_alone(run))


def test_a_run_that_fails_leaves_the_others_alone():
    runs = [make_run(0), make_run(1, step_size=1e30), make_run(2)]
    results = run_many(runs, batching=Batching(), evaluate_fn=EVALUATE)
    assert not results[1].updates.applied.all()
    for run, result in zip(runs, results, strict=True):
        np.testing.assert_array_equal(
            result.updates.applied, run_alone(run).updates.applied
        )
    for number in (0, 2):
        assert_same(results[number], run_alone(runs[number]))


@pytest.mark.parametrize("at_once", [False, True])
def test_step_sizes_that_follow_from_evaluations(at_once):
    def make(seed):
        rule = fa.engine.reduce_on_plateau("loss", 0.5)
        scales = fa.engine.StepScales(rule, at_once=at_once)
        return make_run(seed, step_scales=scales, eval_every=3)

    results = run_many([make(0), make(1)], batching=Batching(), evaluate_fn=EVALUATE)
    for seed, result in enumerate(results):
        assert_same(result, run_alone(make(seed)))
    alone = make(0)
    run_alone(alone)
    assert alone.step_scales is not None and min(alone.step_scales.scales) < 1


def test_snapshots_let_any_run_go_on_alone_or_with_others():
    runs, batching = different_runs(), Batching(max_width=8)
    whole = run_many(runs, batching=batching, evaluate_fn=EVALUATE)
    snapshots = []

    class Stop(Exception):
        pass

    def stop(versions, make_snapshot):
        if sum(versions) > 40:
            snapshots.extend(make_snapshot(number) for number in range(len(runs)))
            raise Stop

    with pytest.raises(Stop):
        run_many(runs, batching=batching, evaluate_fn=EVALUATE, on_call=stop)
    assert [s.state.version for s in snapshots] != [0] * len(runs)

    def go_on(number):
        state, past = (
            jax.tree.map(jnp.array, snapshots[number].state),
            snapshots[number].past,
        )
        return runs[number]._replace(
            state=state._replace(version=int(state.version)), past=past
        )

    again = run_many(
        [go_on(n) for n in range(len(runs))], batching=batching, evaluate_fn=EVALUATE
    )
    for first, second in zip(whole, again, strict=True):
        assert_same(second, first)
    assert_same(run_alone(go_on(3)), whole[3])


def test_a_run_that_is_dropped_is_trained_no_more():
    runs = [make_run(seed) for seed in range(3)]
    told = []

    def drop(versions, make_snapshot):
        told.append(versions)
        return [1] if versions[1] >= 4 else None

    results = run_many(
        runs, batching=Batching(max_width=4), evaluate_fn=EVALUATE, on_call=drop
    )
    reached = {versions[1] for versions in told}
    ends = [result.state.version for result in results]
    assert ends == [told[-1][0], max(reached), told[-1][2]] and ends[0] == ends[2]
    assert sum(version >= 4 for version in reached) == 1 and ends[1] < ends[0]
    for place in (0, 2):
        assert_same(results[place], run_alone(runs[place]))


def test_another_seed_and_other_numbers_compile_nothing_new():
    batching = Batching(max_width=4)
    run_many([make_run(0), make_run(1, alpha=0.3)], batching=batching)
    before = _count_plans()
    run_many(
        [make_run(5, step_size=0.3), make_run(6, s=fa.staleness.hinge(10, 4))],
        batching=batching,
    )
    assert _count_plans() == before


def _count_plans():
    return compile_calls.cache_info().currsize


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda run: run._replace(
                mixer=fa.mixing.fedasync(0.5, fa.staleness.constant())
            ),
            "runs must have the same functions in local_update, mixer and variables, "
            "got others in run 1 than in run 0",
        ),
        (
            lambda run: run._replace(mixer=fa.mixing.weighted(np.ones(3))),
            "runs must have arrays of the same shapes and types in local_update, mixer "
            "and variables, got ((23,), dtype('float32')) and ((3,), dtype('float32'))",
        ),
    ],
)
def test_runs_that_cannot_share_a_program_are_refused(change, line):
    with pytest.raises(ValueError) as error:
        run_many([make_run(0), change(make_run(1))])
    assert str(error.value) == line


def test_buffers_of_other_sizes_are_refused():
    def with_buffer(size):
        with_weights = fa.mixing.trimmed(size).with_weights
        assert with_weights is not None
        return with_weights(np.ones(UPDATES))

    runs = [make_run(seed, mixer=with_buffer(4 + seed)) for seed in (0, 1)]
    with pytest.raises(ValueError) as error:
        run_many(runs)
    assert str(error.value) == (
        "runs must have arrays of the same shapes and types in local_update, mixer and "
        "variables, got ((4, 4), dtype('float32')) and ((5, 4), dtype('float32'))"
    )


def test_no_runs_are_refused():
    with pytest.raises(ValueError, match="runs must be one or more, got none"):
        run_many([])


# Packing


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 2**32), min_size=1, max_size=4), st.integers(1, 9))
def test_every_row_comes_once_in_order_and_never_before_its_start(seeds, max_width):
    starts = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        length = int(rng.integers(0, 15))
        starts.append(np.array([rng.integers(t + 1) for t in range(length)], int))
    place = [0] * len(starts)
    for call in pack(starts, max_width):
        assert 0 < sum(end - begin for _, begin, end in call) <= max_width
        assert len({run for run, _, _ in call}) == len(call)
        for run, begin, end in call:
            assert begin == place[run] < end
            assert (starts[run][begin:end] <= begin).all()
            place[run] = end
    assert place == [len(s) for s in starts]


def test_calls_are_full_as_long_as_tasks_are_ready():
    starts = [np.zeros(4, int)] * 3
    sizes = [sum(end - begin for _, begin, end in call) for call in pack(starts, 5)]
    assert sizes == [5, 5, 2]


def test_weights_are_alpha_times_s():
    d = np.array([0, 3, 8, 3], np.int32)
    weights = fa.mixing.make_weights(0.6, fa.staleness.hinge(10, 4), d)
    np.testing.assert_allclose(weights, [0.6, 0.6, 0.6 / 41, 0.6], rtol=1e-6)
    longer = fa.mixing.make_weights(0.6, fa.staleness.hinge(10, 4), np.resize(d, 99))
    np.testing.assert_array_equal(longer[:4], weights)
    for bad in ([1.1], [-0.1], [np.nan]):
        with pytest.raises(ValueError, match="weights must be in \\[0, 1\\], got"):
            fa.mixing.weighted(np.array(bad))
