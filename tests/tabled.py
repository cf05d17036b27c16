"""Rules whose weights are in a table, as jobs run them."""

import numpy as np

from fedasync_jax.base import Arrivals, Mixer
from fedasync_jax.schedule import Trace


def tabled(rule: Mixer, trace: Trace) -> Mixer:
    """Return the rule with its weights in a table, if they are known beforehand."""
    if rule.weights is None or rule.with_weights is None:
        return rule
    d, ones = trace.count_staleness(rule.versions_every), np.ones_like(trace.client)
    return rule.with_weights(rule.weights(Arrivals(trace.client, d, ones, ones, ones)))
