"""Any registered mixing rule, on the schedule that FedAsync runs on."""

from typing import Any

from fedasync_jax.experiment.build_worker import make_worker
from fedasync_jax.experiment.methods.context import Context
from fedasync_jax.experiment.methods.fedasync import describe, make_alpha
from fedasync_jax.experiment.records import Method
from fedasync_jax.mixing.rules import RULES
from fedasync_jax.mixing.staleness import STALENESS_FNS


def make_rule_method(rule: str, staleness: str | None, context: Context) -> Method:
    """Return the method of a rule.

    Args:
      rule: one of ``RULES``.
      staleness: name of the staleness function, of a rule that has one.
      context: what else it is made from.
    """
    values, trace, name = context.mixing.of_choices, context.trace, rule
    offered: dict[str, Any] = {"alpha": make_alpha(context.mixing)}
    if staleness is not None:
        offered["staleness_fn"] = STALENESS_FNS.make(staleness, values)
        name = describe(f"{rule} {staleness}", staleness, values)
    return Method(
        name=name,
        fleet=context.fleet,
        trace=trace,
        staleness=trace.staleness,
        local_update=make_worker(
            context.worker, context.workload, rho=context.worker.proximal_weight
        ),
        mixer=RULES.make(rule, values, **offered),
        eval_every=context.eval_every,
        is_async=True,
    )
