"""Settings of the partition: the owner of each sample."""

import dataclasses
from typing import Annotated

from fedasync_jax.data.partition.registry import PARTITIONS
from fedasync_jax.parts.bounds import at_least, one_of
from fedasync_jax.parts.registry import Setting
from fedasync_jax.parts.settings import PartSettings

NATURAL = "natural"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartitionSettings(PartSettings):
    """Clients, and how the training samples are dealt to them.

    Attributes:
      num_clients: Number of clients; with shakespeare, those speakers who say most.
      partition: Way in which the samples are dealt to clients: iid, shards, dirichlet
        (non-IID labels), quantity-skew or power-law (unequal sizes), feature-skew (same
        labels, other styles), replacement (clients share samples, for more clients than
        samples) or natural (the owners that the data name: array client_train of an
        npz, speakers of shakespeare; batch i of wikitext2 belongs to client i mod C).

    Raises:
      ValueError: in one line that names the field, the value and what is allowed.
    """

    num_clients: Annotated[int, at_least(1)] = 100
    partition: Annotated[str, one_of(PARTITIONS, (NATURAL,))] = "dirichlet"

    @classmethod
    def choices(cls) -> dict[str, Setting]:
        """Return the settings of the partitions."""
        return PARTITIONS.settings()
