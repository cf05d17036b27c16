"""The page of runs: whole, true, harmless, and alive in a browser."""

import html
import itertools
import json
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import fedasync_jax as fa
from fedasync_jax.cli.train_flags import parse_train
from fedasync_jax.jobs.runner import Stopped
from fedasync_jax.jobs.training import run_settings
from fedasync_jax.plotting.page.document import make_page
from fedasync_jax.plotting.page.facts import read_facts, repeat_line
from fedasync_jax.plotting.page.scales import Axis, make_axis
from fedasync_jax.plotting.page.svg import Bars, Chart, Line, draw_chart
from fedasync_jax.plotting.styles import LineStyle

OLD = Path(__file__).parents[1] / "cli" / "old_run" / "run"
METHODS = ("fedasync-polynomial", "fedavg", "sgd")
SMALL = {"num_clients": 8, "clients_per_round": 2, "concurrency": 4, "hidden": (8,)}
SMALL |= {"num_updates": 40, "eval_every": 10, "methods": METHODS}
STYLE = LineStyle("#0072B2", "-", "o")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)


class Page(HTMLParser):
    """A page, refused unless every element is closed in its place."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def told(self):
        """Return what is told of points and bars."""
        return [text for tag, text in self.texts if tag == "title"][1:]

    def find(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "small"
    fa.train(fa.make_settings(**SMALL, run_dir=path, stop_after_rejected=None))
    return path


@pytest.fixture(scope="module")
def page(run):
    return make_page([run])


def read_rows(run):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


# What is in it


def test_it_is_whole_and_asks_for_nothing_from_elsewhere(page):
    parsed = Page(page)
    for _, attrs in parsed.elements:
        assert not attrs.keys() & {"src", "href", "srcset", "xlink:href", "onload"}
    assert not re.search(r"https?:|url\(|@import|fetch|innerHTML|eval\(", page)
    (policy,) = (m["content"] for m in parsed.find("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")
    assert len(page) < 300_000
    for svg in parsed.find("svg"):
        assert svg.get("aria-label") or svg.get("aria-hidden") == "true"
    assert parsed.find("html") == [{"lang": "en"}]


def test_charts_tell_the_values_of_the_run(run, page):
    told = Page(page).told()
    shown = [text for text in told if "test accuracy" in text]
    for row in read_rows(run):
        value = f"test accuracy: {100 * row['test_accuracy']:.1f}%"
        place = f"gradients: {row['gradients']:,}"
        text = f"{row['method']}\n{place}\n{value}"
        y_limits = [t for t in shown if t.startswith(f"{row['method']}\ngradients")]
        assert text in shown or len(y_limits) < 5  # below what the chart shows
    last = {row["method"]: row for row in read_rows(run)}
    for method, row in last.items():
        value = f"{100 * row['test_accuracy']:.1f}%"
        assert f"{method}\ngradients: {row['gradients']:,}\ntest accuracy: {value}" in (
            shown
        )
    assert any(re.match(r"client \d+: work\n", text) for text in told)
    assert any("\nstaleness " in text for text in told)
    assert any("accuracy on own data" in text for text in told)
    assert any("\nalpha: " in text for text in told)


def test_the_tables_are_those_of_the_run(run, page):
    cells = [text for tag, text in Page(page).texts if tag in ("td", "th")]
    for row in json.loads((run / "summary.json").read_text()):
        assert f"{row['test_accuracy_mean']:.1%}" in cells
        assert f"{row['client_accuracy_worst_tenth']:.1%}" in cells
        assert f"{row['client_accuracy_gini']:.3f}" in cells
    assert "Worst clients" in cells and "Staleness" in cells
    assert "● 40" in cells  # num_updates, not that of the preset
    assert "0.6" in cells and "● 0.6" not in cells  # alpha is


def test_its_command_makes_the_same_run(run):
    facts = read_facts(run)
    line = repeat_line(facts)
    assert line is not None and line.startswith("fedasync train --preset digits ")
    settings = parse_train(shlex.split(line)[2:]).settings
    wanted = {**facts.settings, "run_dir": None}
    assert json.loads(json.dumps(settings.to_json())) == wanted


def test_several_runs_stand_side_by_side_on_the_same_scales(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    page = Page(make_page([run, other]))
    titles = [text for tag, text in page.texts if tag == "figcaption"]
    for one in ("Accuracy over time", "Staleness", "Every client"):
        assert f"{one}: small" in titles and f"{one}: other" in titles
    labels = [svg["aria-label"] for svg in page.find("svg") if "aria-label" in svg]
    assert len(labels) == len(titles) == len(set(labels))
    assert [t for _, t in page.texts if t == "small"] and not page.find("h3")


def test_a_run_that_is_not_finished_says_so(tmp_path):
    settings = fa.make_settings(
        **{**SMALL, "methods": METHODS[:2], "run_dir": tmp_path}
    )
    calls = itertools.count()
    with pytest.raises(Stopped):
        run_settings(settings, run_dir=tmp_path, should_stop=lambda: next(calls) == 1)
    text = html.unescape(make_page([tmp_path]))
    assert "This run is not finished." in text
    assert re.search(r"FedAsync polynomial\(0.5\) is at \d+ of 40 updates\.", text)
    assert "1 of 2 methods has not begun." in text
    assert f"Go on with: fedasync train --resume {tmp_path}" in text
    fa.train(settings)
    assert "not finished" not in make_page([tmp_path])


def test_a_method_that_diverged_says_so(tmp_path):
    bad = {"max_update_norm": 1e-6, "stop_after_rejected": 5}
    settings = fa.make_settings(**{**SMALL, **bad, "methods": METHODS[1:]})
    results = fa.train(settings.replace(run_dir=tmp_path))
    assert len(results.diverged) == 1
    page = make_page([tmp_path])
    assert "This run has methods that ended early." in page
    assert re.search(r"FedAvg ended early at \d+ of 40 updates\.", page)


def test_a_run_of_an_earlier_version_is_shown_as_far_as_it_is(tmp_path):
    run = shutil.copytree(OLD, tmp_path / "run")
    page = make_page([run])
    Page(page)
    assert "This run is not finished." in page and "Every client" not in page


@pytest.mark.parametrize("files", [[], ["metrics.jsonl"]])
def test_a_folder_without_an_evaluation_is_one_line(tmp_path, run, files):
    shutil.copy(run / "config.json", tmp_path)
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"^report needs a run with an evaluation"):
        make_page([tmp_path])
    with pytest.raises(ValueError, match=r"^run_dirs must be run folders, got "):
        make_page([tmp_path / "none"])


def test_names_from_outside_are_only_shown(tmp_path):
    bad = "<script>alert('x')</script>"
    path = tmp_path / "a'\"<img src=x onerror=alert(1)>&amp;"
    fa.train(
        fa.make_settings(**{**SMALL, "num_updates": 10, "run_dir": path}),
        methods=[(bad, fa.mixing.fedasync(0.6, fa.staleness.constant()))],
    )
    text = make_page([path, path / "."])
    page = Page(text)
    assert len(page.find("script")) == 1 and not page.find("img")
    shown = "".join(text for _, text in page.texts)
    assert bad in shown and path.name in shown
    assert "was made in Python with objects of its own" in shown


# Scales and shapes


def test_points_lie_where_the_axes_say():
    x, y = Axis(0.0, 10.0, "x"), Axis(0.0, 1.0, "y", "share")
    line = Line("a", np.array([0.0, 10.0, 5.0]), np.array([0.0, 1.0, np.nan]), STYLE)
    drawn = draw_chart(Chart("t", x, y, [line]))
    circles = re.findall(r"<circle cx='([\d.]+)' cy='([\d.]+)'", drawn)
    assert circles == [("58.0", "246.0"), ("468.0", "10.0")]
    assert re.findall(r"<title>(.*?)</title>", drawn, re.DOTALL) == [
        "a\nx: 0\ny: 0.0%",
        "a\nx: 10\ny: 100.0%",
    ]


def test_a_line_ends_at_the_frame():
    x, y = Axis(0.0, 2.0, "x"), Axis(0.0, 1.0, "y")
    line = Line("a", np.arange(3.0), np.array([0.5, 0.5, 1.5]), STYLE)
    drawn = draw_chart(Chart("t", x, y, [line]))
    (path,) = re.findall(r"class='line' d='([^']*)'", drawn)
    *_, (last_x, last_y) = re.findall(r"([\d.]+) ([\d.]+)", path)
    assert abs(float(last_y) - 10) < 0.6 and abs(float(last_x) - 365.5) < 1
    assert drawn.count("<circle") == 2


def test_bars_have_their_boxes():
    x, y = Axis(0.0, 10.0, "x"), Axis(0.0, 1.0, "y")
    bars = Bars("b", "work", np.array([[0.0, 5.0, 0.0, 0.5]]), ["half"])
    drawn = draw_chart(Chart("t", x, y, bars=[bars]))
    assert "<path d='M58.0 128.0h205.0v118.0h-205.0z'><title>half</title>" in drawn


def test_axes_have_round_numbers():
    assert Axis(0.0, 3000.0, "x", "count").ticks() == [0, 1000, 2000, 3000]
    assert Axis(1.0, 1000.0, "x", is_log=True).ticks() == [1, 10, 100, 1000]
    assert make_axis([np.array([np.nan, np.inf])], "x")[:2] == (-0.04, 1.04)
    assert make_axis([np.array([2.0, 2.0])], "x")[:2] == (2.0, 4.0)
    assert make_axis([np.array([0.0])], "x", is_log=True).is_log is False
    assert Axis(0.0, 1.0, "x", "share").format_tick(0.25) == "25%"


def test_many_points_stay_few():
    x = np.linspace(0, 1, 100_000)
    axis = Axis(0.0, 1.0, "x")
    drawn = draw_chart(Chart("t", axis, axis, [Line("a", x, x, STYLE)]))
    assert drawn.count("<circle") <= 101 and len(drawn) < 30_000
    assert "x: 1\nx: 1" in drawn  # the last one is kept


# In a browser


def open_in_browser(page, folder):
    file = folder / "page.html"
    file.write_text(page)
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu"]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=2000"]
    done = subprocess.run(
        [*command, "--enable-logging=stderr", "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout, done.stderr


@pytest.mark.skipif(BROWSER is None, reason="no chromium on the path")
def test_a_browser_draws_it_and_shows_the_value_at_the_pointer(page, tmp_path):
    pointer = """<script>
    const dot = document.querySelector('.chart circle');
    const box = dot.getBoundingClientRect();
    const at = {clientX: box.x + box.width / 2 + 9, clientY: box.y + box.height / 2};
    dot.ownerSVGElement.dispatchEvent(new PointerEvent('pointermove', at));
    document.body.dataset.width = dot.ownerSVGElement.getBoundingClientRect().width;
    document.body.dataset.scroll = document.documentElement.scrollWidth;
    document.body.dataset.client = document.documentElement.clientWidth;
    </script></body>"""
    dom, log = open_in_browser(page.replace("</body>", pointer), tmp_path)
    assert 'data-ready="yes"' in dom, log[-2000:]
    assert "Uncaught" not in log and "Refused" not in log
    (tip,) = re.findall(r'<div id="tip"[^>]*>(.*?)</div>', dom, re.DOTALL)
    (near,) = re.findall(r'<circle[^>]*class="near"[^>]*>', dom)
    assert re.search(r"test accuracy: [\d.]+%", tip)
    assert html.unescape(tip).replace("\n", "") in html.unescape(near).replace("\n", "")
    (width,) = re.findall(r'data-width="([\d.]+)"', dom)
    assert float(width) > 200
    scroll, client = (
        re.findall(f'data-{name}="(\\d+)"', dom)[0] for name in ("scroll", "client")
    )
    assert scroll == client  # nothing but the tables scrolls sideways
