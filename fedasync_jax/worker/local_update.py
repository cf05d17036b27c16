"""The Worker: H local steps on g(x; z) = f(x; z) + rho/2 ||x - x_tau||^2.

A local update is written for one task; the engine batches it. Every task makes a
fresh optimizer state from the model that it received, the anchor of ``add_proximal``.

Shapes: H steps, B samples a batch, n_i samples of client i.
Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1 (Worker), Option II.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedasync_jax import tree
from fedasync_jax.base import (
    Array,
    ArrayLike,
    ClientData,
    LocalInfo,
    LocalUpdate,
    Model,
    PyTree,
    Schedule,
    Variables,
)
from fedasync_jax.worker.sampling import find_max_count, sample_rows

MakeOptimizer = Callable[[PyTree], optax.GradientTransformation]


def make_local_update(
    model: Model,
    data: ClientData,
    optimizer: optax.GradientTransformation | MakeOptimizer,
    *,
    batch_size: int,
    max_steps: int,
    sampling: str = "epochs",
    unroll: bool = False,
    numbers: PyTree = None,
) -> LocalUpdate:
    """Return the work of one worker, ready for ``engine.run``.

    It takes a fifth argument, ``step_scale``, float [], by which every update of the
    optimizer is multiplied: for SGD, a factor on its step size.

    With ``"epochs"`` the batches are cut from an endless row of reshuffled passes over
    the client's samples: each pass has every sample once, a batch may reach into the
    next pass. With ``"replacement"`` every sample is drawn on its own.

    Args:
      model: what is trained; only ``params`` sees the optimizer, ``state`` is carried.
      data: samples of all clients; they become arguments of the compiled program, so
        that they lie on the device once.
      optimizer: any optax transformation; its state is made anew for every task, and
        random keys in it are folded with the task's. Or a function of ``numbers`` that
        returns one.
      batch_size: B >= 1.
      max_steps: largest H that will be asked for; a task may ask for fewer. A larger H
        raises ValueError if it is known when tracing, and is cut to ``max_steps`` if it
        differs from task to task.
      sampling: ``"epochs"`` or ``"replacement"``.
      unroll: write the steps out instead of looping; compiles longer, and is the only
        fast form of XLA's convolution on a CPU.
      numbers: what a function ``optimizer`` is called with, such as a step size: arrays
        that are arguments of the compiled program, so that local updates with other
        numbers share it.

    Raises:
      ValueError: if a number is out of range or ``sampling`` is unknown.
    """
    for name, number in (("batch_size", batch_size), ("max_steps", max_steps)):
        if number < 1:
            raise ValueError(f"{name} must be >= 1, got {number}")
    if sampling not in ("epochs", "replacement"):
        raise ValueError(
            f"sampling must be 'epochs' or 'replacement', got {sampling!r}"
        )
    if isinstance(optimizer, optax.GradientTransformation):
        optimizer, numbers = _Always(optimizer), ()
    plan = _Plan(
        model, optimizer, batch_size, max_steps, sampling, unroll, find_max_count(data)
    )
    return jax.tree_util.Partial(_Train(plan), data, numbers)


def match_sizes(local_updates: Sequence[LocalUpdate]) -> list[LocalUpdate]:
    """Return the same local updates, fit to share a program (see ``engine.run_many``).

    The size of the largest client is part of a program; it becomes that of all. No
    result depends on it. Local updates that ``make_local_update`` did not make are
    returned as they are.
    """
    functions = [getattr(update, "func", None) for update in local_updates]
    sizes = [fn.plan.max_count for fn in functions if isinstance(fn, _Train)]

    def match(local_update: Any, fn: Any) -> LocalUpdate:
        if not isinstance(fn, _Train):
            return local_update
        plan = fn.plan._replace(max_count=max(sizes))
        return jax.tree_util.Partial(_Train(plan), *local_update.args)

    return [match(*pair) for pair in zip(local_updates, functions, strict=True)]


class _Always(NamedTuple):
    """A function of no numbers."""

    optimizer: optax.GradientTransformation

    def __call__(self, numbers: PyTree) -> optax.GradientTransformation:
        """Return the optimizer."""
        return self.optimizer


class _Plan(NamedTuple):
    """What a compiled local update is specialized to."""

    model: Model
    optimizer: MakeOptimizer
    batch_size: int
    max_steps: int
    sampling: str
    unroll: bool
    max_count: int


class _Carry(NamedTuple):
    """What passes from local step to local step."""

    variables: Variables
    optimizer_state: PyTree
    loss_sum: Array


class _Train(NamedTuple):
    """``_train`` with a plan; equal, as a program, to another with an equal plan."""

    plan: _Plan

    def __call__(
        self,
        data: ClientData,
        numbers: PyTree,
        variables: Variables,
        client: Array,
        key: Array,
        num_steps: int | Array,
        step_scale: ArrayLike = 1.0,
    ) -> tuple[Variables, LocalInfo]:
        """Do ``num_steps`` local steps for ``client``, from the model it received."""
        optimizer = self.plan.optimizer(numbers)
        task = data, variables, client, key, num_steps, step_scale
        return _train(self.plan, optimizer, *task)

    def check_schedule(
        self, schedule: Schedule, data: ClientData, numbers: PyTree
    ) -> None:
        """Raise ValueError if the schedule has a client that has no data."""
        del numbers
        owners, largest = len(data.counts), int(np.max(schedule.client))
        if largest >= owners:
            raise ValueError(
                f"clients of the schedule must be in 0..{owners - 1}, as many as have "
                f"data ({owners}), got {largest}"
            )


def _train(
    plan: _Plan,
    optimizer: optax.GradientTransformation,
    data: ClientData,
    variables: Variables,
    client: Array,
    key: Array,
    num_steps: int | Array,
    step_scale: ArrayLike,
) -> tuple[Variables, LocalInfo]:
    data = jax.tree.map(jnp.asarray, data)  # NumPy's cannot be indexed by a tracer
    num_steps = _limit_steps(num_steps, plan.max_steps)
    sample_key, step_key = jax.random.split(key)
    with_replacement = plan.sampling == "replacement"
    rows = sample_rows(
        data,
        client,
        sample_key,
        max_steps=plan.max_steps,
        batch_size=plan.batch_size,
        max_count=None if with_replacement else plan.max_count,
    )

    def step(h: int | Array, carry: _Carry) -> _Carry:
        batch = tree.take(data.arrays, rows[h])
        step_h_key = jax.random.fold_in(step_key, h)
        return _step(plan.model, optimizer, carry, batch, step_h_key, step_scale)

    received = variables._replace(state=plan.model.start_task(variables.state))
    optimizer_state = _make_random(optimizer.init(variables.params), key)
    start = _Carry(received, optimizer_state, jnp.zeros(()))
    if plan.unroll:
        carry = _unrolled(step, start, plan.max_steps, num_steps)
    else:
        carry = jax.lax.fori_loop(0, num_steps, step, start)
    trained = carry.variables
    trained = trained._replace(state=plan.model.end_task(trained.state))
    return trained, LocalInfo(
        loss=carry.loss_sum / jnp.asarray(num_steps, carry.loss_sum.dtype)
    )


def _make_random(optimizer_state: PyTree, key: Array) -> PyTree:
    """Return a fresh state whose random keys, if it has any, are those of this task.

    The state is made anew for every task, from a key that the user gave once: noise
    would be the same in all tasks. Old keys are two numbers uint32, and known by their
    names.
    """

    def fold(path: tuple[Any, ...], leaf: Any) -> Any:
        name = jax.tree_util.keystr(path[-1:], simple=True) if path else ""
        is_typed = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        is_old = leaf.dtype == jnp.uint32 and leaf.shape == (2,) and "key" in name
        if not (is_typed or is_old):
            return leaf
        return jax.random.fold_in(leaf, jax.random.bits(key))

    return jax.tree_util.tree_map_with_path(fold, optimizer_state)


def _step(
    model: Model,
    optimizer: optax.GradientTransformation,
    carry: _Carry,
    batch: PyTree,
    key: Array,
    step_scale: ArrayLike,
) -> _Carry:
    variables, optimizer_state, loss_sum = carry

    def loss_fn(params: PyTree) -> tuple[Array, PyTree]:
        return model.loss(Variables(params, variables.state), batch, key)

    (loss, state), grads = jax.value_and_grad(loss_fn, has_aux=True)(variables.params)
    updates, optimizer_state = optimizer.update(
        grads, optimizer_state, variables.params
    )
    updates = tree.scale(updates, step_scale)
    params = optax.apply_updates(variables.params, updates)
    return _Carry(
        Variables(params, state),
        optimizer_state,
        loss_sum + loss.astype(loss_sum.dtype),
    )


def _limit_steps(num_steps: int | Array, max_steps: int) -> int | Array:
    if not isinstance(num_steps, int):
        return jnp.minimum(num_steps, max_steps)
    if not 1 <= num_steps <= max_steps:
        raise ValueError(f"num_steps must be in 1..{max_steps}, got {num_steps}")
    return num_steps


def _unrolled(step, carry: _Carry, max_steps: int, num_steps: int | Array) -> _Carry:
    if isinstance(num_steps, int):
        return functools.reduce(lambda c, h: step(h, c), range(num_steps), carry)
    for h in range(max_steps):
        carry = tree.where(h < num_steps, step(h, carry), carry)
    return carry
