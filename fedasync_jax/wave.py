"""One wave, compiled: gather the start models, train, mix, keep the new versions.

This is the device's half of Algorithm 1; ``engine`` is the host's.

Shapes: T updates, W tasks a call (a wave and its padding). Row t of a trace makes
version t + 1.
"""

import functools
from collections.abc import Callable, Hashable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import Array, ArrayLike, Mixer, PyTree, Variables
from fedasync_jax.batching import Batching, map_tasks, on_mesh
from fedasync_jax.history import Updates


class DeviceState(NamedTuple):
    """What a wave changes; see ``engine.RunState``.

    Attributes:
      version: int32 [], number of the newest model, which is the wave's first row.
      variables: the newest model.
      store: start models of the tasks in flight, leading axis S.
      mixer_state: what the mixing rule remembers.
    """

    version: Array
    variables: Variables
    store: PyTree
    mixer_state: PyTree


class Task(NamedTuple):
    """A row of the trace, int32 [] each, as in ``trace.Trace``; or a column each.

    Attributes:
      client: the client that trains.
      task: number in the order of the triggers.
      start_version: tau.
      num_steps: H.
      read_slot: where the start model lies.
      write_slot: where the new version goes.
      wave_end: in the first row of a wave, the row after its last. So the host passes
        no number to the device from wave to wave.
    """

    client: Array | np.ndarray
    task: Array | np.ndarray
    start_version: Array | np.ndarray
    num_steps: Array | np.ndarray
    read_slot: Array | np.ndarray
    write_slot: Array | np.ndarray
    wave_end: Array | np.ndarray


class Inputs(NamedTuple):
    """Arguments that are the same for every wave of a run.

    Attributes:
      key: root key.
      trace: int32 [T, 7], the fields of ``Task``; one array, since a call costs the
        host some time for each.
      local_update: the Worker, a pytree with the data as leaves.
    """

    key: Array
    trace: Array | np.ndarray
    local_update: PyTree


class Plan(NamedTuple):
    """What the wave programs of a run are specialized to.

    Attributes:
      mixer: the Updater's rule.
      local_update: structure of the Worker: its function, without its arrays.
      num_steps: H if it is the same for all tasks.
      batching: see ``Batching``.
    """

    mixer: Mixer
    local_update: Hashable
    num_steps: int | None
    batching: Batching


@functools.lru_cache(maxsize=32)
def compile_waves(plan: Plan) -> Callable:
    """Return the jitted wave: one program for every width.

    Compiled code lives as long as its function. Only the plans used last are kept, so
    that a process may run any number of settings.
    """

    def run_wave(
        device_state: DeviceState,
        inputs: Inputs,
        step_scales: ArrayLike | None = None,  # float [W]
        spare: PyTree = None,  # versions that nobody reads any more
        *,
        width: int,
    ) -> tuple[DeviceState, PyTree, Updates]:
        del spare  # its memory becomes that of the new versions
        one_device = functools.partial(_run_wave, plan, width)
        on_devices = on_mesh(one_device, plan.batching.mesh)
        return on_devices(device_state, inputs, step_scales)

    return jax.jit(
        run_wave,
        static_argnames="width",
        donate_argnames=("device_state", "spare"),
        keep_unused=True,
    )


def _run_wave(
    plan: Plan,
    width: int,
    device_state: DeviceState,
    inputs: Inputs,
    step_scales: Array | None,
) -> tuple[DeviceState, PyTree, Updates]:
    """Train and mix the next wave, as one device of the mesh."""
    begin, variables, store, mixer_state = device_state
    place = jnp.arange(width, dtype=jnp.int32)
    last_row = inputs.trace.shape[0] - 1
    tasks = Task(*inputs.trace[jnp.minimum(begin + place, last_row)].T)
    count = tasks.wave_end[0] - begin

    # Workers. Task i is trained on device i mod D, from the model that it received.
    def train_task(work: PyTree) -> tuple[Variables, Array, Array]:
        task, *step_scale = work
        start = tree.take(store, task.read_slot)
        key = jax.random.fold_in(inputs.key, task.task)
        steps = task.num_steps if plan.num_steps is None else plan.num_steps
        local, info = inputs.local_update(start, task.client, key, steps, *step_scale)
        return local, tree.all_finite(local), info.loss

    work = (tasks,) if step_scales is None else (tasks, step_scales)
    trained = map_tasks(train_task, work, count, plan.batching)

    # Updater. In the order of arrival; what is padding or not finite is not mixed.
    def mix(carry, arrival):
        variables, mixer_state = carry
        i, task = arrival
        local, finite, loss = trained(i)
        allowed = finite & (i < count)
        mixed, next_state, info = plan.mixer.update(
            local,
            mixer_state,
            variables,
            start=tree.take(store, task.read_slot),
            staleness=begin + i - task.start_version,
            version=begin + i,
            client=task.client,
        )
        carry = tree.where(allowed, (mixed, next_state), carry)
        return carry, (carry[0], Updates(info.alpha, info.applied & allowed, loss))

    (variables, mixer_state), (versions, updates) = jax.lax.scan(
        mix, (variables, mixer_state), (place, tasks)
    )

    # Scheduler. New versions go where tasks will start from them.
    num_slots = jax.tree.leaves(store)[0].shape[0]
    slots = jnp.where(place < count, tasks.write_slot, num_slots)
    store = tree.put(store, slots, versions)
    end_state = DeviceState(begin + count, variables, store, mixer_state)
    return end_state, versions, updates
