"""Evaluation on every client's own data: how well a model serves each of them.

Asynchronous methods hear more from fast clients, so the mean over all samples may hide
whom a model serves badly.

Shapes: M samples, those of one client after those of another; C clients; B samples at a
time.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax import tree
from fedasync_jax.base import Array, ArrayLike, ClientData, Model, PyTree, Variables
from fedasync_jax.worker.shares import (
    Devices,
    add_over_devices,
    add_sums,
    deal_pieces,
    find_devices,
    split_devices,
)


def make_client_evaluate(
    model: Model, data: ClientData, *, batch_size: int = 1024
) -> Callable[[Variables], dict[str, Array]]:
    """Return ``evaluate(variables) -> metrics``, the means over every client's samples.

    The samples of all clients stand in one row, which is cut into equal pieces without
    regard to whose they are; the sums of a piece go to their owners. So one program is
    compiled, whatever the sizes of the clients. Where a model lies on several devices,
    each of them does its share of the pieces, also those of other processes.

    Args:
      model: its ``metrics`` gives sums over a batch and their ``"count"``; they are
        taken of every sample alone.
      data: samples of all clients, such as those that they train on, or test samples by
        client.
      batch_size: B, samples in memory at a time, or fewer.

    Raises:
      ValueError: if ``batch_size`` < 1.

    Returns:
      A function that enqueues its work and does not wait for it; its values lie on the
      device, float [C] each, with ``"count"``, the number of summands of a client.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, got {batch_size}")
    functions, constants = tree.split_arrays(model)
    client_metrics = functools.partial(_sum_by_client, functions, len(data.counts))
    pieces = _cut(data, batch_size)

    @functools.lru_cache(maxsize=1)
    def place(devices: Devices) -> dict[Any, Any]:
        """Return what each device has: the samples, and its share of the pieces."""
        return deal_pieces((constants, data.arrays), pieces, devices)

    def evaluate(variables: Variables) -> dict[str, Array]:
        devices, models = find_devices(variables), split_devices(variables)
        sums = {}
        for device, (held, share) in place(devices).items():
            news = (client_metrics(held, models[device], piece) for piece in share)
            sums[device] = functools.reduce(lambda a, b: add_sums([a, b]), news)
        return _means(add_over_devices(sums, devices, len(pieces)))

    return evaluate


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sum_by_client(
    functions: tree.Split,
    num_clients: int,
    held: tuple[list[Array], PyTree],
    variables: Variables,
    piece: tuple[Array, Array],
) -> dict[str, Array]:
    """Return sums of a piece by client, [C] each; partitions share the program."""
    (constants, arrays), (rows, owners) = held, piece

    def sum_of_one(sample: PyTree) -> dict[str, Array]:
        batch = jax.tree.map(lambda leaf: leaf[None], sample)
        return functions.join(constants).metrics(variables, batch)

    each = jax.vmap(sum_of_one)(tree.take(arrays, rows))
    return jax.tree.map(
        # What is padding has the owner C, whose sum is dropped.
        lambda leaf: jax.ops.segment_sum(leaf, owners, num_clients + 1)[:-1],
        each,
    )


def _cut(data: ClientData, batch_size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return rows and owners, int32 [B] each, of pieces of one size."""
    rows, counts = np.asarray(data.indices), np.asarray(data.counts)
    owners = np.repeat(np.arange(len(counts)), counts)
    num_pieces = -(-len(rows) // batch_size)
    size = -(-len(rows) // num_pieces)
    missing = num_pieces * size - len(rows)
    rows = np.pad(rows, (0, missing), mode="edge").astype(np.int32)
    owners = np.pad(owners, (0, missing), constant_values=len(counts)).astype(np.int32)
    columns = rows.reshape(num_pieces, size), owners.reshape(num_pieces, size)
    return list(zip(*columns, strict=True))


@jax.jit
def _means(sums: dict[str, Array]) -> dict[str, Array]:
    if "count" not in sums:
        raise ValueError(
            f"metrics must return a sum called count, got {', '.join(sums) or 'none'}"
        )
    counts = sums["count"]
    return {k: v if k == "count" else v / counts for k, v in sums.items()}


class ClientSpread(NamedTuple):
    """How a metric is spread over C clients, each of which counts alike.

    Attributes:
      mean: of all clients.
      worst_tenth: mean of the ceil(C / 10) clients that are served worst.
      best_tenth: mean of the ceil(C / 10) that are served best.
      std: standard deviation over the clients.
      gini: Gini coefficient, 0 if all are alike, near 1 if one has it all.
    """

    mean: float
    worst_tenth: float
    best_tenth: float
    std: float
    gini: float


def spread_over_clients(
    values: ArrayLike | Sequence[float], *, higher_is_better: bool = True
) -> ClientSpread:
    r"""Return how a metric is spread over the clients.

    With a_1 <= .. <= a_C in order, the Gini coefficient is

    .. math::

        G = \frac{\sum_i \sum_j |a_i - a_j|}{2 C^2 \bar a}
        = \frac{\sum_i (2 i - C - 1) a_i}{C \sum_i a_i},

    and 0 if all are zero.

    >>> spread = spread_over_clients([0.0, 1.0])
    >>> spread.mean, spread.worst_tenth, spread.gini
    (0.5, 0.0, 0.5)

    Args:
      values: float [C], >= 0, such as the accuracies of ``make_client_evaluate``.
      higher_is_better: False for a loss.

    Raises:
      ValueError: if there is no client, or a value is negative or not finite.

    Reference: Li, Sanjabi, Beirami, Smith, "Fair Resource Allocation in Federated
    Learning", ICLR 2020, section 4 (worst and best 10%, variance); Gini, "Variabilità e
    mutabilità", 1912.
    """
    ordered = np.sort(np.asarray(values, np.float64).reshape(-1))
    count = len(ordered)
    if not count or not np.isfinite(ordered).all() or ordered[0] < 0:
        raise ValueError(
            "values must be one or more finite numbers >= 0, got "
            f"{f'{ordered[0]} to {ordered[-1]}' if count else 'none'}"
        )
    tenth = math.ceil(count / 10)
    low, high = float(ordered[:tenth].mean()), float(ordered[-tenth:].mean())
    weights = 2 * np.arange(1, count + 1) - count - 1
    total = float(ordered.sum())
    return ClientSpread(
        mean=total / count,
        worst_tenth=low if higher_is_better else high,
        best_tenth=high if higher_is_better else low,
        std=float(ordered.std()),
        gini=float(weights @ ordered) / (count * total) if total else 0.0,
    )


@jax.jit
def spread_on_device(values: Array) -> dict[str, Array]:
    """Return what ``spread_over_clients`` does, of an accuracy, as arrays float32 [].

    It is enqueued and does not wait, so that a run can ask for it at every evaluation;
    a value that is not finite makes all of them so.

    Args:
      values: float [C], >= 0.
    """
    ordered = jnp.sort(values)
    count = len(ordered)
    tenth = math.ceil(count / 10)
    weights = 2 * jnp.arange(1, count + 1) - count - 1
    total = jnp.sum(ordered)
    gini = jnp.vdot(weights.astype(ordered.dtype), ordered) / (count * total)
    return {
        "mean": total / count,
        "worst_tenth": jnp.mean(ordered[:tenth]),
        "best_tenth": jnp.mean(ordered[-tenth:]),
        "std": jnp.std(ordered),
        "gini": jnp.where(total == 0, 0.0, gini),
    }
