"""Experiments that cannot fit in memory are refused before anything is compiled.

Only what is clearly impossible is refused: the estimates are below what is needed, and
are compared with all the memory that the machine and its devices have.
"""

from collections.abc import Sequence

import jax

from fedasync_jax.experiment.records import Method, Workload
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.models.registry import CLASSIFIERS, LANGUAGE_MODELS
from fedasync_jax.parts.memory import check_fits, physical_memory
from fedasync_jax.schedule.schedulers import SCHEDULES

_BYTES_PER_UPDATE = 40  # of a schedule: client, version, two times, steps, two slots
_BYTES_PER_CLIENT = 24  # speed, offset and count, random state
_MODELS = 3  # at the least: the newest one, a start model, a gradient


def check_run_memory(settings: Settings) -> None:
    """Refuse more updates or clients than memory holds; nothing is read or made.

    Raises:
      ValueError: in one line that names the setting, its value and both sizes.
    """
    updates, clients = settings.run.num_updates, settings.partition.num_clients
    check_fits("num_updates", updates, _BYTES_PER_UPDATE * updates)
    check_fits("num_clients", clients, _BYTES_PER_CLIENT * clients)


def check_task_memory(settings: Settings, workload: Workload) -> None:
    """Refuse a model or a batch that memory does not hold; only shapes are looked at.

    Raises:
      ValueError: in one line that names the setting, its value and both sizes.
    """
    present = _present_memory()
    name, value = _name_size(settings)
    check_fits(name, value, _MODELS * workload.num_bytes, present=present)
    samples = jax.tree.leaves(workload.clients.arrays)
    sample_bytes = sum(leaf.nbytes // len(leaf) for leaf in samples)
    for name in ("batch_size", "sgd_batch_size"):
        size = settings[name]
        if size is not None:
            check_fits(name, size, size * sample_bytes, present=present)


def check_store_memory(
    settings: Settings, workload: Workload, methods: Sequence[Method]
) -> None:
    """Refuse more start models than memory holds.

    Raises:
      ValueError: in one line that names the setting, its value and both sizes.
    """
    scheduler = settings.schedule.schedule
    read = {
        name: settings.schedule.of_choices[name]
        for name, setting in SCHEDULES.settings().items()
        if scheduler in setting.parts
    }
    of_schedule = ("concurrency", "max_staleness", "num_triggered")
    for method in methods:
        own = [name for name in of_schedule if name in read and method.is_async]
        name = own[0] if own else "clients_per_round"
        check_fits(
            name,
            settings[name],
            method.trace.num_slots * workload.num_bytes,
            present=_present_memory(),
        )


def _name_size(settings: Settings) -> tuple[str, object]:
    """Return the setting of the model that makes it large, and its value."""
    model = settings.model.model
    registries = (CLASSIFIERS, LANGUAGE_MODELS)
    own = {
        name: settings.model.of_choices[name]
        for registry in registries
        for name, setting in registry.settings().items()
        if model in setting.parts and name in settings.model.of_choices
    }
    sizes = {name: _largest(value) for name, value in own.items()}
    name = max(sizes, key=sizes.__getitem__, default="model")
    return name, own.get(name, model)


def _largest(value: object) -> float:
    if isinstance(value, tuple):
        return max(map(_largest, value), default=0)
    return value if isinstance(value, int | float) else 0


def _present_memory() -> int:
    """Return the bytes of the machine or of its devices together, whichever is more."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return max(physical_memory(), sum(one.get("bytes_limit", 0) for one in stats))
