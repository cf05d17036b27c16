"""The tables of the comparison: what came of it, and how settings were chosen."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fedasync_jax.jobs.estimates import Estimate, estimate
from reproduction.beside.measures import (
    Curve,
    Curves,
    final_values,
    find_target,
    reach,
)
from reproduction.beside.methods import CONTESTANTS, DEADLINE, MU, ROUND, is_at_end

_REFERENCE = "FedAvg"  # what the others are compared with


def show_scores(results: Mapping[str, Any], curves: Curves) -> Iterator[str]:
    """Yield what the methods came to.

    Args:
      results: see ``make_results``.
      curves: see ``group_curves``.
    """
    target = find_target(curves)
    times = _reach_all(curves, "virtual_time", target)
    gradients = _reach_all(curves, "gradients", target)
    yield (
        f"| method | final test accuracy | final test loss | gradients to {target:.0%} "
        f"| simulated s to {target:.0%} | times as fast as {_REFERENCE} |"
    )
    yield "|---|---|---|---|---|---|"
    for method in CONTESTANTS:
        accuracy = estimate(final_values(curves[method], "test_accuracy"))
        loss = estimate(final_values(curves[method], "test_loss"))
        cells = (
            method,
            _show(accuracy, lambda v: f"{100 * v:.1f}", "%"),
            _show(loss, lambda v: f"{v:.3f}"),
            _show(estimate(np.log(gradients[method])), _count),
            _show(estimate(np.log(times[method])), _count),
            _show_speed(times[_REFERENCE] / times[method], method),
        )
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield (
        f"Means over {len(results['size']['seeds'])} seeds with Student's 95% "
        "interval. Final: mean of the last quarter of the evaluations. "
        f"{target:.0%} is the largest whole per cent that every run reaches, and is "
        "reached at the first evaluation that shows it. Gradients, seconds and ratios "
        "are geometric means, with the interval of the logarithms. The last column "
        "compares each seed with itself, on the same fleet. As many client updates "
        f"are {_count_all(curves[_REFERENCE])} gradients of {_REFERENCE} and "
        f"{_count_all(curves['delta'])} of an asynchronous method, which hears more "
        "from clients with fast devices and little data."
    )
    yield ""
    yield from _conclude(results, curves)


def _conclude(results: Mapping[str, Any], curves: Curves) -> Iterator[str]:
    """Say of every method whether it ends above or below the reference."""
    yield (
        f"Against {_REFERENCE}, each seed with itself: the difference of the final "
        "accuracies in points, and the ratio of the final losses. An interval that "
        "holds 0, or the ratio 1, decides nothing."
    )
    yield ""
    yield "| method | accuracy | | loss | |"
    yield "|---|---|---|---|---|"
    for method in CONTESTANTS:
        if method == _REFERENCE:
            continue
        pairs = [
            [final_values(curves[name], field) for name in (method, _REFERENCE)]
            for field in ("test_accuracy", "test_loss")
        ]
        gap = estimate(pairs[0][0] - pairs[0][1])
        ratio = estimate(np.log(pairs[1][0] / pairs[1][1]))
        cells = (
            method,
            _show(gap, lambda v: f"{100 * v:+.1f}"),
            decide(gap, "higher", "lower"),
            _show(ratio, lambda v: f"{np.exp(v):.2f}"),
            decide(ratio, "higher", "lower"),
        )
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield (
        "The FedProx paper says of these data, without stragglers, that mu > 0 is "
        "particularly useful (section 5.3.1, figure 2), and of most of its data that "
        "it raises the accuracy (section 5.3.2, figure 6). It runs 200 rounds; these "
        f"runs are as long as {results['size']['num_updates'] // ROUND} of them."
    )
    yield ""


def decide(made: Estimate, above: str, below: str) -> str:
    """Return which side of zero an interval lies on, in words.

    Args:
      made: of a difference.
      above: what is said if all of it lies above zero.
      below: what is said if all of it lies below.

    Returns:
      One of them, or "undecided": also of a single seed, which has no interval.
    """
    if made.low > 0:
        return above
    return below if made.high < 0 else "undecided"


def show_tuning(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield the grids, and what was chosen."""
    size = results["size"]
    (tries,) = {len(contestant.tries) for contestant in CONTESTANTS.values()}
    yield "## How settings were chosen"
    yield ""
    yield (
        f"What the papers leave open was chosen on validation samples, a tenth of the "
        f"training samples, which no run trains on. Every method had {tries} tries, "
        f"each run with the seeds {join_words(size['tuning_seeds'])} for "
        f"{size['num_tuning_updates']:,} updates; neither seed is reported above. The "
        "choice is the largest mean validation accuracy of the last quarter of the "
        f"evaluations. The FedProx paper fixes mu = {MU} for these data, so FedAvg and "
        "FedProx choose the weights of a round, and whether it ends without its "
        f"stragglers after {DEADLINE:,} simulated seconds, as the paper's FedAvg "
        "does; asynchronous methods choose the weight of an arrival, and the "
        "proximal term."
    )
    yield ""
    yield "| method | tried | validation accuracy | |"
    yield "|---|---|---|---|"
    for method, contestant in CONTESTANTS.items():
        made = results["tuning"][method]
        for place, one in enumerate(contestant.tries):
            mean = float(np.mean(made["scores"][place]))
            mark = "chosen" if place == made["chosen"] else ""
            shown = one.show(is_async=contestant.is_async)
            yield f"| {method} | {shown} | {mean:.1%} | {mark} |"
    yield ""
    ends = [m for m in CONTESTANTS if is_at_end(m, results["tuning"][m]["chosen"])]
    if ends:
        yield (
            "At an end of the weights that were tried, so that one beyond might be "
            f"better: {join_words(ends)}."
        )
        yield ""


def join_words(values: Iterable[Any]) -> str:
    """Return the values with commas between.

    >>> join_words((0, 1))
    '0, 1'
    """
    return ", ".join(str(value) for value in values)


def _reach_all(curves: Curves, field: str, target: float) -> dict[str, np.ndarray]:
    return {
        method: np.array([reach(curve, field, target) for curve in rows])
        for method, rows in curves.items()
    }


def _count_all(curves: Sequence[Curve]) -> str:
    """Return the mean number of gradients of whole runs."""
    return f"{np.mean([curve['gradients'][-1] for curve in curves]):,.0f}"


def _show_speed(ratios: np.ndarray, method: str) -> str:
    if method == _REFERENCE:
        return "1"
    made = estimate(np.log(ratios))
    return _show(made, lambda v: f"{np.exp(v):.2g}")


def _show(made: Estimate, write: Callable[[float], str], unit: str = "") -> str:
    """Return a mean and its interval, which a single seed does not have."""
    if made.n < 2:
        return f"{write(made.mean)}{unit}"
    return f"{write(made.mean)}{unit} ({write(made.low)} to {write(made.high)})"


def _count(value: float) -> str:
    """Return what has this logarithm."""
    return f"{np.exp(value):,.0f}"
