"""The timeline on the page: what clients do, a row a client, the slow ones too."""

from collections.abc import Iterator, Mapping

import numpy as np

from fedasync_jax.plotting.contents import Arrays, Contents
from fedasync_jax.plotting.page.charts import Section
from fedasync_jax.plotting.page.scales import Axis
from fedasync_jax.plotting.page.svg import Bars, Chart
from fedasync_jax.plotting.styles import TimeUnit, choose_unit
from fedasync_jax.plotting.window import choose_window, list_shown, order_by_speed
from fedasync_jax.schedule.timeline import ACTIVITIES

_MAX_ROUNDS = 50  # more lines than this would hide the bars
_MAX_BARS = 3000  # of a chart; a window with more of them ends earlier


def draw_activity(runs: Mapping[str, Contents]) -> Section | None:
    """Return the timelines of each run: an asynchronous method, and one with rounds."""
    charts = [
        chart for name, run in runs.items() for chart in _draw_run(name, run, runs)
    ]
    if not charts:
        return None
    about = (
        "The first part of the run, the fastest of the sampled clients at the top. "
        "Gaps: the client waits."
    )
    drawn = {bars.name for chart in charts for bars in chart.bars}
    names = [name for name in ACTIVITIES if name in drawn]
    return Section("What the clients do", about, charts, names)


def _draw_run(
    name: str, run: Contents, runs: Mapping[str, Contents]
) -> Iterator[Chart]:
    timelines = {m: run.timelines[m] for m in run.pair if m in run.timelines}
    if not timelines:
        return
    synchronous = timelines.keys() & run.updates.keys() - set(run.asynchronous)
    rounds = {method: run.find_rounds(method) for method in synchronous}
    window = choose_window(next(iter(timelines.values())), list(rounds.values()))
    window = min([window, *map(_end_of_bars, timelines.values())])
    unit = choose_unit(window, run.clock)
    x = Axis(0.0, window / unit.seconds, unit.label.lower())
    clients = order_by_speed(list(timelines.values()))
    for own, (method, timeline) in zip(clients, timelines.items(), strict=True):
        begins = rounds.get(method, np.zeros(0))
        begins = begins[(begins > 0) & (begins < window)] / unit.seconds
        yield Chart(
            f"{method}" if len(runs) == 1 else f"{method}: {name}",
            x,
            Axis(len(own) - 0.5, -0.5, "client"),
            bars=list(_make_bars(timeline, own, window, unit)),
            marks=begins.tolist() if len(begins) <= _MAX_ROUNDS else [],
            rows=[str(client) for client in own],
            note=f"{len(begins)} rounds begin at the lines" if len(begins) else "",
        )


def _end_of_bars(timeline: Arrays) -> float:
    """Return until when there are not more bars than a page can hold."""
    starts = np.sort(timeline["start"])
    return float(starts[_MAX_BARS]) if len(starts) > _MAX_BARS else float("inf")


def _make_bars(
    timeline: Arrays, clients: list[int], window: float, unit: TimeUnit
) -> Iterator[Bars]:
    row_of = {client: row for row, client in enumerate(clients)}
    for name, bars in list_shown(timeline, window):
        start, end, client = bars["start"], bars["end"], bars["client"]
        rows = np.array([row_of[one] for one in client.tolist()])
        left = np.maximum(start, 0.0) / unit.seconds
        right = np.minimum(end, window) / unit.seconds
        texts = [
            f"client {c}: {name}\n{a / unit.seconds:,.4g} to {b / unit.seconds:,.4g} "
            f"{unit.name}"
            for c, a, b in zip(client.tolist(), start, end, strict=True)
        ]
        yield Bars(
            name, name, np.stack([left, right, rows + 0.4, rows - 0.4], 1), texts
        )
