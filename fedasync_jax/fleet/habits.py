"""Habits: the availabilities that are chosen by name, with the numbers of people.

A new one is a factory, here or anywhere, and an entry in ``AVAILABILITIES``. It may ask
for ``num_clients`` and ``rng`` besides its settings.
"""

from pathlib import Path
from typing import Annotated

import numpy as np

from fedasync_jax.fleet import availability
from fedasync_jax.fleet.availability import Availability
from fedasync_jax.fleet.files import read_windows
from fedasync_jax.parts.bounds import Bounds, Free, above, at_least
from fedasync_jax.parts.registry import Registry

_HOUR = 3600.0

Seconds = Annotated[float, above(0)]
LocalHour = Annotated[float, Bounds(0, 24, open_high=True)]
Hours = Annotated[float, Bounds(0, 24, open_low=True)]
Count = Annotated[int, at_least(1)]


def idle(
    rng: np.random.Generator, mean_on: Seconds = 3600.0, mean_off: Seconds = 3600.0
) -> Availability:
    """Return devices that are idle and in use in turns, see ``availability.on_off``.

    Args:
      rng: source of the chains.
      mean_on: mean seconds for which a device is idle, exponential.
      mean_off: mean seconds for which a device is in use, exponential.
    """
    return availability.on_off(mean_on, mean_off, rng=rng)


def charging(
    rng: np.random.Generator,
    num_clients: int,
    charging_from: LocalHour = 22.0,
    charging_hours: Hours = 8.0,
    time_zones: Count = 1,
) -> Availability:
    """Return devices that charge at hours of the day, in the zone of each client.

    Args:
      rng: source of the zones.
      num_clients: C.
      charging_from: local hour, in [0, 24), at which devices are plugged in.
      charging_hours: hours for which devices stay plugged in, in (0, 24].
      time_zones: time zones that the clients are spread over, evenly around the day.
    """
    zone = rng.integers(time_zones, size=num_clients)
    return availability.daily(
        charging_from * _HOUR,
        charging_hours * _HOUR,
        shift=zone * (24 * _HOUR / time_zones),
    )


def idle_charging_unmetered(
    rng: np.random.Generator,
    num_clients: int,
    mean_on: Seconds = 3600.0,
    mean_off: Seconds = 3600.0,
    charging_from: LocalHour = 22.0,
    charging_hours: Hours = 8.0,
    time_zones: Count = 1,
    unmetered_on: Seconds = 14400.0,
    unmetered_off: Seconds = 7200.0,
) -> Availability:
    """Return phones that train while idle, charging and on an unmetered network.

    Args:
      rng: source of the chains and zones.
      num_clients: C.
      mean_on: mean seconds for which a device is idle, exponential.
      mean_off: mean seconds for which a device is in use, exponential.
      charging_from: local hour, in [0, 24), at which devices are plugged in.
      charging_hours: hours for which devices stay plugged in, in (0, 24].
      time_zones: time zones that the clients are spread over, evenly around the day.
      unmetered_on: mean seconds for which a device is on an unmetered network,
        exponential.
      unmetered_off: mean seconds for which it is on a metered network or on none,
        exponential.
    """
    return availability.all_of(
        charging(rng, num_clients, charging_from, charging_hours, time_zones),
        availability.on_off(unmetered_on, unmetered_off, rng=rng),
        availability.on_off(mean_on, mean_off, rng=rng),
    )


def recorded(
    num_clients: int, availability_path: Annotated[Path, Free()] | None = None
) -> Availability:
    """Return devices that are available as recorded.

    Args:
      num_clients: C.
      availability_path: CSV or Parquet file with the columns client, start and end:
        from when to when each client is available, in seconds.

    Raises:
      ValueError: if there is no file or it is bad.
    """
    if availability_path is None:
        raise ValueError(
            "availability_path must be a file for availability replay, got None"
        )
    windows = read_windows(availability_path, num_clients)
    try:
        return availability.replay(*windows, num_clients)
    except ValueError as error:
        raise ValueError(f"{availability_path}: {error}") from error


AVAILABILITIES: Registry[Availability] = Registry("availability")
AVAILABILITIES.register("always", availability.always)
AVAILABILITIES.register("on-off", idle)
AVAILABILITIES.register("daily", charging)
AVAILABILITIES.register("idle-charging-unmetered", idle_charging_unmetered)
AVAILABILITIES.register("replay", recorded)
