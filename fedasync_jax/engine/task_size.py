"""How much work a local step is, found before anything is compiled.

XLA's own cost analysis counts the body of a loop once, whatever its length, so matrix
products and convolutions are counted here, in the traced function.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import Array, LocalUpdate, Variables


def count_step_flops(
    local_update: LocalUpdate, variables: Variables, key: Array, *more: Any
) -> float:
    """Return the floating-point operations of a task of one step.

    Those of matrix products and convolutions, a multiplication and an addition each; a
    loop whose length is not known when it is traced counts as one turn.

    Args:
      local_update: the Worker.
      variables: a model.
      key: any key.
      *more: what the Worker is given besides, such as a factor on the step size.
    """

    def step(variables: Variables, key: Array) -> Any:
        return local_update(variables, jnp.int32(0), key, 1, *more)

    return _count(jax.make_jaxpr(step)(variables, key).jaxpr)


def _count(jaxpr: Any) -> float:
    return sum(map(_count_equation, jaxpr.eqns))


def _count_equation(equation: Any) -> float:
    name, params = equation.primitive.name, equation.params
    shapes = [np.shape(value.aval) for value in (*equation.invars, *equation.outvars)]
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2.0 * math.prod(shapes[-1]) * math.prod(shapes[0][i] for i in contracted)
    if name == "conv_general_dilated":
        num_features = shapes[1][params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * math.prod(shapes[-1]) * math.prod(shapes[1]) / num_features
    jaxprs = [jaxpr for value in params.values() for jaxpr in _find_jaxprs(value)]
    inner = list(map(_count, jaxprs))
    if name == "cond":
        return max(inner, default=0.0)
    return sum(inner) * (params["length"] if name == "scan" else 1)


def _find_jaxprs(value: Any) -> Iterator[Any]:
    for one in value if isinstance(value, tuple | list) else [value]:
        jaxpr = getattr(one, "jaxpr", one)
        if hasattr(jaxpr, "eqns"):
            yield jaxpr
