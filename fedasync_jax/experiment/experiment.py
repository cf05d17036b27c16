"""An experiment: everything that is built before the first method runs."""

import dataclasses

from fedasync_jax.base import Variables
from fedasync_jax.experiment.records import Method, Workload
from fedasync_jax.experiment.settings import Settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that is built before the first method runs.

    Attributes:
      settings: what it was built from.
      workload: what is learned from what.
      initialized: the model before the warm-up.
      variables: x_0, the same for all methods, after the warm-up.
      methods: in the order of the settings.
    """

    settings: Settings
    workload: Workload
    initialized: Variables
    variables: Variables
    methods: list[Method]
