"""The state of a run: all that it must not lose, at its start, on its way, at its end.

Shapes: T updates, S slots, R runs.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import Array, ArrayLike, Mixer, PyTree, Variables
from fedasync_jax.engine.carried import find_judged, init_mixer
from fedasync_jax.engine.history import Evaluation, Past, Updates
from fedasync_jax.schedule.trace import Trace


class RunState(NamedTuple):
    """All that a run must not lose; with trace and key enough to go on exactly.

    Attributes:
      version: t, number of the newest model.
      variables: x_t.
      store: start models of the tasks in flight, a pytree like ``variables`` with
        leading axis S.
      mixer_state: what the mixing rule remembers.
    """

    version: int
    variables: Variables
    store: PyTree
    mixer_state: PyTree


class Models(NamedTuple):
    """The part of a state that a call of the device changes.

    It has no version: several runs lie on the device as one such record, the newest
    models and mixer states with a leading axis R, the stores one after the other, and
    each run has a version of its own.

    Attributes:
      variables: the newest model, or [R, ...].
      store: start models of the tasks in flight, leading axis S.
      mixer_state: what the mixing rule remembers, or [R, ...].
    """

    variables: Variables
    store: PyTree
    mixer_state: PyTree


class Snapshot(NamedTuple):
    """A run between two waves, enough to go on as if it had never stopped.

    Attributes:
      state: everything on the device; used up by the next wave.
      past: everything that has been fetched.
    """

    state: RunState
    past: Past


class RunResult(NamedTuple):
    """A finished run.

    Attributes:
      state: the last state; ``state.variables`` is the newest model, and what is judged
        and exported is ``find_evaluated(mixer, state)``.
      updates: ``Updates`` of NumPy arrays [T], one row per update of this run.
      evaluations: in order of the version.
    """

    state: RunState
    updates: Updates
    evaluations: list[Evaluation]

    def __repr__(self) -> str:
        """Return what it is in a line; the arrays in it would fill pages."""
        last = self.evaluations[-1].metrics if self.evaluations else {}
        metrics = ", ".join(f"{k} {np.mean(v):.4g}" for k, v in last.items())
        return (
            f"RunResult(version {self.state.version:,}, "
            f"{len(self.evaluations)} evaluations, the last: {metrics or 'none'})"
        )


def check_leaves(variables: Variables) -> None:
    """Refuse what cannot be mixed.

    Raises:
      ValueError: if a leaf of the params is not a float array, or one of the state is
        complex. What else is no float in the state is carried, not mixed.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        dtype = jnp.result_type(leaf)
        is_state = isinstance(variables, Variables) and path[0].name == "state"
        carried = is_state and not jnp.issubdtype(dtype, jnp.complexfloating)
        if not (carried or jnp.issubdtype(dtype, jnp.floating)):
            raise ValueError(
                f"variables{jax.tree_util.keystr(path)} must be a float array to be "
                f"mixed, got {dtype}"
            )


def init_state(trace: Trace, mixer: Mixer, variables: Variables) -> RunState:
    """Return the state before the first update: x_0, which lies in slot 0.

    Raises:
      ValueError: see ``check_leaves``.
    """
    check_leaves(variables)
    # Copies: the engine donates its state, every array of it, and only once. The
    # caller's arrays stay the caller's, also those that the mixer remembers.
    variables = copy_arrays(variables)
    store = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (trace.num_slots, *leaf.shape)), variables
    )
    return RunState(0, variables, store, copy_arrays(init_mixer(mixer, variables)))


def find_evaluated(mixer: Mixer, state: RunState) -> Variables:
    """Return the model that is judged and exported: as a rule, the newest."""
    return find_judged(mixer.evaluated, state.variables, state.mixer_state)


def copy_arrays(values: PyTree) -> PyTree:
    """Copy, with types as strong as those of results: one program a width, not two."""

    def copy_leaf(leaf: ArrayLike) -> Array:
        return jnp.array(leaf, dtype=jnp.result_type(leaf), copy=True)

    return jax.tree.map(copy_leaf, values)
