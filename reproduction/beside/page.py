"""``docs/beside_others.md``: written from a results file, never by hand."""

from collections.abc import Iterator, Mapping
from typing import Any

from reproduction.beside.measures import group_curves
from reproduction.beside.others import list_unmet, show_published
from reproduction.beside.pictures import PICTURES
from reproduction.beside.tables import join_words, show_scores, show_tuning

_SHOWN = (
    *("num_clients", "epochs", "batch_size", "step_size", "concurrency"),
    *("clients_per_round", "valid_share", "client_law", "tier_shares", "tier_factors"),
    *("task_law", "task_sigma", "synthetic_alpha", "synthetic_beta", "synthetic_seed"),
)


def write_page(results: Mapping[str, Any]) -> str:
    """Return the page of a results file, see ``make_results``."""
    curves = group_curves(results)
    lines = [
        *_introduce(results),
        *show_scores(results, curves),
        *_show_pictures(),
        *show_tuning(results),
        *show_published(results),
        *list_unmet(),
        *_show_settings(results),
    ]
    return "\n".join(lines)


def _introduce(results: Mapping[str, Any]) -> Iterator[str]:
    size = results["size"]
    yield "# Beside others"
    yield ""
    yield (
        "FedAsync beside FedAvg, FedProx and the delta rule on a public problem with "
        "published settings, and this library beside numbers that others published. "
        "This page and its pictures are written by `scripts/beside_others.py` from "
        "the results file in `docs/reproduction/beside/`; nothing on it is typed."
    )
    yield ""
    yield "```sh"
    yield "python scripts/beside_others.py          # runs what is missing, then writes"
    yield "python scripts/beside_others.py --no-run # writes from the results file"
    yield "```"
    yield ""
    yield "## Synthetic(1, 1) with stragglers"
    yield ""
    yield (
        "The problem is Synthetic(1, 1) of the FedProx paper (Li et al., "
        "[arXiv 1812.06127](https://arxiv.org/abs/1812.06127)): 30 clients with data "
        "of their own, multinomial logistic regression (`--model mlp --hidden`), 20 "
        "epochs of batch 10 a task, step size 0.01. Ten devices work at a time: "
        "FedAvg and FedProx draw 10 clients a round, the asynchronous methods have 10 "
        "tasks in flight. A fifth of the devices are eight times slower "
        "(`--fleet stragglers`); a task takes as long as its steps do, and transfers "
        "take none."
    )
    yield ""
    yield (
        f"Every run is {size['num_updates']:,} client updates long. All seeds "
        f"({join_words(size['seeds'])}) learn the same draw of the data; they differ "
        "in which devices are slow, who is drawn, the order of the batches and the "
        "first model. So intervals say what another run on these data would give, not "
        "what other data would."
    )
    yield ""


def _show_pictures() -> Iterator[str]:
    yield (
        "Lines are means over the seeds, bands one standard deviation to either side. "
        "Fleets differ by seed, so runs of as many updates take different times; one "
        "that has ended keeps its last value."
    )
    yield ""
    for name, title in PICTURES.items():
        yield f"![{title}](reproduction/beside/{name}.png)"
        yield f"*{title}*"
        yield ""


def _show_settings(results: Mapping[str, Any]) -> Iterator[str]:
    pieces, versions = results["pieces"], results["versions"]
    yield "## Settings"
    yield ""
    shown = ", ".join(f"`{k}` {results['settings'][k]}" for k in _SHOWN)
    yield f"Of the comparison: {shown}."
    yield ""
    seconds = sum(piece["seconds"] for piece in pieces)
    updates = sum(piece["updates"] for piece in pieces)
    machines = (piece["hardware"] for piece in pieces)
    hardware = join_words(
        dict.fromkeys(f"{m['cpu_model']}, {m['cores']} cores" for m in machines)
    )
    software = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield (
        f"{updates:,} client updates in {seconds / 60:.0f} minutes of wall time on "
        f"{hardware}, shared with other work. {software}."
    )
    yield ""
