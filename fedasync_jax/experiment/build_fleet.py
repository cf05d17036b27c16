"""From settings to the fleet: names of laws and habits become objects."""

import math

import numpy as np

from fedasync_jax import fleet
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.fleet import availability
from fedasync_jax.fleet.availability import Availability
from fedasync_jax.fleet.files import read_speeds, read_windows

_HOUR = 3600.0


def make_fleet(settings: Settings) -> fleet.Fleet:
    """Draw the fleet; the same for every method.

    Raises:
      ValueError: if a file of speeds or windows is bad.
    """
    seconds = settings.seconds_per_step
    if settings.speeds_path is not None:
        seconds = read_speeds(settings.speeds_path, settings.num_clients)
    return fleet.make_fleet(
        settings.num_clients,
        rng=settings.make_rng("fleet"),
        client_law=_make_law(settings, "client"),
        task_law=_make_law(settings, "task"),
        seconds_per_step=seconds,
        network=_make_network(settings),
        availability=_make_availability(settings),
        when_away=settings.when_away,
        failure_rate=settings.failure_rate,
    )


def _make_law(settings: Settings, of: str) -> fleet.DelayLaw:
    name = getattr(settings, f"{of}_law")
    arguments = {
        "uniform": getattr(settings, f"{of}_range"),
        "log-normal": (getattr(settings, f"{of}_sigma"),),
        "pareto": (getattr(settings, f"{of}_shape"),),
        "tiers": (settings.tier_shares, settings.tier_factors),
    }
    return fleet.DELAY_LAWS[name](*arguments.get(name, ()))


def _make_network(settings: Settings) -> fleet.Network | None:
    if settings.downlink is None and settings.uplink is None and not settings.latency:
        return None
    return fleet.make_network(
        settings.num_clients,
        downlink=settings.downlink or math.inf,
        uplink=settings.uplink or math.inf,
        latency=settings.latency,
        law=_make_law(settings, "network"),
        rng=settings.make_rng("network"),
    )


def _make_availability(settings: Settings) -> Availability:
    rng = settings.make_rng("availability")
    match settings.availability:
        case "always":
            return availability.always()
        case "on-off":
            return availability.on_off(settings.mean_on, settings.mean_off, rng=rng)
        case "daily":
            return _make_charging(settings, rng)
        case "replay":
            return _replay(settings)
        case _:
            return availability.all_of(
                _make_charging(settings, rng),
                availability.on_off(
                    settings.unmetered_on, settings.unmetered_off, rng=rng
                ),
                availability.on_off(settings.mean_on, settings.mean_off, rng=rng),
            )


def _replay(settings: Settings) -> Availability:
    path = settings.availability_path
    assert path is not None  # checked by the settings
    windows = read_windows(path, settings.num_clients)
    try:
        return availability.replay(*windows, settings.num_clients)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _make_charging(settings: Settings, rng: np.random.Generator) -> Availability:
    """Return hours of the day, in the time zone of each client."""
    zone = rng.integers(settings.time_zones, size=settings.num_clients)
    return availability.daily(
        settings.charging_from * _HOUR,
        settings.charging_hours * _HOUR,
        shift=zone * (24 * _HOUR / settings.time_zones),
    )
