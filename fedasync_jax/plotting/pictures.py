"""All pictures of a run folder: which there are, and where they are written."""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fedasync_jax.plotting.compare import draw_comparison
from fedasync_jax.plotting.contents import (
    Arrays,
    Contents,
    RunRecord,
    name_runs,
    read_contents,
    take_contents,
)
from fedasync_jax.plotting.curves import draw_scores
from fedasync_jax.plotting.fairness import draw_client_scores
from fedasync_jax.plotting.labels import draw_labels
from fedasync_jax.plotting.looks import STYLE
from fedasync_jax.plotting.lost import draw_lost
from fedasync_jax.plotting.over_time import draw_staleness_over_time
from fedasync_jax.plotting.participation import draw_participation
from fedasync_jax.plotting.staleness import draw_staleness
from fedasync_jax.plotting.sweep import draw_sweep_curves
from fedasync_jax.plotting.timeline import draw_timeline
from fedasync_jax.plotting.weights import draw_alpha
from fedasync_jax.storage.ownership import write_owned


def make_figures(run: str | Path | RunRecord) -> dict[str, Figure]:
    """Draw a run, and return its pictures by name.

    A picture is drawn if the run has what it shows:

    * ``accuracy``, of language models ``perplexity``, without both ``loss``: always.
    * ``staleness``, ``alpha``, ``staleness_over_time``: the arrivals of asynchronous
      methods; the last one also has the tasks that got lost.
    * ``lost``: lost tasks, of methods with rounds, too.
    * ``timeline``: what some clients did.
    * ``clients``: the final models on every client's own data, and against speed.
    * ``participation``: arrivals against the clients' numbers of samples.
    * ``labels``: the labels of the clients' samples.

    Args:
      run: a run folder, or what ``train`` returned.

    Raises:
      ValueError: if there are no metrics, or a file cannot be read.
    """
    contents = _open(run)
    with matplotlib.rc_context(STYLE):
        return dict(_draw_all(contents))


def draw_run(run_dir: str | Path) -> list[Path]:
    """Draw a run folder and write the pictures into its folder ``plots``.

    Args:
      run_dir: the run folder.

    Raises:
      ValueError: see ``make_figures``.

    Returns:
      Paths of the pictures, PNG at 150 dots per inch.
    """
    contents = read_contents(run_dir)
    with matplotlib.rc_context(STYLE):
        return [
            _save(fig, Path(run_dir) / "plots", name)
            for name, fig in _draw_all(contents)
        ]


def draw_sweep(folder: str | Path) -> Path:
    """Draw the curves of a sweep, and write ``plots/sweep.png`` into its folder.

    Args:
      folder: of the sweep.

    Raises:
      ValueError: see ``sweep.draw_sweep_curves``.

    Returns:
      Path of the picture.
    """
    with matplotlib.rc_context(STYLE):
        fig = draw_sweep_curves(Path(folder))
        return _save(fig, Path(folder) / "plots", "sweep")


def make_comparison(runs: Mapping[str, str | Path | RunRecord]) -> Figure:
    """Draw several runs on the same scales.

    Args:
      runs: run folders, or what ``train`` returned, by the name that they are shown
        under.

    Raises:
      ValueError: if there are no metrics, or a file cannot be read.
    """
    contents = {name: _open(run) for name, run in runs.items()}
    with matplotlib.rc_context(STYLE):
        return draw_comparison(contents)


def compare_runs(run_dirs: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Draw several runs on the same scales, as ``compare.png``.

    Args:
      run_dirs: the run folders.
      out: folder for the picture; default: ``plots`` of the first run.

    Raises:
      ValueError: if a folder has no metrics, a file in it cannot be read or ``out``
        cannot be made.

    Returns:
      Path of the picture.
    """
    paths = [Path(run_dir) for run_dir in run_dirs]
    fig = make_comparison(dict(zip(name_runs(paths), paths, strict=True)))
    with matplotlib.rc_context(STYLE):
        return _save(fig, Path(out or paths[0] / "plots"), "compare")


def _open(run: str | Path | RunRecord) -> Contents:
    """Return what can be drawn of a run.

    Raises:
      ValueError: see ``read_contents``, or if no method ran to its end.
    """
    if isinstance(run, str | Path):
        return read_contents(run)
    if not run.methods:
        raise ValueError("results must have a method that ran to its end, got none")
    return take_contents(run)


def _draw_all(run: Contents) -> Iterator[tuple[str, Figure]]:
    """Yield the pictures with their names."""
    yield draw_scores(run.rows, run.styles, run.clock)
    stale = {m: run.updates[m] for m in run.asynchronous if m in run.updates}
    if stale:
        yield "staleness", draw_staleness(stale, run.styles)
        yield "alpha", draw_alpha(stale, run.styles)
        clock = {"has_clock": run.has_clock(next(iter(stale))), "clock": run.clock}
        fig = draw_staleness_over_time(stale, run.lost, run.styles, **clock)
        yield "staleness_over_time", fig
    lost = {m: run.lost[m] for m in run.pair if m in run.lost and m in run.updates}
    if lost:
        ends = {m: float(run.updates[m]["arrival_time"][-1]) for m in lost}
        yield "lost", draw_lost(lost, ends, run.clock)
    timelines = {m: run.timelines[m] for m in run.pair if m in run.timelines}
    if timelines:
        synchronous = timelines.keys() & run.updates.keys() - set(run.asynchronous)
        rounds = {method: run.find_rounds(method) for method in synchronous}
        yield "timeline", draw_timeline(timelines, rounds, run.clock)
    if run.client_scores:
        count = len(next(iter(run.client_scores.values()))["loss"])
        seconds = run.measure_tasks(count)
        yield "clients", draw_client_scores(run.client_scores, run.styles, seconds)
    if run.clients is not None:
        yield from _draw_clients(run, run.clients)


def _draw_clients(run: Contents, clients: Arrays) -> Iterator[tuple[str, Figure]]:
    sizes = clients["num_samples"]
    with_updates = [method for method in run.pair if method in run.updates]
    if with_updates:
        arrivals = {m: run.count_arrivals(m, len(sizes)) for m in with_updates}
        yield "participation", draw_participation(sizes, arrivals)
    if "label_counts" in clients:
        yield "labels", draw_labels(clients["label_counts"])


def _save(fig: Figure, folder: Path, name: str) -> Path:
    path, memory = folder / f"{name}.png", io.BytesIO()
    fig.set_dpi(150)
    FigureCanvasAgg(fig).print_png(memory)  # ``savefig`` draws twice
    is_ours = folder.name == "plots" and (folder.parent / "config.json").is_file()
    try:
        write_owned(path, memory.getvalue(), is_ours=is_ours)
    except OSError as error:
        reason = str(error.strerror or error).rpartition(": ")[2]
        raise ValueError(
            f"{name}.png needs a folder that can be made and written to, got {folder} "
            f"({reason})"
        ) from error
    return path
