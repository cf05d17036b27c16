"""What the parts of an experiment must agree on, in one line where they do not."""

from collections.abc import Sequence
from typing import Any

from fedasync_jax.data.partition.settings import NATURAL
from fedasync_jax.models.registry import CLASSIFIERS, LANGUAGE_MODELS
from fedasync_jax.parts.bounds import Bounds, join_or, show_value
from fedasync_jax.schedule.schedulers import SCHEDULES


def check_together(
    settings: Any, round_sizes: Sequence[int], round_weights: Sequence[str]
) -> None:
    """Raise ValueError if settings of different parts do not fit.

    Args:
      settings: see ``Settings``.
      round_sizes: clients per round of every method in rounds.
      round_weights: how each of them weighs its clients, see ``RoundWeights``.
    """
    _check_counts(settings, round_sizes)
    _check_steps(settings)
    _check_losses(settings)
    _check_weights(settings, round_weights)
    _check_data(settings)


def count_asked_clients(settings: Any, round_sizes: Sequence[int]) -> dict[str, int]:
    """Return the settings in use that may not be more than the clients, by name.

    Args:
      settings: see ``Settings``; its parts need not fit one another.
      round_sizes: clients per round of every method in rounds.
    """
    own = SCHEDULES.settings()
    counts = {
        name: settings.schedule.of_choices[name]
        for name in ("concurrency", "num_triggered")
        if settings.schedule.schedule in own[name].parts
    }
    if round_sizes:
        counts["clients_per_round"] = max(round_sizes)
    if settings.worker.warmup_epochs:
        counts["warmup_clients"] = settings.worker.warmup_clients
    return counts


def _check_counts(settings: Any, round_sizes: Sequence[int]) -> None:
    note = " (the number of clients)"
    bounds = Bounds(1, settings.partition.num_clients, note=note)
    for name, count in count_asked_clients(settings, round_sizes).items():
        if not bounds.holds(count):
            raise ValueError(f"{name} must be {bounds}, got {show_value(count)}")


def _check_steps(settings: Any) -> None:
    worker, schedule = settings.worker, settings.schedule
    wants_clock = worker.max_steps is None or not schedule.has_clock
    if worker.time_budget is not None and wants_clock:
        raise ValueError(
            "time_budget must be set together with max_steps and any schedule "
            f"but sampled, got {worker.time_budget} with max_steps "
            f"{worker.max_steps}, schedule {schedule.schedule}"
        )
    if worker.plateau_applies != "by-version" and schedule.has_clock:
        raise ValueError(
            "plateau_applies must be by-version for any schedule but sampled, as a "
            "worker receives the step size with the newest model, got "
            f"{worker.plateau_applies} for schedule {schedule.schedule}"
        )


def _check_losses(settings: Any) -> None:
    """Refuse what loses tasks of FedAvg where FedAsync has no devices to lose any."""
    if settings.schedule.has_clock:
        return
    harmless = {"availability": "always", "failure_rate": 0.0, "time_out": None}
    for name, value in harmless.items():
        part = settings.schedule if name == "time_out" else settings.fleet
        got = getattr(part, name)
        if got != value:
            raise ValueError(
                f"{name} must be {value} for schedule sampled, which has no clock and "
                f"loses no task of FedAsync, got {got} (schedule immediate has one)"
            )


def _check_weights(settings: Any, round_weights: Sequence[str]) -> None:
    """Refuse to count samples twice: in who is drawn, and in the mean of a round."""
    if settings.schedule.client_choice == "data-size" and "samples" in round_weights:
        raise ValueError(
            "fedavg_weights must be equal for client_choice data-size, where a client "
            "of n samples would count by n squared, got samples"
        )


def _check_data(settings: Any) -> None:
    """Check what fits the data set."""
    data, worker = settings.data, settings.worker
    model, partition = settings.model.model, settings.partition.partition
    is_words = data.dataset == "wikitext2"
    wrong = {
        "model": (settings.model.is_language_model != data.is_text, model),
        "partition": (
            data.is_text != (partition == NATURAL) and not data.tells_owners,
            partition,
        ),
        "batch_size": (is_words and worker.batch_size != 1, worker.batch_size),
        "sgd_batch_size": (
            is_words and worker.sgd_batch_size not in (None, 1),
            worker.sgd_batch_size,
        ),
        "plateau_on": (
            worker.plateau_factor is not None
            and worker.plateau_on == "validation"
            and not (is_words or data.valid_share),
            worker.plateau_on,
        ),
    }
    allowed = {
        "model": join_or(LANGUAGE_MODELS if data.is_text else CLASSIFIERS),
        "partition": "natural" if data.is_text else "any but natural",
        "plateau_on": "test, or valid_share > 0,",
    }
    for name, (is_wrong, value) in wrong.items():
        if is_wrong:
            raise ValueError(
                f"{name} must be {allowed.get(name, 1)} for data set {data.dataset}, "
                f"got {value}"
            )
