"""``docs/reproduction.md``: written from results files, never by hand."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from reproduction import why
from reproduction.appendix import list_claims
from reproduction.described import (
    describe_runs,
    describe_settings,
)
from reproduction.differences import list_differences
from reproduction.evidence import compare_exactly
from reproduction.figures import (
    Cell,
    make_figures,
    read_key,
)
from reproduction.findings import MEASURES, Finding, decide
from reproduction.order import compare_orders
from reproduction.positions import MARGIN
from reproduction.scales import SCALES
from reproduction.summary import summarize
from reproduction.why_page import explain_why

Found = dict[str, list[Finding]]


def write_document(
    many_results: Sequence[Mapping[str, Any]],
    pictures: Mapping[str, Sequence[str]],
    small: Mapping[int, str],
) -> str:
    """Return the page of results files.

    Args:
      many_results: as ``reproduce.py`` writes them, of different scales.
      pictures: names of the figures that are drawn beside, by scale.
      small: paths of the small pictures of the findings, by number.
    """
    found = decide_everything(many_results)
    lines = [*_introduce(), *summarize(found, small), *_explain()]
    for results in many_results:
        if why.NAME in pictures[results["scale"]]:
            path = f"reproduction/{results['scale']}/{why.NAME}.png"
            lines += explain_why(results["runs"], path)
    lines += compare_orders(many_results)
    for results in many_results:
        lines += [
            *describe_runs(results),
            *_show_pictures(results, pictures[results["scale"]]),
            *describe_settings(results),
            *_show_exact(results),
            *_show_central(results),
            *list_differences(results),
        ]
    lines += ["## All claims", "", *list_claims(found)]
    return "\n".join(lines)


def decide_all(results: Mapping[str, Any]) -> Found:
    """Return the findings of a scale by data."""
    figures = make_figures(SCALES[results["scale"]]).values()
    found = {
        data: decide(results["runs"], [f for f in figures if f.data == data])
        for data in results["settings"]
    }
    return {data: findings for data, findings in found.items() if findings}


def decide_everything(many_results: Sequence[Mapping[str, Any]]) -> Found:
    """Return the findings of all scales by the name of their runs."""
    found = {}
    for results in many_results:
        for data, findings in decide_all(results).items():
            seeds = {r["seed"] for r in results["runs"] if r["cell"]["data"] == data}
            name = f"{SCALES[results['scale']].names[data]}, {len(seeds)} seeds"
            found[name] = findings
    return found


def _introduce() -> Iterator[str]:
    yield "# Reproduction of the paper's figures"
    yield ""
    yield (
        "Xie, Koyejo, Gupta, *Asynchronous Federated Optimization*, OPT 2020, section "
        "5. This page, its pictures and its verdicts are written by "
        "`scripts/write_reproduction.py` from the results files in `reproduction/`; "
        "nothing on it is typed."
    )
    yield ""


def _show_pictures(
    results: Mapping[str, Any], pictures: Sequence[str]
) -> Iterator[str]:
    scale = SCALES[results["scale"]]
    figures = make_figures(scale)
    yield "### Figures"
    yield ""
    yield (
        "Lines are means over the seeds, bands one standard deviation to either side; "
        "x is the number of gradients that the server has used."
    )
    yield ""
    for picture in pictures:
        if picture not in figures:
            continue
        title = figures[picture].title(scale)
        yield f"![{title}](reproduction/{results['scale']}/{picture}.png)"
        yield f"*{title}*"
        yield ""


def _explain() -> Iterator[str]:
    yield (
        "The unit of all numbers but factors is the distance between the curves of "
        "FedAvg (0) and single-thread SGD (1), over the second half of the evaluations "
        "and the mean of the seeds, taken as known; in parentheses the 95% interval "
        "over seeds (Student's). Only runs of the same seed are compared: a position "
        "is a method less FedAvg of its seed; whether it is below SGD is decided by "
        "SGD of its seed less the method, which has a mean and an interval of its own "
        "(*below SGD*, in the first picture the thin line). All other numbers are "
        "differences between two methods of a seed, or between their distances from a "
        "baseline of that seed; a factor is that to FedAvg of its seed. A finding is "
        "decided by one number, shaded in its picture where the paper puts it: it "
        "*agrees* or "
        "*disagrees* if the number is on that side at level 0.05, adjusted for the six "
        "findings (Holm); a region with two ends takes two one-sided tests. *In part*: "
        "it agrees, and one of its secondary claims, adjusted among themselves, "
        f"disagrees. What is alike or no worse is so within {MARGIN:g}: a quarter of "
        "what separates the baselines leaves a curve nearer to the same of the two. "
        "The number is:"
    )
    yield ""
    yield from (f"{number}. {text}." for number, text in enumerate(MEASURES, 1))
    yield ""


def _show_exact(results: Mapping[str, Any]) -> Iterator[str]:
    figure = make_figures(SCALES[results["scale"]])["cifar-staleness-4"]
    compared = compare_exactly(results["runs"], figure)
    if not compared:
        return
    yield "### An exact check"
    yield ""
    yield (
        "At max staleness 4 no arrival is staler than 3, so hinge(10, 4) weights as "
        "the constant does, and the two curves must coincide bit for bit: every "
        "evaluation, every training loss and the final model. As this hinge "
        "is the constant, the findings name it only where it is compared with another."
    )
    yield ""
    yield "| alpha | seed | bit for bit | largest difference of an evaluation |"
    yield "|---|---|---|---|"
    for alpha, seed, same, worst in compared:
        yield f"| {alpha:g} | {seed} | {'yes' if same else 'no'} | {worst:g} |"
    yield ""


def _show_central(results: Mapping[str, Any]) -> Iterator[str]:
    central, settings = results.get("central"), results["settings"].get("cifar")
    if not central or not settings:
        return
    yield "### Central training"
    yield ""
    of_an_update = (settings["epochs"] or 1.0) / settings["num_clients"]
    seen = [
        (record, record["num_updates"] * of_an_update)
        for record in results["runs"]
        if read_key(record)[0] == Cell("cifar", "sgd") and record["finished"]
    ]
    seen = [(record, count) for record, count in seen if count >= 1]
    epochs = min([len(central["accuracy"]), *(math.floor(n) for _, n in seen)])
    yield (
        "The same network on the pooled data, by a plain loop of optax that shares "
        "nothing with the engine but the model: test accuracy "
        f"{central['accuracy'][epochs - 1]:.1%} after {epochs} epochs, seed "
        f"{central['seed']} ({len(central['accuracy'])} epochs in "
        f"{central['seconds'] / 60:.0f} minutes)."
    )
    shown = []
    for record, count in seen:
        x, y = record["gradients"], record["value"]
        value = np.interp(epochs / count * x[-1], x, y)
        shown.append(f"{value:.1%} (seed {record['seed']})")
    if shown:
        yield (
            "Single-thread SGD in the engine, where it has seen as much: "
            f"{', '.join(shown)}."
        )
    yield ""
