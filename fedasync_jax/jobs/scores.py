"""What a model is judged by: perplexity, accuracy, or, without either, its loss."""

from collections.abc import Mapping, Sequence
from typing import Any

NUM_LAST = 10  # evaluations that are summed up


def name_score(row: Mapping[str, Any]) -> str:
    """Return what a line of metrics judges its model by.

    >>> name_score({"test_accuracy": None, "test_loss": 0.3})
    'loss'
    """
    if "test_perplexity" in row:
        return "perplexity"
    return "loss" if row.get("test_accuracy") is None else "accuracy"


def last_trained(
    rows: Sequence[Mapping[str, Any]], num_last: int = NUM_LAST
) -> Sequence[Mapping[str, Any]]:
    """Return the last evaluations, without that of the untrained model.

    >>> last_trained([{"gradients": 0}, {"gradients": 50}])
    [{'gradients': 50}]
    """
    trained = [row for row in rows if row["gradients"]]
    return (trained or rows)[-num_last:]


def describe_score(row: Mapping[str, Any]) -> str:
    """Return the score of a line of metrics, in words.

    >>> describe_score({"test_accuracy": 0.957})
    'accuracy 95.7%'
    """
    name = name_score(row)
    return f"{name} {format_score(name, row[f'test_{name}'])}"


def format_score(name: str, value: float | None) -> str:
    """Return a score as it is shown; a dash if it is not known or not finite."""
    if value is None:
        return "-"
    return format(value, {"accuracy": ".1%", "perplexity": ",.1f"}.get(name, ",.4g"))
