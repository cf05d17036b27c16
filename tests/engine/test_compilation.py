"""What is compiled, and that nothing is compiled twice: counted by JAX itself."""

import collections
import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

import fedasync_jax as fa
from fedasync_jax import mixing
from fedasync_jax.base import Arrivals, ClientData
from fedasync_jax.mixing import staleness
from fedasync_jax.models import make_model

NUM_CLIENTS, NUM_UPDATES = 16, 48
COMPILED = "/jax/core/compile/backend_compile_duration"
START = (1.0, -1.0)

_compiled: list[str] = []


def _note(event: str, duration_secs: float, **details: str | int) -> None:
    if event == COMPILED:
        _compiled.append(str(details.get("fun_name", "unknown")))


jax.monitoring.register_event_duration_secs_listener(_note)


@contextlib.contextmanager
def counting():
    """Give a counter that holds, afterwards, what was compiled, by name."""
    counter, begin = collections.Counter(), len(_compiled)
    yield counter
    counter.update(_compiled[begin:])


def waves_in(counter):
    return sum(number for name, number in counter.items() if "run_wave" in name)


def test_the_counter_counts():
    function = jax.jit(lambda x: x * 3 + 1)
    x = jnp.ones(7)
    with counting() as first:
        function(x).block_until_ready()
    with counting() as second:
        function(x).block_until_ready()
    assert first.total() == 1
    assert second.total() == 0


def loss_fn(params, batch, key):
    del key
    return jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2)


def init_fn(key):
    return {"w": jnp.array(START)}


def make_arrays(num_samples, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_samples, 2)).astype(np.float32)
    return {"x": x, "y": rng.normal(size=num_samples).astype(np.float32)}


def make_worker(model):
    counts = np.full(NUM_CLIENTS, 3, np.int32)
    offsets = 3 * np.arange(NUM_CLIENTS, dtype=np.int32)
    rows = np.arange(3 * NUM_CLIENTS, dtype=np.int32)
    data = ClientData(make_arrays(len(rows)), rows, offsets, counts)
    optimizer = optax.chain(fa.add_proximal(0.1), optax.sgd(0.1))
    return fa.make_local_update(model, data, optimizer, batch_size=2, max_steps=2)


def make_trace(seed=0, num_steps: Any = 2):
    """Waves of many widths, and the same number of slots for every seed."""
    return fa.sampled_staleness(
        NUM_CLIENTS,
        NUM_UPDATES,
        max_staleness=16,
        num_steps=num_steps,
        rng=np.random.default_rng(seed),
    )


def widths_of(trace, batching, eval_every=NUM_UPDATES):
    waves = fa.schedule.make_waves(
        trace.start_version,
        batching.max_width,
        stops=range(0, NUM_UPDATES + 1, eval_every),
    )
    return {batching.padded(end - begin) for begin, end in waves}


def make_batching(num_devices, max_width=16, chunk=None):
    devices = np.array(jax.devices()[:2])
    mesh = Mesh(devices, ("devices",)) if num_devices == 2 else None
    return fa.Batching(max_width=max_width, chunk=chunk, mesh=mesh)


class Parts:
    """The objects of a run, to be used in several."""

    def __init__(self, num_devices=1, max_width=16):
        self.model = make_model(init_fn, loss_fn)
        self.worker = make_worker(self.model)
        self.mixer = mixing.fedasync(0.5, staleness.polynomial(0.5))
        self.batching = make_batching(num_devices, max_width)
        self.evaluate = fa.make_evaluate(self.model, make_arrays(8, 1), batch_size=4)

    def start(self):
        return self.model.init(jax.random.key(0))

    def run(self, trace, seed=0, **settings):
        key, variables = jax.random.key(seed), self.start()
        settings["batching"] = self.batching
        with counting() as counter:
            fa.run(trace, self.worker, self.mixer, variables, key, **settings)
        return counter


@pytest.mark.parametrize("num_devices", [1, 2])
def test_the_second_run_compiles_nothing(num_devices):
    parts = Parts(num_devices)
    trace = make_trace()
    settings = {"evaluate_fn": parts.evaluate, "eval_every": 5}
    first = parts.run(trace, **settings)
    widths = widths_of(trace, parts.batching, 5)
    assert waves_in(first) == len(widths) > 1
    assert parts.run(trace, seed=3, **settings).total() == 0
    # Nor do other dates of evaluation, or none, but for waves that they leave whole.
    for seed, every in ((4, 5 * 2), (5, NUM_UPDATES)):
        settings["eval_every"] = every
        new = widths_of(trace, parts.batching, every) - widths
        compiled = parts.run(trace, seed=seed, **settings)
        assert waves_in(compiled) == len(new)
        assert new or compiled.total() == 0
        widths |= new


@pytest.mark.parametrize("num_devices", [1, 2])
def test_waves_in_chunks_are_one_program_however_wide(num_devices):
    parts = Parts(num_devices)
    parts.batching = make_batching(num_devices, chunk=4)
    programs = [
        waves_in(parts.run(make_trace(seed), seed, eval_every=every))
        for seed, every in ((0, NUM_UPDATES), (0, 5), (1, 7), (2, 1))
    ]
    assert programs == [1, 0, 0, 0]


@pytest.mark.parametrize("num_devices", [1, 2])
def test_another_trace_compiles_new_widths_only(num_devices):
    parts = Parts(num_devices)
    settings = {"evaluate_fn": parts.evaluate, "eval_every": 5}
    seen = set()
    for seed in range(4):
        trace = make_trace(seed)
        assert trace.num_slots == 16
        widths = widths_of(trace, parts.batching, 5)
        assert waves_in(parts.run(trace, seed, **settings)) == len(widths - seen)
        seen |= widths
    assert len(seen) > 2


@pytest.mark.parametrize("num_devices", [1, 2])
def test_the_programs_of_a_run_are_logarithmically_many(num_devices):
    max_width = 16
    parts = Parts(num_devices, max_width)
    programs = 0
    for seed in range(12):
        programs += waves_in(parts.run(make_trace(seed)))
    per_device = max_width // num_devices
    assert 3 <= programs <= np.log2(per_device) + 1


@pytest.mark.parametrize("num_devices", [1, 2])
def test_evaluation_adds_a_program_per_device_and_a_tiny_one(num_devices):
    parts = Parts(num_devices)
    trace = make_trace(1)
    parts.run(trace, eval_every=1)
    compiled = parts.run(trace, evaluate_fn=parts.evaluate, eval_every=1)
    assert waves_in(compiled) == 0
    assert compiled.pop("jit(copy_judged)", 0) <= 1
    # The metrics of the one size of batch; sums and means are shared by all tests.
    for name in ("jit(_means)", "jit(_add_all)"):
        compiled.pop(name, None)
    assert compiled == {"jit(metrics)": num_devices}


def test_h_that_differs_from_task_to_task_is_one_program_more_and_no_more():
    parts = Parts(max_width=1)
    assert waves_in(parts.run(make_trace(num_steps=1))) == 1
    assert waves_in(parts.run(make_trace(num_steps=2))) == 1
    per_client = 1 + np.arange(NUM_CLIENTS) % 2
    assert waves_in(parts.run(make_trace(num_steps=per_client))) == 1
    drawn = make_trace(num_steps=(1, 2))
    assert waves_in(parts.run(drawn)) == 0


def test_weakly_typed_numbers_of_the_caller_do_not_double_the_programs():
    def worker(variables, client, key, num_steps):
        half = jax.tree.map(lambda leaf: leaf / 2, variables)
        return half, fa.base.LocalInfo(loss=jnp.zeros(()))

    variables: Any = {"weak": jnp.array(2.0), "full": jnp.full(3, 0.5)}
    trace, mixer = make_trace(), mixing.fedasync(0.5, staleness.constant())
    key, batching = jax.random.key(0), make_batching(1, max_width=1)
    with counting() as counter:
        fa.run(trace, worker, mixer, variables, key, batching=batching)
    assert waves_in(counter) == 1


def test_a_resumed_run_compiles_no_wave():
    parts = Parts()
    trace, key = make_trace(2), jax.random.key(0)
    parts.run(trace)
    state = fa.engine.init_state(trace, parts.mixer, parts.start())
    loop = fa.engine.iterate(
        trace, parts.worker, parts.mixer, state, key, batching=parts.batching
    )
    state, _ = next(loop)
    assert 0 < state.version < NUM_UPDATES
    assert waves_in(parts.run(trace, state=state)) == 0


def _with_table(rule, trace):
    d = trace.count_staleness(rule.versions_every)
    rest = np.ones(NUM_UPDATES, np.int32)
    weights = rule.weights(Arrivals(trace.client, d, rest, rest, rest))
    return rule.with_weights(weights)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (mixing.delta(0.1), mixing.delta(0.3, staleness.hinge(10, 4))),
        (mixing.fedbuff(4), mixing.fedbuff(7, 2.0, staleness.constant())),
        (
            mixing.averaged(mixing.tethered(), 9.0),
            mixing.averaged(mixing.tethered(0.2, 3.0, 0.0), 3.0),
        ),
        (mixing.server_optimizer("adam", 0.1), mixing.server_optimizer("adam", 0.3, 0)),
    ],
    ids=["delta", "fedbuff", "averaged tethered", "server"],
)
def test_other_numbers_of_a_rule_compile_no_wave(one, other):
    parts = Parts(max_width=4)
    parts.mixer = _with_table(one, make_trace(0))
    assert waves_in(parts.run(make_trace(0))) > 0
    parts.mixer = _with_table(other, make_trace(0))
    assert waves_in(parts.run(make_trace(0))) == 0
