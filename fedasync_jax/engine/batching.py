"""Batching: how the tasks of a wave share the hardware.

On an accelerator all tasks of a device stand under one ``vmap``. On a CPU a device
works through them in chunks, and every core is a device of its own. No result depends
on it beyond the rounding of floats.

Shapes: D devices, W tasks a wave (with its padding), L = W / D tasks a device.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import Mesh

from fedasync_jax.engine.processes import find_processes, find_processes_of
from fedasync_jax.engine.task_size import TaskSize, fit_width

_CPU_CHUNK = 8  # measured by scripts/benchmark.py
_LARGE_STEP = 4e6  # flops; one that is larger gains nothing under vmap
_WIDTH = 64  # of waves on a CPU, and where nothing is known


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batching:
    """How the tasks of a wave share the hardware. No result depends on it.

    Attributes:
      max_width: tasks in a wave, >= 1; longer waves are cut.
      chunk: tasks under one ``vmap`` on a device, >= 1; a device works through its
        tasks chunk by chunk, and the last few of a wave one by one. None: all at once.
      mesh: one-dimensional mesh over whose devices the tasks are spread, those of this
        process or of all that ``jax.distributed`` has joined; None: the default device.
      min_width: tasks that a call is padded to at the least, so that fewer programs are
        compiled, for runs that are short.
      one_at_a_time: whether every wave is a call of its own, which starts when the one
        before it is done: for waves that are long and take much memory.
      product: whether arrivals are mixed many at a time, by a matrix product, where the
        rule is linear (see ``base.Guarded``): for accelerators.
      call_seconds: how long a call of the device should take, about, >= 0: it holds as
        many waves, and stops, progress and checkpoints wait for its end. 0: every wave
        is a call of its own. No program depends on it, so it is not compared.

    Raises:
      ValueError: if a number is out of range, or the mesh has several dimensions or
        devices of some of several processes.
    """

    max_width: int = _WIDTH
    chunk: int | None = None
    mesh: Mesh | None = None
    min_width: int = 1
    one_at_a_time: bool = False
    product: bool = False
    call_seconds: float = dataclasses.field(default=0.1, compare=False)

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("max_width", "chunk", "min_width"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} must be >= 1, got {number}")
        if not self.call_seconds >= 0:
            raise ValueError(f"call_seconds must be >= 0, got {self.call_seconds}")
        if self.mesh is not None and len(self.mesh.axis_names) != 1:
            raise ValueError(
                f"mesh must have one axis, got the axes {self.mesh.axis_names}"
            )
        find_processes_of(self.mesh)

    @property
    def num_devices(self) -> int:
        """D."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def max_in_flight(self) -> int:
        """Calls that may be enqueued at a time: one that runs and one that is next.

        More would let the devices of a CPU back end, which meet in every wave, wait for
        one another for ever: one for room in its queue, the others for that one.
        """
        return 1 if self.one_at_a_time else 2

    def padded(self, num_tasks: int) -> int:
        """Return the W in which a wave of ``num_tasks`` is computed.

        W / D is a power of two, so that few programs are compiled; 1, 4, 16, 32, ..
        where a device works in chunks, so that padding costs next to nothing.
        """
        per_device = -(-max(num_tasks, self.min_width) // self.num_devices)
        if self.chunk is not None and per_device > self.chunk // 2:
            per_device = max(per_device, self.chunk)
        bits = (per_device - 1).bit_length()
        if self.chunk is not None and bits in (1, 3):
            bits += 1
        return self.num_devices << bits


def choose_batching(
    devices: Sequence[Any] | None = None,
    max_width: int | None = None,
    *,
    large_tasks: bool = False,
    task: TaskSize | None = None,
) -> Batching:
    """Return the batching that suits the back end, over all devices.

    Args:
      devices: jax devices; default: all of the default back end, those of the other
        processes that ``jax.distributed`` has joined among them.
      max_width: see ``Batching``; default: 64 on a CPU, and on accelerators up to 512,
        as many as half of their memory holds.
      large_tasks: whether one task is work enough for a core of the CPU, such as a
        convolutional network or a large vocabulary. Then every CPU device trains one
        task a call, under no loop and no ``vmap``; accelerators do not differ.
      task: how large a task is, if known. Where a step is large, every CPU device
        trains one task at a time, under no ``vmap``.

    Under ``jax.disable_jit``, where every operation is a call of its own, tasks run one
    by one on the first device: only so can a debugger step through one of them.

    Raises:
      ValueError: under ``jax.disable_jit``, if there are several processes.
    """
    if cast(Any, jax.config).jax_disable_jit:  # as the context has it
        if find_processes().count > 1:
            raise ValueError("disable_jit needs a process alone, got several")
        return Batching(max_width=1)
    devices = jax.devices() if devices is None else devices
    mesh = Mesh(np.array(devices), ("devices",)) if len(devices) > 1 else None
    if devices[0].platform != "cpu":
        width = max_width or (fit_width(devices, task) if task else _WIDTH)
        return Batching(max_width=width, mesh=mesh, product=True)
    max_width = max_width or _WIDTH
    if large_tasks:
        max_width = min(max_width, len(devices))
        return Batching(max_width=max_width, mesh=mesh, one_at_a_time=True)
    if task is not None and task.step_flops > _LARGE_STEP:
        return Batching(max_width=min(max_width, len(devices)), mesh=mesh)
    return Batching(max_width=max_width, chunk=_CPU_CHUNK, mesh=mesh)
