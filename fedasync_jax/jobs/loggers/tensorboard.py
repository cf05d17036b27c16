"""Metrics for TensorBoard: a run per method, steps are versions."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedasync_jax.jobs.loggers.protocol import LoggedRun
from fedasync_jax.parts.folder_names import slugify


class TensorBoard:
    """Writes every number of every line of metrics as a scalar of that name.

    The step is the version. TensorBoard's wall time is the simulated time where there
    is a clock, so that its horizontal axis RELATIVE shows simulated seconds. A run that
    goes on must tell everything again: a method's earlier events are replaced.
    """

    tells_again = True

    def __init__(self, folder: str | Path):
        """Write below ``folder``.

        Raises:
          ModuleNotFoundError: if the extra ``tensorboard`` is not installed.
        """
        from tensorboardX import SummaryWriter

        self._make_writer = SummaryWriter
        self._folder = Path(folder)
        self._writer: Any = None

    def start(self, run: LoggedRun) -> None:
        """Begin anew."""
        folder = self._folder / slugify(run.method)
        for events in folder.glob("events.out.tfevents.*"):
            events.unlink()
        self._writer = self._make_writer(str(folder))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write a line; it can be seen at once."""
        seconds = values.get("virtual_time")
        for name, value in values.items():
            if name != "updates":
                self._writer.add_scalar(
                    name,
                    value,
                    step,
                    walltime=time.time() if seconds is None else seconds,
                )
        self._writer.flush()

    def finish(self) -> None:
        """Close the file."""
        self._writer.close()
