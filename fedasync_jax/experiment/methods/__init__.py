"""The methods that are compared: every registered rule, and the baselines."""

from collections.abc import Callable, Mapping

from fedasync_jax.experiment.method_names import parse_method
from fedasync_jax.experiment.methods.asynchronous import make_async
from fedasync_jax.experiment.methods.context import Context
from fedasync_jax.experiment.methods.fedavg import make_fedavg, make_fedprox
from fedasync_jax.experiment.methods.sgd import make_sgd
from fedasync_jax.experiment.records import Method

_BASELINES: Mapping[str, Callable[[Context], Method]] = {
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
    if parsed.method is None:
        return _BASELINES[parsed.name](context)
    return make_async(line, context)
