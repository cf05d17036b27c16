"""The page of the leaderboard, as Markdown: written from results, verdict included."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fedasync_jax.leaderboard.board import NUM_LAST, TASKS, Cell
from fedasync_jax.leaderboard.entries import (
    AVERAGED,
    OURS,
    OWN,
    PUBLISHED,
    STEP_FACTORS,
    SYNCHRONOUS,
    TUNING_SEEDS,
    Contender,
)
from fedasync_jax.leaderboard.regret import (
    Finals,
    Standing,
    find_winners,
    list_published,
    stand,
)

TITLE = "# Leaderboard of mixing rules"

_WHO = {
    PUBLISHED: "published",
    SYNCHRONOUS: "in rounds",
    AVERAGED: "published, average judged",
    OURS: "this project",
    OWN: "entered",
}


def write_page(
    entries: Mapping[str, Contender], finals: Mapping[str, Finals], seeds: Sequence[int]
) -> str:
    """Return the page.

    Args:
      entries: who competes.
      finals: of every task that has a cell in which all were run.
      seeds: that are reported.
    """
    parts = [
        _introduce(entries, finals, seeds),
        *(_judge(entries, finals[task], TASKS[task].title) for task in finals),
        *(_tabulate_task(entries, task, finals[task]) for task in finals),
        _list_settings(entries),
    ]
    return "\n\n".join(parts) + "\n"


def _introduce(
    entries: Mapping[str, Contender], finals: Mapping[str, Finals], seeds: Sequence[int]
) -> str:
    tasks = [
        f"* **{task}**: {TASKS[task].title}; {len(finals[task].cells)} cells "
        f"({_list_axes(finals[task].cells)}); target {TASKS[task].target:.0%}"
        for task in finals
    ]
    factors = ", ".join(f"{factor:g}" for factor in STEP_FACTORS)
    words = f"""
`fedasync leaderboard` writes this page and the runs behind it, a line each, in
`docs/leaderboard/`. A rule of your own enters with `--enter my_module.my_rule`.
With `--ray local`, `--ray auto` or `--ray HOST:PORT` every cell is a task on a cluster.
Results come back at once, and no shared disk is needed. When a worker dies, only the
runs that it was working on are lost, and another worker continues the cell.

{len(entries)} methods compete. Each is run **untuned**, with one setting for all cells,
and **tuned**: of its lines and {len(STEP_FACTORS)} step sizes of the clients (factors
{factors}) the pair with the best accuracy on validation samples, chosen in every cell
with {len(TUNING_SEEDS)} seeds of its own. What is shown are accuracies on test samples
with {len(seeds)} other seeds, means of the last {NUM_LAST} evaluations. In a cell all
methods make the same number of client updates, on the same clients and devices. The
step size of a task is one that suits FedAvg.

{chr(10).join(tasks)}

**Regret** is how many points of accuracy a method is behind the best tuned published
asynchronous rule of the cell, chosen with hindsight; negative is better than that. In
brackets: the 95% interval of the mean over seeds. **Time** is the simulated time to the
target as a multiple of that of the fastest tuned published rule, a geometric mean over
the cells in which both reach it; behind it, in how many cells the method reaches it.
"""
    return TITLE + "\n" + words.rstrip()


def _list_axes(cells: Sequence[Cell]) -> str:
    axes = [
        list(dict.fromkeys(cell.fleet for cell in cells)),
        [f"{n} in flight" for n in dict.fromkeys(cell.in_flight for cell in cells)],
        list(dict.fromkeys(cell.variant for cell in cells)),
    ]
    return " x ".join(", ".join(axis) for axis in axes)


def _stand_all(
    entries: Mapping[str, Contender], finals: Finals
) -> dict[tuple[str, str], Standing]:
    published = list_published(entries)
    return {
        (name, how): stand(finals, published, of[name])
        for how, of in (("untuned", finals.untuned), ("tuned", finals.tuned))
        for name in entries
    }


def _judge(entries: Mapping[str, Contender], finals: Finals, title: str) -> str:
    """Return the verdict on the rules of this project, whichever way it goes."""
    standings = _stand_all(entries, finals)
    ours = [name for name, entry in entries.items() if entry.kind == OURS]
    others = [name for name in entries if name not in ours]
    rounds = [name for name in others if entries[name].kind == SYNCHRONOUS]
    lines = [f"## Verdict: {title}", ""]
    for name in ours:
        mine = standings[name, "untuned"]
        ahead = [o for o in others if standings[o, "tuned"].mean.mean <= mine.mean.mean]
        won = len(others) - len(ahead)
        lines += [
            f"* **{name}**, untuned, is {_say_regret(mine)} the best tuned published "
            f"rule of each cell; its worst regret is {100 * mine.worst:.2f} "
            f"({_name(mine.worst_cell)}).",
            f"* It beats {won} of {len(others)} others that are tuned"
            + (f"; ahead of it are {'; '.join(ahead)}." if ahead else "."),
        ]
    for what, names in (
        ("asynchronous others", [name for name in others if name not in rounds]),
        ("methods in rounds", rounds),
    ):
        if names:
            best = min(names, key=lambda name: standings[name, "untuned"].mean.mean)
            standing = standings[best, "untuned"]
            pace = standing.slowdown
            lines.append(
                f"* The best of the {what}, untuned, is {best}: regret "
                f"{_show_interval(standing)}, at worst {100 * standing.worst:.2f}"
                + ("." if pace is None else f", time {pace:.2f}.")
            )
    return "\n".join(lines)


def _say_regret(standing: Standing) -> str:
    low, high = 100 * standing.mean.low, 100 * standing.mean.high
    mean = 100 * standing.mean.mean
    span = f"{abs(mean):.2f} points"
    if low > 0:
        return f"{span} [{low:.2f}, {high:.2f}] behind"
    if high < 0:
        return f"{span} [{-high:.2f}, {-low:.2f}] ahead of"
    return f"level with (regret {mean:.2f} [{low:.2f}, {high:.2f}])"


def _tabulate_task(entries: Mapping[str, Contender], task: str, finals: Finals) -> str:
    return "\n".join(
        [
            f"## {TASKS[task].title[0].upper()}{TASKS[task].title[1:]}",
            "",
            *_tabulate_regret(entries, finals),
            "",
            *_tabulate_cells(entries, finals),
        ]
    )


def _tabulate_regret(entries: Mapping[str, Contender], finals: Finals) -> Iterator[str]:
    standings = _stand_all(entries, finals)
    num_cells = len(finals.cells)
    heads = ["method", "from"]
    for how in ("untuned", "tuned"):
        heads += [f"{how}: regret", "worst", "time"]
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    order = sorted(entries, key=lambda name: standings[name, "untuned"].mean.mean)
    for name in order:
        shown = [name, _WHO[entries[name].kind]]
        if entries[name].kind == OURS:
            shown[0] = f"**{name}**"
        for how in ("untuned", "tuned"):
            standing = standings[name, how]
            pace = "-" if standing.slowdown is None else f"{standing.slowdown:.2f}"
            shown += [
                _show_interval(standing),
                f"{100 * standing.worst:.2f}",
                f"{pace} ({standing.reached} of {num_cells})",
            ]
        yield f"| {' | '.join(shown)} |"


def _tabulate_cells(entries: Mapping[str, Contender], finals: Finals) -> Iterator[str]:
    """Yield the accuracies of some methods in every cell."""
    published = list_published(entries)
    best = find_winners(finals, published)
    ours = [name for name, entry in entries.items() if entry.kind == OURS]
    rounds = [name for name, entry in entries.items() if entry.kind == SYNCHRONOUS]
    best_rounds = find_winners(finals, rounds) if rounds else [""] * len(best)
    heads = [
        "cell",
        "best tuned published",
        *(f"{name}, untuned" for name in ours),
        "best tuned in rounds",
    ]
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for place, cell in enumerate(finals.cells):
        shown = [
            _name(cell),
            f"{_show(finals.tuned[best[place]].accuracy[place])} ({best[place]})",
            *(_show(finals.untuned[name].accuracy[place]) for name in ours),
        ]
        if rounds:
            name = best_rounds[place]
            shown.append(f"{_show(finals.tuned[name].accuracy[place])} ({name})")
        else:
            shown.append("-")
        yield f"| {' | '.join(shown)} |"


def _list_settings(entries: Mapping[str, Contender]) -> str:
    lines = ["## What was tried", "", "The first line of each is the untuned one.", ""]
    for name, entry in entries.items():
        tried = ", ".join(f"`{line}`" for line in entry.lines)
        lines.append(f"* {name}: {tried}")
    return "\n".join(lines)


def _name(cell: Cell) -> str:
    return f"{cell.fleet}, {cell.in_flight}, {cell.variant}"


def _show(accuracy: np.ndarray) -> str:
    return f"{100 * float(np.mean(accuracy)):.1f}"


def _show_interval(standing: Standing) -> str:
    mean = standing.mean
    if np.isnan(mean.low):
        return f"{100 * mean.mean:.2f}"
    return f"{100 * mean.mean:.2f} [{100 * mean.low:.2f}, {100 * mean.high:.2f}]"
