"""Where runs depart from the authors' protocol, in words: in all data, and in each."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fedasync_jax.experiment.presets import make_settings
from reproduction.described import find_lengths, list_shown
from reproduction.scales import AUTHORS_SEEDS, SCALES


def list_differences(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield what differs in all data of a results file, then what in each of them.

    Args:
      results: see ``make_results``.
    """
    scale = SCALES[results["scale"]]
    yield "### Where the protocol differs from the authors'"
    yield ""
    yield "* rho is the paper's; the authors' flag is its product with the step size."
    yield f"* {_tell_seeds({record['seed'] for record in results['runs']})}"
    yield ""
    for data in results["settings"]:
        yield f"{scale.names[data]}:"
        yield ""
        for line in (*_list_shorter(results, data), *scale.differences[data]):
            yield f"* {line}"
        yield ""


def _tell_seeds(seeds: Iterable[int]) -> str:
    """Return which seeds are the authors', and which are not."""
    groups = {True: [], False: []}
    for seed in sorted(seeds):
        groups[seed in AUTHORS_SEEDS].append(str(seed))
    theirs, own = (", ".join(group) or "none" for group in groups.values())
    return (
        f"Seeds of the authors' scripts: {theirs}; others: {own}. The random numbers "
        "of a seed are not the authors'. The paper says 10 repeats."
    )


def _list_shorter(results: Mapping[str, Any], data: str) -> Iterator[str]:
    """Yield where runs are shorter, or stalenesses fewer, than the paper's."""
    scale, paper = SCALES[results["scale"]], SCALES["paper"]
    usual = make_settings(paper.presets[data]).run.num_updates
    for figure in list_shown(results):
        if figure.data != data:
            continue
        shortest = min(find_lengths(results["runs"], figure), default=0)
        if 0 < shortest < usual:
            title = figure.title(scale)
            yield f"{title}: {shortest:,} updates in place of {usual:,}."
        if figure.is_sweep and scale.sweep != paper.sweep:
            mine, theirs = (", ".join(map(str, one.sweep)) for one in (scale, paper))
            yield f"The sweep has max stalenesses {mine} in place of {theirs}."
