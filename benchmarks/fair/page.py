"""The page of the comparison, as Markdown: written from results, verdict included."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.fair.results import (
    Record,
    Reported,
    Search,
    Verdict,
    pair_reported,
)
from benchmarks.fair.search import (
    BASE_STEP,
    CONTENDERS,
    KINDS,
    NUM_TRIES,
    REFERENCE,
    TARGET,
    VALID_SHARE,
)
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.jobs.estimates import Estimate, estimate
from fedasync_jax.leaderboard.entries import Choice

TITLE = "# Methods at their best, on the default job"


def write_fair_page(results: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
      results: as the JSON beside the page has them, see ``command``.
    """
    names = results["methods"]
    search = Search([Record(*values) for values in results["search"]])
    reported = [Record(*values) for values in results["reported"]]
    pairs = pair_reported(search, names, reported)
    seeds = list(dict.fromkeys(record.seed for record in reported))
    parts = [
        _introduce(results, search, seeds),
        _tabulate(pairs),
        _compare_all(pairs),
        _show_chosen(search, pairs),
        _show_steps(search),
        _show_lines(search),
        _list_tried(names),
    ]
    return "\n\n".join(parts) + "\n"


def _introduce(results: Mapping[str, Any], search: Search, seeds: Sequence[int]) -> str:
    updates = results["num_updates"]
    return f"""{TITLE}

`python scripts/fair_comparison.py` writes this page and
`docs/fair_comparison.json`; nothing on it is typed.

{len(results["methods"])} methods learn the digits as `fedasync train` has them: the
same clients, devices and {updates:,} client updates for all. Each may choose among
{NUM_TRIES} settings that were declared beforehand ([below](#what-was-tried)). A setting
is chosen by its mean accuracy on validation samples, {VALID_SHARE:.0%} of the training
samples, with the seeds {_join(search.seeds)}. What is reported are accuracies on test
samples with the seeds {_join(seeds)}, which had no part in the choice; all training
samples are used then. An accuracy is the mean of a run's last ten evaluations; brackets
hold the 95% interval of the mean over seeds."""


def _tabulate(pairs: Mapping[str, tuple[Reported, Reported]]) -> str:
    to_target = f"s to {TARGET:.0%}"
    lines = [
        "## All methods",
        "",
        "**Devices**: most that are at work at a time.",
        f"**s to {TARGET:.0%}**: simulated seconds to the first evaluation on test",
        "samples that reaches it, median and range over seeds.",
        "**Untuned**: the first setting that is declared, which is that of the authors",
        "where there is one, with the step size of the preset.",
        "",
        _row(["method", "devices", "tuned", to_target, "untuned", to_target]),
        "|---|---|---|---|---|---|",
    ]
    order = sorted(pairs, key=lambda name: -pairs[name][1].accuracy.mean())
    for name in order:
        untuned, tuned = pairs[name]
        cells = [
            name,
            _show_devices(tuned, untuned),
            _show_percent(estimate(tuned.accuracy)),
            _show_times(tuned.to_target),
            _show_percent(estimate(untuned.accuracy)),
            _show_times(untuned.to_target),
        ]
        lines.append(_row(cells))
    return "\n".join(lines)


def _compare_all(pairs: Mapping[str, tuple[Reported, Reported]]) -> str:
    """Return how far the methods are ahead of FedAvg with as many devices."""
    mine = pairs[REFERENCE][1]
    lines = [
        f"## Against {REFERENCE} with {mine.devices} devices",
        "",
        "Tuned against tuned, seed by seed: points of accuracy more than",
        f"{REFERENCE}, and its simulated time to {TARGET:.0%} as a multiple of the",
        "method's, a geometric mean over the seeds with which both reach it. Where an",
        "interval holds 0 (of factors, 1), no difference has been shown.",
        "",
        "| method | kind | devices | points | | times as fast |",
        "|---|---|---|---|---|---|",
    ]
    for name, (_, tuned) in pairs.items():
        if name == REFERENCE:
            continue
        lead = estimate(100 * (tuned.accuracy - mine.accuracy))
        cells = [
            name,
            KINDS[CONTENDERS[name].kind],
            f"{tuned.devices}",
            f"{lead.mean:+.2f} [{lead.low:+.2f}, {lead.high:+.2f}]",
            _judge(lead),
            _show_speed(mine.to_target, tuned.to_target),
        ]
        lines.append(_row(cells))
    return "\n".join(lines)


def _show_chosen(search: Search, pairs: Mapping[str, tuple[Reported, Reported]]) -> str:
    lines = [
        "## What was chosen",
        "",
        "By the accuracy on validation samples, that of the untuned setting behind it.",
        "",
        "| method | setting | step size | validation | untuned |",
        "|---|---|---|---|---|",
    ]
    for name, (untuned, tuned) in pairs.items():
        cells = [
            name,
            f"`{tuned.choice.line}`",
            _show_step(tuned.choice),
            f"{search.mean(tuned.choice):.2%}",
            f"{search.mean(untuned.choice):.2%}",
        ]
        lines.append(_row(cells))
    return "\n".join(lines)


def _show_steps(search: Search) -> str:
    tables, verdict = search.tabulate_steps(), search.judge_step()
    now = make_settings()["step_size"]
    lines = [
        "## The step size that the default job shares",
        "",
        "Mean accuracy on validation samples of the methods of the default job, each",
        "with its untuned line. The rule: the preset has the step size of the best",
        "mean over methods and seeds, unless its lead over the present one is within",
        "the noise, that is, the 95% interval of the lead over seeds holds 0.",
        "",
        _row(["step size", *search.of_job, "mean"]),
        "|---" * (len(search.of_job) + 2) + "|",
    ]
    for factor, table in tables.items():
        means = [f"{value:.2%}" for value in [*table.mean(axis=1), table.mean()]]
        lines.append(_row([f"{BASE_STEP * factor:g}", *means]))
    best = BASE_STEP * float(verdict.best)
    if best == now:
        said = f"The preset's {now:g} is the best."
    else:
        said = f"{best:g} against the preset's {now:g}: {_say_lead(verdict)}"
    return "\n".join([*lines, "", said])


def _show_lines(search: Search) -> str:
    now = make_settings()["step_size"]
    lines = [
        "## The settings of the default job's methods",
        "",
        f"The best line of each at the preset's step size, {now:g}, on validation",
        "samples, by the same rule, against the untuned one. The default job runs one",
        "that leads by more than the noise.",
        "",
    ]
    for name, verdict in search.judge_lines(now / BASE_STEP).items():
        first = CONTENDERS[name].lines[0]
        if verdict.best == first:
            said = f"`{first}`, untuned, is the best of those tried."
        else:
            said = f"`{verdict.best}` against `{first}`: {_say_lead(verdict)}"
        lines.append(f"* {name}: {said}")
    return "\n".join(lines)


def _list_tried(names: Sequence[str]) -> str:
    lines = [
        "## What was tried",
        "",
        "The first setting of each is the untuned one.",
        "",
    ]
    for name in names:
        settings = ", ".join(f"`{line}`" for line in CONTENDERS[name].lines)
        steps = sorted(BASE_STEP * factor for factor in CONTENDERS[name].factors)
        lines.append(
            f"* {name}: {settings}; step sizes {_join(f'{s:g}' for s in steps)}"
        )
    return "\n".join(lines)


def _say_lead(verdict: Verdict) -> str:
    lead = verdict.lead
    numbers = (
        f"{100 * lead.mean:.2f} points [{100 * lead.low:.2f}, {100 * lead.high:.2f}]"
    )
    return (
        f"ahead by {numbers}, {'more than' if verdict.is_sure else 'within'} the noise."
    )


def _judge(lead: Estimate) -> str:
    if lead.low > 0:
        return "ahead"
    return "behind" if lead.high < 0 else "not shown"


def _show_devices(tuned: Reported, untuned: Reported) -> str:
    same = tuned.devices == untuned.devices
    return (
        f"{tuned.devices}" if same else f"{tuned.devices} (untuned {untuned.devices})"
    )


def _show_times(times: np.ndarray) -> str:
    reached = times[np.isfinite(times)]
    if not len(reached):
        return "-"
    shown = f"{np.median(reached):,.0f} ({min(reached):,.0f} to {max(reached):,.0f})"
    every = len(reached) == len(times)
    return shown if every else f"{shown}, {len(reached)} of {len(times)} seeds"


def _show_speed(theirs: np.ndarray, ours: np.ndarray) -> str:
    both = np.isfinite(theirs) & np.isfinite(ours)
    if not both.any():
        return "-"
    of_seeds = estimate(np.log(theirs[both] / ours[both]))
    mean, low, high = np.exp([of_seeds.mean, of_seeds.low, of_seeds.high])
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]" if both.sum() > 1 else f"{mean:.2f}"


def _show_percent(numbers: Estimate) -> str:
    low, high = 100 * numbers.low, min(100 * numbers.high, 100.0)
    return f"{100 * numbers.mean:.2f}% [{low:.2f}, {high:.2f}]"


def _show_step(choice: Choice) -> str:
    return f"{BASE_STEP * choice.factor:g}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _join(values: Any) -> str:
    return ", ".join(map(str, values))
