"""The fingerprint of an experiment: what its results depend on."""

from typing import Any

import numpy as np

from fedasync_jax import tree
from fedasync_jax.experiment.experiment import Experiment
from fedasync_jax.experiment.records import Method, Workload
from fedasync_jax.experiment.settings import Settings, name_places
from fedasync_jax.fleet.devices import Fleet
from fedasync_jax.storage.fingerprint import Fingerprint, project


def identify_settings(settings: Settings) -> Fingerprint:
    """Return what can be said before anything is built."""
    return Fingerprint(settings.to_json(), name_places(), Settings().to_json())


def identify_methods(
    settings: Settings, workload: Workload, methods: list[Method]
) -> Fingerprint:
    """Return what can be said before x_0 is made."""
    owners = workload.clients._replace(arrays=None)
    fleets = {method.name: _describe_fleet(method.fleet) for method in methods}
    return identify_settings(settings)._replace(
        data=tree.sha256((np.array(workload.data_sha256, "S"), owners)),
        fleet=tree.sha256(fleets),
        traces={method.name: method.trace for method in methods},
    )


def identify(experiment: Experiment) -> Fingerprint:
    """Return all that decides the results of an experiment."""
    known = identify_methods(
        experiment.settings, experiment.workload, experiment.methods
    )
    _, frozen = tree.split_arrays(experiment.workload.model)
    return known._replace(
        initial_model=project(experiment.initialized), frozen_part=project(frozen)
    )


def _describe_fleet(fleet: Fleet) -> Any:
    """Return its numbers; as float32, since machines differ in the last bits."""
    network = () if fleet.network is None else fleet.network
    parts = (fleet.seconds_per_step, *network)
    return [np.asarray(part, np.float32) for part in parts]
