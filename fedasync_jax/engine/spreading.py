"""How devices work through the tasks of a wave.

One device trains a chunk of them and mixes it before it trains the next: the models
are still in its cache, and no array of a whole wave is written and read again. Several
devices train all tasks of a wave, exchange them and mix them all: to meet costs more.

Shapes: D devices, W tasks a wave (with its padding), L = W / D tasks a device.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec

from fedasync_jax import tree
from fedasync_jax.base import Array, ArrayLike, PyTree
from fedasync_jax.engine.batching import Batching

_SMALL = 65_536  # entries of a leaf that travels together with others

Result = Callable[[Array], PyTree]  # of a task, by its number in the wave


class Train(Protocol):
    """Trains tasks, each from the model that it received."""

    def __call__(self, carry: PyTree, tasks: PyTree, /) -> PyTree:
        """Return the results of w tasks, leaves [w, ...], given the models before."""
        ...


class Mix(Protocol):
    """Mixes what came back."""

    def __call__(
        self, carry: PyTree, result: Result, begin: Array, end: Array, most: int, /
    ) -> PyTree:
        """Return the models after tasks begin .. end - 1, at most ``most`` of them."""
        ...


def on_mesh(fn: Callable, mesh: Mesh | None) -> Callable:
    """Return ``fn`` run by every device of the mesh on replicated arguments."""
    if mesh is None:
        return fn
    replicated = PartitionSpec()
    return jax.shard_map(
        fn, mesh=mesh, in_specs=replicated, out_specs=replicated, check_vma=False
    )


def train_and_mix(
    train: Train,
    mix: Mix,
    carry: PyTree,
    tasks: PyTree,
    count: Array,
    batching: Batching,
) -> PyTree:
    """Return the models after the first ``count`` of W tasks.

    To be called inside of ``on_mesh``. No task starts from a slot that one before it in
    the wave has written.

    Args:
      train: see ``Train``.
      mix: see ``Mix``; it is handed the tasks in their order.
      carry: models before.
      tasks: leaves [W, ...].
      count: 1 <= count <= W.
      batching: see ``Batching``.
    """
    if batching.mesh is not None:
        result = _exchange(functools.partial(train, carry), tasks, count, batching)
        return mix(carry, result, jnp.int32(0), count, _count(tasks))

    def do(some: PyTree, first: Array, begin: Array, carry: PyTree) -> PyTree:
        trained, width = train(carry, some), _count(some)
        end = jnp.minimum(begin + width, count)
        return mix(carry, lambda i: tree.take(trained, i - first), begin, end, width)

    return _in_chunks(do, carry, tasks, count, batching.chunk)


def _exchange(
    train: Callable[[PyTree], PyTree], tasks: PyTree, count: Array, batching: Batching
) -> Result:
    """Train tasks on all devices of the mesh and return the result of each.

    Task i is trained by device i mod D, so that a wave that is not full leaves every
    device about the same work. Results beyond ``count`` are anything.
    """
    mesh = cast(Mesh, batching.mesh)
    axis, num_devices = mesh.axis_names[0], mesh.size
    device = jax.lax.axis_index(axis)
    mine = tree.take(_fold(tasks, num_devices), (slice(None), device))
    my_count = (count - device + num_devices - 1) // num_devices
    length = _count(mine)
    one = jax.eval_shape(train, _slice(mine, 0, 1))
    pack, unpack = _make_packing(one)

    def do(some: PyTree, first: Array, begin: Array, rows: list[Array]) -> list[Array]:
        del begin
        packed = pack(train(some))
        if _count(some) == length:
            return packed
        return [
            jax.lax.dynamic_update_slice_in_dim(row, new, first, 0)
            for row, new in zip(rows, packed, strict=True)
        ]

    shapes = jax.eval_shape(pack, one)
    blank = [jnp.zeros((length, *row.shape[1:]), row.dtype) for row in shapes]
    rows = _in_chunks(do, blank, mine, my_count, batching.chunk)
    # [D L, ..], device after device, and read out of order below: to gather in order,
    # along another axis than the first, takes a CPU seven times longer.
    gathered = jax.lax.all_gather(rows, axis, tiled=True)
    # Scalars are unpacked at once: were a row read for a flag and for a leaf, XLA would
    # look for its place again at every entry of the leaf, ten times slower.
    every = jax.vmap(unpack)(gathered)

    def result(i: Array) -> PyTree:
        turn, device = jax.lax.div(i, num_devices), jax.lax.rem(i, num_devices)
        place = device * length + turn
        return jax.tree.map(
            lambda leaf, column: column[place] if leaf.ndim == 0 else leaf,
            unpack(tree.take(gathered, place)),
            every,
        )

    return result


def _in_chunks(
    do: Callable[[PyTree, Array, Array, PyTree], PyTree],
    carry: PyTree,
    tasks: PyTree,
    count: Array,
    chunk: int | None,
) -> PyTree:
    """Return the carry after the first ``count`` of L tasks.

    What is left and fills no half of a chunk is done one by one, so that a narrow wave
    costs no more than it must.

    Args:
      do: ``do(some, first, begin, carry)`` does tasks from ``begin`` on and returns the
        carry after; ``some`` are consecutive tasks, the first of them ``first``.
      carry: before.
      tasks: leaves [L, ...].
      count: at most L.
      chunk: tasks at a time; None: all at once.
    """
    length = _count(tasks)

    def do_some(width: int, begin: Array, carry: PyTree) -> PyTree:
        # The last may overlap those before them rather than leave the array.
        first = jnp.minimum(begin, length - width)
        return do(_slice(tasks, first, width), first, begin, carry)

    if length == 1 or chunk is None:
        return do_some(length, jnp.int32(0), carry)
    num_chunks = 0
    if 1 < chunk <= length:
        num_chunks = (count + (chunk - 1) // 2) // chunk
        carry = jax.lax.fori_loop(
            0, num_chunks, lambda i, carry: do_some(chunk, i * chunk, carry), carry
        )
    do_one = functools.partial(do_some, 1)
    return jax.lax.fori_loop(num_chunks * chunk, count, do_one, carry)


def _make_packing(
    one: PyTree,
) -> tuple[Callable[[PyTree], list[Array]], Callable[[list[Array]], PyTree]]:
    """Return how a batch of results is packed into few arrays, and one is unpacked.

    So a model travels between devices in few pieces, as each costs a meeting of the
    devices: its small leaves as one vector, which comes first, and its large leaves
    alone, since it would take a CPU far longer to pack them.

    Args:
      one: a batch of one result, or its shapes.
    """
    leaves, treedef = jax.tree.flatten(one)
    is_small = [leaf.size <= _SMALL and _fits_a_float(leaf.dtype) for leaf in leaves]

    def choose(leaves: list[Array], small: bool) -> list[Array]:
        return [x for x, s in zip(leaves, is_small, strict=True) if s == small]

    def ravel(leaves: list[Array]) -> tuple[Array, Callable]:
        with jax.numpy_dtype_promotion("standard"):  # a flag travels as a float
            return ravel_pytree(leaves)

    def pack(batch: PyTree) -> list[Array]:
        leaves = jax.tree.leaves(batch)
        small = jax.vmap(lambda row: ravel(row)[0])(choose(leaves, True))
        return [small, *choose(leaves, False)]

    blanks = [jnp.zeros(leaf.shape[1:], leaf.dtype) for leaf in choose(leaves, True)]
    unravel = ravel(blanks)[1]

    def unpack(packed: list[Array]) -> PyTree:
        small, large = iter(unravel(packed[0])), iter(packed[1:])
        return treedef.unflatten(next(small if s else large) for s in is_small)

    return pack, unpack


def _fits_a_float(dtype: Any) -> bool:
    """Return whether a float holds every number of the type; a counter may be large."""
    return jnp.issubdtype(dtype, jnp.floating) or dtype == jnp.bool_


def _count(batch: PyTree) -> int:
    return jax.tree.leaves(batch)[0].shape[0]


def _fold(tasks: PyTree, num_devices: int) -> PyTree:
    """Return leaves [W, ...] as [L, D, ...]."""
    return jax.tree.map(
        lambda leaf: leaf.reshape(-1, num_devices, *leaf.shape[1:]), tasks
    )


def _slice(batch: PyTree, begin: ArrayLike, width: int) -> PyTree:
    """Return the ``width`` rows from ``begin`` on."""
    return jax.tree.map(
        lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, begin, width), batch
    )
