"""New results beside those that are there already: more seeds, more figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reproduction.figures import make_point, read_key
from reproduction.runs import is_same_run
from reproduction.scales import SCALES


def merge_results(known: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the runs of both; where both have a run, the new one.

    Args:
      known: a results file, see ``make_results``.
      new: another one of the same scale.

    Raises:
      ValueError: if the known runs have other settings than their scale has today.
    """
    _check_settings(known)
    records = {read_key(record): record for record in known["runs"]}
    records |= {read_key(record): record for record in new["runs"]}
    return {
        "scale": new["scale"],
        "versions": _unite(known["versions"], new["versions"]),
        # Those of a data set are those of its first run, which is a known one.
        "settings": known["settings"]
        | {k: v for k, v in new["settings"].items() if k not in known["settings"]},
        "pieces": _unite(known["pieces"], new["pieces"]),
        "runs": list(records.values()),
        "central": new.get("central") or known.get("central"),
    }


def _check_settings(results: Mapping[str, Any]) -> None:
    """Check that runs are those that the scale would make today."""
    scale = SCALES[results["scale"]]
    for data, settings in results["settings"].items():
        # The settings of a data set are those of its first run.
        first = next(r for r in results["runs"] if r["cell"]["data"] == data)
        cell, seed = read_key(first)
        point = make_point(cell, scale, seed, Path(), None)
        if not is_same_run(settings, point):
            raise ValueError(
                f"results of {scale.names[data]} must have the settings of today's "
                f"scale {results['scale']} for new runs to be added, got others"
            )


def _unite(known: list[Any], new: list[Any]) -> list[Any]:
    return [*known, *(item for item in new if item not in known)]
