"""What a call of the device is made of: tasks, arguments, and what a program is for.

Shapes: P tasks in the queue.
"""

from collections.abc import Callable, Hashable
from typing import NamedTuple

import jax
import numpy as np

from fedasync_jax.base import Array, LocalUpdate, MixFn, PyTree
from fedasync_jax.engine.batching import Batching
from fedasync_jax.engine.coordinates import Layout


class TaskRow(NamedTuple):
    """A task of the queue, int32 [] each; or a column each.

    Attributes:
      client: the client that trains.
      task: number in the order of the triggers.
      num_steps: H.
      read_slot: where the start model lies.
      write_slot: where the new version goes.
      staleness: d, in versions of the rule.
      version: that it is mixed into; its row in the trace of its run.
      run: the run that it belongs to.
      wave_end: in the first place of a wave, the place after its last.
    """

    client: Array | np.ndarray
    task: Array | np.ndarray
    num_steps: Array | np.ndarray
    read_slot: Array | np.ndarray
    write_slot: Array | np.ndarray
    staleness: Array | np.ndarray
    version: Array | np.ndarray
    run: Array | np.ndarray
    wave_end: Array | np.ndarray


class Inputs(NamedTuple):
    """Arguments that are the same for every call.

    Attributes:
      key: root key.
      queue: int32 [P, 9], the fields of ``TaskRow``.
      local_update: the Worker, a pytree with the data as leaves.
      mix: the Updater's rule, ``Mixer.update``, a pytree with its numbers as leaves.
    """

    key: Array
    queue: Array | np.ndarray
    local_update: PyTree
    mix: PyTree


class Plan(NamedTuple):
    """What a program is specialized to, besides shapes.

    Attributes:
      local_update: structure of the Worker: its function, without its arrays.
      mix: structure of the Updater's rule, likewise.
      num_steps: H if it is the same for all tasks.
      batching: see ``Batching``.
      own: of several runs, for every leaf of (local_update, key, mix) of ``Inputs``
        whether each run has its own; None: there is one run.
      layout: of the rule, if arrivals are mixed by matrix products; None: one by one.
    """

    local_update: Hashable
    mix: Hashable
    num_steps: int | None
    batching: Batching
    own: tuple[bool, ...] | None = None
    layout: Layout | None = None


def pick_inputs(
    plan: Plan, inputs: Inputs, run: Array | np.ndarray
) -> tuple[LocalUpdate, Array, MixFn]:
    """Return the Worker, the root key and the rule of a run."""
    inner = inputs.local_update, inputs.key, inputs.mix
    if plan.own is None:
        return inner
    leaves, treedef = jax.tree.flatten(inner)
    own = [x[run] if is_own else x for x, is_own in zip(leaves, plan.own, strict=True)]
    return treedef.unflatten(own)


def as_pytree(fn: Callable) -> PyTree:
    """Return a callable whose arrays, if it declares any, are arguments under jit."""
    return fn if isinstance(fn, jax.tree_util.Partial) else jax.tree_util.Partial(fn)
