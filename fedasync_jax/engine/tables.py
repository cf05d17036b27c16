"""What the device looks up by number is checked here, once, before the first wave.

Inside a compiled program a number that is too large is not an error: it reads the last
row. So a schedule for other clients, or a table that is too short, would train on the
wrong data without a word.

Shapes: T updates, S slots.
"""

import numpy as np

from fedasync_jax.base import LocalUpdate, Mixer, check_schedule
from fedasync_jax.schedule.trace import Trace


def check_tables(trace: Trace, local_update: LocalUpdate, mixer: Mixer) -> None:
    """Raise ValueError, in one line, if a number in the trace has no row.

    Args:
      trace: the schedule.
      local_update: asked as well if it can tell (see ``base.Guarded``), as those of
        ``make_local_update`` can.
      mixer: likewise, as ``mixing.weighted`` and ``average_rounds``.
    """
    rows = np.arange(trace.num_updates)
    slots = trace.num_slots
    _require("client", trace.client, trace.client >= 0, ">= 0")
    _require("num_steps", trace.num_steps, trace.num_steps >= 1, ">= 1")
    existing = (trace.start_version >= 0) & (trace.start_version <= rows)
    what = "a version that exists before the arrival"
    _require("start_version", trace.start_version, existing, what)
    readable = (trace.read_slot >= 0) & (trace.read_slot < slots)
    _require("read_slot", trace.read_slot, readable, f"in 0..{slots - 1}")
    writable = (trace.write_slot >= 0) & (trace.write_slot <= slots)
    _require("write_slot", trace.write_slot, writable, f"in 0..{slots}")
    check_schedule(local_update, trace)
    check_schedule(mixer.update, trace)


def _require(name: str, column: np.ndarray, right: np.ndarray, allowed: str) -> None:
    if not right.all():
        row = int(np.argmin(right))
        raise ValueError(
            f"trace.{name} must be {allowed}, got {column[row]} in row {row}"
        )
