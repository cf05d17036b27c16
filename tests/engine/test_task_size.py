"""What a step costs is counted by hand, and decides how tasks are batched."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fedasync_jax as fa
from fedasync_jax.base import LocalInfo
from fedasync_jax.engine.algorithm import suit_batching
from fedasync_jax.engine.batching import choose_batching
from fedasync_jax.engine.task_size import TaskSize, measure_task

KEY = jax.random.key(0)


def count(fn, *arrays):
    def worker(variables, client, key, num_steps) -> Any:
        return fn(*variables), LocalInfo(jnp.zeros(()))

    variables: Any = arrays
    return measure_task(worker, variables, KEY).step_flops


def test_a_matrix_product_has_two_operations_a_summand():
    a, b = jnp.ones((3, 5)), jnp.ones((5, 7))
    assert count(jnp.matmul, a, b) == 2 * 3 * 5 * 7
    batched = jnp.ones((4, 3, 5)), jnp.ones((4, 5, 7))
    assert count(jnp.matmul, *batched) == 4 * 2 * 3 * 5 * 7


def test_loops_count_as_often_as_they_turn_and_branches_once():
    a = jnp.ones((3, 3))
    one = 2 * 27

    def scanned(a):
        return jax.lax.fori_loop(0, 10, lambda i, x: jax.jit(jnp.matmul)(x, a), a)

    def branched(a):
        return jax.lax.cond(a[0, 0] > 0, lambda: a @ a @ a, lambda: a)

    assert count(scanned, a) == 10 * one
    assert count(branched, a) == 2 * one


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_counts_every_weight_at_every_place(groups):
    x, w = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4 // groups, 6))

    def convolve(x, w):
        return jax.lax.conv_general_dilated(
            x,
            w,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    assert count(convolve, x, w) == 2 * (2 * 8 * 8 * 6) * (3 * 3 * 4 // groups)


def make_worker(width):
    model = fa.models.make_classifier("mlp", (8,), 3, hidden=(width,))
    samples = {"x": np.ones((6, 8), np.float32), "y": np.zeros(6, np.int32)}
    part = fa.data.iid(6, 2, rng=np.random.default_rng(0))
    clients = fa.data.make_client_data(samples, part)
    optimizer = optax.sgd(0.1)
    worker = fa.make_local_update(model, clients, optimizer, batch_size=2, max_steps=4)
    return model, worker


def test_a_step_of_a_network_is_its_products_forward_and_back():
    """The first layer's inputs need no gradient; a task may have more steps."""
    model, worker = make_worker(16)
    found = measure_task(worker, model.init(KEY), KEY).step_flops
    assert found == 2 * 2 * (2 * 8 * 16 + 3 * 16 * 3)


def test_large_steps_are_done_one_by_one_on_a_cpu():
    devices = jax.devices()[:2]
    small = choose_batching(devices, task=TaskSize(step_flops=1e6))
    large = choose_batching(devices, task=TaskSize(step_flops=1e7))
    assert small == choose_batching(devices)
    assert large.max_width == 2 and large.chunk is None and not large.one_at_a_time


@pytest.mark.parametrize(("width", "is_large"), [(16, False), (50_000, True)])
def test_the_engine_asks_by_itself(width, is_large):
    model, worker = make_worker(width)
    trace = fa.sampled_staleness(
        2, 3, max_staleness=2, num_steps=4, rng=np.random.default_rng(0)
    )
    mixer = fa.mixing.fedasync(0.5, fa.staleness.constant())
    run = fa.Run(trace, worker, mixer, model.init(KEY), KEY)
    scales = fa.engine.StepScales(fa.engine.reduce_on_plateau("loss", 0.5))
    for one in (run, run._replace(step_scales=scales)):
        assert (suit_batching(one).chunk is None) == is_large


def test_memory_is_that_of_all_results_of_a_step():
    def worker(variables, client, key, num_steps) -> Any:
        def twice(i, x):
            return jax.jit(lambda x: x * 2)(x)  # 40 bytes, and the 4 of the counter

        doubled = jax.lax.fori_loop(0, 9, twice, variables.params)
        return fa.Variables(doubled), LocalInfo(jnp.zeros(()))

    size = measure_task(worker, fa.Variables(jnp.ones(10)), KEY)
    assert size.model_bytes == 40
    assert 40 + 40 <= size.num_bytes <= 40 + 40 + 3 * 4


class Accelerator:
    """What the choice looks at of a device."""

    platform = "gpu"

    def __init__(self, num_bytes=None):
        self.num_bytes = num_bytes

    def memory_stats(self):
        """Return what jax does, nothing on some back ends."""
        return self.num_bytes and {"bytes_limit": self.num_bytes}


@pytest.mark.parametrize(
    ("num_bytes", "task", "width"),
    [
        (80e9, TaskSize(model_bytes=2e4, num_bytes=1e6), 512),
        (80e9, TaskSize(model_bytes=10e6, num_bytes=600e6), 64),
        (80e9, TaskSize(model_bytes=10e6, num_bytes=50e9), 1),
        (None, TaskSize(model_bytes=0, num_bytes=100e6), 64),  # of 16 GB
        (80e9, None, 64),
    ],
)
def test_waves_on_an_accelerator_are_as_wide_as_its_memory_allows(
    num_bytes, task, width
):
    batching = choose_batching([Accelerator(num_bytes)], task=task)
    assert batching.max_width == width
    assert batching.product and batching.chunk is None
    assert choose_batching([Accelerator(80e9)], 8, task=task).max_width == 8
