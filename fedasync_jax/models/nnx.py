"""A ``Model`` from a flax nnx module."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from fedasync_jax.base import Array, Model, PyTree, Variables
from fedasync_jax.models.nested import nest_leaves, unnest_leaves
from fedasync_jax.models.outputs import OutputLossFn, OutputMetricsFn, from_apply


def from_nnx(
    module: nnx.Module | Callable[..., nnx.Module],
    *,
    loss_fn: OutputLossFn | None = None,
    metrics_fn: OutputMetricsFn | None = None,
) -> Model:
    """Make a model from an nnx module; by default, a classifier.

    ``nnx.Param`` is trained. Every other variable is state, such as the statistics of
    ``nnx.BatchNorm``; what is no float in it, such as a counter, is not mixed but taken
    over from the newest model that was. Random streams, as of ``nnx.Dropout``, are no
    part of the model: each gets a key of its own that follows from the key of the step.
    What a module sows as ``nnx.Intermediate`` is dropped.

    A batch is ``{"x": [B, ...], "y": [B, ...]}``. The module is called with ``x`` after
    ``module.train()`` or ``module.eval()``; if its ``__call__`` names ``rngs``, it is
    given them in training.

    Args:
      module: a function, or a class, that is called as ``module(rngs=nnx.Rngs(key))``,
        such as ``lambda rngs: MLP(5, 64, 2, rngs=rngs)``; or a module, whose values are
        then those of ``init``, whatever its key.
      loss_fn: see ``from_apply``; ``squared_error`` for regression.
      metrics_fn: see ``from_apply``.

    Raises:
      ValueError: if ``module`` makes no module; when it is traced, if a call changes
        the module itself, as by ``self.calls += 1``, or the outputs have another shape
        than the loss expects.

    Returns:
      The model; its params and state are dictionaries named after the attributes.
    """
    if isinstance(module, nnx.Module):
        example = nnx.clone(module)  # the caller's keeps its mode
        values = _split(example).variables
        network = _find_network(example)
        return _make_model(network, lambda key: values, loss_fn, metrics_fn)

    def make(key: Array) -> nnx.Module:
        made = module(rngs=nnx.Rngs(key))
        if not isinstance(made, nnx.Module):
            raise ValueError(
                f"module must make an nnx.Module, got {type(made).__name__}"
            )
        return made

    network = _find_network(nnx.eval_shape(lambda: make(jax.random.key(0))))
    init = functools.partial(_init, make)
    return _make_model(network, init, loss_fn, metrics_fn)


class _Parts(NamedTuple):
    """A module taken apart: what it is, and its values."""

    graph: Any
    params: Any
    rngs: Any
    state: Any

    @property
    def variables(self) -> Variables:
        state = nest_leaves(self.state, _is_value)
        return Variables(nest_leaves(self.params, _is_value), state or ())


class _Network(NamedTuple):
    """What the compiled model is specialized to.

    Attributes:
      name: of the module's class.
      shapes: the parts, of which only the structure is read.
      graphs: of evaluation and of training.
      takes_rngs: whether a call is given them.
    """

    name: str
    shapes: _Parts
    graphs: tuple[Any, Any]
    takes_rngs: bool


def _find_network(example: nnx.Module) -> _Network:
    example.eval()
    in_evaluation = _split(example)
    example.train()
    graphs = in_evaluation.graph, _split(example).graph
    takes_rngs = "rngs" in inspect.signature(type(example).__call__).parameters
    return _Network(type(example).__name__, in_evaluation, graphs, takes_rngs)


def _init(make: Callable[[Array], nnx.Module], key: Array) -> Variables:
    return _split(make(key)).variables


def _split(module: nnx.Module) -> _Parts:
    nnx.pop(module, nnx.Intermediate)  # what was sown would grow from call to call
    return _Parts(*nnx.split(module, nnx.Param, nnx.RngState, ...))


def _make_model(
    network: _Network,
    init: Callable[[Array], Variables],
    loss_fn: OutputLossFn | None,
    metrics_fn: OutputMetricsFn | None,
) -> Model:
    def apply(variables: Variables, x: PyTree, key: Array | None) -> tuple[Any, PyTree]:
        more = {}
        if network.takes_rngs and key is not None:
            key, of_call = jax.random.split(key)
            more = {"rngs": nnx.Rngs(of_call)}
        module = _merge(network, variables, key)
        outputs = module(x, **more)
        after = _split(module)
        if after.graph != network.graphs[key is not None]:
            raise ValueError(
                f"{network.name} must not change its attributes in a call, other than "
                "the values of an nnx.Variable (self.calls = nnx.Variable(...))"
            )
        return outputs, variables.state if key is None else after.variables.state

    return from_apply(init, apply, loss_fn=loss_fn, metrics_fn=metrics_fn)


def _merge(network: _Network, variables: Variables, key: Array | None) -> Any:
    shapes = network.shapes
    return nnx.merge(
        network.graphs[key is not None],
        unnest_leaves(variables.params, shapes.params, _is_value),
        _make_streams(shapes.rngs, jax.random.key(0) if key is None else key),
        unnest_leaves(variables.state or {}, shapes.state, _is_value),
        copy=True,  # variables of this trace, which may change
    )


def _make_streams(shapes: Any, key: Array) -> Any:
    """Return the random state: every stream has a key of its own, and counts from 0."""
    leaves, treedef = jax.tree.flatten(shapes)
    keys = jax.random.split(key, max(len(leaves), 1))

    def make(leaf: Any, key: Array) -> Array:
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.zeros(leaf.shape, leaf.dtype)
        return jax.random.split(key, leaf.shape) if leaf.shape else key

    return treedef.unflatten(map(make, leaves, keys))


def _is_value(step: Any) -> bool:
    """Return whether a step of a path only enters an ``nnx.Variable``."""
    return isinstance(step, jax.tree_util.GetAttrKey) and step.name == "value"
