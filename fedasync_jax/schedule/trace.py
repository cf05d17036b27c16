"""The record of a schedule: which arrival was trained where, when and from what.

A trace is pure data. Cut into waves and with a slot for every start model, it is all
that the engine needs to know of Scheduler and Coordinator, of whatever kind they are.

Shapes: T updates. Row t of a trace is the arrival that makes version t + 1.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import numpy as np

# Why a task's model was never mixed; ``LostTasks.reason`` has the place in this list.
# left: its device went away. failed: the task itself. timed out: the server gave it up.
# late: the round was over. unfinished: the run was over.
LOSS_REASONS = ("left", "failed", "timed out", "late", "unfinished")
LEFT, FAILED, TIMED_OUT, LATE, UNFINISHED = range(len(LOSS_REASONS))


class LostTasks(NamedTuple):
    """Tasks that were triggered and whose models were not mixed, L of them.

    Attributes:
      client: int32 [L], the client that trained.
      task: int32 [L], number of the task in the order of the triggers.
      start_version: int32 [L], tau, the version that the worker received.
      num_steps: int32 [L], H, local steps that it was given.
      start_time: float64 [L], when it was triggered, simulated seconds.
      end_time: float64 [L], when it ended; of an unfinished one: when it would have.
      reason: int8 [L], place in ``LOSS_REASONS``.
    """

    client: np.ndarray
    task: np.ndarray
    start_version: np.ndarray
    num_steps: np.ndarray
    start_time: np.ndarray
    end_time: np.ndarray
    reason: np.ndarray


def make_lost_tasks(**columns: np.ndarray) -> LostTasks:
    """Return the record of the columns, with their types; of none: no task."""
    types = {"reason": np.int8, "start_time": np.float64, "end_time": np.float64}
    return LostTasks(
        *(
            np.asarray(columns.get(name, ()), types.get(name, np.int32))
            for name in LostTasks._fields
        )
    )


@dataclass(frozen=True, kw_only=True)
class Trace:
    """All arrivals of a run, in the order in which the Updater mixes them.

    Attributes:
      client: int32 [T], the client that trained.
      task: int32 [T], number of the task in the order of the triggers; its random key
        is made from it.
      start_version: int32 [T], tau, the version that the worker received.
      start_time: float64 [T], when the task was triggered and its download began,
        simulated seconds (for sampled staleness: the number of updates).
      work_start_time: float64 [T], when the model was there and training began.
      work_end_time: float64 [T], when training ended and the upload began.
      arrival_time: float64 [T], when its model arrived, never falling.
      num_steps: int32 [T], H, local steps.
      read_slot: int32 [T], where the start model lies in the store.
      write_slot: int32 [T], where version t + 1 goes; ``num_slots`` if no task ever
        starts from it.
      num_slots: start models that the store holds; version 0 begins in slot 0.
      lost: tasks that did not arrive.
      ended: why there are fewer arrivals than asked for; empty if there are not.
    """

    client: np.ndarray
    task: np.ndarray
    start_version: np.ndarray
    start_time: np.ndarray
    work_start_time: np.ndarray
    work_end_time: np.ndarray
    arrival_time: np.ndarray
    num_steps: np.ndarray
    read_slot: np.ndarray
    write_slot: np.ndarray
    num_slots: int
    lost: LostTasks = field(default_factory=make_lost_tasks)
    ended: str = ""

    @property
    def num_updates(self) -> int:
        """T, the number of arrivals."""
        return len(self.client)

    @property
    def staleness(self) -> np.ndarray:
        """int32 [T]: d = t - tau, versions made between the download and the mix."""
        return self.count_staleness(1)

    def count_staleness(self, versions_every: int) -> np.ndarray:
        """Return d of every arrival in versions of a rule, int32 [T].

        Args:
          versions_every: K, arrivals that the rule makes one version of: floor(t / K) -
            floor(tau / K) versions lie between download and mix.
        """
        rows = np.arange(self.num_updates, dtype=np.int32)
        made = rows // versions_every - self.start_version // versions_every
        return made.astype(np.int32)

    def count_in_flight(self) -> np.ndarray:
        """Return the tasks under way just before every arrival, int32 [T].

        Those that were triggered at versions up to the one that the arrival is mixed
        into: of events at one time, the order decides.
        """
        rows = np.arange(self.num_updates)
        starts = np.concatenate([self.start_version, self.lost.start_version])
        started = np.searchsorted(np.sort(starts), rows, side="right")
        ended = np.searchsorted(np.sort(self.lost.end_time), self.arrival_time)
        return np.maximum(1, started - ended - rows).astype(np.int32)

    def count_devices(self) -> int:
        """Return the largest number of tasks that are under way at a time.

        A client has one task at a time, so that is how many devices are at work. A task
        that begins when another ends takes its place.
        """
        starts = np.sort(np.concatenate([self.start_time, self.lost.start_time]))
        ends = np.sort(np.concatenate([self.arrival_time, self.lost.end_time]))
        ended = np.searchsorted(ends, starts, side="right")
        return int(np.max(np.arange(1, len(starts) + 1) - ended))

    def columns(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return {k: v for k, v in arrays.items() if isinstance(v, np.ndarray)}


def widen_store(trace: Trace, num_slots: int) -> Trace:
    """Return the same schedule with a store of ``num_slots`` start models.

    What is compiled depends on the size of the store; schedules with stores of one size
    can share it.

    Raises:
      ValueError: if that is less than the trace needs.
    """
    if num_slots < trace.num_slots:
        raise ValueError(f"num_slots must be >= {trace.num_slots}, got {num_slots}")
    nobody = trace.write_slot == trace.num_slots
    write_slot = np.where(nobody, num_slots, trace.write_slot).astype(np.int32)
    return replace(trace, num_slots=num_slots, write_slot=write_slot)


def make_trace(
    *,
    last_reader: np.ndarray,
    lost: LostTasks | None = None,
    ended: str = "",
    **columns: np.ndarray,
) -> Trace:
    """Return a trace of the columns, its slots assigned (see ``assign_slots``).

    Transfers take no time unless ``work_start_time`` and ``work_end_time`` are given.
    """
    columns.setdefault("work_start_time", columns["start_time"])
    columns.setdefault("work_end_time", columns["arrival_time"])
    typed = {
        name: np.asarray(column, np.float64 if name.endswith("_time") else np.int32)
        for name, column in columns.items()
    }
    read, write, num_slots = assign_slots(typed["start_version"], last_reader)
    return Trace(
        **typed,
        read_slot=read,
        write_slot=write,
        num_slots=num_slots,
        lost=make_lost_tasks() if lost is None else lost,
        ended=ended,
    )


def make_waves(
    start_version: np.ndarray,
    max_width: int | None = None,
    begin: int = 0,
    stops: Sequence[int] | np.ndarray = (),
) -> Iterator[tuple[int, int]]:
    """Yield waves (begin, end): rows whose start versions all exist at row ``begin``.

    Before row ``begin`` is mixed the versions 0 .. begin exist. Every wave is as long
    as it can be, so that no exact schedule with these stops has fewer.

    Args:
      start_version: int [T].
      max_width: longest wave, >= 1; None for no limit.
      begin: first row.
      stops: versions that must be the last of a wave, rising.

    Raises:
      ValueError: if a row starts from a version that does not exist before it.
    """
    ends = find_ends(start_version, stops).tolist()
    while begin < len(ends):
        end = ends[begin]
        end = end if max_width is None else min(end, begin + max_width)
        yield begin, end
        begin = end


def find_ends(
    start_version: np.ndarray, stops: Sequence[int] | np.ndarray = ()
) -> np.ndarray:
    """Return int [T], for every row, where a wave that begins there must end.

    Args:
      start_version: int [T].
      stops: see ``make_waves``.

    Raises:
      ValueError: if a row starts from a version that does not exist before it.
    """
    rows = np.arange(len(start_version))
    exists = (start_version >= 0) & (start_version <= rows)
    if not exists.all():
        row = int(np.argmin(exists))
        raise ValueError(
            f"start_version[{row}] must be in 0..{row}, got {start_version[row]}"
        )
    # All ends at once: asked one by one, NumPy would convert the column for each.
    newest_needed = np.maximum.accumulate(start_version)
    ends = np.searchsorted(newest_needed, rows, side="right")
    stops = np.append(np.asarray(stops, int), len(rows))
    next_stop = stops[np.searchsorted(stops, rows, side="right")]
    return np.minimum(ends, next_stop)


def assign_slots(
    start_version: np.ndarray, last_reader: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Give every version that is read a slot, as a compiler gives registers.

    A slot is free again after the last reader of its version, in time for the version
    that this very row makes. The number of slots is the largest number of versions
    that are alive at once: the fewest possible.

    Args:
      start_version: int [T], the version that row t reads.
      last_reader: int [T + 1], the last row that may read version v; beyond T - 1 for
        a version that stays alive, below v for one that nobody reads.

    Returns:
      ``read_slot`` int32 [T], ``write_slot`` int32 [T], number of slots.
    """
    num_updates = len(start_version)
    released_by: dict[int, list[int]] = {}
    slot_of = np.full(num_updates + 1, -1, np.int32)
    free: list[int] = []
    num_slots = 0
    for version, last in enumerate(last_reader.tolist()):
        free.extend(released_by.pop(version - 1, ()))
        if last < version and version > 0:
            continue
        slot = free.pop() if free else num_slots
        num_slots = max(num_slots, slot + 1)
        slot_of[version] = slot
        released_by.setdefault(last, []).append(slot)
    write_slot = np.where(slot_of < 0, num_slots, slot_of)[1:]
    return slot_of[start_version], write_slot.astype(np.int32), num_slots


def round_ends(trace: Trace) -> np.ndarray:
    """Return the versions that end a round, rising; the last may be in the middle."""
    last_of_round = np.flatnonzero(np.diff(trace.start_version, append=-1))
    return last_of_round + 1
