"""The history of a run: what is worth knowing, on its way from device to host.

The host loop must not wait for the device, so results are fetched one evaluation late:
when the next evaluation has been enqueued, the one before it is most likely done.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from fedasync_jax.base import Array, Variables


class Updates(NamedTuple):
    """What happened to N arrivals, in the order of arrival.

    Attributes:
      alpha: float [N], the weight alpha_t of the local model.
      applied: bool [N], False where the local model was not finite and not mixed.
      loss: float [N], mean training loss of the task.
    """

    alpha: Array | np.ndarray
    applied: Array | np.ndarray
    loss: Array | np.ndarray


class Evaluation(NamedTuple):
    """Metrics of one version.

    Attributes:
      version: number of the model.
      metrics: what ``evaluate_fn`` returned, fetched from the device.
    """

    version: int
    metrics: dict[str, Any]


class Past(NamedTuple):
    """What a run that goes on has behind it.

    Attributes:
      updates: of NumPy arrays, one row per version so far.
      evaluations: in order of the version; later ones may be due.
    """

    updates: Updates
    evaluations: list[Evaluation]


class OnEvaluation(Protocol):
    """Called after every evaluation, in order."""

    def __call__(self, evaluation: Evaluation, updates: Updates) -> None:
        """Receive the metrics and the updates made since the previous call."""
        ...


_Rows = tuple[slice | np.ndarray, Updates]


class History:
    """Collects the updates and evaluations of one run.

    Attributes:
      evaluations: all that were fetched.
    """

    def __init__(
        self,
        version: int,
        evaluate_fn: Callable[[Variables], dict[str, Array]] | None,
        callback: OnEvaluation | None,
        observe: Callable[[Evaluation], None] | None = None,
        past: Past | None = None,
    ):
        """Begin at ``version``; without ``evaluate_fn`` the metrics are empty.

        ``observe`` receives every evaluation, before ``callback``. With ``past``, the
        history of the versions before belongs to this one, but is not told again.
        """
        self.evaluations: list[Evaluation] = []
        self._evaluate_fn = evaluate_fn or (lambda variables: {})
        self._callback = callback or (lambda evaluation, updates: None)
        self._observe = observe or (lambda evaluation: None)
        self._version = version  # of the last evaluation that was fetched
        self._parts: list[Updates] = []  # on the host, up to that version
        nothing = np.zeros(0, np.float32)
        self._rest = Updates(nothing, nothing.astype(bool), nothing)  # for later
        self._on_device: list[_Rows] = []
        self._waiting: tuple[int, dict, list[_Rows]] | None = None
        if past is not None:
            self.evaluations = list(past.evaluations)
            self._version = past.evaluations[-1].version if past.evaluations else 0
            self._parts = [_head(past.updates, self._version)]
            self._rest = Updates(*(column[self._version :] for column in past.updates))

    def add(self, updates: Updates, rows: slice | np.ndarray) -> None:
        """Note ``rows`` of ``updates``, which stay on the device for now."""
        self._on_device.append((rows, updates))

    def evaluate(self, version: int, variables: Variables) -> None:
        """Enqueue an evaluation and fetch the one before it.

        All updates before ``version`` must have been added.
        """
        metrics = self._evaluate_fn(variables)
        self.flush()
        self._waiting = version, metrics, self._on_device
        self._on_device = []

    def flush(self, newest: int | None = None) -> None:
        """Fetch the evaluation that was enqueued last, with its updates.

        Given ``newest``, only one of that version or an earlier one.
        """
        if self._waiting is None:
            return
        if newest is not None and self._waiting[0] > newest:
            return
        version, metrics, calls = self._waiting
        self._waiting = None
        evaluation = Evaluation(version, jax.device_get(metrics))
        rows = _concatenate([self._rest, *_fetch(calls)])
        num_new = version - self._version
        self._rest = Updates(*(column[num_new:] for column in rows))
        self._parts.append(_head(rows, num_new))
        self._version += num_new
        self.evaluations.append(evaluation)
        self._observe(evaluation)
        self._callback(evaluation, self._parts[-1])

    def past(self) -> Past:
        """Fetch everything and return it."""
        self.flush()
        self._rest = _concatenate([self._rest, *_fetch(self._on_device)])
        self._on_device = []
        updates = _concatenate([*self._parts, self._rest])
        return Past(updates, list(self.evaluations))

    def updates(self) -> Updates:
        """Return all updates up to the last evaluation that was fetched."""
        nothing = _head(self._rest, 0)
        return _concatenate([nothing, *self._parts])


def choose_versions(
    eval_every: int | np.ndarray | None, num_updates: int
) -> np.ndarray:
    """Return which versions are evaluated, bool [T + 1]; 0 and T always are.

    Args:
      eval_every: versions between evaluations, the versions themselves, or None.
      num_updates: T.

    Raises:
      ValueError: if ``eval_every`` is out of range.
    """
    is_due = np.zeros(num_updates + 1, bool)
    is_due[[0, num_updates]] = True
    if isinstance(eval_every, np.ndarray):
        outside = (eval_every < 0) | (eval_every > num_updates)
        if outside.any():
            raise ValueError(
                f"eval_every must be versions in 0..{num_updates}, "
                f"got {eval_every[outside][0]}"
            )
        is_due[eval_every] = True
    elif eval_every is not None:
        if eval_every < 1:
            raise ValueError(f"eval_every must be >= 1 update, got {eval_every}")
        is_due[::eval_every] = True
    return is_due


def _fetch(calls: list[_Rows]) -> list[Updates]:
    """Return the rows of each, on the host."""
    fetched = jax.device_get([updates for _, updates in calls])
    return [
        Updates(*(column[rows] for column in updates))
        for updates, (rows, _) in zip(fetched, calls, strict=True)
    ]


def _head(updates: Updates, num_rows: int) -> Updates:
    return Updates(*(column[:num_rows] for column in updates))


def _concatenate(parts: list[Updates]) -> Updates:
    return Updates(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
