"""Tables of the page: the results, the settings, what made the runs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fedasync_jax.jobs.scores import format_score, last_trained
from fedasync_jax.plotting.contents import name_clock
from fedasync_jax.plotting.page.facts import RunFacts, group_settings, usual_settings
from fedasync_jax.plotting.page.svg import draw_swatch, safe
from fedasync_jax.plotting.series import choose_score
from fedasync_jax.plotting.styles import LineStyle
from fedasync_jax.storage.run_folder import Row


class _Entry(NamedTuple):
    """One line of the table of results."""

    run: str
    method: str
    rows: Sequence[Row]
    summary: Row
    is_async: bool
    is_finished: bool


class _Column(NamedTuple):
    """A column of it."""

    title: str
    about: str
    show: Callable[[_Entry], str]


def make_results_table(
    runs: Mapping[str, RunFacts], styles: Mapping[str, LineStyle]
) -> str:
    """Return the results, a line for every method of every run."""
    entries = _list_entries(runs)
    clock = name_clock(run.contents for run in runs.values())
    columns = list(_list_columns(entries, f"{clock} seconds".strip()))
    return _draw_entries(entries, columns, styles, len(runs) > 1)


def make_clients_table(
    runs: Mapping[str, RunFacts], styles: Mapping[str, LineStyle]
) -> str:
    """Return how well the clients are served; "" if no model was judged by them."""
    entries = _list_entries(runs)
    entries = [entry for entry in entries if _scores_of(entry)]
    if not entries:
        return ""
    columns = list(_list_client_columns(entries))
    return _draw_entries(entries, columns, styles, len(runs) > 1)


def _list_entries(runs: Mapping[str, RunFacts]) -> list[_Entry]:
    return [
        _Entry(
            name,
            method,
            rows,
            run.summary.get(method, {}),
            method in run.contents.asynchronous,
            method in run.finished,
        )
        for name, run in runs.items()
        for method, rows in run.contents.rows.items()
    ]


def _draw_entries(
    entries: Sequence[_Entry],
    columns: Sequence[_Column],
    styles: Mapping[str, LineStyle],
    with_runs: bool,
) -> str:
    columns = [c for c in columns if _has_values(c, entries)]
    head = [("Run", "")] * with_runs + [("Method", "")]
    head += [(column.title, column.about) for column in columns]
    lines = []
    for entry in entries:
        name = safe(entry.method)
        if not entry.is_finished:
            name += " <em>(not finished)</em>"
        name = f"<span>{draw_swatch(styles[entry.method])}<span>{name}</span></span>"
        first = f"<td>{safe(entry.run)}</td>" if with_runs else ""
        cells = "".join(f"<td class='n'>{safe(c.show(entry))}</td>" for c in columns)
        lines.append(f"<tr>{first}<th scope='row'>{name}</th>{cells}</tr>")
    notes = "".join(
        f"<li><b>{safe(c.title)}</b>: {safe(c.about)}</li>" for c in columns
    )
    return f"{_wrap(head, lines)}<ul class='note'>{notes}</ul>"


def _scores_of(entry: _Entry) -> list[str]:
    return [name for name in entry.summary if name.startswith("client_")]


def _has_values(column: _Column, entries: Sequence[_Entry]) -> bool:
    return any(column.show(entry) not in ("-", "0") for entry in entries)


def _list_columns(entries: Sequence[_Entry], seconds: str) -> Iterator[_Column]:
    score = choose_score([entry.rows for entry in entries])
    key = f"test_{score}"

    def mean(entry: _Entry) -> float | None:
        values = [row[key] for row in last_trained(entry.rows)]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if len(known) == len(values) else None

    yield _Column(
        f"Final {score}",
        "on the test set, at the last evaluation",
        lambda e: format_score(score, e.rows[-1][key]),
    )
    yield _Column(
        "Last ten",
        f"mean {score} of the last ten evaluations",
        lambda e: format_score(score, mean(e)),
    )
    target = _find_target(entries) if score == "accuracy" else None
    if target is not None:
        yield _Column(
            f"Time to {target:.0%}",
            f"{seconds} until an accuracy that every finished method reaches",
            lambda e: _number(_time_to(e, target), ",.0f"),
        )
    yield _Column(
        "Time",
        f"{seconds} of the whole run",
        lambda e: _number(e.rows[-1]["virtual_time"], ",.0f"),
    )
    yield _Column(
        "Gradients", "of all clients", lambda e: _number(e.rows[-1]["gradients"], ",")
    )
    yield _Column(
        "Devices",
        "most that are at work at a time",
        lambda e: _number(e.summary.get("devices"), ","),
    )
    yield _Column(
        "Staleness",
        "mean number of versions that the server made while a client trained",
        lambda e: _number(e.is_async and e.summary.get("mean_staleness"), ".1f"),
    )
    yield _Column(
        "Alpha",
        "mean weight of an arrival",
        lambda e: _number(e.is_async and e.summary.get("mean_alpha"), ".3f"),
    )
    for name, about in (
        (
            "rejected",
            "arrivals not mixed, as they were not finite or too far",
        ),
        ("lost", "tasks that never arrived"),
    ):
        yield _Column(name.capitalize(), about, lambda e, n=name: f"{e.rows[-1][n]:,}")
    worst = [c for c in _list_client_columns(entries) if c.title == "Worst 10%"]
    about = "mean over the tenth of clients served worst, on their own train samples"
    yield worst[0]._replace(title="Worst clients", about=about)
    yield _Column(
        "Wall s",
        "real seconds",
        lambda e: _number(e.summary.get("wall_seconds"), ",.1f"),
    )


def _list_client_columns(entries: Sequence[_Entry]) -> Iterator[_Column]:
    accuracies = [e.summary.get("client_accuracy_mean") is not None for e in entries]
    score = "accuracy" if any(accuracies) else "loss"
    spec = ".1%" if score == "accuracy" else ".4g"
    for field, title, about in (
        ("mean", "Mean", f"mean {score} on every client's own train samples"),
        ("worst_tenth", "Worst 10%", "mean of the tenth of clients served worst"),
        ("best_tenth", "Best 10%", "mean of the tenth served best"),
        ("std", "SD", "standard deviation over the clients"),
        ("gini", "Gini", "0 if all clients are served alike, near 1 if one has it all"),
    ):
        name, form = f"client_{score}_{field}", ".3f" if field == "gini" else spec
        yield _Column(
            title, about, lambda e, n=name, f=form: _number(e.summary.get(n), f)
        )


def _find_target(entries: Sequence[_Entry]) -> float | None:
    """Return the highest whole per cent that every finished method reaches."""
    timed = [e for e in entries if e.rows[-1]["virtual_time"] is not None]
    if not timed:
        return None
    best = [
        max((row["test_accuracy"] or 0.0) for row in entry.rows)
        for entry in [e for e in timed if e.is_finished] or timed
    ]
    return int(100 * min(best) + 1e-6) / 100


def _time_to(entry: _Entry, target: float) -> float | None:
    return next(
        (
            row["virtual_time"]
            for row in entry.rows
            if (row["test_accuracy"] or 0.0) >= target - 1e-6
        ),
        None,
    )


def make_settings_tables(runs: Mapping[str, RunFacts]) -> str:
    """Return all settings in groups, those marked that are not the usual ones."""
    names = list(dict.fromkeys(n for run in runs.values() for n in run.settings))
    usual = [usual_settings(run.config) for run in runs.values()]
    blocks = []
    for part, own in group_settings(names).items():
        head = [("Setting", ""), *((name, "") for name in runs), ("Default", "")]
        lines, changed = [], 0
        for name in own:
            values = [run.settings.get(name) for run in runs.values()]
            pairs = zip(values, usual, strict=True)
            is_changed = [
                name != "run_dir" and value != of.get(name, value)
                for value, of in pairs
            ]
            changed += any(is_changed)
            cells = "".join(
                f"<td class='changed'>● {safe(_show(value))}</td>"
                if differs
                else f"<td>{safe(_show(value))}</td>"
                for value, differs in zip(values, is_changed, strict=True)
            )
            default = safe(_show(usual[0].get(name)))
            lines.append(
                f"<tr><th scope='row'>{safe(name)}</th>{cells}<td>{default}</td></tr>"
            )
        count = f" <b>● {changed} changed</b>" if changed else ""
        blocks.append(
            f"<details{' open' * bool(changed)}>"
            f"<summary>{safe(part)}{count}</summary>{_wrap(head, lines)}</details>"
        )
    return "".join(blocks)


def make_origin_table(runs: Mapping[str, RunFacts]) -> str:
    """Return software, devices and source of the runs."""
    facts = {name: dict(_list_origin(run)) for name, run in runs.items()}
    names = list(dict.fromkeys(n for some in facts.values() for n in some))
    lines = [
        f"<tr><th scope='row'>{safe(name)}</th>"
        + "".join(f"<td>{safe(some.get(name, '-'))}</td>" for some in facts.values())
        + "</tr>"
        for name in names
    ]
    return _wrap([("", ""), *((name, "") for name in runs)], lines)


def _list_origin(run: RunFacts) -> Iterator[tuple[str, str]]:
    config = run.config
    kind, platform, count = config.get("devices") or ("unknown", "unknown", 0)
    yield "devices", f"{count} x {kind} ({platform})"
    yield from ((name, str(v)) for name, v in config.get("versions", {}).items())
    yield "revision", str(config.get("revision") or "unknown")
    yield "sittings", str(len(config.get("sittings") or [0]))
    yield "folder", str(run.path)


def _wrap(head: Sequence[tuple[str, str]], lines: Sequence[str]) -> str:
    cells = "".join(
        f"<th scope='col' class='n' title='{safe(about)}'>{safe(title)}</th>"
        if about
        else f"<th scope='col'>{safe(title)}</th>"
        for title, about in head
    )
    return (
        "<div class='wide' tabindex='0'><table><thead><tr>"
        f"{cells}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _number(value: Any, spec: str) -> str:
    return "-" if value is None or value is False else format(value, spec)


def _show(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "-" if value is None else str(value)
