"""From settings to the fleet: names of laws and habits become objects."""

import math
from collections.abc import Callable

import numpy as np

from fedasync_jax.fleet.devices import Fleet, make_fleet
from fedasync_jax.fleet.files import read_speeds
from fedasync_jax.fleet.habits import AVAILABILITIES
from fedasync_jax.fleet.laws import DELAY_LAWS, DelayLaw
from fedasync_jax.fleet.network import Network, make_network
from fedasync_jax.fleet.settings import FleetSettings

MakeRng = Callable[[str], np.random.Generator]


def build_fleet(settings: FleetSettings, num_clients: int, make_rng: MakeRng) -> Fleet:
    """Draw the fleet; the same for every method.

    Args:
      settings: of the fleet.
      num_clients: C.
      make_rng: returns the generator of a purpose: "fleet", "network", "availability".

    Raises:
      ValueError: if a file of speeds or windows is bad.
    """
    seconds = settings.seconds_per_step
    if settings.speeds_path is not None:
        seconds = read_speeds(settings.speeds_path, num_clients)
    return make_fleet(
        num_clients,
        rng=make_rng("fleet"),
        client_law=_make_law(settings, settings.client_law, "client_"),
        task_law=_make_law(settings, settings.task_law, "task_"),
        seconds_per_step=seconds,
        network=_make_network(settings, num_clients, make_rng),
        availability=AVAILABILITIES.make(
            settings.availability,
            settings.of_choices,
            num_clients=num_clients,
            rng=make_rng("availability"),
        ),
        when_away=settings.when_away,
        failure_rate=settings.failure_rate,
    )


def _make_law(settings: FleetSettings, name: str, prefix: str) -> DelayLaw:
    return DELAY_LAWS.make(name, settings.of_choices, prefix=prefix)


def _make_network(
    settings: FleetSettings, num_clients: int, make_rng: MakeRng
) -> Network | None:
    if settings.downlink is None and settings.uplink is None and not settings.latency:
        return None
    return make_network(
        num_clients,
        downlink=settings.downlink or math.inf,
        uplink=settings.uplink or math.inf,
        latency=settings.latency,
        law=_make_law(settings, settings.network_law, "network_"),
        rng=make_rng("network"),
    )
