"""A ``Model`` from a flax linen classifier."""

import inspect
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from fedasync_jax.base import Array, Model, PyTree, Variables


def from_linen(module: nn.Module, sample_input: PyTree) -> Model:
    """Make a model from a linen module that maps inputs to the logits of K classes.

    A batch is ``{"x": [B, ...], "y": int [B]}``; ``x`` may be a dictionary of arrays.
    The module is called as ``module.apply(variables, x, train=bool)``, or without
    ``train`` if it takes none, and returns float [B, K]. In training it may draw from
    any stream, each with a key of its own that follows from the key of the step, and
    change any of its collections. An integer in a collection, such as a counter of
    steps, cannot be mixed, and the engine refuses it by name.

    What a module sows is not kept: it would grow from step to step. Sown losses would
    have to be added to the loss, which this model does not do, and are refused.

    The loss is the mean cross-entropy of the softmax. The metrics, in evaluation mode,
    are float sums over the batch: ``"loss"``, ``"correct"`` and ``"count"``. Labels may
    have more axes than one, such as [B, L] for the tokens of a text with logits
    [B, L, K]; then means and counts are over all B L labels.

    Args:
      module: linen module whose ``__call__`` takes ``(x, train)`` or ``(x)``.
      sample_input: [1, ...], one input of the right structure, shapes and dtypes;
        values unused.

    Raises:
      ValueError: by ``init``, if the module sows losses.

    Returns:
      The model; ``Variables.state`` holds every collection but ``"params"``, such as
      ``batch_stats``, and is ``()`` when there is none.
    """
    takes_train = _takes_train(module)

    def mode(train: bool) -> dict[str, Any]:
        return {"train": train} if takes_train else {}

    def init(key: Array) -> Variables:
        collections = dict(module.init(key, sample_input, **mode(False)))
        for name in _find_sown(module, collections, sample_input, mode(False)):
            if "loss" in name:
                raise ValueError(
                    f"{type(module).__name__} must not sow losses, got the collection "
                    f"{name}: from_linen would not add them to the loss"
                )
            del collections[name]
        params = collections.pop("params", {})
        return Variables(params, collections or ())

    def loss(variables: Variables, batch: PyTree, key: Array) -> tuple[Array, PyTree]:
        logits, state = module.apply(
            _join_collections(variables),
            batch["x"],
            **mode(True),
            mutable=list(variables.state),
            rngs=_make_streams(key),
        )
        return jnp.mean(cross_entropy(logits, batch["y"])), state or ()

    def metrics(variables: Variables, batch: PyTree) -> dict[str, Array]:
        logits = module.apply(_join_collections(variables), batch["x"], **mode(False))
        return sum_metrics(jnp.asarray(logits), batch["y"])

    return Model(init, loss, metrics)


def _takes_train(module: nn.Module) -> bool:
    if isinstance(module, nn.Sequential):  # hands everything to its first layer
        first = module.layers[0] if module.layers else None
        return isinstance(first, nn.Module) and _takes_train(first)
    parameters = inspect.signature(type(module).__call__).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    return "train" in parameters or inspect.Parameter.VAR_KEYWORD in kinds


def _find_sown(
    module: nn.Module,
    collections: dict[str, Any],
    sample_input: PyTree,
    mode: dict[str, Any],
) -> list[str]:
    """Return the collections that ``sow`` fills: a call makes their tuples longer.

    A collection of losses counts whatever it is summed by.
    """
    state = {name: c for name, c in collections.items() if name != "params"}
    losses = [name for name in state if "loss" in name]
    if not any(_has_tuple(collection) for collection in state.values()):
        return losses

    def call(collections: dict[str, Any]) -> Any:
        return module.apply(collections, sample_input, mutable=list(state), **mode)[1]

    after = jax.eval_shape(call, collections)
    grown = [
        n for n in state if jax.tree.structure(after[n]) != jax.tree.structure(state[n])
    ]
    return sorted({*losses, *grown})


def _has_tuple(tree: PyTree) -> bool:
    nodes = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, tuple))
    return any(isinstance(node, tuple) for node in nodes)


def _make_streams(key: Array) -> dict[str, Array]:
    """Return the keys of the random streams; flax draws all others from ``params``."""
    return {"dropout": key, "params": jax.random.fold_in(key, 1)}


def _join_collections(variables: Variables) -> dict[str, Any]:
    return {"params": variables.params, **dict(variables.state)}


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Return the cross-entropy of each label, of the shape of ``labels``."""
    return optax.softmax_cross_entropy_with_integer_labels(_widen(logits), labels)


def sum_metrics(logits: Array, labels: Array) -> dict[str, Array]:
    """Return float sums over all labels: ``"loss"``, ``"correct"``, ``"count"``."""
    losses = cross_entropy(logits, labels)  # a sum in bfloat16 ends at 256
    correct = jnp.argmax(logits, axis=-1).astype(labels.dtype) == labels
    return {
        "loss": jnp.sum(losses),
        "correct": jnp.sum(correct, dtype=losses.dtype),
        "count": jnp.asarray(losses.size, losses.dtype),
    }


def _widen(logits: Array) -> Array:
    return logits.astype(jnp.float32) if logits.dtype.itemsize < 4 else logits
