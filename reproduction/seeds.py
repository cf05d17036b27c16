"""Which seeds were run, and at which points, where these differ."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from reproduction.figures import Cell, read_key

_BASELINES = {"fedavg": "FedAvg", "sgd": "SGD"}


def tell_seeds(records: Iterable[Mapping[str, Any]]) -> str:
    """Return the seeds of all curves, and where the others were run.

    Args:
      records: of a results file, those of one figure.
    """
    runs = [read_key(record) for record in records]
    cells = sorted({cell for cell, _ in runs}, key=_order)
    groups: dict[tuple[Cell, ...], list[int]] = {}
    for seed in sorted({seed for _, seed in runs}):
        there = tuple(cell for cell in cells if (cell, seed) in runs)
        groups.setdefault(there, []).append(seed)
    everywhere = groups.pop(tuple(cells), [])
    parts = [_name(everywhere)] if everywhere else []
    parts += [f"{_name(s)} only at {_place(c, cells)}" for c, s in groups.items()]
    return "; ".join(parts)


def _name(seeds: list[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _place(some: Iterable[Cell], cells: Iterable[Cell]) -> str:
    """Return the points of some curves; how many curves, where they are not all."""
    counts, whole = (Counter(map(_point, those)) for those in (some, cells))
    return ", ".join(
        point
        if count == whole[point]
        else f"{point} ({count} of {whole[point]} curves)"
        for point, count in counts.items()
    )


def _order(cell: Cell) -> tuple[int, str]:
    return cell.max_staleness or 0, cell.name


def _point(cell: Cell) -> str:
    if cell.max_staleness is None:
        return _BASELINES[cell.method]
    return f"max staleness {cell.max_staleness}"
