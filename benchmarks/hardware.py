"""What a task asks of the hardware, and what the hardware gives to a matrix product.

The share of the peak says how much of a device the training itself can use: small
models never use much, whatever runs them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.ceilings import find_common_steps
from benchmarks.timing import Candidate, measure_speeds
from benchmarks.workloads import BenchmarkJob
from fedasync_jax.engine.task_size import TaskSize, measure_task

_SIDE = {"cpu": 1024}  # of the matrices; large enough to be busy, small enough to wait
_SIDE_ELSEWHERE = 8192
_PRODUCTS = 8


class Work(NamedTuple):
    """What one task of H steps asks for.

    Attributes:
      flops: of its matrix products and convolutions.
      xla_flops: of all, as XLA counts them before it optimizes; None if it does not.
      bytes_accessed: by XLA's count, without what its fusions save; None likewise.
      model_bytes: of the model that is sent, and of that which comes back.
    """

    flops: float
    xla_flops: float | None
    bytes_accessed: float | None
    model_bytes: float


def measure_job(job: BenchmarkJob) -> TaskSize:
    """Return the size of a task as the engine sees it."""
    _, local_update, _, variables, key = job.federation
    return measure_task(local_update, variables, key)


def count_work(job: BenchmarkJob) -> Work:
    """Count the work of a task; a step is counted, H times."""
    trace, local_update, _, variables, key = job.federation
    steps, size = find_common_steps(trace), measure_job(job)
    step = jax.jit(lambda variables, key: local_update(variables, jnp.int32(0), key, 1))
    found = step.lower(variables, key).cost_analysis() or {}
    of_xla = (found.get(name) for name in ("flops", "bytes accessed"))
    xla_flops, accessed = (None if n is None else n * steps for n in of_xla)
    return Work(size.step_flops * steps, xla_flops, accessed, size.model_bytes)


def make_product(mesh: Mesh | None, side: int = 0) -> Candidate:
    """Return a float32 product of large square matrices, on every device at once.

    Its ``num_updates`` are floating-point operations. On accelerators the precision is
    the default one, as in training.
    """
    mesh = mesh or Mesh(np.array(jax.devices()[:1]), ("devices",))
    side = side or _SIDE.get(jax.default_backend(), _SIDE_ELSEWHERE)
    split = NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))

    def multiply(left: jax.Array, right: jax.Array) -> jax.Array:
        for _ in range(_PRODUCTS):  # one depends on the other
            left = left @ right
        return left

    spec = PartitionSpec(mesh.axis_names[0])
    on_all = jax.shard_map(
        multiply, mesh=mesh, in_specs=(spec, spec), out_specs=spec, check_vma=False
    )
    compiled = jax.jit(on_all)
    values = np.full((mesh.size * side, side), 1 / side, np.float32)
    left, right = (jax.device_put(values, split) for _ in range(2))
    flops = 2 * side**3 * _PRODUCTS * mesh.size
    return Candidate(
        f"matrix products of side {side:,}, {mesh.size} device(s)",
        flops,
        lambda: jax.block_until_ready(compiled(left, right)),
    )


def measure_peak(mesh: Mesh | None, repeats: int) -> float:
    """Return floating-point operations per second of the product, in the median."""
    product = make_product(mesh)
    product.run()  # compiles
    (speed,) = measure_speeds([product], repeats)
    return speed.median
