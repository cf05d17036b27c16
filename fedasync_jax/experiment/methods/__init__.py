"""The methods that are compared: every registered rule, and the baselines."""

from collections.abc import Callable, Mapping

from fedasync_jax.experiment.baselines import sort_by_part
from fedasync_jax.experiment.method_names import parse_method
from fedasync_jax.experiment.methods.asynchronous import make_async
from fedasync_jax.experiment.methods.context import Context
from fedasync_jax.experiment.methods.fedavg import make_fedavg, make_fedprox
from fedasync_jax.experiment.methods.sgd import make_sgd
from fedasync_jax.experiment.records import Method

_MAKE_BASELINE: Mapping[str, Callable[[Context], Method]] = {
    "fedavg": make_fedavg,
    "fedprox": make_fedprox,
    "sgd": make_sgd,
}


def make_method(line: str, context: Context) -> Method:
    """Return a method.

    Args:
      line: its name, with settings or without, see ``parse_method``.
      context: what it is made from.

    Raises:
      ValueError: if its settings do not fit the schedule or the model.
    """
    parsed = parse_method(line)
    if parsed.method is not None:
        return make_async(line, context)
    own = sort_by_part(parsed.name, parsed.given)
    replaced = {part: getattr(context, part).replace(**own[part]) for part in own}
    method = _MAKE_BASELINE[parsed.name](context._replace(**replaced))
    return method._replace(name=line) if own else method
