"""Settings of the Updater: how much an arrival counts."""

import dataclasses
from typing import Annotated

from fedasync_jax.mixing.rounds import RoundWeights
from fedasync_jax.mixing.rules import RULES
from fedasync_jax.mixing.staleness import STALENESS_FNS
from fedasync_jax.parts.bounds import Bounds, above, at_least
from fedasync_jax.parts.registry import Setting, merge_settings
from fedasync_jax.parts.settings import PartSettings

Weight = Annotated[float, Bounds(0, 1, open_low=True)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixingSettings(PartSettings):
    """How arrivals are mixed.

    Attributes:
      alpha: Weight of an arrival that is not stale, in (0, 1]: the mixing
        hyperparameter.
      alpha_drop_at: Version from which alpha is multiplied by alpha_drop.
      alpha_drop: Factor on alpha from version alpha_drop_at on, in (0, 1].
      max_update_norm: Largest distance ||x_new - x_tau|| between a client's model and
        the one that it received; models beyond it are rejected.
      fedavg_weights: Weight of a client in a round of fedavg and fedprox: equal (all
        the same) or samples (its number of samples, as in McMahan et al.).

    Raises:
      ValueError: in one line that names the field, the value and what is allowed.
    """

    alpha: Weight = 0.6
    alpha_drop_at: Annotated[int, at_least(0)] | None = None
    alpha_drop: Weight = 0.5
    max_update_norm: Annotated[float, above(0)] | None = None
    fedavg_weights: RoundWeights = "equal"

    @classmethod
    def choices(cls) -> dict[str, Setting]:
        """Return the settings of staleness functions and rules."""
        return merge_settings(STALENESS_FNS.settings(), RULES.settings())
