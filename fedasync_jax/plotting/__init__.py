"""Pictures of a run folder: how good the models are, staleness and mixing weights."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from fedasync_jax.plotting.arrivals import Updates, draw_alpha, draw_staleness
from fedasync_jax.plotting.curves import draw_scores
from fedasync_jax.plotting.looks import STYLE, assign_styles
from fedasync_jax.run_folder import read_metrics, read_updates, slugify

__all__ = ["draw_run"]


def draw_run(run_dir: str | Path) -> list[Path]:
    """Draw a run folder and write the pictures into its folder ``plots``.

    ``accuracy.png``, or ``perplexity.png`` of language models, is always drawn;
    ``staleness.png`` and ``alpha.png`` if there is an
    asynchronous method with an ``updates.npz``.

    Args:
      run_dir: the run folder.

    Raises:
      ValueError: if the folder has no metrics, or a file in it cannot be read.

    Returns:
      Paths of the pictures, PNG at 150 dots per inch.
    """
    run_dir = Path(run_dir)
    rows = read_metrics(run_dir)
    updates = {
        method: arrays
        for method in rows
        if (arrays := read_updates(run_dir, method)) is not None
    }
    updates = {m: u for m, u in updates.items() if _is_asynchronous(m, u)}
    styles = assign_styles(list(rows), set(updates))
    with matplotlib.rc_context(STYLE):
        figures = dict([draw_scores(rows, styles)])
        if updates:
            figures["staleness"] = draw_staleness(updates, styles)
            figures["alpha"] = draw_alpha(updates, styles)
        return [_save(fig, run_dir, name) for name, fig in figures.items()]


def _is_asynchronous(method: str, updates: Updates) -> bool:
    return slugify(method).startswith("fedasync") or bool(updates["staleness"].any())


def _save(fig: Figure, run_dir: Path, name: str) -> Path:
    path = run_dir / "plots" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    fig.savefig(path, dpi=150)
    return path
