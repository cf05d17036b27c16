"""Batching: how the tasks of a wave share the hardware.

On an accelerator all tasks of a device stand under one ``vmap``. On a CPU a device
works through them in chunks, and every core is a device of its own. No result depends
on it beyond the rounding of floats.

Shapes: D devices, W tasks a wave (with its padding), L = W / D tasks a device.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec

from fedasync_jax import tree
from fedasync_jax.base import Array, PyTree
from fedasync_jax.engine.processes import find_processes, find_processes_of
from fedasync_jax.engine.task_size import TaskSize, fit_width

_CPU_CHUNK = 8  # measured by scripts/benchmark.py
_LARGE_STEP = 4e6  # flops; one that is larger gains nothing under vmap
_WIDTH = 64  # of waves on a CPU, and where nothing is known
_SMALL = 65_536  # entries of a leaf that travels together with others


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


def on_mesh(fn: Callable, mesh: Mesh | None) -> Callable:
    """Return ``fn`` run by every device of the mesh on replicated arguments."""
    if mesh is None:
        return fn
    replicated = PartitionSpec()
    return jax.shard_map(
        fn, mesh=mesh, in_specs=replicated, out_specs=replicated, check_vma=False
    )


def map_tasks(
    fn: Callable[[PyTree], PyTree], tasks: PyTree, count: Array, batching: Batching
) -> Callable[[Array], PyTree]:
    """Do the first ``count`` of W tasks and return ``result(i)``, ``fn`` of task i.

    To be called inside of ``on_mesh``. Task i is done by device i mod D, so that a wave
    that is not full leaves every device about the same work. Results beyond ``count``
    are anything.
    """
    if batching.mesh is None:
        rows = _in_chunks(fn, tasks, count, batching.chunk)
        return lambda i: tree.take(rows, i)
    axis, num_devices = batching.mesh.axis_names[0], batching.num_devices
    device = jax.lax.axis_index(axis)
    mine = tree.take(_fold(tasks, num_devices), (slice(None), device))
    my_count = (count - device + num_devices - 1) // num_devices
    packed_fn, unpack = _pack(fn, tree.take(tasks, 0))
    rows = _in_chunks(packed_fn, mine, my_count, batching.chunk)
    # [D L, ..], device after device, and read out of order below: to gather in order,
    # along another axis than the first, takes a CPU seven times longer.
    gathered = jax.lax.all_gather(rows, axis, tiled=True)
    length = jax.tree.leaves(rows)[0].shape[0]

    def result(i: Array) -> PyTree:
        place = (i % num_devices) * length + i // num_devices
        return unpack(tree.take(gathered, place))

    return result


def _fold(tasks: PyTree, num_devices: int) -> PyTree:
    """Return leaves [W, ...] as [L, D, ...]."""
    return jax.tree.map(
        lambda leaf: leaf.reshape(-1, num_devices, *leaf.shape[1:]), tasks
    )


def _pack(
    fn: Callable[[PyTree], PyTree], task: PyTree
) -> tuple[Callable[[PyTree], list[Array]], Callable[[list[Array]], PyTree]]:
    """Return ``fn`` with few arrays as its result, and the way back.

    So a model travels between devices in few pieces, as each costs a meeting of the
    devices: its small leaves as one vector, which comes first, and its large leaves
    alone, since it would take a CPU far longer to pack them.
    """
    leaves, treedef = jax.tree.flatten(jax.eval_shape(fn, task))
    is_small = [leaf.size <= _SMALL and _fits_a_float(leaf.dtype) for leaf in leaves]

    def choose(leaves: list[Array], small: bool) -> list[Array]:
        return [x for x, s in zip(leaves, is_small, strict=True) if s == small]

    def ravel(leaves: list[Array]) -> tuple[Array, Callable]:
        with jax.numpy_dtype_promotion("standard"):  # a flag travels as a float
            return ravel_pytree(leaves)

    def packed_fn(task: PyTree) -> list[Array]:
        leaves = jax.tree.leaves(fn(task))
        return [ravel(choose(leaves, True))[0], *choose(leaves, False)]

    blanks = [jnp.zeros(leaf.shape, leaf.dtype) for leaf in choose(leaves, True)]
    unravel = ravel(blanks)[1]

    def unpack(packed: list[Array]) -> PyTree:
        small, large = iter(unravel(packed[0])), iter(packed[1:])
        return treedef.unflatten(next(small if s else large) for s in is_small)

    return packed_fn, unpack


def _fits_a_float(dtype: Any) -> bool:
    """Return whether a float holds every number of the type; a counter may be large."""
    return jnp.issubdtype(dtype, jnp.floating) or dtype == jnp.bool_


def _in_chunks(
    fn: Callable[[PyTree], PyTree], tasks: PyTree, count: Array, chunk: int | None
) -> PyTree:
    """Return ``fn`` of the first ``count`` of L tasks, ``chunk`` at a time under vmap.

    What is left and fills no half of a chunk is done one by one, so that a narrow wave
    costs no more than it must. Rows beyond ``count`` hold anything.
    """
    length = jax.tree.leaves(tasks)[0].shape[0]
    one = functools.partial(_do_one, fn)
    if length == 1:
        return one(tasks)
    if chunk is None:
        return jax.vmap(fn)(tasks)
    shapes = jax.eval_shape(jax.vmap(fn), tasks)
    results = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    in_chunks = 1 < chunk <= length
    num_chunks = (count + (chunk - 1) // 2) // chunk if in_chunks else 0

    def do(fn: Callable, width: int) -> Callable[[Array, PyTree], PyTree]:
        """Return the body of a loop over begins, ``width`` tasks from there on."""

        def body(begin: Array, results: PyTree) -> PyTree:
            # The last may overlap the one before it rather than leave the array.
            begin = jnp.minimum(begin, length - width)
            some = jax.tree.map(
                lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, begin, width), tasks
            )
            return jax.tree.map(
                lambda rows, new: jax.lax.dynamic_update_slice_in_dim(
                    rows, new, begin, 0
                ),
                results,
                fn(some),
            )

        return body

    if in_chunks:
        chunks = do(jax.vmap(fn), chunk)
        results = jax.lax.fori_loop(
            0, num_chunks, lambda i, results: chunks(i * chunk, results), results
        )
    return jax.lax.fori_loop(num_chunks * chunk, count, do(one, 1), results)


def _do_one(fn: Callable[[PyTree], PyTree], tasks: PyTree) -> PyTree:
    """Return ``fn`` of one task without a batch axis: a convolution stays ordinary."""
    return jax.tree.map(lambda leaf: leaf[None], fn(tree.take(tasks, 0)))
