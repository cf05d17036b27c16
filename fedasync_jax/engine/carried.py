"""What no rule mixes: the leaves of a model that are not floats.

A counter of steps, a flag or a random key has no mean. A rule sees the floats alone;
the others are taken over whole, as the newest model that was mixed has them. So with
alpha = 1 and no staleness they are those of plain SGD. With others than 1 a counter
tells how many steps lie behind the newest arrival.
"""

from typing import Any

import jax

from fedasync_jax import tree
from fedasync_jax.base import Mixer, MixFn, MixInfo, PyTree


def init_mixer(mixer: Mixer, model: PyTree) -> PyTree:
    """Return what the rule remembers of a model at first."""
    floats, _ = tree.split_floats(model)
    return mixer.init(floats)


def mix_floats(
    update: MixFn, local: PyTree, state: PyTree, current: PyTree, **about: Any
) -> tuple[PyTree, PyTree, MixInfo]:
    """Mix an arrival by a rule, and take over what it does not see; see ``MixFn``.

    An arrival that the rule does not apply leaves everything as it is.
    """
    about["start"], _ = tree.split_floats(about["start"])
    (newest, others), (floats, kept) = map(tree.split_floats, (local, current))
    mixed, state, info = update(newest, state, floats, **about)
    if jax.tree.leaves(others):
        kept = tree.where(info.applied, others, kept)
    return tree.fill(mixed, tree.fill(kept, current)), state, info


def find_judged(evaluated: Any, model: PyTree, state: PyTree) -> PyTree:
    """Return the model that a rule judges, whole; see ``Mixer.evaluated``."""
    floats, _ = tree.split_floats(model)
    return tree.fill(evaluated(floats, state), model)
