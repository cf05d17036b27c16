"""What a run over a network leaves behind, in the run folder's own form.

Times are real seconds since the run began, without those between two runs of the
server.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedasync_jax.flower.checks import Update
from fedasync_jax.flower.tasks import LostTask, Task
from fedasync_jax.flower.updater import Mixing
from fedasync_jax.jobs.metrics import finite, judge
from fedasync_jax.schedule.timeline import ACTIVITIES

_FLOATS = ("start_time", "arrival_time")
_WORK, _LOST = (ACTIVITIES.index(name) for name in ("work", "lost"))


class Arrival(NamedTuple):
    """One arrival that was mixed; row t makes version t + 1.

    Attributes:
      client: the node, from 0 in the order in which nodes were first seen.
      task: number of the task.
      start_version: tau.
      start_time: when the task was given out, seconds.
      arrival_time: when its model was mixed, seconds.
      num_steps: H, as the node tells.
      num_samples: n_i, as the node tells.
      partition: part of a known data set, as the node tells; -1 if none.
      staleness: d, in versions of the rule.
      alpha: alpha_t.
      applied: whether the rule applied it.
      loss: mean training loss, as the node tells.
      norm: ||x_new - x_tau||, as it came.
      scale: by what that was multiplied before it was mixed, see ``norms``.
    """

    client: int
    task: int
    start_version: int
    start_time: float
    arrival_time: float
    num_steps: int
    num_samples: int
    partition: int
    staleness: int
    alpha: float
    applied: bool
    loss: float
    norm: float
    scale: float = 1.0

    def as_task(self, node: int, seconds: float) -> Task:
        """Return the task that it answered; ``seconds`` are those of its deadline."""
        start = self.start_time
        deadline = start + seconds
        return Task(self.task, node, self.client, self.start_version, start, deadline)


def make_arrival(task: Task, update: Update, now: float, mixing: Mixing) -> Arrival:
    """Return the record of a model that was mixed.

    Args:
      task: that it answers.
      update: the model and what its node tells.
      now: seconds.
      mixing: how it was mixed.
    """
    return Arrival(
        client=task.client,
        task=task.number,
        start_version=task.version,
        start_time=task.start_time,
        arrival_time=now,
        **update.report._asdict(),
        norm=update.norm,
        scale=update.scale,
        **mixing._asdict(),
    )


def arrival_columns(
    arrivals: Sequence[Arrival], names: Sequence[str] = Arrival._fields
) -> dict[str, np.ndarray]:
    """Return the arrivals as arrays [T] by name, or some of their columns."""
    types = {
        **dict.fromkeys(Arrival._fields, np.int32),
        **dict.fromkeys(("alpha", "loss", "norm", "scale"), np.float32),
        **dict.fromkeys(_FLOATS, np.float64),
        "applied": np.bool_,
    }
    return {
        name: np.array([getattr(arrival, name) for arrival in arrivals], types[name])
        for name in names
    }


def lost_columns(lost: Sequence[LostTask]) -> dict[str, np.ndarray]:
    """Return the lost tasks as arrays [L] by name, with their causes in words."""
    tasks = [row.task for row in lost]
    return {
        "client": np.array([task.client for task in tasks], np.int32),
        "task": np.array([task.number for task in tasks], np.int32),
        "start_version": np.array([task.version for task in tasks], np.int32),
        "start_time": np.array([task.start_time for task in tasks], np.float64),
        "end_time": np.array([row.end_time for row in lost], np.float64),
        "reason": np.array([row.reason for row in lost], np.int8),
        "cause": np.array([row.cause for row in lost], str),
    }


def timeline_columns(
    arrivals: Sequence[Arrival], lost: Sequence[LostTask], num_clients: int
) -> dict[str, np.ndarray]:
    """Return what the first clients did, as arrays [n] by name."""
    rows = [(a.client, a.start_time, a.arrival_time, _WORK) for a in arrivals]
    rows += [(r.task.client, r.task.start_time, r.end_time, _LOST) for r in lost]
    rows = sorted(row for row in rows if row[0] < num_clients)
    clients, starts, ends, activities = zip(*rows, strict=True) if rows else [()] * 4
    return {
        "client": np.array(clients, np.int32),
        "start": np.array(starts, np.float64),
        "end": np.array(ends, np.float64),
        "activity": np.array(activities, np.int8),
    }


def client_columns(
    arrivals: Sequence[Arrival], nodes: Sequence[int]
) -> dict[str, np.ndarray]:
    """Return Flower's number and the samples of every client, arrays [C] by name.

    A node that holds several parts of a data set has their samples together, as far as
    they arrived; of lists of its own, those of the client that arrived last.
    """
    newest = {(a.client, a.partition): a.num_samples for a in arrivals}
    samples = np.zeros(len(nodes), np.int32)
    for (client, _), count in newest.items():
        samples[client] += count
    return {"num_samples": samples, "node": np.array(nodes, np.uint64)}


def make_row(
    method: str,
    version: int,
    metrics: Mapping[str, Any],
    arrivals: Sequence[Arrival],
    lost: Sequence[LostTask],
    counts: Mapping[str, int],
    num_recent: int,
    *,
    is_text: bool = False,
) -> dict[str, Any]:
    """Return a line of ``metrics.jsonl``, as a simulation has it.

    Args:
      method: its name.
      version: that was evaluated.
      metrics: what the evaluation gave.
      arrivals: all so far.
      lost: all so far.
      counts: causes and how often they occurred.
      num_recent: arrivals since the last line.
      is_text: whether the line has a perplexity.
    """
    recent = arrivals[len(arrivals) - num_recent :]
    blamed = sum(1 for row in lost if row.is_bad)
    return {
        "method": method,
        "version": version,
        "updates": version,
        "gradients": sum(arrival.num_steps for arrival in arrivals),
        "virtual_time": arrivals[-1].arrival_time if arrivals else 0.0,
        "train_loss": _mean([arrival.loss for arrival in recent]),
        "mean_staleness": _mean([arrival.staleness for arrival in recent]),
        "mean_alpha": _mean([arrival.alpha for arrival in recent]),
        "rejected": blamed,
        "lost": len(lost) - blamed,
        "causes": dict(counts),
        **judge(metrics, is_text=is_text),
    }


def _mean(values: Sequence[float]) -> float | None:
    return finite(float(np.mean(values))) if values else None
