"""A ``Model`` from a flax linen module."""

import inspect
from typing import Any

import flax.linen as nn
import jax

from fedasync_jax.base import Array, Model, PyTree, Variables
from fedasync_jax.models.outputs import OutputLossFn, OutputMetricsFn, from_apply

# What modules call the argument that says whether they train, and its meaning.
_MODES = {"train": True, "training": True, "is_training": True, "deterministic": False}


def from_linen(
    module: nn.Module,
    sample_input: PyTree,
    *,
    loss_fn: OutputLossFn | None = None,
    metrics_fn: OutputMetricsFn | None = None,
) -> Model:
    """Make a model from a linen module; by default, a classifier.

    A batch is ``{"x": [B, ...], "y": [B, ...]}``; ``x`` may be a dictionary of arrays.
    The module is called as ``module.apply(variables, x, train=bool)``; the argument may
    also be called ``training``, ``is_training`` or ``deterministic``, or be missing. In
    training it may draw from any stream, each with a key of its own that follows from
    the key of the step, and change any of its collections. What is no float in a
    collection, such as a counter of steps, is not mixed but taken over from the newest
    model that was.

    What a module sows is not kept: it would grow from step to step. Sown losses would
    have to be added to the loss, which this model does not do, and are refused.

    By default the loss is the mean cross-entropy of the softmax of the outputs, logits
    [B, K], with the labels ``y``, int [B]. The metrics, in evaluation mode, are float
    sums over the batch: ``"loss"``, ``"correct"`` and ``"count"``. Labels may have more
    axes than one, such as [B, L] for the tokens of a text with logits [B, L, K]; then
    means and counts are over all B L labels.

    Args:
      module: linen module whose ``__call__`` takes ``x`` and, if it likes, the mode.
      sample_input: [1, ...], one input of the right structure, shapes and dtypes;
        values unused.
      loss_fn: see ``from_apply``; ``squared_error`` for regression.
      metrics_fn: see ``from_apply``.

    Raises:
      ValueError: by ``init``, if the module sows losses; when it is traced, if the
        outputs have another shape than the loss expects.

    Returns:
      The model; ``Variables.state`` holds every collection but ``"params"``, such as
      ``batch_stats``, and is ``()`` when there is none.
    """
    name = _find_mode(module)

    def mode(train: bool) -> dict[str, Any]:
        return {} if name is None else {name: train == _MODES[name]}

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

    def apply(variables: Variables, x: PyTree, key: Array | None) -> tuple[Any, PyTree]:
        collections = _join_collections(variables)
        if key is None:
            return module.apply(collections, x, **mode(False)), variables.state
        outputs, state = module.apply(
            collections,
            x,
            **mode(True),
            mutable=list(variables.state),
            rngs=_make_streams(key),
        )
        return outputs, state or ()

    return from_apply(init, apply, loss_fn=loss_fn, metrics_fn=metrics_fn)


def _find_mode(module: nn.Module) -> str | None:
    """Return the name of the argument that says whether the module trains, if any."""
    if isinstance(module, nn.Sequential):  # hands everything to its first layer
        first = module.layers[0] if module.layers else None
        return _find_mode(first) if isinstance(first, nn.Module) else None
    parameters = inspect.signature(type(module).__call__).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    default = "train" if inspect.Parameter.VAR_KEYWORD in kinds else None
    return next((name for name in _MODES if name in parameters), default)


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
