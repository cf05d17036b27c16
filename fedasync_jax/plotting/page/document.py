"""The whole page: tables, charts, settings, and how to make the runs again."""

import datetime
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from fedasync_jax.plotting.contents import name_runs
from fedasync_jax.plotting.page.activity import draw_activity
from fedasync_jax.plotting.page.charts import CLIENTS, DRAWN, Section
from fedasync_jax.plotting.page.facts import (
    RunFacts,
    describe_progress,
    read_facts,
    repeat_line,
    resume_line,
)
from fedasync_jax.plotting.page.svg import (
    draw_bar_swatch,
    draw_chart,
    draw_swatch,
    safe,
)
from fedasync_jax.plotting.page.tables import (
    make_clients_table,
    make_origin_table,
    make_results_table,
    make_settings_tables,
)
from fedasync_jax.plotting.styles import assign_styles
from fedasync_jax.schedule.timeline import ACTIVITIES

# The page may load nothing, whatever stands in it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def make_page(run_dirs: Sequence[str | Path]) -> str:
    """Return a page of HTML that shows runs, side by side if they are several.

    It needs no network and no other file. A run that is not finished is shown as far
    as it is, and the page says so at its top.

    Args:
      run_dirs: the run folders.

    Raises:
      ValueError: if one is none, has no evaluation yet, or a file cannot be read.
    """
    paths = [Path(run_dir) for run_dir in run_dirs]
    facts = [read_facts(path) for path in paths]
    runs = dict(zip(name_runs(paths), facts, strict=True))
    contents = {name: run.contents for name, run in runs.items()}
    methods = dict.fromkeys(m for run in contents.values() for m in run.rows)
    asynchronous = {m for run in contents.values() for m in run.asynchronous}
    styles = assign_styles(list(methods), asynchronous)
    sections = [*(draw(contents, styles) for draw in DRAWN), draw_activity(contents)]
    swatches = {method: draw_swatch(style) for method, style in styles.items()}
    swatches |= {name: draw_bar_swatch(name) for name in ACTIVITIES}
    of_clients = make_clients_table(runs, styles)
    parts = [
        _make_head(runs),
        *(_make_banner(name, run, len(runs)) for name, run in runs.items()),
        f"<section><h2>Results</h2>{make_results_table(runs, styles)}</section>",
        *(
            _make_section(s, swatches, of_clients if s.title == CLIENTS else "")
            for s in sections
            if s
        ),
        f"<section><h2>Settings</h2><p>● differs from the preset.</p>"
        f"{make_settings_tables(runs)}</section>",
        "<section><h2>How to run it again</h2>",
        *map(_make_commands, runs.values()),
        "</section>",
        f"<section><h2>Software and devices</h2>{make_origin_table(runs)}</section>",
    ]
    title = safe(", ".join(runs))
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{title} - fedasync</title><style>{_read('page.css')}</style></head>"
        f"<body><main>{''.join(parts)}</main><div id='tip' role='status'></div>"
        f"<script>{_read('page.js')}</script></body></html>\n"
    )


def _read(name: str) -> str:
    return resources.files("fedasync_jax.plotting.page").joinpath(name).read_text()


def _make_head(runs: Mapping[str, RunFacts]) -> str:
    lines = []
    for name, run in runs.items():
        settings, config = run.settings, run.config
        fleet = f", fleet {config['fleet']}" if config.get("fleet") else ""
        lines.append(
            f"<b>{safe(name)}</b>: {safe(settings.get('dataset', 'own data'))}, "
            f"{safe(settings.get('num_clients', '?'))} clients, preset "
            f"{safe(config.get('preset') or 'none')}{safe(fleet)}, seed "
            f"{safe(settings.get('seed', '?'))}"
        )
    now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    what = "A run" if len(runs) == 1 else f"{len(runs)} runs"
    return (
        f"<header><h1>{what} of fedasync</h1><p>{'<br>'.join(lines)}</p>"
        f"<p class='note'>Written {now}. Point at a chart to read its values.</p>"
        "</header>"
    )


def _make_banner(name: str, run: RunFacts, num_runs: int) -> str:
    lines = list(describe_progress(run))
    if not lines:
        return ""
    which = "This run" if num_runs == 1 else f"The run {name}"
    state = "has methods that ended early" if run.is_over else "is not finished"
    items = "".join(f"<li>{safe(line)}</li>" for line in lines)
    return (
        f"<div class='banner' role='alert'><b>{safe(which)} {state}.</b>"
        f"<ul>{items}</ul></div>"
    )


def _make_section(section: Section, swatches: Mapping[str, str], more: str = "") -> str:
    charts = "".join(map(draw_chart, section.charts))
    items = "".join(f"<li>{swatches[n]}{safe(n)}</li>" for n in section.names)
    return (
        f"<section><h2>{safe(section.title)}</h2><p>{safe(section.about)}</p>{more}"
        f"<ul class='legend'>{items}</ul><div class='charts'>{charts}</div></section>"
    )


def _make_commands(run: RunFacts) -> str:
    repeat = repeat_line(run)
    if repeat is None:
        own = ", ".join(run.config.get("own") or [])
        what = f" with objects of its own ({own})" if own else ""
        return (
            f"<p>{safe(run.path.name)} was made in Python{safe(what)}; "
            "fa.train makes it again with the settings above.</p>"
        )
    return (
        f"<p>{safe(run.path.name)}, the same into a new folder, or further:</p>"
        f"<pre tabindex='0'>{safe(repeat)}\n{safe(resume_line(run))}</pre>"
    )
