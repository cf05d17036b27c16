"""A ``Model`` from an equinox module; equinox is imported where it is used."""

import inspect
from collections.abc import Callable
from typing import Any

import jax

from fedasync_jax.base import Array, Model, PyTree, Variables
from fedasync_jax.models.nested import nest_leaves, unnest_leaves
from fedasync_jax.models.outputs import OutputLossFn, OutputMetricsFn, from_apply


def from_eqx(
    make_module: Callable[[Array], Any],
    *,
    loss_fn: OutputLossFn | None = None,
    metrics_fn: OutputMetricsFn | None = None,
) -> Model:
    """Make a model from an equinox module; by default, a classifier.

    The floating arrays of the module are trained; all else, such as an activation
    function or an array of integers, is that of ``make_module(jax.random.key(0))``.

    A batch is ``{"x": [B, ...], "y": [B, ...]}``. The module is called under
    ``jax.vmap`` for one sample, axis name ``"batch"``: as ``module(x)``; with
    ``key=...`` in training, if its ``__call__`` names ``key``. In evaluation it is that
    of ``eqx.nn.inference_mode``.

    Args:
      make_module: ``make_module(key)`` returns the module, such as
        ``lambda key: eqx.nn.MLP(5, 2, 64, depth=1, key=key)``; or, as
        ``eqx.nn.make_with_state`` does, the module and its state. Then the module is
        called as ``module(x, state)`` and returns outputs and state, which is that of
        the model.
      loss_fn: see ``from_apply``; ``squared_error`` for regression.
      metrics_fn: see ``from_apply``.

    Raises:
      ModuleNotFoundError: if equinox is not installed.
      ValueError: when it is traced, if the outputs have another shape than the loss
        expects.

    Returns:
      The model; its params and state are dictionaries named after the attributes.
    """
    import equinox as eqx  # pyright: ignore[reportMissingImports]

    def make(key: Array) -> tuple[Any, Any, Any]:
        """Return the trained arrays, the rest of the module, and its state."""
        made = make_module(key)
        module, state = made if isinstance(made, tuple) else (made, None)
        return *eqx.partition(module, eqx.is_inexact_array), state

    example, static, empty = make(jax.random.key(0))
    takes_key = "key" in inspect.signature(type(static).__call__).parameters

    def init(key: Array) -> Variables:
        params, _, state = make(key)
        return Variables(nest_leaves(params), nest_leaves(state) or ())

    def apply(variables: Variables, x: PyTree, key: Array | None) -> tuple[Any, PyTree]:
        module = eqx.combine(unnest_leaves(variables.params, example), static)
        module = eqx.nn.inference_mode(module, value=key is None)
        size = jax.tree.leaves(x)[0].shape[0]
        keys = jax.random.split(key, size) if takes_key and key is not None else None

        def call(x: PyTree, state: Any, key: Array | None) -> tuple[Any, Any]:
            more = {} if key is None else {"key": key}
            if empty is None:
                return module(x, **more), None
            return module(x, state, **more)

        state = unnest_leaves(variables.state or {}, empty)
        in_axes, out_axes = (0, None, 0), (0, None)
        outputs, state = jax.vmap(call, in_axes, out_axes, axis_name="batch")(
            x, state, keys
        )
        return outputs, variables.state if key is None else nest_leaves(state) or ()

    return from_apply(init, apply, loss_fn=loss_fn, metrics_fn=metrics_fn)
