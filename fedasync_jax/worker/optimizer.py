"""Any optax optimizer: what it is given besides the gradient, and what is refused.

Some transformations ask for more than the gradient: the loss of the batch
(``polyak_sgd``, ``reduce_on_plateau``), the loss as a function of the parameters
(the line search of ``lbfgs``) or its gradient (``sam``). Per-example gradients, which
``dpsgd`` wants, are not made.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from fedasync_jax.base import Array, PyTree
from fedasync_jax.parts.bounds import shorten

MakeOptimizer = Callable[[PyTree], optax.GradientTransformation]
ValueFn = Callable[[PyTree], Array]

_PER_EXAMPLE = (
    "optimizer must take the gradient of the batch; those of per-example gradients, "
    "such as dpsgd, cannot be used, got one that"
)


class _Always(NamedTuple):
    """A function of no numbers."""

    optimizer: optax.GradientTransformation

    def __call__(self, numbers: PyTree) -> optax.GradientTransformation:
        """Return the optimizer."""
        return self.optimizer


def check_optimizer(optimizer: Any, numbers: PyTree) -> MakeOptimizer:
    """Return a function of ``numbers`` that returns the optimizer.

    Args:
      optimizer: an optax transformation, an object with its ``init`` and ``update``
        such as ``optax.MultiSteps``, or a function of ``numbers``.
      numbers: what the function will be called with; None: there are none.

    Raises:
      ValueError: if it is none of these, or a function without ``numbers``.
    """
    transformation = _as_transformation(optimizer)
    if transformation is not None:
        return _Always(transformation)
    if not callable(optimizer) or isinstance(optimizer, type):
        raise ValueError(
            "optimizer must be an optax transformation or a function of numbers that "
            f"returns one, got {shorten(repr(optimizer), 60)}"
        )
    if numbers is None:
        raise ValueError(
            "numbers must be set if optimizer is a function of them, got None "
            "(an optimizer cannot be a function of the parameters)"
        )
    return cast(MakeOptimizer, optimizer)


def make_optimizer(
    make: MakeOptimizer, numbers: PyTree
) -> optax.GradientTransformation:
    """Return the optimizer of these numbers.

    Raises:
      ValueError: if the function returns no optax transformation.
    """
    made = make(numbers)
    transformation = _as_transformation(made)
    if transformation is None:
        raise ValueError(
            "optimizer, a function of numbers, must return an optax transformation, "
            f"got {shorten(repr(made), 60)}"
        )
    return transformation


def is_constant(make: MakeOptimizer) -> bool:
    """Return whether the optimizer is the same whatever the numbers."""
    return isinstance(make, _Always)


def update_with_loss(
    optimizer: optax.GradientTransformation,
    grads: PyTree,
    state: PyTree,
    params: PyTree,
    value: Array,
    value_fn: ValueFn,
) -> tuple[PyTree, PyTree]:
    """Return updates and the next state of an optimizer that may ask for the loss.

    Args:
      optimizer: any optax transformation.
      grads: gradient of ``value_fn`` at ``params``.
      state: of the optimizer.
      params: where it stands.
      value: float [], ``value_fn(params)``.
      value_fn: the loss of the batch as a function of the parameters.

    Raises:
      ValueError: if the optimizer wants per-example gradients.
    """
    update = functools.partial(
        optax.with_extra_args_support(optimizer).update, grads, state, params
    )
    try:
        updates, state = update(value=value, grad=grads, value_fn=value_fn)
    except (TypeError, ValueError) as error:
        updates, state = _update_otherwise(update, value_fn, error)
    wanted, found = jax.tree.map(jnp.shape, (params, updates))
    if wanted != found:
        raise ValueError(f"{_PER_EXAMPLE} returns updates of other shapes than params")
    return updates, state


def _update_otherwise(
    update: Callable[..., Any], value_fn: ValueFn, error: TypeError | ValueError
) -> tuple[PyTree, PyTree]:
    """Give an optimizer that refused the loss what its error asks for."""
    if "unexpected keyword argument" in str(error):  # optax.contrib.sam
        return update(grad_fn=lambda params, *_: jax.grad(value_fn)(params))
    if "obj_fn" in str(error):  # optax.contrib.sophia
        return update(obj_fn=value_fn)
    if "batch dimension" in str(error):  # optax.contrib.dpsgd
        raise ValueError(f"{_PER_EXAMPLE} expects a batch dimension") from error
    raise error


def make_random(optimizer_state: PyTree, key: Array) -> PyTree:
    """Return a fresh state whose random keys, if it has any, are those of this task.

    The state is made anew for every task, from a key that the user gave once: noise
    would be the same in all tasks. Old keys are two numbers uint32, and known by their
    names.
    """

    def fold(path: tuple[Any, ...], leaf: Any) -> Any:
        name = jax.tree_util.keystr(path[-1:], simple=True) if path else ""
        is_typed = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        is_old = leaf.dtype == jnp.uint32 and leaf.shape == (2,) and "key" in name
        if not (is_typed or is_old):
            return leaf
        return jax.random.fold_in(leaf, jax.random.bits(key))

    return jax.tree_util.tree_map_with_path(fold, optimizer_state)


def _as_transformation(optimizer: Any) -> optax.GradientTransformation | None:
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    init, update = (getattr(optimizer, name, None) for name in ("init", "update"))
    if isinstance(optimizer, type) or not (callable(init) and callable(update)):
        return None
    if "extra_args" in inspect.signature(update).parameters:  # such as MultiSteps
        return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore
    return optax.GradientTransformation(init, update)  # pyright: ignore
