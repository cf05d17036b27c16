"""The table of a sweep as people read it: means over seeds, and how sure they are."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from fedasync_jax.jobs.scores import NUM_LAST
from fedasync_jax.jobs.tables import select_last
from fedasync_jax.storage.run_folder import Row

_FEW = 3  # seeds, below which an interval says little


def make_sweep_table(
    table: Sequence[Row], axes: Sequence[str]
) -> tuple[Table, list[str]]:
    """Return the last numbers of every setting and method, and what to say below.

    Args:
      table: see ``jobs.tables.tabulate``.
      axes: names of the settings that differ.
    """
    what = _choose_metric(table)
    spec = {"accuracy": ".2%", "perplexity": ",.2f"}.get(what, ",.4g")
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for title in (*axes, "method"):
        shown.add_column(title, no_wrap=True)
    for title in ("runs", "mean", "sd", "95% interval"):
        shown.add_column(title, justify="right", no_wrap=True)
    notes = [f"{what} on the test set, mean of the last ten evaluations"]
    rows = select_last(table, f"test_{what}_last_{NUM_LAST}")
    for row in rows:
        numbers = [_format(row[name], spec) for name in ("mean", "sd")]
        ends = [_format(row[name], spec) for name in ("low", "high")]
        is_rough = 1 < row["n"] < _FEW
        interval = "-" if "-" in ends else " to ".join(ends) + "*" * is_rough
        settings = [show_setting(row[name]) for name in (*axes, "method")]
        counted = f"{row['n']} of {row['runs']}"
        shown.add_row(*settings, counted, *numbers, interval)
    if any(1 < row["n"] < _FEW for row in rows):
        notes.append(
            f"* of fewer than {_FEW} runs: their spread is hardly known; give more "
            "--seeds"
        )
    return shown, notes


def show_setting(value: Any) -> str:
    """Return a value as ``--grid`` takes it."""
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _choose_metric(table: Sequence[Row]) -> str:
    """Return what the runs are judged by: accuracy, perplexity or loss."""
    known = {row["metric"] for row in table if row["mean"] is not None}
    names = ("perplexity", "accuracy", "loss")
    found = (name for name in names if f"test_{name}_last_{NUM_LAST}" in known)
    return next(found, "accuracy")


def _format(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)
