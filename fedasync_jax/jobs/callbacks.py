"""Callbacks: a user's own code that is told how an experiment goes."""

from fedasync_jax.experiment.records import Method
from fedasync_jax.jobs.metrics import Row
from fedasync_jax.jobs.runner import Outcome


class Callback:
    """What happens in an experiment, method after method; override what you need.

    ``on_start``, then ``on_metrics`` for every evaluation, then ``on_end`` or
    ``on_stop``. All are called on the main thread while the device works on; what takes
    long delays the run, but changes no result. An exception ends the run; what was
    saved until then stays, and the run can go on from there.
    """

    def on_start(self, method: Method) -> None:
        """A method begins, or goes on."""

    def on_metrics(self, method: Method, row: Row, *, again: bool) -> None:
        """There is an evaluation.

        Args:
          method: what is run.
          row: the line of ``metrics.jsonl``.
          again: whether it was told before: when a run goes on, the lines of the
            versions before come first.
        """

    def on_end(self, outcome: Outcome) -> None:
        """A method is done and its results are written."""

    def on_stop(self, method: Method, reason: str) -> None:
        """A method ends early: it was asked to, or its arrivals are all rejected."""
