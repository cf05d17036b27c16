"""Which waves share a call of the device: as many as take about a tenth of a second.

To start a call costs the host as much as a wave of small tasks, so a call holds many.
Stops, progress and checkpoints wait for its end, so it must not take long. No result
depends on where one call ends and the next begins.

Shapes: P tasks in the queue, N rows of a call's log.
"""

import collections
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from fedasync_jax.base import Mixer
from fedasync_jax.engine.batching import Batching
from fedasync_jax.engine.history import Updates
from fedasync_jax.engine.plan import Inputs, TaskRow
from fedasync_jax.engine.processes import find_processes_of
from fedasync_jax.engine.state import Models
from fedasync_jax.schedule.trace import Trace, find_ends

Waves = Sequence[tuple[int, int]]

_MOST_ROWS = 4096


class Call(NamedTuple):
    """A call that has been handed to the device.

    Attributes:
      begin: place of its first task in the queue.
      end: place after its last.
      updates: see ``Updates``; the first end - begin rows are those of its tasks.
    """

    begin: int
    end: int
    updates: Updates


class Pace:
    """How many tasks a call should hold, from the seconds that the last ones took."""

    def __init__(self, batching: Batching):
        """Begin with as few as can be."""
        self._batching = batching
        self._processes = find_processes_of(batching.mesh)
        self._in_flight: collections.deque[Call] = collections.deque()
        self._last_end = time.perf_counter()
        self.num_tasks = 1

    def add(self, call: Call) -> None:
        """Note a call that has been enqueued; wait if too many are."""
        self._in_flight.append(call)
        if len(self._in_flight) < self._batching.max_in_flight:
            return
        begin, end, updates = self._in_flight.popleft()
        jax.block_until_ready(updates)
        now = time.perf_counter()
        seconds, self._last_end = now - self._last_end, now
        rate = (end - begin) / max(seconds, 1e-9)
        self.num_tasks = int(min(rate * self._batching.call_seconds, _MOST_ROWS))

    def agree(self) -> int:
        """Return the number, in all processes that of process 0, whose clock counts."""
        return self._processes.lead(lambda: self.num_tasks)


def make_columns(trace: Trace, mixer: Mixer, run: int = 0) -> dict[str, np.ndarray]:
    """Return the columns of ``TaskRow`` that belong to a task, [T]."""
    names = "client", "task", "num_steps", "read_slot", "write_slot"
    return {name: getattr(trace, name) for name in names} | {
        "staleness": trace.count_staleness(mixer.versions_every),
        "version": np.arange(trace.num_updates),
        "run": np.full(trace.num_updates, run),
    }


def find_common_steps(traces: Iterable[Trace]) -> int | None:
    """Return H if it is the same for all tasks: a loop of known length is faster."""
    steps = {int(h) for trace in traces for h in np.unique(trace.num_steps)}
    return steps.pop() if len(steps) == 1 else None


def find_widest(start_version: np.ndarray, batching: Batching) -> int:
    """Return the tasks of the widest wave, wherever waves begin."""
    widths = find_ends(start_version) - np.arange(len(start_version))
    return min(int(widths.max()), batching.max_width)


def make_queue(columns: Mapping[str, np.ndarray], waves: Waves) -> np.ndarray:
    """Return int32 [P, 9], the tasks as the device reads them.

    Args:
      columns: those of ``TaskRow`` that belong to a task, [P].
      waves: first place of each and the one after its last.
    """
    wave_end = np.zeros(len(columns["task"]), np.int32)
    for begin, end in waves:
        wave_end[begin] = end
    rows = TaskRow(**columns, wave_end=wave_end)
    return np.stack(rows, axis=1).astype(np.int32)


def start_calls(
    call_waves: Callable[..., tuple[Models, Updates]],
    models: Models,
    inputs: Inputs,
    waves: Waves,
    *,
    widest: int,
    batching: Batching,
    stops: Sequence[int] | np.ndarray,
    scales_of: Callable[[int, int], np.ndarray | None],
    pace: Pace,
) -> Iterator[tuple[Models, Call]]:
    """Yield after every call the models and the call; only enqueues device work.

    Args:
      call_waves: see ``compile_calls``.
      models: before; used up, as those that are yielded are by the next call.
      inputs: see ``Inputs``.
      waves: what is left to do, in order.
      widest: tasks of the widest wave that there could be.
      batching: see ``Batching``.
      stops: places at which a call must end, rising; each must be the end of a wave.
      scales_of: returns the factors on the step sizes of the tasks in places begin ..
        end - 1; asked just before their call.
      pace: how many tasks a call holds.
    """
    if not waves:
        return
    begins, ends = np.array(waves).T
    # Where tasks are done in chunks, a narrow wave has fewer; one W will do for all.
    in_chunks = batching.chunk is not None
    widths = [
        batching.padded(widest if in_chunks else end - begin) for begin, end in waves
    ]
    # A call holds waves of one W. The last wave, which may be longer in a longer trace,
    # is a call of its own: what is saved before it goes on exactly there.
    other = begins[1:][np.diff(widths) != 0]
    stops = np.sort(np.concatenate([stops, other, [begins[-1], ends[-1]]]).astype(int))
    wave = 0
    while wave < len(waves):
        # Coordinator: the tasks of these waves come back next.
        begin = int(begins[wave])
        stop = stops[np.searchsorted(stops, begin, side="right")]
        most = min(begin + pace.agree(), stop)
        after = max(int(np.searchsorted(ends, most, side="right")), wave + 1)
        width, num_rows = widths[wave], max(_MOST_ROWS, widths[wave])
        if batching.one_at_a_time:
            after, num_rows = wave + 1, width
        end = int(ends[after - 1])
        scales = scales_of(begin, end)
        models, updates = call_waves(
            models,
            inputs,
            np.array([begin, end], np.int32),
            None if scales is None else np.resize(scales, num_rows),
            width=width,
            num_rows=num_rows,
        )
        call = Call(begin, end, updates)
        pace.add(call)
        yield models, call
        wave = after
