"""From the run config of a Flower app to settings: names with dashes, plain values.

A key is the flat name of a setting or a field of ``limits.Limits``, with dashes, and
``method`` for the one method that is run. Keys that begin with ``user-`` are the app's
own. Flower knows no None: an empty string stands for what is not set.
"""

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from fedasync_jax.experiment.methods.asynchronous import OnlineRule, make_online
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.experiment.settings import PARTS, Settings
from fedasync_jax.flower.limits import Limits

_OF_OLD = {"evaluate_clients", "fedavg_weights"}  # in folders of earlier versions
_NOT_HERE = {
    *_OF_OLD,
    *PARTS["fleet"].hints(),
    *PARTS["schedule"].hints(),
    "methods",
    "max_steps",
    "time_budget",
    "plateau_factor",
    "plateau_on",
    "plateau_applies",
    "warmup_epochs",
    "warmup_clients",
    "warmup_step_size",
    "sgd_batch_size",
    "sgd_step_size",
    "stop_after_rejected",
}
_LIMITS = typing.get_type_hints(Limits, include_extras=True)


def _fields() -> dict[str, Any]:
    """Return the annotations of the settings that real devices leave open."""
    hints = {name: h for part in PARTS.values() for name, h in part.hints().items()}
    return {n: h for n, h in hints.items() if n not in _NOT_HERE | _LIMITS.keys()}


class NetworkSettings(NamedTuple):
    """What a run over a network is made from.

    Attributes:
      settings: what is learned, how, and how long.
      limits: what the server allows.
    """

    settings: Settings
    limits: Limits

    @property
    def method(self) -> str:
        """The method, such as ``fedasync-polynomial``."""
        return self.settings.run.methods[0]

    def to_json(self) -> dict[str, Any]:
        """Return what must stay the same when a run goes on, as JSON values."""
        fields = self.settings.to_json()
        names = ("methods", *_fields(), *sorted(_OF_OLD))
        return {name: fields[name] for name in names}


def read_settings(run_config: Mapping[str, Any]) -> NetworkSettings:
    """Return the settings in a run config.

    >>> read_settings({"num-updates": 30, "alpha": 0.5, "hidden": "32 16"}).method
    'fedasync-polynomial'

    Args:
      run_config: values by name with dashes.

    Raises:
      ValueError: if a key is unknown or has no meaning on real devices, or a value is
        of another type or out of range.
    """
    values = {
        name.replace("-", "_"): value
        for name, value in run_config.items()
        if value != "" and not name.startswith("user-")
    }
    method = values.pop("method", "fedasync-polynomial")
    if not isinstance(method, str):
        raise ValueError(f"method must be of type str, got {method!r}")
    known = _fields()
    for name in values:
        if name not in known and name not in _LIMITS:
            note = "; devices and schedule are real here" if name in _NOT_HERE else ""
            raise ValueError(
                f"{name} must be method, a field of Limits or one of Settings that "
                f"real devices leave open, got {values[name]!r}{note}"
            )
    limits = {k: _convert(k, _LIMITS[k], v) for k, v in values.items() if k in _LIMITS}
    fields = {k: _convert(k, known[k], v) for k, v in values.items() if k in known}
    # The simulated schedule is not used, but it is checked against the other fields.
    settings = make_settings(methods=(method,), concurrency=1, **fields)
    every = rule_of(settings).mixer.versions_every  # refuses what cannot run here
    if every > settings.run.num_updates:
        raise ValueError(
            f"method must make a version of its own in num_updates "
            f"{settings.run.num_updates}, got {method}, which collects {every} arrivals"
        )
    return NetworkSettings(settings, Limits(**limits))


def rule_of(settings: Settings) -> OnlineRule:
    """Return what the one method of a run over a network mixes by.

    Raises:
      ValueError: if it is a baseline, or needs to know clients or schedule beforehand.
    """
    (method,) = settings.run.methods
    return make_online(method, settings.mixing)


def _convert(name: str, hint: Any, value: Any) -> Any:
    """Return a value as the type of its setting."""
    kinds = set(_kinds(hint))
    if kinds & {tuple, Sequence}:
        words = str(value).replace(",", " ").split()
        if words and all(word.isdigit() for word in words):
            return tuple(int(word) for word in words)
        raise ValueError(f"{name} must be whole numbers in a row, got {value!r}")
    if Path in kinds and isinstance(value, str):
        return Path(value)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) in kinds:
        return value
    names = " or ".join(sorted(kind.__name__ for kind in kinds))
    raise ValueError(f"{name} must be of type {names}, got {value!r}")


def _kinds(hint: Any) -> Iterator[type]:
    """Yield the types that an annotation allows, of a row of values only its own."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        yield from _kinds(hint.__origin__)
    elif origin in (typing.Union, types.UnionType):
        for inner in typing.get_args(hint):
            yield from _kinds(inner)
    else:
        yield origin or hint
