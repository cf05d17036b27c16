"""The numbers of others beside ours, and those that cannot be met here."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from reproduction.beside.published import (
    AUTHORS_DRAW,
    MOST_SAMPLES,
    PUBLISHED,
    Published,
    write_command,
)
from reproduction.beside.tables import join_words
from reproduction.beside.unmet import UNMET

_METRICS = {"test_accuracy": "accuracy", "test_loss": "test loss"}


def show_published(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of what could be run, and its commands."""
    draws = results["draws"]
    sizes = [draw["num_train"] for draw in draws]
    shares = [draw["largest_share"] for draw in draws]
    seeds = join_words(draw["seed"] for draw in draws)
    authors = AUTHORS_DRAW["largest_test"] / AUTHORS_DRAW["num_test"]
    yield "## Their setting, their number, ours"
    yield ""
    yield (
        f"Each setting is run on {len(draws)} draws of the data of its law "
        f"(`--synthetic-seed` {seeds}: the first with at most {MOST_SAMPLES:,} "
        "training samples; the FedProx authors' own has "
        f"{AUTHORS_DRAW['num_train']:,}), without a validation split. Draws differ a "
        "good deal: they have "
        f"{min(sizes):,} to {max(sizes):,} training samples, and the largest client "
        f"has {min(shares):.0%} to {max(shares):.0%} of them. In the authors' draw one "
        f"client has {authors:.0%} of the test samples, so its numbers hang on that "
        "client. A number of one draw is met if it lies in the range of ours; one "
        "outside of it is not met, and whether the draw is the reason only the "
        "authors' own draw can tell, whose command is the first of the next section."
    )
    yield ""
    yield "| source | their setting | their number | ours: mean (lowest to highest) | |"
    yield "|---|---|---|---|---|"
    for row in PUBLISHED:
        for metric, number in row.numbers.items():
            values = results["published"].get(row.slug, {}).get(metric)
            if values:
                cells = _show_row(row, metric, number, values)
                yield f"| {' | '.join(cells)} |"
    yield ""
    yield "The commands, for one draw:"
    yield ""
    yield "```sh"
    for row in PUBLISHED:
        if row.slug in results["published"]:
            yield write_command(row.settings)
    yield "```"
    yield ""


def _show_row(
    row: Published, metric: str, number: float, values: Sequence[float]
) -> tuple[str, ...]:
    shown = [_show_metric(metric, v) for v in (float(np.mean(values)), min(values))]
    highest = _show_metric(metric, max(values))
    inside = min(values) <= number <= max(values)
    if row.is_bound:
        count = sum(value > number for value in values)
        verdict = f"{count} of {len(values)} draws above"
    else:
        verdict = "in the range" if inside else "outside of the range"
    return (
        row.source,
        row.setting,
        f"{_METRICS[metric]} {'> ' * row.is_bound}{_show_metric(metric, number)}",
        f"{shown[0]} ({shown[1]} to {highest})",
        verdict,
    )


def _show_metric(metric: str, value: float) -> str:
    return f"{value:.1%}" if metric == "test_accuracy" else f"{value:.2f}"


def list_unmet() -> Iterator[str]:
    """Yield the numbers that cannot be met here, and the commands for them."""
    yield "## What cannot be met here"
    yield ""
    yield (
        "The data of these are not at hand. The commands are those that would make "
        "the runs; each was checked to be refused for its data path alone."
    )
    yield ""
    for row in UNMET:
        yield f"* {row.source}: {row.number}. Missing: {row.missing}."
        yield ""
        yield "  ```sh"
        yield f"  {write_command(row.settings)}"
        yield "  ```"
        yield ""
