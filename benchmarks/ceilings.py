"""Local steps without federation: what no engine on the same devices can exceed.

A ceiling trains the tasks of a federation, each model going on from where its last task
left it: nothing is gathered, mixed, stored or exchanged. It comes in two forms, of
which the faster counts:

* ``make_fused_loop``: all tasks in one jitted loop, some of them side by side;
* ``make_host_loop``: a jitted call per task and device from a loop on the host, whose
  steps stand in no loop of XLA's if the local update is unrolled.

Shapes: T updates, D devices.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import fedasync_jax as fa
from benchmarks.timing import Candidate, time_call
from fedasync_jax import tree
from fedasync_jax.base import Array, PyTree
from fedasync_jax.engine.sharing import replicate


class Federation(NamedTuple):
    """A workload of the engine: arguments of ``fedasync_jax.run``."""

    trace: fa.schedule.Trace
    local_update: fa.base.LocalUpdate
    mixer: fa.Mixer
    variables: fa.Variables
    key: jax.Array


def choose_ceiling(
    federation: Federation,
    mesh: Mesh | None,
    *,
    widths: Sequence[int],
    host_loop: bool,
    num_updates: int,
) -> Candidate:
    """Return the fastest form, compiled.

    Args:
      federation: whose tasks are trained, the first ``num_updates`` of them.
      mesh: the devices; None: the default device.
      widths: of the fused loops to try.
      host_loop: whether to try the host loop.
      num_updates: at least; the last turn of a loop may train a few more.
    """
    mesh = mesh or Mesh(np.array(jax.devices()[:1]), ("devices",))
    per_device = max(num_updates // mesh.size, 1)
    forms = [
        make_fused_loop(federation, mesh, width, num_updates)
        for width in widths
        if width <= per_device
    ]
    if host_loop:
        forms.append(make_host_loop(federation, mesh, num_updates))
    for form in forms:
        form.run()  # compiles
    if len(forms) == 1:
        return forms[0]
    return min(forms, key=lambda form: time_call(form.run) / form.num_updates)


def make_fused_loop(
    federation: Federation, mesh: Mesh, width: int, num_updates: int
) -> Candidate:
    """Return one jitted loop on each device, with ``width`` models under ``vmap``."""
    axis = mesh.axis_names[0]
    num_turns = -(-num_updates // (mesh.size * width))
    num_steps = find_common_steps(federation.trace)

    def train_on_device(
        variables: fa.Variables,
        local_update: fa.base.LocalUpdate,
        table: Array,
        key: Array,
    ) -> PyTree:
        device = jax.lax.axis_index(axis)

        def train_task(variables: fa.Variables, row: Array) -> PyTree:
            client, task = row
            task_key = jax.random.fold_in(key, task)
            return local_update(variables, client, task_key, num_steps)

        def turn(i: Array, carry: PyTree) -> PyTree:
            variables, loss_sum = carry
            first_row = (i * mesh.size + device) * width
            rows = (first_row + jnp.arange(width)) % table.shape[0]
            if width == 1:  # no batch axis, as in the engine
                one, info = train_task(tree.take(variables, 0), table[rows[0]])
                trained = jax.tree.map(lambda leaf: leaf[None], one)
            else:
                trained, info = jax.vmap(train_task)(variables, table[rows])
            return trained, loss_sum + info.loss

        start = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (width, *leaf.shape)), variables
        )
        return jax.lax.fori_loop(0, num_turns, turn, (start, jnp.zeros(width)))

    split = PartitionSpec(axis)
    train = jax.jit(_spread(train_on_device, mesh, PartitionSpec(), split))
    arguments = replicate((federation.variables, *_constants(federation)), mesh)
    return Candidate(
        f"one fused loop, {width} under vmap",
        num_turns * mesh.size * width,
        lambda: jax.block_until_ready(train(*arguments))[0],
    )


def make_host_loop(federation: Federation, mesh: Mesh, num_updates: int) -> Candidate:
    """Return a loop on the host that has every device train one task a call.

    The models are donated from call to call, and no device waits for another.
    """
    axis = mesh.axis_names[0]
    num_turns = -(-num_updates // mesh.size)
    num_steps = find_common_steps(federation.trace)

    def train_on_device(
        models: PyTree,
        turn: Array,
        local_update: fa.base.LocalUpdate,
        table: Array,
        key: Array,
    ) -> PyTree:
        row = (turn[0] * mesh.size + jax.lax.axis_index(axis)) % table.shape[0]
        client, task = table[row]
        task_key = jax.random.fold_in(key, task)
        local, info = local_update(tree.take(models, 0), client, task_key, num_steps)
        stacked = jax.tree.map(lambda leaf: leaf[None], (local, info.loss))
        return stacked[0], turn + 1, stacked[1]

    split, whole = PartitionSpec(axis), PartitionSpec()
    specs = (split, split, whole, whole, whole)
    train = jax.jit(_spread(train_on_device, mesh, specs, split), donate_argnums=(0, 1))
    constants = replicate(_constants(federation), mesh)

    def start() -> PyTree:
        begin = (federation.variables, np.int32(0))
        return jax.device_put(
            jax.tree.map(lambda leaf: np.stack([leaf] * mesh.size), begin),
            NamedSharding(mesh, split),
        )

    def run() -> fa.Variables:
        models, turn = start()
        for _ in range(num_turns):
            models, turn, _ = train(models, turn, *constants)
        return jax.block_until_ready(models)

    return Candidate("a call per task", num_turns * mesh.size, run)


def _spread(fn, mesh: Mesh, in_specs, out_specs):
    return jax.shard_map(
        fn, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )


def find_common_steps(trace: fa.schedule.Trace) -> int:
    """Return H, which all tasks share."""
    (num_steps,) = {int(steps) for steps in trace.num_steps}
    return num_steps


def _constants(federation: Federation) -> tuple[PyTree, np.ndarray, Array]:
    """Return the worker with its data, (client, task) int32 [T, 2], and the key."""
    trace = federation.trace
    table = np.stack([trace.client, trace.task], axis=1).astype(np.int32)
    return federation.local_update, table, federation.key
