"""What a run folder has that can be drawn."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from fedasync_jax.parts.folder_names import slugify
from fedasync_jax.plotting.styles import LineStyle, assign_styles
from fedasync_jax.schedule.trace import LOSS_REASONS
from fedasync_jax.storage import read_run
from fedasync_jax.storage.run_folder import Row

Arrays = Mapping[str, np.ndarray]


class MethodRecord(Protocol):
    """What is drawn of one method in memory, see ``jobs.results.MethodResults``."""

    @property
    def rows(self) -> Sequence[Row]:
        """Its metrics."""
        ...

    @property
    def arrivals(self) -> Arrays:
        """See ``read_run.read_updates``."""
        ...

    @property
    def lost(self) -> Arrays:
        """See ``read_run.read_lost``."""
        ...

    @property
    def timeline(self) -> Arrays | None:
        """See ``read_run.read_timeline``."""
        ...

    @property
    def client_scores(self) -> Arrays | None:
        """See ``read_run.read_client_scores``."""
        ...

    @property
    def is_async(self) -> bool:
        """Whether its arrivals may be stale."""
        ...


class RunRecord(Protocol):
    """What is drawn of a run in memory, see ``jobs.results.TrainResults``."""

    @property
    def methods(self) -> Mapping[str, MethodRecord]:
        """What became of every method, by name."""
        ...

    @property
    def clients(self) -> Arrays:
        """Who has what data, see ``read_run.read_clients``."""
        ...


class Contents(NamedTuple):
    """What a run has left; its archives by method, where a method has them.

    Attributes:
      rows: the metrics of every method.
      updates: see ``read_run.read_updates``.
      lost: see ``read_run.read_lost``; without tasks that only the end of the run
        cut off.
      timelines: see ``read_run.read_timeline``.
      client_scores: see ``read_run.read_client_scores``.
      clients: see ``read_run.read_clients``.
      is_async: whether arrivals of a method may be stale, where the folder says so.
      clock: what its times are, "simulated" or, over a network, "real".
    """

    rows: Mapping[str, Sequence[Row]]
    updates: Mapping[str, Arrays]
    lost: Mapping[str, Arrays]
    timelines: Mapping[str, Arrays]
    client_scores: Mapping[str, Arrays]
    clients: Arrays | None
    is_async: Mapping[str, bool | None]
    clock: str = "simulated"

    @property
    def asynchronous(self) -> list[str]:
        """Methods whose arrivals may be stale."""
        return [method for method in self.rows if self._is_asynchronous(method)]

    @property
    def pair(self) -> list[str]:
        """The first asynchronous method and the first with rounds of clients.

        Between them they have the schedules of all methods. SGD on pooled data has no
        clients, and no updates of theirs.
        """
        with_rounds = [
            method
            for method, rows in self.rows.items()
            if method not in self.asynchronous and rows[-1]["updates"] is not None
        ]
        return [*self.asynchronous[:1], *with_rounds[:1]]

    @property
    def styles(self) -> dict[str, LineStyle]:
        """The looks of every method."""
        return assign_styles(list(self.rows), self.asynchronous)

    def has_clock(self, method: str) -> bool:
        """Whether the times of a method are seconds, see ``clock``."""
        return self.rows[method][-1]["virtual_time"] is not None

    def count_arrivals(self, method: str, num_clients: int) -> np.ndarray:
        """Return int [C], how often each client arrived.

        Raises:
          ValueError: if there are more than ``num_clients`` clients.
        """
        counts = np.bincount(self.updates[method]["client"], minlength=num_clients)
        if len(counts) > num_clients:
            raise ValueError(
                f"clients.npz must have all clients of the arrivals, got {num_clients} "
                f"and a client {len(counts) - 1} of {method}"
            )
        return counts

    def measure_tasks(self, num_clients: int) -> np.ndarray | None:
        """Return float64 [C], mean simulated seconds of a client's tasks.

        Over the arrivals of all methods of clients; NaN of a client that never arrived,
        None of a run without a clock.
        """
        seconds, tasks = np.zeros(num_clients), np.zeros(num_clients)
        for method, arrays in self.updates.items():
            if not self.has_clock(method) or self.rows[method][-1]["updates"] is None:
                continue
            tasks += self.count_arrivals(method, num_clients)
            lasted = arrays["arrival_time"] - arrays["start_time"]
            seconds += np.bincount(arrays["client"], lasted, num_clients)
        if not tasks.any():
            return None
        return np.where(tasks > 0, seconds / np.maximum(tasks, 1), np.nan)

    def find_rounds(self, method: str) -> np.ndarray:
        """Return float64 [R], when a round began: tasks of a round share a version."""
        start_version, start_time = (
            self.updates[method][name] for name in ("start_version", "start_time")
        )
        order = np.lexsort((start_time, start_version))
        _, firsts = np.unique(start_version[order], return_index=True)
        return start_time[order][firsts]

    def _is_asynchronous(self, method: str) -> bool:
        known = self.is_async.get(method)
        if known is not None:
            return known
        if method in self.updates and self.updates[method]["staleness"].any():
            return True
        # Folders without method.json were written when FedAsync was the only one.
        return slugify(method).startswith("fedasync")


def take_contents(run: RunRecord) -> Contents:
    """Return what can be drawn of results in memory."""
    results = run.methods
    lost = {name: result.lost for name, result in results.items()}
    timelines = {name: result.timeline for name, result in results.items()}
    scores = {name: result.client_scores for name, result in results.items()}
    return Contents(
        rows={name: result.rows for name, result in results.items()},
        updates={name: result.arrivals for name, result in results.items()},
        lost={name: arrays for name, arrays in lost.items() if arrays["reason"].size},
        timelines={n: arrays for n, arrays in timelines.items() if arrays is not None},
        client_scores={n: a for n, a in scores.items() if a is not None},
        clients=run.clients,
        is_async={name: result.is_async for name, result in results.items()},
    )


def read_contents(run_dir: str | Path) -> Contents:
    """Read everything that can be drawn.

    Args:
      run_dir: the run folder.

    Raises:
      ValueError: if the folder has no metrics, or a file in it cannot be read.
    """
    rows = read_run.read_metrics(run_dir)

    def read(read_fn: Callable[[str | Path, str], Arrays | None]) -> dict[str, Arrays]:
        archives = {method: read_fn(run_dir, method) for method in rows}
        return {method: a for method, a in archives.items() if a is not None}

    lost = {m: _drop_unfinished(a) for m, a in read(read_run.read_lost).items()}
    return Contents(
        rows=rows,
        updates=read(read_run.read_updates),
        lost={m: arrays for m, arrays in lost.items() if arrays["reason"].size},
        timelines=read(read_run.read_timeline),
        client_scores=read(read_run.read_client_scores),
        clients=read_run.read_clients(run_dir),
        is_async={m: read_run.read_is_async(run_dir, m) for m in rows},
        clock=read_run.read_clock(run_dir),
    )


def name_clock(runs: Iterable[Contents]) -> str:
    """Return what the times of all runs are; "" if they differ."""
    clocks = {run.clock for run in runs}
    return clocks.pop() if len(clocks) == 1 else ""


def _drop_unfinished(lost: Arrays) -> Arrays:
    kept = np.array(LOSS_REASONS)[lost["reason"]] != "unfinished"
    return {name: array[kept] for name, array in lost.items()}


def name_runs(paths: Sequence[Path]) -> list[str]:
    """Return the names of the folders, or their paths if two have one name."""
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]
