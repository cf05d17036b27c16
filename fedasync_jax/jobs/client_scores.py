"""How the final model of a method serves each client, and how that is spread."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from fedasync_jax.engine.state import find_evaluated
from fedasync_jax.experiment.client_judge import choose_client_score, make_client_judge
from fedasync_jax.experiment.experiment import Experiment
from fedasync_jax.jobs.callbacks import Callback, Outcome
from fedasync_jax.worker.client_evaluation import ClientSpread, spread_over_clients

ClientScores = Mapping[str, np.ndarray]


def judge_clients(experiment: Experiment, outcome: Outcome, told: Callback) -> Outcome:
    """Return an outcome with the scores of its final model on every client's own data.

    They are means over the samples that a client trains on: ``loss`` and, of
    classifiers, ``accuracy``, float32 [C] each. A model whose metrics cannot judge
    these samples is left without, and a note says why: a run that is done is not lost.
    """
    if experiment.settings.run.evaluate_clients == "never":
        return outcome
    variables = find_evaluated(outcome.method.mixer, outcome.result.state)
    try:
        scores = jax.device_get(make_client_judge(experiment.workload)(variables))
    except Exception as error:  # of whatever the user's metrics do
        reason = " ".join(str(error).split())[:160]
        told.on_note(
            f"{outcome.method.name} has no scores by client: its metrics cannot judge "
            f"the clients' samples ({type(error).__name__}: {reason})"
        )
        return outcome
    return outcome._replace(client_scores=scores)


def summarize_clients(scores: ClientScores) -> dict[str, Any]:
    """Return how the scores are spread, as columns of the final table.

    ``client_accuracy_mean``, ``_worst_tenth``, ``_best_tenth``, ``_std`` and ``_gini``,
    or ``client_loss_mean`` and so on where there is no accuracy, see
    ``worker.ClientSpread``; None if a score is not finite.
    """
    name = choose_client_score(scores)
    values = scores[name]
    fields: Mapping[str, Any] = dict.fromkeys(ClientSpread._fields)
    if np.isfinite(values).all() and values.min() >= 0:
        higher_is_better = name == "accuracy"
        fields = spread_over_clients(
            values, higher_is_better=higher_is_better
        )._asdict()
    return {f"client_{name}_{field}": value for field, value in fields.items()}
