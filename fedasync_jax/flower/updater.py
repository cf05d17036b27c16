"""The Updater: mixes one arrival after the other by the simulator's own rule.

Reference: Xie, Koyejo, Gupta, "Asynchronous Federated Optimization", OPT 2020,
Algorithm 1 (Updater).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import Array, Mixer, PyTree, Variables
from fedasync_jax.engine.carried import init_mixer, mix_floats


class Newest(NamedTuple):
    """The server's model.

    Attributes:
      version: t.
      variables: x_t.
      mixer_state: what the mixing rule remembers.
    """

    version: int
    variables: Variables
    mixer_state: PyTree


class Mixing(NamedTuple):
    """How an arrival was mixed.

    Attributes:
      staleness: d, in versions of the rule.
      alpha: its weight alpha_t.
      applied: whether the rule applied it.
    """

    staleness: int
    alpha: float
    applied: bool


class Updater:
    """Holds the newest model; whoever reads ``newest`` gets one that stays whole.

    Attributes:
      newest: replaced, never changed, by every arrival.
      settled: the newest one when the rule last made a version of its own. What came
        since lies in a buffer, and no evaluation has seen it.
    """

    def __init__(self, mixer: Mixer, variables: Variables):
        """Begin with x_0."""
        variables = jax.tree.map(jnp.asarray, variables)
        self._versions_every = mixer.versions_every
        self.go_to(Newest(0, variables, init_mixer(mixer, variables)))
        self._mix = jax.jit(functools.partial(_mix, mixer))

    def go_to(self, newest: Newest) -> None:
        """Take another model for the newest, of which nothing is in a buffer."""
        self.newest = self.settled = newest

    def mix(
        self, local: Variables, start: Variables, start_version: int, client: int
    ) -> Mixing:
        """Mix an arrival into the newest model, which makes the next version.

        Args:
          local: x_new, finite.
          start: x_tau.
          start_version: tau.
          client: that trained.
        """
        version, variables, state = self.newest
        every = self._versions_every
        staleness = version // every - start_version // every
        numbers = np.array([staleness, version, client], np.int32)
        variables, state, alpha, applied = self._mix(
            local, state, variables, start, numbers
        )
        self.newest = Newest(version + 1, variables, state)
        if (version + 1) % every == 0:
            self.settled = self.newest
        return Mixing(staleness, float(alpha), bool(applied))


def _mix(
    mixer: Mixer,
    local: Variables,
    state: PyTree,
    current: Variables,
    start: Variables,
    numbers: Array,
) -> tuple[Variables, PyTree, Array, Array]:
    staleness, version, client = numbers
    mixed, state, info = mix_floats(
        mixer.update,
        local,
        state,
        current,
        start=start,
        staleness=staleness,
        version=version,
        client=client,
    )
    return mixed, state, info.alpha, info.applied
