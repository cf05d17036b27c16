"""A part of a model that is trained, and the rest, which is neither sent nor mixed.

Fine-tuning of a head, adapters (LoRA) and the like: every task, every slot and every
message holds the trained part alone, and the frozen one lies on the device once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedasync_jax.base import Array, Model, PyTree, Variables


class Frozen(NamedTuple):
    """What ``freeze`` returns.

    Attributes:
      model: of the trained part; its ``init`` draws that part anew.
      start: the trained part of the variables that were given, to begin with.
      join: ``join(variables)``, the whole model of a trained part, such as the newest
        of a run; the frozen leaves are those that were given, bit for bit.
    """

    model: Model
    start: Variables
    join: Callable[[Variables], Variables]


def freeze(
    model: Model, variables: Variables, is_frozen: Callable[[str], bool]
) -> Frozen:
    """Keep leaves of a model as they are; only the others are trained, sent and mixed.

    The frozen leaves are arguments of the compiled program, so that they lie on the
    device once, whatever the number of workers and of waves. In the trained part, None
    stands in their place.

    Args:
      model: any.
      variables: of the model; the frozen leaves keep these values.
      is_frozen: ``is_frozen(path)`` of every leaf, whose path is as in ``save_model``:
        ``params/Dense_0/kernel``, ``state/batch_stats/BatchNorm_0/mean``. State that
        is frozen stays as it is, also within a task.

    Raises:
      ValueError: if no leaf of ``variables.params`` is left to train, or a part of the
        state is frozen of a model that has ``start_task`` or ``end_task``.
    """
    choose = _Choice.make(variables, is_frozen)
    if not jax.tree.leaves(choose.trained(variables).params):
        raise ValueError(
            "is_frozen must leave a leaf of params to train, got True for all of "
            f"{len(jax.tree.leaves(variables.params))}"
        )
    default = Model._field_defaults
    passes = model.start_task, model.end_task
    if any(choose.state) and passes != (default["start_task"], default["end_task"]):
        raise ValueError(
            "is_frozen must be False for all of the state of a model with start_task "
            "or end_task, got True for a part of it"
        )
    frozen = choose.frozen(jax.tree.map(jnp.asarray, variables))
    parts = choose, model
    return Frozen(
        model._replace(
            init=lambda key: choose.trained(model.init(key)),
            loss=jax.tree_util.Partial(_Loss(*parts), frozen),
            metrics=jax.tree_util.Partial(_Metrics(*parts), frozen),
        ),
        choose.trained(variables),
        lambda trained: choose.join(trained, frozen),
    )


class _Choice(NamedTuple):
    """Which leaves are frozen, in the order of the tree."""

    params_tree: Any
    state_tree: Any
    params: tuple[bool, ...]
    state: tuple[bool, ...]

    @classmethod
    def make(cls, variables: Variables, is_frozen: Callable[[str], bool]) -> "_Choice":
        params, state = (
            tuple(bool(is_frozen(path)) for path in _list_paths(name, part))
            for name, part in zip(variables._fields, variables, strict=True)
        )
        trees = (
            jax.tree.structure(variables.params),
            jax.tree.structure(variables.state),
        )
        return cls(*trees, params, state)

    def trained(self, variables: Variables) -> Variables:
        return self._take(variables, False)

    def frozen(self, variables: Variables) -> Variables:
        return self._take(variables, True)

    def _take(self, variables: Variables, wanted: bool) -> Variables:
        trees = zip(variables, (self.params, self.state), strict=True)
        return Variables(*(_keep_leaves(tree, mask, wanted) for tree, mask in trees))

    def join(self, trained: Variables, frozen: Variables) -> Variables:
        params = _fill(self.params_tree, trained.params, frozen.params)
        if not any(self.state):  # as it is: it may hold what passes between batches
            return Variables(params, trained.state)
        return Variables(params, _fill(self.state_tree, trained.state, frozen.state))


class _Loss(NamedTuple):
    """The loss of a trained part; a program is specialized to these, not to arrays."""

    choose: _Choice
    model: Model

    def __call__(
        self, frozen: Variables, variables: Variables, batch: PyTree, key: Array
    ) -> tuple[Array, PyTree]:
        whole = self.choose.join(variables, frozen)
        loss, state = self.model.loss(whole, batch, key)
        if not any(self.choose.state):
            return loss, state
        return loss, _keep_leaves(state, self.choose.state, False)


class _Metrics(NamedTuple):
    """The metrics of a trained part."""

    choose: _Choice
    model: Model

    def __call__(
        self, frozen: Variables, variables: Variables, batch: PyTree
    ) -> dict[str, Array]:
        return self.model.metrics(self.choose.join(variables, frozen), batch)


def _list_paths(name: str, tree: PyTree) -> list[str]:
    field = (jax.tree_util.GetAttrKey(name),)
    return [
        jax.tree_util.keystr((*field, *path), simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _keep_leaves(tree: PyTree, mask: tuple[bool, ...], wanted: bool) -> PyTree:
    """Return the tree with None where the mask differs."""
    leaves, treedef = jax.tree.flatten(tree)
    return treedef.unflatten(
        leaf if is_frozen == wanted else None
        for leaf, is_frozen in zip(leaves, mask, strict=True)
    )


def _fill(treedef: Any, first: PyTree, second: PyTree) -> PyTree:
    """Return the tree of both parts; where one has None, the other has the leaf."""
    pairs = zip(*map(treedef.flatten_up_to, (first, second)), strict=True)
    return treedef.unflatten(a if b is None else b for a, b in pairs)
