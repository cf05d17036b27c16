"""Metrics for TensorBoard: a run per method, steps are versions."""

import time
from pathlib import Path
from typing import Any

from fedasync_jax.experiment.records import Method
from fedasync_jax.jobs.callbacks import Callback, Outcome
from fedasync_jax.jobs.metrics import Row
from fedasync_jax.storage.run_folder import slugify


class TensorBoard(Callback):
    """Writes every number of every line of metrics as a scalar of that name.

    The step is the version. TensorBoard's wall time is the simulated time where there
    is a clock, so that its horizontal axis RELATIVE shows simulated seconds.
    """

    def __init__(self, folder: str | Path):
        """Write below ``folder``, where a method's earlier events are replaced.

        Raises:
          ModuleNotFoundError: if the extra ``tensorboard`` is not installed.
        """
        from tensorboardX import SummaryWriter

        self._make_writer = SummaryWriter
        self._folder = Path(folder)
        self._writer: Any = None

    def on_start(self, method: Method) -> None:
        """Begin anew: all metrics are told again."""
        folder = self._folder / slugify(method.name)
        for events in folder.glob("events.out.tfevents.*"):
            events.unlink()
        self._writer = self._make_writer(str(folder))

    def on_metrics(self, method: Method, row: Row, *, again: bool) -> None:
        """Write a line; it can be seen at once."""
        seconds = row["virtual_time"]
        for name, value in row.items():
            if isinstance(value, int | float) and name not in ("version", "updates"):
                self._writer.add_scalar(
                    name,
                    value,
                    row["version"],
                    walltime=time.time() if seconds is None else seconds,
                )
        self._writer.flush()

    def on_end(self, outcome: Outcome) -> None:
        """Close the file."""
        self._writer.close()

    def on_stop(self, method: Method, reason: str) -> None:
        """Close the file."""
        self._writer.close()
