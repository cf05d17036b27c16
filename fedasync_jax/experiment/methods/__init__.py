"""The methods that are compared: every registered rule, and the baselines."""

from collections.abc import Callable, Mapping

from fedasync_jax.experiment.method_names import list_async
from fedasync_jax.experiment.methods.asynchronous import make_fedasync, make_rule_method
from fedasync_jax.experiment.methods.context import Context
from fedasync_jax.experiment.methods.fedavg import make_fedavg, make_fedprox
from fedasync_jax.experiment.methods.sgd import make_sgd
from fedasync_jax.experiment.records import Method

_BASELINES: Mapping[str, Callable[[Context], Method]] = {
    "fedavg": make_fedavg,
    "fedprox": make_fedprox,
    "sgd": make_sgd,
}


def make_method(name: str, context: Context) -> Method:
    """Return a method.

    Args:
      name: one of ``METHODS``.
      context: what it is made from.
    """
    if name in _BASELINES:
        return _BASELINES[name](context)
    rule, staleness = list_async()[name]
    if rule == "fedasync" and staleness is not None:
        return make_fedasync(staleness, context)  # its weights are known beforehand
    return make_rule_method(rule, staleness, context)
