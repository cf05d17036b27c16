"""What is told of the methods that have run: tables, arrays, notes, checks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedasync_jax.experiment.experiment import Experiment
from fedasync_jax.experiment.records import Method
from fedasync_jax.jobs.callbacks import Outcome
from fedasync_jax.jobs.client_scores import summarize_clients
from fedasync_jax.jobs.metrics import finite
from fedasync_jax.jobs.scores import NUM_LAST, last_trained, name_score
from fedasync_jax.schedule.invariants import find_violations
from fedasync_jax.schedule.timeline import Timeline, make_timeline
from fedasync_jax.schedule.trace import UNFINISHED

_TOO_LITTLE = 0.05  # a weight s(d) below which an arrival hardly counts
_VANISHES = 1e-30  # a weight below which float32 is no measure
_SAMPLE = 30  # clients whose timelines are kept
_ROUNDS_SHOWN = 5  # whose slowest clients are among them
_LARGE = 1_000  # clients
_TASKS_SHOWN = 40  # of a client in the mean, at most


def summarize_all(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return the final table, a line per method.

    Of classifiers with a clock, ``time_to_target`` is the simulated time of the first
    evaluation that reaches ``target_accuracy``, the highest whole per cent that every
    method reaches.
    """
    rows = [summarize(outcome) for outcome in outcomes]
    if any(name_score(outcome.rows[-1]) == "loss" for outcome in outcomes):
        return rows
    best = [max(row["test_accuracy"] for row in outcome.rows) for outcome in outcomes]
    target = np.floor(100 * min(best) + 1e-6) / 100  # 0.57 * 100 is below 57
    for row, outcome in zip(rows, outcomes, strict=True):
        if outcome.method.has_clock and "test_perplexity" not in outcome.rows[-1]:
            row["target_accuracy"] = float(target)
            row["time_to_target"] = next(
                r["virtual_time"]
                for r in outcome.rows
                if r["test_accuracy"] >= target - 1e-6
            )
    return rows


def summarize(outcome: Outcome, num_last: int = NUM_LAST) -> dict[str, Any]:
    """Return a method's line of the final table.

    ``devices`` is how many of them are at work at a time; None without a clock.

    Args:
      outcome: the method that has run.
      num_last: last evaluations that are summed up; the untrained model is not one.
    """
    last = outcome.rows[-1]
    tail = last_trained(outcome.rows, num_last)
    scores: dict[str, float | None] = {}
    if last["test_accuracy"] is not None:
        scores |= _sum_up(tail, "test_accuracy", "min")
    if name_score(last) != "accuracy":
        scores |= _sum_up(tail, f"test_{name_score(last)}", "max")
    method, by_client = outcome.method, outcome.client_scores
    is_async = method.is_async
    of_clients = {} if by_client is None else summarize_clients(by_client)
    return {
        "method": method.name,
        "gradients": last["gradients"],
        "virtual_time": last["virtual_time"],
        "devices": method.trace.count_devices() if method.has_clock else None,
        **scores,
        **of_clients,
        "mean_staleness": float(method.staleness.mean()) if is_async else None,
        "mean_alpha": float(outcome.result.updates.alpha.mean()) if is_async else None,
        "rejected": last["rejected"],
        "lost": last["lost"],
        "wall_seconds": outcome.wall_seconds,
    }


def arrivals(outcome: Outcome) -> dict[str, np.ndarray]:
    """Return what is saved of every arrival, arrays [T] by name."""
    trace, updates = outcome.method.trace, outcome.result.updates
    columns = trace.columns()
    for name in ("task", "read_slot", "write_slot"):
        del columns[name]
    return {**columns, "staleness": outcome.method.staleness, **updates._asdict()}


def lost_tasks(method: Method) -> dict[str, np.ndarray]:
    """Return what is saved of the tasks that never arrived, arrays [L] by name.

    A task that only the end of the run cut off is not lost.
    """
    lost = method.trace.lost
    is_lost = lost.reason != UNFINISHED
    return {name: column[is_lost] for name, column in lost._asdict().items()}


def describe_clients(experiment: Experiment) -> dict[str, np.ndarray]:
    """Return who has what data: ``num_samples`` and, of classes, ``label_counts``."""
    workload = experiment.workload
    arrays = {"num_samples": workload.counts}
    if workload.label_counts is not None:
        arrays["label_counts"] = workload.label_counts
    return arrays


def sample_timeline(experiment: Experiment, method: Method) -> Timeline | None:
    """Return what some clients did in the first part of a run; None without a clock.

    The clients are the same ones for all methods: those for whom the first rounds of
    a synchronous method wait, and others at random; of a fleet so large that most
    never take part, some that do.
    """
    trace = method.trace
    if not (method.has_clock and method.counts_updates):
        return None
    clients = np.arange(method.fleet.num_clients)
    if len(clients) > _LARGE:
        clients = np.unique(np.concatenate([trace.client, trace.lost.client]))
    rng = experiment.settings.make_rng("timeline")
    sample = list(
        dict.fromkeys([*_find_slowest(experiment), *rng.permutation(clients).tolist()])
    )[:_SAMPLE]
    tasks_per_client = trace.num_updates / len(clients)
    share = min(1.0, _TASKS_SHOWN / tasks_per_client)
    until = float(trace.arrival_time[-1]) * share
    return make_timeline(trace, method.fleet, sorted(sample), until=until)


def _find_slowest(experiment: Experiment) -> list[int]:
    """Return the clients that end the first rounds of the synchronous methods."""
    ends = [
        method.trace.client[method.models[:_ROUNDS_SHOWN] - 1].tolist()
        for method in experiment.methods
        if method.models is not None and method.counts_updates
    ]
    return [client for clients in ends for client in clients]


def check(outcome: Outcome) -> list[str]:
    """Return what is wrong with a run, a line each; none if all is well.

    See ``invariants.find_violations``; and the weight of every arrival that was mixed
    must be the one that the method expects, if it can tell.
    """
    method, updates = outcome.method, outcome.result.updates
    fleet = method.fleet if method.has_clock and method.counts_updates else None
    lines = find_violations(method.trace, fleet)
    if method.expected_alpha is not None:
        alpha, expected = np.asarray(updates.alpha), method.expected_alpha
        is_right = np.isclose(alpha, expected, rtol=1e-5, atol=_VANISHES)
        wrong = np.flatnonzero(updates.applied & ~is_right)
        if len(wrong):
            lines.append(f"staleness: alpha_t is not alpha s(d) at {wrong[0]}")
    return [f"{method.name}: {line}" for line in lines]


def list_notes(method: Method) -> list[str]:
    """Return what the user should know of a method before it runs, a line each."""
    notes = []
    if method.trace.ended:
        notes.append(
            f"{method.name} ends after {method.trace.num_updates:,} updates: "
            f"{method.trace.ended}"
        )
    warning = warn_of_staleness(method)
    return notes + ([warning] if warning else [])


def warn_of_staleness(method: Method) -> str | None:
    """Return a line if most arrivals are too stale for the method's s(d), else None."""
    weights = method.staleness_weights
    if weights is None:
        return None
    share = float(np.mean(weights < _TOO_LITTLE))
    if share < 0.5:
        return None
    median, mean = np.median(method.staleness), method.staleness.mean()
    return (
        f"{method.name}: {share:.0%} of the arrivals will count for less than "
        f"{_TOO_LITTLE:.0%} of alpha; their staleness is {mean:.0f} in the mean, "
        f"{median:.0f} in the median, which this function hardly tolerates"
    )


def _sum_up(
    rows: Sequence[Mapping[str, Any]], name: str, worst: str
) -> dict[str, float | None]:
    """Return mean and worst, ``min`` or ``max``; None where one is not finite."""
    values = np.array([row[name] for row in rows], float)
    return {
        f"{name}_mean": finite(float(np.mean(values))),
        f"{name}_{worst}": finite(float(getattr(np, worst)(values))),
    }
