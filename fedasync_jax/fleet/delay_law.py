"""What a law of delays is: a distribution of positive factors without unit."""

from typing import Protocol

import numpy as np


class DelayLaw(Protocol):
    """Distribution of a positive factor."""

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Return float64 [size], all > 0."""
        ...
