"""How much work and memory a task takes, found before anything is compiled.

XLA's own cost analysis counts the body of a loop once, whatever its length, so matrix
products and convolutions are counted here, in the traced function.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedasync_jax.base import Array, LocalUpdate, Variables

_WIDEST = 512  # tasks of a wave
_DEVICE_BYTES = 16e9  # of an accelerator that does not tell


class TaskSize(NamedTuple):
    """What a task takes of a device.

    Attributes:
      step_flops: floating-point operations of a task of one step: those of matrix
        products and convolutions, a multiplication and an addition each; a loop whose
        length is not known when it is traced counts as one turn.
      model_bytes: of the model as it is sent.
      num_bytes: of all that is computed in a task of one step and the model beside it,
        as if nothing of it gave way: more than is needed at any time.
    """

    step_flops: float = 0.0
    model_bytes: float = 0.0
    num_bytes: float = 0.0


def measure_task(
    local_update: LocalUpdate, variables: Variables, key: Array, *more: Any
) -> TaskSize:
    """Return the size of a task.

    Args:
      local_update: the Worker.
      variables: a model.
      key: any key.
      *more: what the Worker is given besides, such as a factor on the step size.
    """

    def step(variables: Variables, key: Array) -> Any:
        return local_update(variables, jnp.int32(0), key, 1, *more)

    jaxpr = jax.make_jaxpr(step)(variables, key).jaxpr
    model_bytes = sum(_count_bytes(var.aval) for var in jaxpr.invars[:-1])
    num_bytes = model_bytes + _sum_bytes(jaxpr)
    return TaskSize(_count(jaxpr), float(model_bytes), float(num_bytes))


def fit_width(devices: Sequence[Any], task: TaskSize) -> int:
    """Return the tasks of a wave that half of the memory of every accelerator holds.

    Each trains its part of them, and has the models of all that came back. A power of
    two, 512 at most.
    """
    stats = devices[0].memory_stats() or {}
    room = stats.get("bytes_limit", _DEVICE_BYTES) / 2
    width = _WIDEST
    while width > 1:
        per_device = -(-width // len(devices))
        if per_device * task.num_bytes + width * task.model_bytes <= room:
            break
        width //= 2
    return width


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


def _sum_bytes(jaxpr: Any) -> int:
    """Return the bytes of all results; those of a loop once, as a turn has them."""
    total = 0
    for equation in jaxpr.eqns:
        inner = [j for v in equation.params.values() for j in _find_jaxprs(v)]
        total += sum(map(_sum_bytes, inner)) if inner else _count_outputs(equation)
    return total


def _count_outputs(equation: Any) -> int:
    return sum(_count_bytes(value.aval) for value in equation.outvars)


def _count_bytes(aval: Any) -> int:
    return math.prod(np.shape(aval)) * getattr(aval.dtype, "itemsize", 8)
