"""The engine equals the literal, serial Algorithm 1, however the tasks are batched."""

import dataclasses
import functools
import itertools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from commands import run_code
from jax.sharding import Mesh
from reference import run_serially

import fedasync_jax as fa
from fedasync_jax import fleet, mixing
from fedasync_jax.base import ClientData, LocalInfo, Mixer, Model, Variables
from fedasync_jax.engine.batching import choose_batching
from fedasync_jax.engine.spreading import _SMALL
from fedasync_jax.mixing import staleness
from fedasync_jax.schedule.trace import make_trace

NUM_CLIENTS, NUM_UPDATES, NUM_SLOTS = 8, 40, 20
COUNTS = np.array([1, 2, 3, 4, 5, 6, 7, 8], np.int32)
KEY = jax.random.key(5)


# --- a problem on which every mistake shows ---


def loss_fn(variables, batch, key):
    """Least squares with noise; the state is a running mean of the inputs."""
    x, y = batch
    noise = 0.1 * jax.random.normal(key, y.shape)
    error = x @ variables.params["w"] + variables.params["b"] - y + noise
    mean = 0.8 * variables.state["mean"] + 0.2 * jnp.mean(x, axis=0)
    return 0.5 * jnp.mean(error**2), {"mean": mean}


def make_data(first=1.0):
    rng = np.random.default_rng(0)
    total = int(COUNTS.sum())
    x = rng.normal(size=(total, 3)).astype(np.float32)
    y = rng.normal(size=total).astype(np.float32) + np.repeat(COUNTS, COUNTS)
    x[0] *= first  # the only sample of client 0
    offsets = (np.cumsum(COUNTS) - COUNTS).astype(np.int32)
    return ClientData((x, y), np.arange(total, dtype=np.int32), offsets, COUNTS)


def make_worker(data):
    return fa.make_local_update(
        Model(lambda key: make_variables(), loss_fn, lambda variables, batch: {}),
        data,
        optax.chain(fa.add_proximal(0.2), optax.sgd(0.1, momentum=0.5)),
        batch_size=2,
        max_steps=3,
    )


def make_variables():
    return Variables(
        {"w": jnp.array([1.0, -1.0, 2.0]), "b": jnp.float32(0.5)},
        {"mean": jnp.zeros(3)},
    )


LOCAL_UPDATE = make_worker(make_data())


def with_data(data):
    """Return the same worker with other data, which shares its programs."""
    leaves = jax.tree.leaves(data)
    return jax.tree.unflatten(jax.tree.structure(LOCAL_UPDATE), leaves)


MIXER = mixing.fedasync(0.7, staleness.polynomial(0.5))

DELAYS = {
    "constant": fleet.constant(),
    "uniform": fleet.uniform(0.5, 1.5),
    "exponential": fleet.exponential(),
    "log-normal": fleet.log_normal(1.0),
}
SCHEDULERS = {"immediate": fa.Immediate(6), "periodic": fa.Periodic(0.7, 2)}
STEPS = {"same": 2, "drawn": (1, 3)}


def sample(max_staleness, num_steps=2, num_updates=NUM_UPDATES):
    return fa.sampled_staleness(
        NUM_CLIENTS,
        num_updates,
        max_staleness=max_staleness,
        num_steps=num_steps,
        rng=np.random.default_rng(max_staleness),
    )


def simulate(delays, scheduler, num_steps):
    rng = np.random.default_rng(3)
    law = DELAYS[delays]
    clients = fa.make_fleet(NUM_CLIENTS, rng=rng, client_law=law, task_law=law)
    return fa.simulate(
        clients,
        NUM_UPDATES,
        scheduler=SCHEDULERS[scheduler],
        num_steps=num_steps,
        rng=rng,
    )


def pad_slots(trace, num_slots=NUM_SLOTS):
    """Return the same trace with slots that nobody uses, to share its programs."""
    assert trace.num_slots <= num_slots
    unread = trace.write_slot == trace.num_slots
    return dataclasses.replace(
        trace,
        num_slots=num_slots,
        write_slot=np.where(unread, num_slots, trace.write_slot).astype(np.int32),
    )


@functools.cache
def all_traces(steps):
    sampled = {f"max {k}": sample(k, STEPS[steps]) for k in (1, 4, 16)}
    clock = {
        f"{delays} {scheduler}": simulate(delays, scheduler, STEPS[steps])
        for delays, scheduler in itertools.product(DELAYS, SCHEDULERS)
    }
    return {name: pad_slots(trace) for name, trace in (sampled | clock).items()}


@functools.partial(jax.jit, static_argnums=4)
def work(worker, variables, client, key, num_steps):
    return worker(variables, client, key, num_steps)


COMPILED_MIXER = Mixer(MIXER.init, jax.jit(MIXER.update))


def serial_models(trace, local_update=LOCAL_UPDATE, variables=None):
    """Return all versions of the literal Algorithm 1, stacked, on the host."""
    is_partial = isinstance(local_update, jax.tree_util.Partial)
    worker = local_update if is_partial else jax.tree_util.Partial(local_update)
    models = run_serially(
        trace,
        functools.partial(work, worker),
        COMPILED_MIXER,
        make_variables() if variables is None else variables,
        KEY,
    )
    return jax.tree.map(lambda *leaves: np.stack(leaves), *models)


@functools.cache
def reference_of(steps, name):
    return serial_models(all_traces(steps)[name])


@jax.jit
def the_model(variables):
    """An ``evaluate_fn`` that lets every version be seen."""
    return {"model": variables}


def run(trace, *, local_update=LOCAL_UPDATE, variables=None, **settings):
    settings.setdefault("batching", fa.Batching(max_width=7))
    variables = make_variables() if variables is None else variables
    return fa.run(trace, local_update, MIXER, variables, KEY, **settings)


def all_versions(result):
    models = [evaluation.metrics["model"] for evaluation in result.evaluations]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *models)


def assert_close(got, expected):
    """Hold the relative error below 1e-6 of the largest number of every leaf."""

    def compare(x, y):
        assert x.dtype == y.dtype == np.float32
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-6 * np.abs(y).max())

    jax.tree.map(compare, got, expected)


def assert_equal(got, expected):
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def two_devices():
    return Mesh(np.array(jax.devices()[:2]), ("devices",))


# --- the traces ---


def test_the_traces_have_wide_waves_narrow_waves_and_stale_starts():
    widths = {
        name: {
            end - begin for begin, end in fa.schedule.make_waves(trace.start_version)
        }
        for name, trace in all_traces("drawn").items()
    }
    assert widths["max 1"] == {1}  # nothing but waves of one task
    assert max(max(some) for some in widths.values()) > 7
    assert any(width % 2 for some in widths.values() for width in some - {1})
    assert max(trace.staleness.max() for trace in all_traces("drawn").values()) > 7


def test_as_few_slots_as_the_trace_asks_for_are_enough():
    trace = sample(4)
    result = run(trace, evaluate_fn=the_model, eval_every=1)
    assert trace.num_slots == 4
    assert jax.tree.leaves(result.state.store)[0].shape[0] == 4
    assert_close(all_versions(result), reference_of("same", "max 4"))


def test_a_single_update():
    trace = sample(4, num_updates=1)
    result = run(trace, evaluate_fn=the_model, eval_every=3)
    assert [e.version for e in result.evaluations] == [0, 1]
    assert_close(all_versions(result), serial_models(trace))


# --- evaluations, updates and callbacks ---


@pytest.mark.parametrize("num_devices", [1, 2])
def test_evaluations_are_of_the_right_versions_and_change_nothing(num_devices):
    mesh = two_devices() if num_devices == 2 else None
    batching = fa.Batching(max_width=7, mesh=mesh)
    trace = all_traces("drawn")["exponential immediate"]
    settings = {"batching": batching, "evaluate_fn": the_model}
    every = run(trace, eval_every=1, **settings)
    versions = all_versions(every)
    for eval_every, expected in [(7, [0, 7, 14, 21, 28, 35, 40]), (None, [0, 40])]:
        result = run(trace, eval_every=eval_every, **settings)
        assert [e.version for e in result.evaluations] == expected
        rows = jax.tree.map(lambda leaf, rows=expected: leaf[rows], versions)
        assert_close(all_versions(result), rows)
        assert_equal(result.updates.alpha, every.updates.alpha)
        assert_equal(result.updates.applied, every.updates.applied)
        assert_close(result.updates.loss, every.updates.loss)
    silent = run(trace, batching=batching)
    assert [e.version for e in silent.evaluations] == [0, 40]
    assert_equal(silent.state.variables, result.state.variables)


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([], [0, 40]),
        ([3], [0, 3, 40]),
        ([1, 2, 3, 17, 39], [0, 1, 2, 3, 17, 39, 40]),
        ([40, 0, 9, 9], [0, 9, 40]),
    ],
)
def test_evaluations_may_be_of_any_versions(versions, expected):
    trace = all_traces("drawn")["exponential immediate"]
    batching = fa.Batching(max_width=7)
    every = run(trace, batching=batching, evaluate_fn=the_model, eval_every=1)
    counts = []
    result = run(
        trace,
        batching=batching,
        evaluate_fn=the_model,
        eval_every=np.array(versions, int),
        callback=lambda evaluation, updates: counts.append(len(updates.alpha)),
    )
    assert [e.version for e in result.evaluations] == expected
    assert counts == np.diff(expected, prepend=0).tolist()
    rows = jax.tree.map(lambda leaf: leaf[expected], all_versions(every))
    assert_close(all_versions(result), rows)


def test_callbacks_come_in_order_with_the_updates_in_between():
    trace = all_traces("drawn")["log-normal immediate"]
    calls = []
    result = run(
        trace,
        evaluate_fn=the_model,
        eval_every=7,
        callback=lambda evaluation, updates: calls.append((evaluation, updates)),
    )
    assert [e.version for e, _ in calls] == [0, 7, 14, 21, 28, 35, 40]
    assert [e.version for e, _ in calls] == [e.version for e in result.evaluations]
    assert [len(u.alpha) for _, u in calls] == [0, 7, 7, 7, 7, 7, 5]
    joined = jax.tree.map(lambda *rows: np.concatenate(rows), *(u for _, u in calls))
    assert_equal(joined, result.updates)


def test_the_rows_of_the_updates_are_those_of_the_trace():
    trace = all_traces("drawn")["log-normal immediate"]
    updates = run(trace).updates
    np.testing.assert_allclose(
        updates.alpha, 0.7 * (trace.staleness + 1.0) ** -0.5, rtol=1e-6
    )
    assert updates.applied.all() and updates.applied.dtype == bool
    models = reference_of("drawn", "log-normal immediate")
    for t in range(NUM_UPDATES):
        start = jax.tree.map(lambda leaf, t=t: leaf[trace.start_version[t]], models)
        key = jax.random.fold_in(KEY, int(trace.task[t]))
        _, info = work(
            LOCAL_UPDATE, start, trace.client[t], key, int(trace.num_steps[t])
        )
        np.testing.assert_allclose(updates.loss[t], info.loss, rtol=1e-5)


# --- going on where a run was stopped ---


def stop_after(num_waves, trace, batching):
    """Return a copy of the state after some waves, each a call of its own."""
    state = fa.engine.init_state(trace, MIXER, make_variables())
    batching = dataclasses.replace(batching, call_seconds=0)
    loop = fa.engine.iterate(
        trace,
        LOCAL_UPDATE,
        MIXER,
        state,
        KEY,
        batching=batching,
        stops=range(0, NUM_UPDATES + 1, 7),
    )
    for newest, _ in itertools.islice(loop, num_waves):
        state = jax.tree.map(jnp.copy, newest._replace(version=()))
        state = state._replace(version=newest.version)
    return state


@pytest.mark.parametrize("num_devices", [1, 2])
def test_a_resumed_run_is_the_same_run_bit_for_bit(num_devices):
    mesh = two_devices() if num_devices == 2 else None
    batching = fa.Batching(max_width=7, mesh=mesh)
    trace = all_traces("drawn")["log-normal immediate"]
    whole = run(trace, batching=batching, evaluate_fn=the_model, eval_every=7)
    for num_waves in (1, 4, 9):
        state = stop_after(num_waves, trace, batching)
        begin = state.version
        assert 0 < begin < NUM_UPDATES
        calls = []
        rest = run(
            trace,
            batching=batching,
            evaluate_fn=the_model,
            eval_every=7,
            callback=lambda e, u, calls=calls: calls.append((e.version, len(u.loss))),
            state=state,
        )
        assert_equal(rest.state, whole.state)
        remaining = jax.tree.map(lambda rows, begin=begin: rows[begin:], whole.updates)
        assert_equal(rest.updates, remaining)
        late = [e for e in whole.evaluations if e.version > begin]
        assert_equal(rest.evaluations, late)
        assert calls[0] == (late[0].version, late[0].version - begin)
        assert sum(rows for _, rows in calls) == NUM_UPDATES - begin


def test_a_finished_run_has_nothing_left_to_do():
    trace = all_traces("same")["max 4"]
    state = run(trace).state
    result = run(trace, state=state)
    assert_equal(result.state, state)
    assert result.evaluations == []
    assert [len(column) for column in result.updates] == [0, 0, 0]


# --- local models that are no numbers ---


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("num_devices", [1, 2])
def test_what_is_not_finite_is_not_mixed_and_the_run_goes_on(num_devices, bad):
    worker = with_data(make_data(first=bad))
    mesh = two_devices() if num_devices == 2 else None
    batching = fa.Batching(max_width=7, mesh=mesh)
    trace = all_traces("drawn")["exponential immediate"]
    result = run(
        trace,
        local_update=worker,
        batching=batching,
        evaluate_fn=the_model,
        eval_every=1,
    )
    assert_close(all_versions(result), serial_models(trace, worker))
    # 1e30 overflows in the first step: the loss is infinite and so is the model.
    np.testing.assert_array_equal(result.updates.applied, trace.client != 0)
    assert 0 < np.sum(trace.client == 0) < NUM_UPDATES / 2
    versions = all_versions(result).params["w"]
    moved = (versions[1:] != versions[:-1]).any(axis=1)
    np.testing.assert_array_equal(moved, trace.client != 0)


# --- plain things ---


def halve(variables, client, key, num_steps) -> tuple[Any, LocalInfo]:
    """A worker of no library: moves half the way to its number."""
    target = client.astype(float) + jax.random.uniform(key)
    local = [leaf + 0.5 * (target - leaf) for leaf in variables]
    return local, LocalInfo(loss=jnp.mean(local[1]))


@pytest.mark.parametrize("num_devices", [1, 2])
def test_a_plain_function_and_a_plain_pytree_are_enough(num_devices):
    start = [jnp.ones((2, 3)), jnp.zeros(2), jnp.array(4.0)]
    mesh = two_devices() if num_devices == 2 else None
    trace = sample(4)
    result = run(
        trace,
        local_update=halve,
        variables=start,
        batching=fa.Batching(max_width=4, mesh=mesh),
        evaluate_fn=the_model,
        eval_every=1,
    )
    expected = serial_models(trace, halve, start)
    for got, want in zip(all_versions(result), expected, strict=True):
        assert_close(got, want)


def test_the_models_of_the_caller_stay_his():
    variables = make_variables()
    for name in ("max 4", "max 1"):
        run(all_traces("same")[name], variables=variables)
    assert_equal(variables, make_variables())


def test_a_mixer_may_keep_the_model_that_init_is_given():
    def update(local, state, current, **task):
        first = jax.tree.map(lambda x, y: 0.5 * x + 0.5 * y, state, local)
        return first, state, MIXER.update(local, (), current, **task)[2]

    mixer = Mixer(lambda model: model, jax.jit(update))
    trace, batching = sample(4), fa.Batching(max_width=4)
    result = fa.run(
        trace, LOCAL_UPDATE, mixer, make_variables(), KEY, batching=batching
    )
    worker = functools.partial(work, LOCAL_UPDATE)
    models = run_serially(trace, worker, mixer, make_variables(), KEY)
    assert_close(*map(jax.device_get, (result.state.variables, models[-1])))
    assert_equal(result.state.mixer_state, make_variables())


def test_models_of_half_precision_keep_their_type():
    def worker(variables, client, key, num_steps):
        local = jax.tree.map(
            lambda leaf: leaf / 2 + client.astype(leaf.dtype), variables
        )
        return local, LocalInfo(loss=jnp.zeros(()))

    start = {"half": jnp.ones(3, jnp.bfloat16), "single": jnp.ones(2)}
    finals = []
    for mesh in (None, two_devices()):
        batching = fa.Batching(max_width=4, mesh=mesh)
        result = run(sample(4), local_update=worker, variables=start, batching=batching)
        finals.append(jax.device_get(result.state.variables))
    assert finals[0]["half"].dtype == jnp.bfloat16
    assert_equal(finals[0], finals[1])


SCRIPT = """
import hashlib, jax, test_engine
trace = test_engine.all_traces("drawn")["max 4"]
batching = test_engine.fa.Batching(max_width=2)
result = test_engine.run(trace, batching=batching)
data = b"".join(leaf.tobytes() for leaf in jax.tree.leaves(
    jax.device_get((result.state, result.updates))) if hasattr(leaf, "tobytes"))
print(hashlib.sha256(data).hexdigest())
"""


def test_two_processes_get_the_same_bytes():
    def digest(may_fork):
        here = Path(__file__).parent
        first = f"import sys; sys.path.append({str(here.parent)!r}); import conftest"
        return run_code(first + SCRIPT, cwd=here, may_fork=may_fork).stdout.strip()

    first = digest(True)
    assert len(first) == 64
    assert digest(False) == first  # with other hashes of words


# --- errors ---


def test_a_leaf_of_integers_is_named():
    variables = {"w": jnp.ones(2), "steps": {"count": jnp.zeros((), jnp.int32)}}
    line = (
        r"^variables\['steps'\]\['count'\] must be a float array to be mixed, "
        r"got int32$"
    )
    with pytest.raises(ValueError, match=line):
        run(sample(4), variables=variables)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"version": 41}, "got version 41 and 4 slots"),
        ({"version": -1}, "got version -1 and 4 slots"),
        ({"store": {"w": jnp.zeros((5, 2))}}, "got version 0 and 5 slots"),
    ],
)
def test_a_state_that_does_not_fit_is_named(change, found):
    trace = sample(4)
    state = fa.engine.init_state(trace, MIXER, make_variables())._replace(**change)
    line = f"^state must be of a version in 0..40 and have 4 slots .*, {found}$"
    with pytest.raises(ValueError, match=line):
        run(trace, state=state)


@pytest.mark.parametrize("version", [-1, 41])
def test_versions_that_do_not_exist_are_named(version):
    with pytest.raises(ValueError) as error:
        run(all_traces("same")["max 4"], eval_every=np.array([3, version, 40]))
    assert str(error.value) == (f"eval_every must be versions in 0..40, got {version}")


@pytest.mark.parametrize("eval_every", [0, -3])
def test_a_bad_distance_of_evaluations_is_named(eval_every):
    line = f"^eval_every must be >= 1 update, got {eval_every}$"
    with pytest.raises(ValueError, match=line):
        run(sample(4), eval_every=eval_every)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"max_width": 0}, "^max_width must be >= 1, got 0$"),
        ({"chunk": 0}, "^chunk must be >= 1, got 0$"),
    ],
)
def test_batching_names_what_is_wrong(settings, line):
    with pytest.raises(ValueError, match=line):
        fa.Batching(**settings)


def test_a_mesh_of_two_axes_is_refused():
    mesh = Mesh(np.array(jax.devices()[:2]).reshape(2, 1), ("a", "b"))
    with pytest.raises(ValueError, match=r"^mesh must have one axis, .*'a', 'b'"):
        fa.Batching(mesh=mesh)


@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_large_and_small_leaves_travel_between_devices(one_at_a_time):
    """A leaf beyond the size that is packed, beside small ones and none at all."""
    large, trace = 300, sample(3)
    start: Any = {"large": jnp.ones((large, large)), "small": jnp.arange(3.0), "no": ()}
    assert large**2 > _SMALL

    def worker(variables, client, key, num_steps) -> Any:
        noise = jax.random.normal(key, (3,))
        large = variables["large"] * 0.9 + 0.1 * noise[0]
        local = {"large": large, "small": variables["small"] + noise, "no": ()}
        return local, LocalInfo(loss=jnp.sum(noise))

    expected = run_serially(trace, worker, MIXER, start, KEY)[-1]
    batching = fa.Batching(
        max_width=4, mesh=two_devices(), chunk=1, one_at_a_time=one_at_a_time
    )
    result = fa.run(trace, worker, MIXER, start, KEY, batching=batching)
    for name in ("large", "small"):
        found: Any = result.state.variables
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_devices", [1, 2])
@pytest.mark.parametrize("max_width", [1, 2, 8])
def test_evaluations_are_the_same_where_versions_are_written_over(
    num_devices, max_width
):
    mesh = two_devices() if num_devices == 2 else None
    trace = all_traces("same")["max 16"]

    def evaluations(one_at_a_time):
        result = fa.run(
            trace,
            LOCAL_UPDATE,
            MIXER,
            make_variables(),
            KEY,
            batching=fa.Batching(
                max_width=max_width, mesh=mesh, one_at_a_time=one_at_a_time
            ),
            evaluate_fn=jax.jit(lambda variables: {"w": variables.params["w"]}),
            eval_every=1,
        )
        return np.stack([e.metrics["w"] for e in result.evaluations])

    found = evaluations(True)
    assert len(np.unique(found[:, 0])) > NUM_UPDATES // 2
    np.testing.assert_array_equal(found, evaluations(False))


# --- batching ---


@pytest.mark.parametrize("num_devices", [1, 2])
def test_padded_widths_are_few_and_large_enough(num_devices):
    mesh = two_devices() if num_devices == 2 else None
    batching = fa.Batching(max_width=64, mesh=mesh)
    widths = [batching.padded(count) for count in range(1, 65)]
    assert all(width >= count for count, width in enumerate(widths, start=1))
    assert all(width % num_devices == 0 for width in widths)
    assert all(
        width < 2 * count + num_devices - 1 for count, width in enumerate(widths, 1)
    )
    assert len(set(widths)) == 8 - num_devices
    in_chunks = fa.Batching(max_width=64, mesh=mesh, chunk=8)
    per_device = {in_chunks.padded(count) // num_devices for count in range(1, 65)}
    assert per_device == {1, 4, 16, 32, 64} - ({64} if num_devices == 2 else set())
    at_least_16 = fa.Batching(max_width=64, mesh=mesh, min_width=16)
    assert {at_least_16.padded(count) for count in range(1, 17)} == {16}
    assert at_least_16.padded(17) == 32


def test_large_tasks_are_one_to_a_device_and_one_wave_at_a_time():
    for devices in (jax.devices()[:1], jax.devices()[:2]):
        batching = fa.engine.choose_batching(devices, large_tasks=True)
        assert batching.max_width == len(devices) and batching.chunk is None
        assert batching.max_in_flight == 1


def test_batching_is_chosen_by_the_devices():
    devices = jax.devices()[:2]
    both = fa.engine.choose_batching(devices, max_width=32)
    assert both.max_width == 32 and both.num_devices == 2 and both.max_in_flight == 2
    one = fa.engine.choose_batching(devices[:1])
    assert one.mesh is None and one.num_devices == 1 and one.max_in_flight == 2
    assert one.chunk == both.chunk is not None
    assert fa.engine.choose_batching().num_devices == len(jax.devices())


def test_slots_are_not_reused_while_a_task_may_still_start_from_them():
    """Every order of three start versions, with as few slots as possible."""
    num_updates = 5
    choices = [range(t + 1) for t in range(num_updates)]
    variables: Any = {"x": jnp.zeros(())}

    def worker(variables, client, key, num_steps) -> tuple[Any, LocalInfo]:
        # The local model tells the start model and the task apart.
        local = {"x": 3 * variables["x"] + client.astype(float) + 1}
        return local, LocalInfo(loss=jnp.zeros(()))

    replace = mixing.fedasync(1.0, staleness.constant())
    batching = fa.Batching(max_width=4)
    for starts in itertools.product(*choices):
        start = np.array(starts)
        last = np.full(num_updates + 1, -1)
        last[start] = np.arange(num_updates)
        zeros = np.zeros(num_updates)
        trace = make_trace(
            client=np.arange(num_updates),
            task=np.arange(num_updates),
            start_version=start,
            start_time=zeros,
            arrival_time=zeros,
            num_steps=np.ones(num_updates),
            last_reader=last,
        )
        result = fa.run(trace, worker, replace, variables, KEY, batching=batching)
        x = [0]
        for t, tau in enumerate(starts):
            x.append(3 * x[tau] + t + 1)
        final: Any = result.state.variables
        assert final["x"] == x[-1]


# --- the literal Algorithm 1 ---

BATCHINGS = [
    ("same", 1, None, 1),
    ("same", 2, 1, 2),
    ("same", 7, 3, 1),
    ("same", 7, None, 2),
    ("same", 64, None, 1),
    ("same", 64, 3, 2),
    ("drawn", 1, None, 2),
    ("drawn", 2, None, 1),
    ("drawn", 7, 1, 1),
    ("drawn", 7, 3, 2),
    ("drawn", 64, 3, 1),
    ("drawn", 64, 1, 2),
    ("drawn", 64, None, 2),
]


@pytest.mark.parametrize(("steps", "max_width", "chunk", "num_devices"), BATCHINGS)
def test_every_version_is_that_of_the_serial_algorithm(
    steps, max_width, chunk, num_devices
):
    mesh = two_devices() if num_devices == 2 else None
    batching = fa.Batching(max_width=max_width, chunk=chunk, mesh=mesh)
    for name, trace in all_traces(steps).items():
        result = run(trace, batching=batching, evaluate_fn=the_model, eval_every=1)
        expected = reference_of(steps, name)
        assert_close(all_versions(result), expected)
        final = jax.device_get(result.state.variables)
        assert_close(final, jax.tree.map(lambda leaf: leaf[-1], expected))
        assert result.state.version == NUM_UPDATES


@pytest.mark.parametrize("mode", ["disable_jit", "debug_nans"])
def test_a_toy_problem_runs_step_by_step_with_the_same_result(mode):
    """For whoever debugs a loss: no wave over devices, no vmap, no compiled loop."""
    rng = np.random.default_rng(0)
    samples = {"x": rng.normal(size=(12, 2)).astype(np.float32)}
    clients = fa.data.make_client_data(samples, fa.data.iid(12, 3, rng=rng))

    def loss(params, batch, key):
        return jnp.mean((batch["x"] @ params["w"]) ** 2)

    model = fa.models.make_model(lambda key: {"w": jnp.ones(2)}, loss)
    trace = fa.simulate(
        fa.make_fleet(3, rng=rng), 6, scheduler=fa.Immediate(2), num_steps=2, rng=rng
    )
    worker = fa.make_local_update(
        model, clients, optax.sgd(0.1), batch_size=2, max_steps=2
    )
    rule = fa.mixing.fedasync(0.6, fa.staleness.polynomial(0.5))

    def go():
        variables = model.init(jax.random.key(0))
        return fa.run(trace, worker, rule, variables, jax.random.key(1))

    expected = go()
    context = jax.disable_jit() if mode == "disable_jit" else jax.debug_nans(True)
    with context:
        assert choose_batching().num_devices == (1 if mode == "disable_jit" else 2)
        found = go()
    np.testing.assert_allclose(
        found.state.variables.params["w"],
        expected.state.variables.params["w"],
        rtol=1e-5,
    )
