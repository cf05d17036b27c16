"""Objects of one's own, in the place of what the settings would make of names."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from fedasync_jax.base import ClientData, Mixer, Model, PyTree
from fedasync_jax.data.dataset import Dataset, check_lengths, to_labels
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.fleet.availability import always
from fedasync_jax.fleet.devices import Fleet
from fedasync_jax.parts.bounds import show_value

NamedRule = tuple[str, Mixer]


class OwnParts(NamedTuple):
    """Objects in the place of what the settings would make; None: as the settings say.

    Attributes:
      model: what is trained; it has its loss and its metrics with it.
      data: train and test samples, dealt to clients as the settings say.
      clients: train samples that have their owners; with ``model`` and ``test``.
      test: pytree of arrays [N, ...] that ``model.metrics`` judges by.
      methods: what is run, in this order: names as in the settings, and rules of one's
        own, each a name with a ``Mixer``.
      fleet: the devices.
      unroll: whether the local steps of ``model`` are written out, as convolutions on
        a CPU must be to be fast; only where all tasks have the same few steps.
    """

    model: Model | None = None
    data: Dataset | None = None
    clients: ClientData | None = None
    test: PyTree | None = None
    methods: Sequence[str | NamedRule] | None = None
    fleet: Fleet | None = None
    unroll: bool = False

    @property
    def names(self) -> list[str]:
        """The fields that are given, and the names of the rules."""
        fields = ("model", "data", "clients", "test", "fleet")
        rules = [one[0] for one in self.methods or () if not isinstance(one, str)]
        return [name for name in fields if getattr(self, name) is not None] + rules


NOTHING_OWN = OwnParts()


def check_own(own: OwnParts) -> None:
    """Raise ValueError, in one line, if objects do not go together."""
    if own.clients is not None and (own.model is None or own.test is None):
        missing = "model" if own.model is None else "test"
        raise ValueError(
            f"{missing} must be given together with clients, whose samples no model of "
            "the settings knows, got None"
        )
    if own.clients is not None and own.data is not None:
        raise ValueError("data must not be given together with clients, got both")
    if own.test is not None and own.clients is None:
        raise ValueError("test must be given together with clients, got no clients")
    if own.unroll and own.model is None:
        raise ValueError("unroll must be given together with a model, got no model")
    _check_types(own)
    names = [one if isinstance(one, str) else one[0] for one in own.methods or ()]
    if own.methods is not None and len(set(names)) < max(len(names), 1):
        raise ValueError(
            "methods must be one or more different names, got "
            f"{' '.join(names) or 'none'}"
        )


def fit_settings(settings: Settings, own: OwnParts) -> Settings:
    """Return the settings with the numbers that follow from the objects.

    Raises:
      ValueError: if the objects disagree in the number of clients, or the devices may
        lose a task and the schedule has no clock.
    """
    if own.fleet is not None and not settings.schedule.has_clock:
        _check_loses_nothing(own.fleet)
    counts = {}
    if own.clients is not None:
        counts["clients"] = len(own.clients.counts)
    if own.fleet is not None:
        counts["fleet"] = own.fleet.num_clients
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"fleet must have the {counts['clients']} clients of the data, got "
            f"{counts['fleet']}"
        )
    for count in counts.values():
        if count != settings.partition.num_clients:
            settings = settings.replace(num_clients=count)
    lines = tuple(one for one in own.methods or () if isinstance(one, str))
    return settings.replace(methods=lines) if lines else settings


def _check_loses_nothing(fleet: Fleet) -> None:
    """Refuse what loses tasks of FedAvg where FedAsync has no devices to lose any."""
    got = []
    if fleet.availability != always():
        got.append("another availability")
    if fleet.failure_rate:
        got.append(f"failure_rate {fleet.failure_rate}")
    if got:
        raise ValueError(
            "fleet must have availability always() and failure_rate 0 for schedule "
            "sampled, which has no clock and loses no task of FedAsync, got "
            f"{' and '.join(got)} (schedule immediate has one)"
        )


def check_dataset(data: Dataset) -> Dataset:
    """Return a data set with the types that training reads.

    Raises:
      ValueError: if samples are not finite, or labels are none.
    """
    parts = {}
    for part in ("train", "test"):
        x, y = (np.asarray(getattr(data, f"{name}_{part}")) for name in ("x", "y"))
        if x.ndim < 2 or x.dtype.kind not in "buif":
            raise ValueError(
                f"x_{part} must be an array of numbers [N, ...], got shape {x.shape}, "
                f"dtype {x.dtype}"
            )
        check_lengths(part, x, y)
        parts[f"y_{part}"] = to_labels(f"y_{part}", y, data.num_classes)
        if data.mean_image is None:  # else it is uint8, and stays so
            x = x.astype(np.float32)
        if not np.isfinite(x).all():
            raise ValueError(f"x_{part} must be finite, got NaN or infinity")
        parts[f"x_{part}"] = x
    return data._replace(**parts)


def _check_types(own: OwnParts) -> None:
    kinds = {"model": Model, "data": Dataset, "clients": ClientData, "fleet": Fleet}
    makers = {
        "model": "fa.models.make_model",
        "data": "fa.data.Dataset",
        "clients": "fa.data.make_client_data",
        "fleet": "fa.make_fleet",
    }
    for name, kind in kinds.items():
        value = getattr(own, name)
        if value is not None and not isinstance(value, kind):
            raise ValueError(
                f"{name} must be made by {makers[name]}, got {type(value).__name__}"
            )
    for one in own.methods or ():
        is_rule = isinstance(one, tuple) and len(one) == 2 and isinstance(one[1], Mixer)
        if not (isinstance(one, str) or is_rule):
            raise ValueError(
                "methods must be names, or pairs of a name and a rule (a Mixer), got "
                f"{show_value(str(one))}"
            )


def count_rows(arrays: PyTree) -> int:
    """Return N of a pytree of arrays [N, ...]."""
    return int(np.shape(jax.tree.leaves(arrays)[0])[0])
