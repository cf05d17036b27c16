"""``docs/reproduction.md``: written from results files, never by hand."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fedasync_jax.experiment.presets import make_settings
from reproduction.claims import FAILS, Claim
from reproduction.described import (
    describe_runs,
    describe_settings,
    find_lengths,
    list_shown,
)
from reproduction.evidence import (
    UNITS,
    Unit,
    compare_exactly,
    read_key,
)
from reproduction.figures import SCALES, Cell, make_figures
from reproduction.findings import Finding, decide

_Found = dict[str, tuple[Unit, list[Finding]]]


def write_document(
    many_results: Sequence[Mapping[str, Any]], pictures: Mapping[str, Sequence[str]]
) -> str:
    """Return the page of results files.

    Args:
      many_results: as ``reproduce.py`` writes them, of different scales.
      pictures: names of the figures that are drawn beside, by scale.
    """
    lines = [*_introduce()]
    for results in many_results:
        found = decide_all(results)
        names = SCALES[results["scale"]].names
        lines += [
            *describe_runs(results),
            *_show_findings(found, names),
            *_show_pictures(results, pictures[results["scale"]]),
            *describe_settings(results),
            *_show_exact(results),
            *_show_central(results),
            *_list_differences(results),
            *_list_disagreements(found, names),
            *_show_claims(found, names),
        ]
    return "\n".join(lines)


def decide_all(results: Mapping[str, Any]) -> _Found:
    """Return the findings by data, with the unit of their numbers."""
    figures = make_figures(SCALES[results["scale"]]).values()
    found: _Found = {}
    for data in results["settings"]:
        mine = [figure for figure in figures if figure.data == data]
        findings = decide(results["runs"], mine)
        if findings:
            found[data] = UNITS[data], findings
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
        title = figures[picture].title(scale)
        yield f"![{title}](reproduction/{results['scale']}/{picture}.png)"
        yield f"*{title}*"
        yield ""


def _show_findings(found: _Found, names: Mapping[str, str]) -> Iterator[str]:
    yield "### Findings"
    yield ""
    yield (
        "A finding *holds* if all its claims do, and *does not hold* if one does not. "
        "A claim is decided by the 95% interval (Student's) of the difference over "
        "seeds, each seed compared with itself: beyond its bound it holds, on the "
        "other side it does not, else it is undecided. Runs that are compared are cut "
        "to the shortest of them. As long as curves are missing a finding is undecided "
        "at best. Intervals are not corrected for the number of claims: of a hundred "
        "differences that are nothing, five are decided. The claims are below."
    )
    yield ""
    yield f"| | finding | {' | '.join(names[data] for data in found)} |"
    yield "|---" * (2 + len(found)) + "|"
    for findings in zip(*(made for _, made in found.values()), strict=True):
        cells = [f"**{finding.verdict}**{finding.counts}" for finding in findings]
        yield f"| {findings[0].number} | {findings[0].title} | {' | '.join(cells)} |"
    yield ""


def _show_claims(found: _Found, names: Mapping[str, str]) -> Iterator[str]:
    for data, (unit, findings) in found.items():
        yield f"### Claims: {names[data]}"
        yield ""
        for finding in findings:
            rule = finding.rule[0].upper() + finding.rule[1:]
            yield f"**{finding.number}. {finding.title}.** {rule}."
            yield ""
            yield "| claim | n | mean | 95% interval | verdict |"
            yield "|---|---|---|---|---|"
            for claim in finding.claims:
                numbers = " | ".join(_show_numbers(claim, unit))
                n = claim.estimate.n
                yield f"| {claim.text} | {n} | {numbers} | {claim.verdict} |"
            yield ""


def _show_numbers(claim: Claim, unit: Unit) -> tuple[str, str]:
    """Return mean and interval."""
    _, mean, _, low, high = claim.estimate
    if claim.is_log2:
        mean, low, high = (f"{2**value:.3g}" for value in (mean, low, high))
        name = "times"
    else:
        values = (unit.factor * value for value in (mean, low, high))
        mean, low, high = (f"{value:+.3g}" for value in values)
        name = unit.name
    interval = "-" if claim.estimate.n < 2 else f"{low} to {high}"
    return f"{mean} {name}" if claim.estimate.n else "-", interval


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


def _list_differences(results: Mapping[str, Any]) -> Iterator[str]:
    yield "### Where the protocol differs from the authors'"
    yield ""
    scale = SCALES[results["scale"]]
    for line in (*_list_shorter(results), *scale.differences):
        yield f"* {line}"
    yield ""


def _list_shorter(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield which figures have runs that are shorter than the paper's."""
    scale = SCALES[results["scale"]]
    for figure in list_shown(results):
        usual = make_settings(SCALES["paper"].presets[figure.data])
        shortest = min(find_lengths(results["runs"], figure), default=0)
        if 0 < shortest < usual.run.num_updates:
            yield (
                f"{figure.title(scale)}: {shortest:,} updates in place of "
                f"{usual.run.num_updates:,}."
            )


def _list_disagreements(found: _Found, names: Mapping[str, str]) -> Iterator[str]:
    yield "### What disagrees with the paper"
    yield ""
    failing = [
        (data, unit, finding, claim)
        for data, (unit, findings) in found.items()
        for finding in findings
        for claim in finding.claims
        if claim.verdict == FAILS
    ]
    if not failing:
        yield "No claim was decided against the paper."
    for data, unit, finding, claim in failing:
        mean, interval = _show_numbers(claim, unit)
        where = f"Finding {finding.number}, {names[data]}"
        yield f"* {where}: {claim.text}: {mean} ({interval})."
    yield ""
