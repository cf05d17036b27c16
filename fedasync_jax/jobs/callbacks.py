"""Callbacks: who is told how methods go, in one protocol for one run and for many."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fedasync_jax.engine.state import RunResult
from fedasync_jax.experiment.records import Method
from fedasync_jax.jobs.metrics import Row
from fedasync_jax.jobs.scores import describe_score


class Outcome(NamedTuple):
    """A method that has run.

    Attributes:
      method: the method.
      result: final state, updates and evaluations.
      rows: the metrics, as in ``metrics.jsonl``.
      wall_seconds: from its first compilation to its last evaluation.
      client_scores: of its final model, by client, see ``client_scores``; None: it was
        not judged on their data.
    """

    method: Method
    result: RunResult
    rows: list[Row]
    wall_seconds: float
    client_scores: Mapping[str, np.ndarray] | None = None

    def __repr__(self) -> str:
        """Return what it is in a line; the arrays in it would fill pages."""
        last = self.rows[-1]
        return (
            f"Outcome({self.method.name!r}, version {last['version']:,}, "
            f"{describe_score(last)})"
        )


class Callback:
    """What happens to methods; override what you need.

    Methods that run together all start before the first wave. A method goes through
    ``on_start``, ``on_restore``, ``on_metrics`` for every evaluation, with ``on_wave``
    between, then ``on_end`` or ``on_stop``. All are called on the main thread while the
    device works on; what takes long delays the run, but changes no result. An exception
    ends the run; what was saved until then stays, and the run can go on from there.
    """

    def on_start(self, method: Method) -> None:
        """A method begins, or goes on."""

    def on_restore(self, method: Method, version: int) -> None:
        """Its newest checkpoint has been read, of ``version``; 0: there was none."""

    def on_metrics(self, method: Method, row: Row, *, again: bool) -> None:
        """There is an evaluation.

        Args:
          method: what is run.
          row: the line of ``metrics.jsonl``.
          again: whether it was told before: when a run goes on, the lines of the
            versions before come first.
        """

    def on_wave(self, versions: Sequence[int]) -> None:
        """The device has been called.

        Args:
          versions: the newest of every method that runs together, in the order of
            their starts.
        """

    def on_note(self, line: str) -> None:
        """Something to know: a checkpoint is passed over, other software goes on."""

    def on_end(self, outcome: Outcome) -> None:
        """A method is done and its results are written."""

    def on_stop(self, method: Method, reason: str) -> None:
        """A method ends early: it was asked to, or its arrivals are all rejected."""


class Callbacks(Callback):
    """Several callbacks as one, told in their order."""

    def __init__(self, callbacks: Sequence[Callback]):
        """Tell all of ``callbacks``."""
        self._callbacks = tuple(callbacks)

    def on_start(self, method: Method) -> None:
        """See ``Callback``."""
        for callback in self._callbacks:
            callback.on_start(method)

    def on_metrics(self, method: Method, row: Row, *, again: bool) -> None:
        """See ``Callback``."""
        for callback in self._callbacks:
            callback.on_metrics(method, row, again=again)

    def on_wave(self, versions: Sequence[int]) -> None:
        """See ``Callback``."""
        for callback in self._callbacks:
            callback.on_wave(versions)

    def on_restore(self, method: Method, version: int) -> None:
        """See ``Callback``."""
        for callback in self._callbacks:
            callback.on_restore(method, version)

    def on_note(self, line: str) -> None:
        """See ``Callback``."""
        for callback in self._callbacks:
            callback.on_note(line)

    def on_end(self, outcome: Outcome) -> None:
        """See ``Callback``."""
        for callback in self._callbacks:
            callback.on_end(outcome)

    def on_stop(self, method: Method, reason: str) -> None:
        """See ``Callback``."""
        for callback in self._callbacks:
            callback.on_stop(method, reason)
