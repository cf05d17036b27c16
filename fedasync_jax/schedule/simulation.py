"""The schedule: who trains when, from which version, and who arrives when.

None of this depends on the values of the models, so the whole schedule of a run is pure
data, a ``Trace``, made on the host before anything is trained. Two kinds of asynchrony
make one: staleness that is sampled, as in the paper's experiments, and staleness that
follows from the events of a virtual clock.

Shapes: T updates, C clients.
Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1 (Scheduler, Coordinator) and section 5 (sampled staleness).
"""

import math

import numpy as np

from fedasync_jax.fleet.devices import Fleet
from fedasync_jax.schedule.clock import Clock
from fedasync_jax.schedule.local_steps import Steps, TimeBudget, step_stream
from fedasync_jax.schedule.schedulers import Rounds, Scheduler
from fedasync_jax.schedule.trace import Trace, make_trace


def sampled_staleness(
    num_clients: int,
    num_updates: int,
    *,
    max_staleness: int,
    num_steps: Steps = 1,
    rng: np.random.Generator,
) -> Trace:
    """Make the paper's schedule: client and start version drawn at every update.

    The client is uniform with replacement, the start version uniform over the newest
    ``max_staleness`` versions (fewer while fewer exist), so that d is in
    {0, .., max_staleness - 1}. Time is counted in updates.

    Args:
      num_clients: C >= 1.
      num_updates: T >= 1.
      max_staleness: number of versions to draw from, >= 1.
      num_steps: local steps H: the same for all, (H_min, H_max) to draw from
        uniformly per task, or int [C] per client. Nothing takes time, so no
        ``TimeBudget``.
      rng: source of everything drawn.

    Raises:
      ValueError: if a number is out of range.
    """
    if isinstance(num_steps, TimeBudget):
        raise ValueError(
            "num_steps must be numbers where staleness is sampled and nothing takes "
            f"time, got {num_steps}"
        )
    _require_positive(num_clients=num_clients, num_updates=num_updates)
    _require_positive(max_staleness=max_staleness)
    of_client, of_version, of_steps = rng.spawn(3)
    update = np.arange(num_updates)
    choices = np.minimum(max_staleness, update + 1)
    client = (of_client.random(num_updates) * num_clients).astype(np.int32)
    start = update - (of_version.random(num_updates) * choices).astype(int)
    draw = step_stream(num_steps, num_clients, of_steps)
    return make_trace(
        client=client,
        task=update,
        start_version=start,
        start_time=start,
        arrival_time=update + 1,
        num_steps=np.array([draw(i, 1.0) for i in client.tolist()]),
        last_reader=np.arange(num_updates + 1) + max_staleness - 1,
    )


def simulate(
    fleet: Fleet,
    num_updates: int,
    *,
    scheduler: Scheduler,
    num_steps: Steps = 1,
    num_bytes: int = 0,
    weights: np.ndarray | None = None,
    max_tasks: int | None = None,
    time_out: float = math.inf,
    rng: np.random.Generator,
) -> Trace:
    """Run the virtual clock until ``num_updates`` models have arrived.

    Events are handled in the order (time, sequence number): ties first in, first out.
    A worker is drawn from the idle ones that are there, receives the newest version,
    and is idle again once its task has ended. The cost of a task hardly depends on C,
    but on the share of the clients that are there.

    The trace is shorter, and its ``ended`` says why, if nobody is available for the
    rest of time or 10,000 tasks are lost in a row.

    Args:
      fleet: devices of the clients.
      num_updates: T >= 1.
      scheduler: ``Immediate``, ``Periodic`` or ``Rounds``.
      num_steps: as in ``sampled_staleness``, or ``TimeBudget``.
      num_bytes: size of a model, for the time that it travels.
      weights: float [C], >= 0, in proportion to which workers are drawn, such as their
        numbers of samples; default: uniformly.
      max_tasks: tasks that a client gets at most, >= 1; default: no limit.
      time_out: simulated seconds after which the server gives a task up, > 0: its
        worker stops, its place is free.
      rng: source of everything drawn.

    Raises:
      ValueError: if a number is out of range, or no model ever arrives.
    """
    _require_positive(num_updates=num_updates)
    if max_tasks is not None:
        _require_positive(max_tasks=max_tasks)
    weights = _check_weights(weights, fleet.num_clients)
    num_eligible = fleet.num_clients if weights is None else int((weights > 0).sum())
    scheduler.check(num_eligible)
    limits = {"time_out": time_out}
    in_permutations = False
    if isinstance(scheduler, Rounds):
        limits["deadline"] = scheduler.deadline
        in_permutations = scheduler.in_permutations
    if in_permutations and weights is not None:
        raise ValueError(
            "weights must be None for rounds by permutation, where all clients have "
            f"as many turns, got {len(weights)} weights"
        )
    _check_limits(limits, *fleet.transfer_seconds(num_bytes))
    clock = Clock(
        fleet,
        num_steps,
        num_bytes=num_bytes,
        weights=weights,
        max_tasks=max_tasks,
        time_out=time_out,
        in_permutations=in_permutations,
        rng=rng,
    )
    scheduler.run(clock, num_updates, num_eligible)
    return clock.trace(num_updates)


def _check_weights(weights: np.ndarray | None, num_clients: int) -> np.ndarray | None:
    if weights is None:
        return None
    weights = np.asarray(weights, float)
    if weights.shape != (num_clients,):
        raise ValueError(
            f"weights must have shape ({num_clients},), got {weights.shape}"
        )
    if not ((weights >= 0) & (weights < math.inf)).all() or not weights.any():
        raise ValueError(
            "weights must be finite and >= 0, one of them > 0, got values in "
            f"[{weights.min()}, {weights.max()}]"
        )
    return weights


def _check_limits(
    limits: dict[str, float], download: np.ndarray, upload: np.ndarray
) -> None:
    """Check that a limit leaves time to train: transfers last float64 [C] seconds."""
    shortest = float(np.min(download + upload))
    for name, seconds in limits.items():
        if not seconds > shortest:
            raise ValueError(
                f"{name} must be > {shortest:g} seconds, as long as the fastest client "
                f"needs to get and send the model, got {seconds}"
            )


def _require_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be >= 1, got {number}")
