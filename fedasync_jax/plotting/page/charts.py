"""Which charts a run has, on scales that all runs of a page share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fedasync_jax.plotting.contents import Arrays, Contents, name_clock
from fedasync_jax.plotting.page.scales import Axis, make_axis
from fedasync_jax.plotting.page.svg import Bars, Chart, Line
from fedasync_jax.plotting.points import running_mean
from fedasync_jax.plotting.series import choose_limits, choose_score, read_curve
from fedasync_jax.plotting.served import mean_by_speed, order_scores, pick_score
from fedasync_jax.plotting.styles import LineStyle, are_far_apart, choose_unit
from fedasync_jax.plotting.traces import (
    group_traces,
    make_staleness_bins,
    name_group,
)

Runs = Mapping[str, Contents]
Styles = Mapping[str, LineStyle]

CLIENTS = "Clients"  # title of their section
_FIELDS = {"virtual_time": "over time", "updates": "over updates"}
_FIELDS |= {"gradients": "over gradients"}
_LABELS = {"updates": "server updates", "gradients": "gradients"}


class Section(NamedTuple):
    """Charts of one kind.

    Attributes:
      title: what they show.
      about: what to look for.
      charts: of all runs.
      names: what the legend explains.
    """

    title: str
    about: str
    charts: Sequence[Chart]
    names: Sequence[str]


def draw_score_curves(runs: Runs, styles: Styles) -> Section:
    """Return how good the models are, over time, updates and gradients."""
    score = choose_score([rows for run in runs.values() for rows in run.rows.values()])
    kind = "share" if score == "accuracy" else "number"
    every = {name: _read_scores(run, score) for name, run in runs.items()}
    values = [y for curves in every.values() for y in curves.values()]
    is_log = score != "accuracy"
    limits = choose_limits(values, is_log=is_log)
    y = make_axis(values, f"test {score}", kind=kind, is_log=is_log, limits=limits)
    charts = []
    for field, words in _FIELDS.items():
        title = f"{score.capitalize()} {words}"
        charts += _draw_over(runs, styles, every, field, title, y)
    cut = " The y-axis shows where the methods differ." if limits else ""
    about = f"On the test set.{cut}"
    return Section(score.capitalize(), about, charts, list(styles))


def _read_scores(run: Contents, score: str) -> dict[str, np.ndarray]:
    return {m: read_curve(rows, "version", score)[1] for m, rows in run.rows.items()}


def _draw_over(
    runs: Runs,
    styles: Styles,
    scores: Mapping[str, Mapping[str, np.ndarray]],
    field: str,
    title: str,
    y: Axis,
) -> Iterator[Chart]:
    """Yield a chart a run; none if no run has such an axis, as a clock."""
    read = {
        name: {
            method: np.array([row[field] for row in rows], float)
            for method, rows in run.rows.items()
            if rows[-1][field]
        }
        for name, run in runs.items()
    }
    ends = [float(x[-1]) for curves in read.values() for x in curves.values()]
    if not ends:
        return
    label, unit = _LABELS.get(field, ""), 1.0
    if not label:
        longest = 0.0 if are_far_apart(ends) else max(ends)
        chosen = choose_unit(longest, name_clock(runs.values()))
        label, unit = chosen.label.lower(), chosen.seconds
    arrays = [x / unit for curves in read.values() for x in curves.values()]
    kind = "number" if field == "virtual_time" else "count"
    x_axis = make_axis(
        arrays, label, kind=kind, from_zero=True, is_log=are_far_apart(ends)
    )
    for name, curves in read.items():
        lines = [
            Line(method, x / unit, scores[name][method], styles[method])
            for method, x in curves.items()
        ]
        yield Chart(_title(title, name, runs), x_axis, y, lines)


def draw_arrivals(runs: Runs, styles: Styles) -> Section | None:
    """Return how stale the arrivals are, and how much they count."""
    stale = {
        name: {m: run.updates[m] for m in run.asynchronous if m in run.updates}
        for name, run in runs.items()
    }
    stale = {name: updates for name, updates in stale.items() if updates}
    if not stale:
        return None
    charts = [*_draw_staleness(runs, stale, styles), *_draw_alpha(runs, stale, styles)]
    about = (
        "Staleness: versions that the server made while a client trained. Alpha: the "
        "weight of an arrival, running means."
    )
    names = list(dict.fromkeys(m for updates in stale.values() for m in updates))
    return Section("Arrivals of the asynchronous methods", about, charts, names)


def _draw_staleness(
    runs: Runs, stale: Mapping[str, Mapping[str, Arrays]], styles: Styles
) -> Iterator[Chart]:
    updates = [arrays for some in stale.values() for arrays in some.values()]
    edges = make_staleness_bins(np.concatenate([u["staleness"] for u in updates]))
    x = make_axis(
        [], "staleness (versions)", limits=(edges[0], edges[-1]), kind="number"
    )
    shares = {
        name: {
            group[0]: _count_bins(updates[group[0]]["staleness"], edges)
            for group in group_traces(updates)
        }
        for name, updates in stale.items()
    }
    every = [share for some in shares.values() for share in some.values()]
    y = make_axis(every, "share of arrivals", kind="share", from_zero=True)
    for name, updates in stale.items():
        groups = {group[0]: group for group in group_traces(updates)}
        bars, notes = [], []
        for method, share in shares[name].items():
            label = name_group(groups[method], len(updates))
            d = updates[method]["staleness"]
            bars.append(_make_histogram(label, share, edges, styles[method]))
            notes.append(f"{label}: mean {d.mean():.1f}, largest {d.max():,}")
        note = "; ".join(notes)
        yield Chart(_title("Staleness", name, runs), x, y, bars=bars, note=note)


def _count_bins(staleness: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.histogram(staleness, edges)[0] / staleness.size


def _make_histogram(
    label: str, share: np.ndarray, edges: np.ndarray, style: LineStyle
) -> Bars:
    boxes = np.stack([edges[:-1], edges[1:], np.zeros(share.size), share], axis=1)
    low, high = np.ceil(edges[:-1]).astype(int), np.floor(edges[1:]).astype(int)
    texts = [
        f"{label}\nstaleness {a if a == b else f'{a} to {b}'}: {100 * part:.1f}%"
        for a, b, part in zip(low.tolist(), high.tolist(), share.tolist(), strict=True)
    ]
    seen = share > 0
    texts = [text for text, yes in zip(texts, seen.tolist(), strict=True) if yes]
    return Bars(label, f"c{style.color.lstrip('#')}", boxes[seen], texts)


def _draw_alpha(
    runs: Runs, stale: Mapping[str, Mapping[str, Arrays]], styles: Styles
) -> Iterator[Chart]:
    means = {
        name: {method: _mean_alpha(arrays) for method, arrays in updates.items()}
        for name, updates in stale.items()
    }
    pairs = [pair for some in means.values() for pair in some.values()]
    values = np.concatenate([mean for _, mean in pairs])
    is_log = bool(values.size and values.min() > 0 and values.max() > 30 * values.min())
    x = make_axis([x for x, _ in pairs], "server updates", kind="count", from_zero=True)
    y = make_axis([values], "alpha", from_zero=True, is_log=is_log)
    for name, some in means.items():
        lines = [Line(m, x, mean, styles[m]) for m, (x, mean) in some.items()]
        yield Chart(_title("Weight of the arrivals", name, runs), x, y, lines)


def _mean_alpha(arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
    alpha = np.asarray(arrays["alpha"], float)
    kept = np.asarray(arrays["applied"], bool) & np.isfinite(alpha) & (alpha > 0)
    return running_mean(np.flatnonzero(kept) + 1.0, alpha[kept])


def draw_fairness(runs: Runs, styles: Styles) -> Section | None:
    """Return how the final models serve the clients, and whether slow ones less."""
    scored = {name: run for name, run in runs.items() if run.client_scores}
    if not scored:
        return None
    arrays = [a for run in scored.values() for a in run.client_scores.values()]
    score = pick_score(arrays)
    y = make_axis(
        [a[score] for a in arrays],
        f"{score} on own data",
        kind="share" if score == "accuracy" else "number",
    )
    charts = [
        *_draw_sorted(runs, scored, styles, score, y),
        *_draw_by_speed(runs, scored, styles, score, y),
    ]
    about = (
        "The final models on every client's own train samples: all clients in order, "
        "and means of tenths of them from fast to slow."
    )
    names = list(dict.fromkeys(m for r in scored.values() for m in r.client_scores))
    return Section(CLIENTS, about, charts, names)


def _draw_sorted(
    runs: Runs, scored: Runs, styles: Styles, score: str, y: Axis
) -> Iterator[Chart]:
    label = "clients, from the worst served"
    x_axis = make_axis([], label, limits=(0.0, 1.0), kind="share")
    for name, run in scored.items():
        curves = {
            method: order_scores(arrays[score], higher_is_better=score == "accuracy")
            for method, arrays in run.client_scores.items()
        }
        lines = [Line(m, x, ordered, styles[m]) for m, (x, ordered) in curves.items()]
        yield Chart(_title("Every client", name, runs), x_axis, y, lines)


def _draw_by_speed(
    runs: Runs, scored: Runs, styles: Styles, score: str, y: Axis
) -> Iterator[Chart]:
    found: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for name, run in scored.items():
        count = len(next(iter(run.client_scores.values()))["loss"])
        seconds = run.measure_tasks(count)
        if seconds is not None:
            found[name] = {
                m: mean_by_speed(seconds, a[score])
                for m, a in run.client_scores.items()
            }
    every = [x for some in found.values() for x, _ in some.values()]
    if not every:
        return
    low, high = min(x.min() for x in every), max(x.max() for x in every)
    label = "seconds a task of the client"
    x_axis = make_axis(every, label, is_log=bool(high > 5 * low > 0))
    for name, some in found.items():
        lines = [Line(m, x, mean, styles[m]) for m, (x, mean) in some.items()]
        yield Chart(_title("Fast and slow clients", name, runs), x_axis, y, lines)


def _title(title: str, name: str, runs: Runs) -> str:
    return title if len(runs) == 1 else f"{title}: {name}"


DRAWN: tuple[Callable[[Runs, Styles], Section | None], ...] = (
    draw_score_curves,
    draw_arrivals,
    draw_fairness,
)
