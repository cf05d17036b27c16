"""The fingerprint of a run: what decides its results, in short.

A run goes on only with what it began with. Its folder and every checkpoint carry

``settings``       by their flat names, but for places and the length of the run
``data``           checksum of the samples, and of who owns which
``fleet``          checksum of the devices' speeds and networks
``initial_model``  the model before any training, as a few projections
``frozen_part``    the arrays of a model that are not trained, in the same way
``schedules``      per method: checksum of who trains from which version for how many
                   steps, up to a version, and the sum of the arrival times

Places may differ: the same file may lie elsewhere. The model is compared by projections
on fixed random signs rather than by its bits, since another device or another version
of a library rounds otherwise; another seed gives other projections altogether. It is
the model before the warm-up, which can make large differences of small ones (of 1e-7
one of 5% of its length, in 50 steps of the paper's CIFAR-10 network on one and on two
cores); settings and data say what the warm-up does. Times are compared by their sum,
for the same reason.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from fedasync_jax.base import PyTree
from fedasync_jax.schedule.trace import Trace
from fedasync_jax.storage.schema import Count, Json, convert

# Settings that may change: they decide nothing of what is trained.
_FREE = {"run_dir", "num_updates", "evaluate_clients"}
_NUM_PROJECTIONS = 4
_SAME_MODEL = 0.02  # of its norm: two seeds are about 1.4 apart
_SAME_TIME = 1e-6

_WHAT = {
    "data": "the samples, or who owns them",
    "fleet": "the speeds of the devices",
    "initial model": "before any training",
    "frozen part": "the arrays that are not trained",
    "schedule": "who trains when, from which version, for how many steps",
}


class Fingerprint(NamedTuple):
    """What decides the results of a run; None or empty: there is no such thing.

    Attributes:
      settings: by their flat names, as JSON values.
      places: names of those that say where something lies, and do not count.
      defaults: of all settings: what a run had before there was such a setting.
      data: checksum.
      fleet: checksum.
      initial_model: projections of the model before any training, see ``project``.
      frozen_part: projections of what its functions hold, see ``models.freeze``.
      traces: schedules by the names of the methods.
    """

    settings: Mapping[str, Any]
    places: frozenset[str] = frozenset()
    defaults: Mapping[str, Any] = {}
    data: str | None = None
    fleet: str | None = None
    initial_model: Sequence[float] | None = None
    frozen_part: Sequence[float] | None = None
    traces: Mapping[str, Trace] = {}

    def to_json(self) -> Json:
        """Return it for ``config.json``, where the settings stand already.

        The last arrival of a schedule stays out: it is cut by the end of the run.
        """
        schedules = {
            name: mark_schedule(trace, trace.num_updates - 1)
            for name, trace in self.traces.items()
        }
        return {**self._common(), "schedules": schedules}

    def at(self, method: str, version: int) -> Json:
        """Return it for the checkpoint of a version."""
        trace = self.traces.get(method)
        schedules = {} if trace is None else {method: mark_schedule(trace, version)}
        settings = {k: v for k, v in self._plain().items() if k not in _FREE}
        return {**self._common(), "settings": settings, "schedules": schedules}

    def find_difference(self, earlier: Json) -> str | None:
        """Return what differs, in words; None if nothing does.

        Args:
          earlier: what ``to_json`` or ``at`` returned, read back. What it does not say,
            as that of an earlier version of the package, is not compared.

        Raises:
          ValueError: if it is no fingerprint.
        """
        before = convert(earlier, _Record, "a fingerprint")
        changes = {} if before.settings is None else self.compare(before.settings)
        for name, (old, new) in changes.items():
            if name not in _FREE:
                return f"{name} {old} instead of {new}"
        for name in ("data", "fleet"):
            found, own = getattr(before, name), getattr(self, name)
            if None not in (found, own) and found != own:
                return f"another {name}: {_WHAT[name]}"
        for method, mark in before.schedules.items():
            if not self._has(method, mark):
                return f"another schedule: {_WHAT['schedule']} ({method})"
        if not _is_same_model(before.initial_model, self.initial_model):
            return f"another initial model: {_WHAT['initial model']}"
        if not _is_same_model(before.frozen_part, self.frozen_part):
            return f"another initial model: {_WHAT['frozen part']}"
        return None

    def compare(self, earlier: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Return the settings that differ: values before and now, by name.

        A place differs only if there was none before, or is none now.
        """
        now, before = self._plain(), {**_as_json(self.defaults), **earlier}
        pairs = {
            name: (before.get(name), now.get(name))
            for name in sorted(before.keys() | now.keys())
        }
        return {
            name: pair
            for name, pair in pairs.items()
            if pair[0] != pair[1] and not (name in self.places and None not in pair)
        }

    def _has(self, method: str, mark: "_Mark") -> bool:
        """Return whether a schedule begins as it did when a mark was made of it."""
        trace = self.traces.get(method)
        if trace is None:
            return True
        own = mark_schedule(trace, mark.updates)
        return (own["updates"], own["sha256"]) == (mark.updates, mark.sha256) and (
            math.isclose(own["seconds"], mark.seconds, rel_tol=_SAME_TIME)
        )

    def _plain(self) -> Json:
        return _as_json(self.settings)

    def _common(self) -> Json:
        names = ("data", "fleet", "initial_model", "frozen_part")
        return {name: getattr(self, name) for name in names}


class _Mark(msgspec.Struct):
    """A schedule up to a version."""

    updates: Count
    sha256: str
    seconds: float


class _Record(msgspec.Struct):
    """A fingerprint on the disk."""

    settings: Json | None = None
    data: str | None = None
    fleet: str | None = None
    initial_model: list[float] | None = None
    frozen_part: list[float] | None = None
    schedules: dict[str, _Mark] = {}


def mark_schedule(trace: Trace, num_updates: int) -> Json:
    """Return the first ``num_updates`` arrivals of a schedule in short."""
    rows = slice(0, max(num_updates, 0))
    columns = trace.client, trace.start_version, trace.num_steps
    whole = np.stack([column[rows] for column in columns]).astype("<i4")
    return {
        "updates": whole.shape[1],
        "sha256": hashlib.sha256(whole.tobytes()).hexdigest(),
        "seconds": float(trace.arrival_time[rows].sum()),
    }


def project(model: PyTree) -> list[float]:
    """Return the norm of a model and its projections on fixed random signs.

    r_j = <s_j, x>, s_j in {-1, 1}^n. Models of one norm that have nothing to do with
    one another differ in every r_j by about that norm. Random keys have no norm, and
    are left out.
    """
    rng = np.random.default_rng(0)
    squares, projections = 0.0, np.zeros(_NUM_PROJECTIONS)
    for leaf in jax.device_get(list(filter(_is_number, jax.tree.leaves(model)))):
        flat = np.ravel(leaf).astype(np.float32)
        squares += float(flat @ flat)
        for j in range(_NUM_PROJECTIONS):
            signs = rng.integers(0, 2, flat.size, np.int8) * np.int8(2) - np.int8(1)
            projections[j] += float(signs.astype(np.float32) @ flat)
    return [math.sqrt(squares), *projections.tolist()]


def _is_number(leaf: Any) -> bool:
    return not jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def _is_same_model(
    earlier: Sequence[float] | None, now: Sequence[float] | None
) -> bool:
    if earlier is None or now is None or not np.isfinite([*earlier, *now]).all():
        return True
    tolerance = _SAME_MODEL * max(*map(abs, (*earlier[:1], *now[:1])), 1e-30)
    return len(earlier) == len(now) and all(
        abs(a - b) <= tolerance for a, b in zip(earlier, now, strict=True)
    )


def _as_json(settings: Mapping[str, Any]) -> Json:
    """Return settings as they are read back: lists for tuples."""
    return json.loads(json.dumps(dict(settings)))
