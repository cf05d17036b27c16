import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedasync_jax import models
from fedasync_jax.experiment import presets
from fedasync_jax.experiment.build import build_workload
from fedasync_jax.experiment.build_worker import make_worker
from fedasync_jax.flower import work

COMPILED = "/jax/core/compile/backend_compile_duration"
_compiled: list[str] = []


def _note(event, duration_secs, **details):
    if event == COMPILED:
        _compiled.append(str(details.get("fun_name")))


jax.monitoring.register_event_duration_secs_listener(_note)


def make_settings(**fields):
    fields = {"epochs": 1.0, "concentration": 1.0, **fields}
    return presets.make_settings(
        methods=("fedasync-constant",), num_clients=4, concurrency=1, **fields
    )


def train(own, settings, number=7):
    x_0 = jax.jit(build_workload(settings).model.init)(settings.make_key("init"))
    return own.train(x_0, work.task_key(settings, number))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"epochs": None, "num_steps": 7},
        {"sampling": "replacement", "epochs": None},
        {"momentum": 0.5, "weight_decay": 1e-3, "rho": 0.1},
    ],
)
def test_a_client_trains_as_in_a_simulation(fields):
    """With its own samples only, but the simulator's keys: the same numbers."""
    settings = make_settings(**fields)
    workload = build_workload(settings)
    worker = make_worker(settings.worker, workload, rho=settings.worker.proximal_weight)
    x_0 = jax.jit(workload.model.init)(settings.make_key("init"))
    key = jax.random.fold_in(settings.make_key("tasks"), 7)
    for client in range(4):
        own = work.load_partitions(settings, [client])[0]
        assert own.num_samples == workload.counts[client] and own.partition == client
        steps = np.broadcast_to(np.asarray(workload.steps), 4)  # pyright: ignore
        assert own.num_steps == steps[client]
        expected, info = worker(x_0, jnp.int32(client), key, int(own.num_steps))
        found, loss = own.train(x_0, key)
        for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
        np.testing.assert_allclose(loss, info.loss, rtol=1e-5)


def test_a_second_task_compiles_nothing():
    settings = make_settings()
    own = work.load_partitions(settings, [0])[0]
    train(own, settings, 1)
    begin = len(_compiled)
    x_0, _ = train(own, settings, 2)
    own.train(jax.device_get(x_0), work.task_key(settings, 3))
    assert [name for name in _compiled[begin:] if "run" in name] == []


def test_own_samples_are_trained_on():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3)).astype(np.float32)
    samples = {"x": x, "y": x @ np.array([1.0, -2.0, 3.0], np.float32)}
    model = models.make_model(
        lambda key: {"w": jnp.zeros(3)},
        lambda params, batch, key: jnp.mean(
            (batch["x"] @ params["w"] - batch["y"]) ** 2
        ),
    )
    settings = make_settings(epochs=4.0, step_size=0.1)
    (own,) = work.make_works(settings, model, [samples])
    assert (own.num_samples, own.num_steps, own.partition) == (50, 20, -1)
    trained, loss = own.train(own.like, work.task_key(settings, 0))
    assert np.abs(trained.params["w"] - np.array([1.0, -2.0, 3.0])).max() < 0.3
    assert float(loss) < 10


@pytest.mark.parametrize("partition", [-1, 4])
def test_a_part_that_is_not_there_is_told(partition):
    with pytest.raises(ValueError, match=r"partition-id must be in 0\.\.3"):
        work.load_partitions(make_settings(), [partition])[0]


_TWICE = """
import sys, jax
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.flower import work
from fedasync_jax.jobs.compile_cache import keep_compiled_programs
keep_compiled_programs()
settings = make_settings(methods=("fedasync-constant",), num_clients=4, concurrency=1)
own = work.load_partitions(settings, [int(sys.argv[1])])[0]
own.train(own.like, work.task_key(settings, 0))
"""


def test_a_new_process_compiles_nothing_anew(tmp_path):
    """Whatever the first process compiled, the second one finds on the disk."""
    env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs")}
    found = []
    for _ in range(2):
        command = [sys.executable, "-c", _TWICE, "0"]
        subprocess.run(command, env=env, check=True)
        files = (tmp_path / "programs").iterdir()
        found.append({p.name for p in files if p.name.endswith("-cache")})
    assert any(name.startswith("jit_run") for name in found[0])
    assert found[0] == found[1]


def test_keys_differ_from_task_to_task_and_with_the_seed():
    settings = make_settings()
    other = settings.replace(seed=1)
    keys = [work.task_key(s, n) for s in (settings, other) for n in (0, 1)]
    data = {tuple(jax.random.key_data(key).tolist()) for key in keys}
    assert len(data) == 4
