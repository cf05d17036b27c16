"""What was run, in words: the runs, their hardware and software, their settings."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from reproduction import why
from reproduction.figures import (
    Figure,
    find_own,
    make_figures,
    read_key,
)
from reproduction.scales import SCALES
from reproduction.seeds import tell_seeds

_SHOWN = (
    "dataset",
    "cifar10_pool",
    "vocabulary",
    "model",
    "cnn_channels",
    "cnn_hidden",
    "lstm_size",
    "lstm_layers",
    "dropout",
    "num_clients",
    "num_updates",
    "eval_every",
    "epochs",
    "num_steps",
    "batch_size",
    "step_size",
    "weight_decay",
    "clip_norm",
    "rho",
    "alpha_drop_at",
    "alpha_drop",
    "polynomial_a",
    "clients_per_round",
    "warmup_epochs",
    "warmup_step_size",
)

_OWNERS = {
    "cifar10_": ("dataset", "cifar10"),
    "vocabulary": ("dataset", "wikitext2"),
    "cnn_": ("model", "paper-cnn"),
    "lstm_": ("model", "lstm"),
}  # settings of no other data set or model


def describe_runs(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield commands, numbers and lengths of runs, wall times and versions.

    Args:
      results: see ``make_results``.
    """
    name, records = results["scale"], results["runs"]
    yield f"## Scale {name}"
    yield ""
    yield "```bash"
    for figure in list_shown(results):
        flags = _list_flags(results, figure)
        yield f"python scripts/reproduce.py --scale {name} {flags}"
    extra = [
        record for record in records if read_key(record)[0] in why.list_own_cells()
    ]
    if extra:
        flags = _list_seeds(results, extra)
        yield (
            f"python scripts/reproduce.py --scale {name} --figure {why.NAME} {flags}"
            "--data-path FOLDER"
        )
    yield f"python scripts/write_reproduction.py runs/reproduction/{name}"
    yield "```"
    yield ""
    for figure in list_shown(results):
        title, cells = figure.title(SCALES[name]), figure.cells()
        mine = [record for record in records if read_key(record)[0] in cells]
        count = len({read_key(record)[0] for record in mine})
        some = f"{count} of {len(cells)} curves, " if count < len(cells) else ""
        yield f"* {title}: {some}{_count_runs(mine, tell_seeds(mine))}"
    if extra:
        yield f"* What large staleness costs: {_count_runs(extra, tell_seeds(extra))}"
    yield from _describe_time(results["pieces"])
    for versions in results["versions"]:
        yield f"* Software: {', '.join(f'{k} {v}' for k, v in versions.items())}."
    yield ""


def describe_settings(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield a table of the settings that the runs of each data set share.

    Args:
      results: see ``make_results``.
    """
    names = SCALES[results["scale"]].names
    found = [
        {
            **mine,
            "num_updates": _list_counts(
                record["num_updates"]
                for record in results["runs"]
                if record["cell"]["data"] == data
            ),
        }
        for data, mine in results["settings"].items()
    ]
    yield "### Settings"
    yield ""
    yield f"| setting | {' | '.join(names[data] for data in results['settings'])} |"
    yield "|---" * (1 + len(found)) + "|"
    for name in _SHOWN:
        cells = [_show_setting(settings, name) for settings in found]
        if set(cells) == {"-"}:
            continue
        yield f"| `{name}` | {' | '.join(cells)} |"
    yield ""


def _list_flags(results: Mapping[str, Any], figure: Figure) -> str:
    """Return the flags that make a figure."""
    flags = [f"--figure {figure.name}"]
    lengths = find_lengths(results["runs"], figure)
    if lengths:
        flags.append(f"--num-updates {min(lengths)}")
    own = find_own(figure, make_figures(SCALES[results["scale"]]).values())
    mine = [r for r in results["runs"] if read_key(r)[0] in own]
    place = "--text-path FOLDER" if figure.data == "text" else "--data-path FOLDER"
    return f"{' '.join(flags)} {_list_seeds(results, mine)}{place}"


def _list_seeds(
    results: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
) -> str:
    """Return the flag of the seeds and a blank; nothing where they are the scale's."""
    seeds = sorted({record["seed"] for record in records})
    if seeds == sorted(SCALES[results["scale"]].seeds):
        return ""
    return f"--seeds {' '.join(map(str, seeds))} "


def list_shown(results: Mapping[str, Any]) -> list[Figure]:
    """Return the figures that have a curve of their own."""
    figures = list(make_figures(SCALES[results["scale"]]).values())
    there = {read_key(record)[0] for record in results["runs"]}
    return [f for f in figures if there.intersection(find_own(f, figures))]


def find_lengths(records: Sequence[Mapping[str, Any]], figure: Figure) -> list[int]:
    """Return the number of updates of all runs of a figure that came to their end."""
    return [
        record["num_updates"]
        for record in records
        if read_key(record)[0] in figure.cells() and record["finished"]
    ]


def _count_runs(records: Sequence[Mapping[str, Any]], seeds: str) -> str:
    whole = [record for record in records if record["finished"]]
    gradients = _list_counts(record["gradients"][-1] for record in whole)
    ended = len(records) - len(whole)
    length = f" of {gradients} gradients" if whole else ""
    return f"{len(records)} runs{length}, {seeds}" + (
        f"; {ended} ended early, all arrivals rejected." if ended else "."
    )


def _describe_time(pieces: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield hardware, wall time and throughput."""
    machines: dict[str, list[Mapping[str, Any]]] = {}
    for piece in pieces:
        machines.setdefault(_name_machine(piece["hardware"]), []).append(piece)
    for machine, mine in machines.items():
        seconds = sum(piece["seconds"] + piece["first_seconds"] for piece in mine)
        updates = sum(piece["updates"] for piece in mine)
        together = max(piece["runs"] for piece in mine)
        yield (
            f"* Hardware: {machine}; {seconds / 60:,.0f} minutes for {updates:,} "
            "client updates, compilation, evaluations and checkpoints included and "
            f"processes side by side added up, up to {together} runs together."
        )


def _name_machine(hardware: Mapping[str, Any]) -> str:
    host = f"{hardware['cpu_model']}, {hardware['cores']} cores"
    if hardware["platform"] == "cpu":
        return host
    kinds = ", ".join(sorted(set(hardware["devices"])))
    return f"{len(hardware['devices'])} × {kinds} ({host})"


def _list_counts(counts: Iterable[int]) -> str:
    return " or ".join(f"{count:,}" for count in sorted(set(counts)))


def _show_setting(settings: Mapping[str, Any], name: str) -> str:
    value = settings.get(name)
    if value is None or (name == "num_steps" and settings["epochs"] is not None):
        return "-"
    for beginning, (part, owner) in _OWNERS.items():
        if name.startswith(beginning) and settings[part] != owner:
            return "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
