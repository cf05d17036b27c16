"""From the run config of a Flower app to settings: names with dashes, plain values.

A key is a field of ``config.Settings`` or of ``limits.Limits`` with dashes, and
``method`` for the one method that is run. Keys that begin with ``user-`` are the app's
own. Flower knows no None: an empty string stands for what is not set.
"""

import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedasync_jax.experiment.checks import FEDASYNC, check_name
from fedasync_jax.experiment.schedule_settings import ScheduleSettings
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.flower.limits import Limits

_NOT_HERE = {field.name for field in dataclasses.fields(ScheduleSettings)} | {
    "methods",
    "max_steps",
    "time_budget",
    "plateau_factor",
    "plateau_on",
    "warmup_epochs",
    "warmup_clients",
    "warmup_step_size",
    "sgd_batch_size",
    "sgd_step_size",
    "stop_after_rejected",
}
_LIMITS = {field.name: field for field in dataclasses.fields(Limits)}
_FIELDS = {
    field.name: field
    for field in dataclasses.fields(Settings)
    if field.name not in _NOT_HERE | _LIMITS.keys()
}


class RunSettings(NamedTuple):
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
        return self.settings.methods[0]

    def to_json(self) -> dict[str, Any]:
        """Return what must stay the same when a run goes on, as JSON values."""
        fields = self.settings.to_json()
        return {name: fields[name] for name in ("methods", *_FIELDS)}


def read_settings(run_config: Mapping[str, Any]) -> RunSettings:
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
    check_name("method", method, FEDASYNC)
    for name in values:
        if name not in _FIELDS and name not in _LIMITS:
            note = "; devices and schedule are real here" if name in _NOT_HERE else ""
            raise ValueError(
                f"{name} must be method, a field of Limits or one of Settings that "
                f"real devices leave open, got {values[name]!r}{note}"
            )
    limits = {k: _convert(_LIMITS[k], v) for k, v in values.items() if k in _LIMITS}
    fields = {k: _convert(_FIELDS[k], v) for k, v in values.items() if k in _FIELDS}
    # The simulated schedule is not used, but it is checked against the other fields.
    settings = Settings(methods=(method,), concurrency=1, **fields)
    return RunSettings(settings, Limits(**limits))


def _convert(field: dataclasses.Field, value: Any) -> Any:
    """Return a value as the type of its field."""
    if typing.get_origin(field.type) is tuple:
        words = str(value).replace(",", " ").split()
        if words and all(word.isdigit() for word in words):
            return tuple(int(word) for word in words)
        raise ValueError(f"{field.name} must be whole numbers in a row, got {value!r}")
    kinds = set(typing.get_args(field.type)) or {field.type}
    if Path in kinds and isinstance(value, str):
        return Path(value)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) in kinds:
        return value
    names = " or ".join(sorted(kind.__name__ for kind in kinds))
    raise ValueError(f"{field.name} must be of type {names}, got {value!r}")
