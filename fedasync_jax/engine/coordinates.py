"""What a linear rule does with arrivals, in coordinates.

u_i = A_i u_{i-1} + p_i y_i + q_i (start_i - y_i), where u holds the newest model and
the models that the rule remembers, such as an average or the sum of a buffer. The rule
itself says what A_i, p_i and q_i are: it is given unit vectors for models, and returns
the coordinates of the next ones. ``product`` makes models of them.

Shapes: B arrivals, K registers in u, R runs.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from fedasync_jax import tree
from fedasync_jax.base import Array, Mixer, MixFn, MixInfo, is_linear

Leaves = Sequence[Array]

_MARK = 97  # entries of a model that stands for any


class Layout(NamedTuple):
    """Where models lie in what a rule remembers; part of what a program is made for.

    Attributes:
      treedef: of the state of the rule, for a model that is one array.
      is_model: of every leaf of it, whether that is a model or a number.
    """

    treedef: Any
    is_model: tuple[bool, ...]

    @property
    def num_registers(self) -> int:
        """K."""
        return 1 + sum(self.is_model)


def find_layout(mixer: Mixer) -> Layout | None:
    """Return the layout of a linear rule; None for any other."""
    if not is_linear(mixer.update):
        return None
    model = jax.ShapeDtypeStruct((_MARK,), jnp.result_type(float))
    leaves, treedef = jax.tree.flatten(jax.eval_shape(mixer.init, model))
    return Layout(treedef, tuple(leaf.shape == (_MARK,) for leaf in leaves))


# A function of what a rule remembers in numbers, a task, and the coordinates of the
# start model; see ``make_ask``.
Ask = Callable[[Leaves, Any, Array], tuple[Array, Leaves, MixInfo]]


def make_ask(layout: Layout, update_of: Callable[[Array], MixFn]) -> Ask:
    """Return a function that asks a rule for the coordinates of its next registers.

    They are [K, K + 2], in the registers before, the model that arrived, and its start
    model less that model.
    """
    num_registers, units = layout.num_registers, units_of(layout)

    def ask(numbers: Leaves, task: Any, start: Array) -> tuple[Array, Leaves, MixInfo]:
        models, left = iter(units[1:num_registers]), iter(numbers)
        state = layout.treedef.unflatten(
            next(models) if is_model else next(left) for is_model in layout.is_model
        )
        model, state, info = update_of(task.run)(
            units[num_registers],
            state,
            units[0],
            start=start,
            staleness=task.staleness,
            version=task.version,
            client=task.client,
        )
        leaves = list(zip(jax.tree.leaves(state), layout.is_model, strict=True))
        remembered = [leaf for leaf, is_model in leaves if is_model]
        numbers = [leaf for leaf, is_model in leaves if not is_model]
        rows = [row.astype(units.dtype) for row in (model, *remembered)]
        alpha, applied = jnp.asarray(info.alpha, float), jnp.asarray(info.applied)
        return jnp.stack(rows), numbers, MixInfo(alpha, applied)

    return ask


def units_of(layout: Layout) -> Array:
    """Return the unit vectors that stand for models, [K + 2, K + 2]."""
    return jnp.eye(layout.num_registers + 2, dtype=jnp.result_type(float))


def ask_all(
    ask: Ask, start: Array, numbers: Leaves, tasks: Any, good: Array
) -> tuple[Array, Leaves, MixInfo]:
    """Return the coordinates after every arrival, [B, K, K + 2].

    Those that are not good change nothing. A rule that remembers no numbers is asked
    about all arrivals at once.
    """

    def ask_one(numbers: Leaves, one: Any) -> tuple[Leaves, tuple[Array, MixInfo]]:
        task, good = one
        before = tree.take(numbers, task.run)
        rows, after, info = ask(before, task, start)
        rows = jnp.where(good, rows, jnp.eye(*rows.shape, dtype=rows.dtype))
        after = tree.where(good, after, before)
        info = MixInfo(info.alpha, info.applied & good)
        return tree.put(numbers, task.run, after), (rows, info)

    if numbers:
        numbers, (steps, info) = jax.lax.scan(ask_one, numbers, (tasks, good))
    else:
        _, (steps, info) = jax.vmap(ask_one, (None, 0))(numbers, (tasks, good))
    return steps, numbers, info


def reads_start(ask: Ask, start: Array, numbers: Leaves, tasks: Any) -> bool:
    """Return whether the rule looks at the start model at all."""
    before, task = tree.take((numbers, tasks), 0)
    jaxpr = jax.make_jaxpr(lambda start: ask(before, task, start))(start).jaxpr
    return any(jaxpr.invars[0] is var for eqn in jaxpr.eqns for var in eqn.invars)


def solve(steps: Array, run: Array) -> Array:
    """Return the coordinates of all registers, [B, K, K + 2 B].

    In the registers of the same run before the block, the models that arrived, and
    their start models less them. Arrivals of a run follow each other: u_i = A_i u_j +
    b_i, where j is the one before i. That is a triangular system of equations.
    """
    size, num_registers, _ = steps.shape
    rows = jnp.arange(size)
    previous = find_last(is_earlier(run))
    follows = (previous[:, None] == rows[None]).astype(steps.dtype)
    of_registers = steps[..., :num_registers]
    matrix = jnp.eye(size * num_registers, dtype=steps.dtype) - jnp.reshape(
        of_registers[:, :, None, :] * follows[:, None, :, None],
        (size * num_registers, size * num_registers),
    )
    first = jnp.where((previous < 0)[:, None, None], of_registers, 0)
    own = jnp.eye(size, dtype=steps.dtype)[:, None, :]
    local, start = (steps[..., num_registers + i, None] * own for i in range(2))
    right = jnp.concatenate([first, local, start], axis=2)
    flat = right.reshape(size * num_registers, -1)
    solved = solve_triangular(matrix, flat, lower=True, unit_diagonal=True)
    return solved.reshape(right.shape)


def is_earlier(run: Array, *, or_equal: bool = False) -> Array:
    """Return bool [B, B], whether j is an arrival of the same run before i."""
    rows = jnp.arange(len(run))
    i, j = rows[:, None], rows[None]
    return (j <= i if or_equal else j < i) & (run[None] == run[:, None])


def find_last(mask: Array) -> Array:
    """Return the last true column of each row of bool [M, B], or -1; int [M]."""
    columns = jnp.arange(mask.shape[1])[None]
    return jnp.where(mask, columns, -1).max(axis=1)
