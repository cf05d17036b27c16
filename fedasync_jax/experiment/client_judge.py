"""How a model is judged on every client's own data, and how that is spread."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from fedasync_jax.base import Array, Variables
from fedasync_jax.experiment.records import Workload
from fedasync_jax.worker.client_evaluation import make_client_evaluate, spread_on_device

_SAMPLES = 1024  # at a time
_TOKENS = 2048  # at a time, of texts: each has a score for every word


def make_client_judge(
    workload: Workload,
) -> Callable[[Variables], dict[str, Array]]:
    """Return ``judge(variables)``: means over every client's train samples, [C] each.

    ``loss`` and, of a classifier, ``accuracy``. It enqueues its work and does not wait.
    All partitions of one data set share one compiled program.
    """
    batch_size = _SAMPLES
    if workload.is_text:
        leaf = jax.tree.leaves(workload.clients.arrays)[0]
        batch_size = max(1, _TOKENS * len(leaf) // leaf.size)
    evaluate = make_client_evaluate(
        workload.model, workload.clients, batch_size=batch_size
    )

    def judge(variables: Variables) -> dict[str, Array]:
        metrics = evaluate(variables)
        scores = {"loss": metrics["loss"]}
        if "correct" in metrics and not workload.is_text:
            scores["accuracy"] = metrics["correct"]
        return scores

    return judge


def add_client_spread(workload: Workload, variables: Variables) -> Workload:
    """Let every evaluation say, too, how its model serves the clients.

    The metrics then have ``client_accuracy_mean`` and so on, or ``client_loss_mean``
    where there is no accuracy: the fields of ``worker.ClientSpread``.

    Args:
      workload: what is learned from what.
      variables: a model, to try it on.

    Raises:
      ValueError: if the model's metrics cannot judge the clients' samples.
    """
    judge = make_client_judge(workload)
    try:
        jax.block_until_ready(judge(variables))
    except (
        Exception
    ) as error:  # of whatever the metrics do with samples of another kind
        raise ValueError(
            "evaluate_clients must be never for a model whose metrics cannot judge the "
            f"clients' samples, got always ({type(error).__name__}: {error})"
        ) from error

    def evaluate(variables: Variables) -> dict[str, Array]:
        scores = judge(variables)
        name = choose_client_score(scores)
        spread = spread_on_device(scores[name])
        if name == "loss":  # the worst is the highest
            worst, best = spread["best_tenth"], spread["worst_tenth"]
            spread |= {"worst_tenth": worst, "best_tenth": best}
        named = {f"client_{name}_{field}": spread[field] for field in spread}
        return {**workload.evaluate(variables), **named}

    return workload._replace(evaluate=evaluate)


def choose_client_score(scores: Mapping[str, Any]) -> str:
    """Return what clients are compared by: their accuracy, without it their loss."""
    return "accuracy" if "accuracy" in scores else "loss"
