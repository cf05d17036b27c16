"""Results as people read them: the final table."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

_CLIENT_TITLES = {
    "worst_tenth": "worst 10%",
    "best_tenth": "best 10%",
    "std": "sd",
    "gini": "Gini",
}


def make_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the table of ``report.summarize_all``, 80 columns wide at most.

    Times are simulated seconds, but for the wall time, which gives way where tasks were
    lost or rejected.
    """
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("method", overflow="fold")  # a line of settings may be long
    columns = _choose_columns(rows)
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = [format_cell(row) for format_cell in columns.values()]
        table.add_row(row["method"], *cells)
    return table


def make_client_table(rows: Sequence[dict[str, Any]]) -> Table | None:
    """Return how well the clients are served, see ``summarize_clients``.

    None if no method was judged on their data.
    """
    score = next((s for s in ("accuracy", "loss") if f"client_{s}_mean" in rows[0]), "")
    if not score:
        return None
    spec = ".1%" if score == "accuracy" else ".4g"
    columns = {
        "mean": spec,
        "worst_tenth": spec,
        "best_tenth": spec,
        "std": spec,
        "gini": ".3f",
    }
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column(f"{score} by client", overflow="fold")
    for name in columns:
        title = _CLIENT_TITLES.get(name, name)
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = [
            _format(row.get(f"client_{score}_{name}"), spec)
            for name, spec in columns.items()
        ]
        table.add_row(row["method"], *cells)
    return table


def _choose_columns(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what stands in each column, by its title."""

    def show(name: str, spec: str) -> Any:
        return lambda row: _format(row.get(name), spec)

    columns = {}
    if any(row.get("devices") for row in rows):
        columns["de-\nvices"] = show("devices", ",")
    columns |= {
        "gradi-\nents": show("gradients", ","),
        "time\ns": show("virtual_time", ",.0f"),
    }
    if "test_perplexity_mean" in rows[0]:
        columns["perplexity\nmean"] = show("test_perplexity_mean", ",.1f")
        columns["\nmax"] = show("test_perplexity_max", ",.1f")
    elif "test_loss_mean" in rows[0]:
        columns["loss\nmean"] = show("test_loss_mean", ",.4g")
        columns["\nmax"] = show("test_loss_max", ",.4g")
    else:
        columns["accu-\nmean"] = show("test_accuracy_mean", ".1%")
        columns["racy\nmin"] = show("test_accuracy_min", ".1%")
    columns["mean\nd"] = show("mean_staleness", ".1f")
    columns["mean\nalpha"] = show("mean_alpha", ".3f")
    counted = [name for name in ("rejected", "lost") if any(row[name] for row in rows)]
    for name in counted:
        columns[{"rejected": "rejec-\nted", "lost": "lost\n"}[name]] = show(name, ",")
    targets = {row["target_accuracy"] for row in rows if "target_accuracy" in row}
    for target in targets:
        columns[f"s to\n{target:.0%}"] = show("time_to_target", ",.0f")
    if not counted:
        columns["wall\ns"] = show("wall_seconds", ",.1f")
    return columns


def _format(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)
