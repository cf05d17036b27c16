"""The Worker: H local steps on g(x; z) = f(x; z) + rho/2 ||x - x_tau||^2.

A local update is written for one task; the engine batches it. Every task makes a
fresh optimizer state from the model that it received, the anchor of ``add_proximal``.

Shapes: H steps, B samples a batch, n_i samples of client i.
Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1 (Worker), Option II.
"""

import functools
from collections.abc import Sequence
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
from fedasync_jax.worker.objective import Objective
from fedasync_jax.worker.optimizer import (
    MakeOptimizer,
    check_optimizer,
    is_constant,
    make_optimizer,
    make_random,
    update_with_loss,
)
from fedasync_jax.worker.proximal import check_order, check_rho
from fedasync_jax.worker.sampling import find_max_count, sample_rows


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
    rho: float = 0.0,
) -> LocalUpdate:
    """Return the work of one worker, ready for ``engine.run``.

    It takes a fifth argument, ``step_scale``, float [], by which every update of the
    optimizer is multiplied: for SGD, a factor on its step size.

    With ``"epochs"`` the batches are cut from an endless row of reshuffled passes over
    the client's samples: each pass has every sample once, a batch may reach into the
    next pass. With ``"replacement"`` every sample is drawn on its own.

    Args:
      model: what is trained; only ``params`` sees the optimizer, ``state`` is carried.
        What a function of it declares as the arrays of a ``jax.tree_util.Partial``,
        such as frozen parameters, are arguments of the compiled program, as ``data``.
      data: samples of all clients; they become arguments of the compiled program, so
        that they lie on the device once.
      optimizer: any optax transformation that takes the gradient of a batch; one that
        asks for the loss (``value``, ``grad``, ``value_fn``, ``obj_fn``, ``grad_fn``)
        is given it. Its state is made anew for every task, and random keys in it are
        folded with the task's. Or a function of ``numbers`` that returns one.
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
      rho: weight of the proximal term, >= 0. Its gradient rho (x - x_tau) is added to
        that of the loss before the optimizer sees it, as ``add_proximal(rho)`` at the
        head of a chain does. An optimizer that asks for the loss is given g.

    Raises:
      ValueError: if a number is out of range, ``sampling`` is unknown or ``optimizer``
        is none; when tracing, if the optimizer wants per-example gradients or has
        ``add_proximal`` behind the step size, where it pushes away from x_tau.
    """
    for name, number in (("batch_size", batch_size), ("max_steps", max_steps)):
        if number < 1:
            raise ValueError(f"{name} must be >= 1, got {number}")
    if sampling not in ("epochs", "replacement"):
        raise ValueError(
            f"sampling must be 'epochs' or 'replacement', got {sampling!r}"
        )
    check_rho(rho)
    make = check_optimizer(optimizer, numbers)
    numbers = () if is_constant(make) else numbers
    functions, arrays = tree.split_arrays(model)
    # Draws do not depend on it, so runs with other partitions share a program.
    max_count = find_max_count(data) if sampling == "epochs" else 0
    plan = _Plan(functions, make, batch_size, max_steps, sampling, unroll, max_count)
    weight = np.asarray(rho, jnp.result_type(float)) if rho else None
    return jax.tree_util.Partial(_Train(plan), data, numbers, weight, arrays)


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


class _Plan(NamedTuple):
    """What a compiled local update is specialized to."""

    model: tree.Split
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
        rho: Array | None,
        arrays: list[Array],
        variables: Variables,
        client: Array,
        key: Array,
        num_steps: int | Array,
        step_scale: ArrayLike = 1.0,
    ) -> tuple[Variables, LocalInfo]:
        """Do ``num_steps`` local steps for ``client``, from the model it received."""
        optimizer = make_optimizer(self.plan.optimizer, numbers)
        if is_constant(self.plan.optimizer):
            check_order(optimizer, variables.params)
        model = self.plan.model.join(arrays)
        task = data, variables, client, key, num_steps, step_scale
        return _train(self.plan, model, optimizer, rho, *task)

    def check_schedule(
        self, schedule: Schedule, data: ClientData, *numbers: PyTree
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
    model: Model,
    optimizer: optax.GradientTransformation,
    rho: Array | None,
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
        objective = Objective(model, rho, variables.params, batch, step_h_key)
        return _step(objective, optimizer, carry, step_scale)

    received = variables._replace(state=model.start_task(variables.state))
    optimizer_state = make_random(optimizer.init(variables.params), key)
    start = _Carry(received, optimizer_state, jnp.zeros(()))
    if plan.unroll:
        carry = _unrolled(step, start, plan.max_steps, num_steps)
    else:
        carry = jax.lax.fori_loop(0, num_steps, step, start)
    trained = carry.variables
    trained = trained._replace(state=model.end_task(trained.state))
    return trained, LocalInfo(
        loss=carry.loss_sum / jnp.asarray(num_steps, carry.loss_sum.dtype)
    )


def _step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    carry: _Carry,
    step_scale: ArrayLike,
) -> _Carry:
    variables, optimizer_state, loss_sum = carry
    loss, state, grads = objective.differentiate(variables)

    def value_fn(params: PyTree) -> Array:
        moved = variables._replace(params=params)
        value, _ = objective.model.loss(moved, objective.batch, objective.key)
        return objective.add_term(value, params)

    updates, optimizer_state = update_with_loss(
        optimizer,
        grads,
        optimizer_state,
        variables.params,
        objective.add_term(loss, variables.params),
        value_fn,
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
