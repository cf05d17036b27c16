"""A small picture of every finding: its number on each data set, and where it belongs.

The region of the paper's claim is shaded; a dot is a mean, a line its 95% interval. A
thin line below is the interval of the distance from an upper end that is measured, too.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from fedasync_jax.plotting.looks import STYLE
from reproduction.claims import AGREES, DISAGREES, IN_PART, Claim
from reproduction.findings import Finding

_COLORS = {AGREES: "#1B7837", IN_PART: "#7F9A2F", DISAGREES: "#B2182B"}
_UNDECIDED = "#666666"
_REGION = "#E3F0E4"


def draw_findings(
    found: Mapping[str, Sequence[Finding]], folder: Path
) -> dict[int, Path]:
    """Draw one picture for every finding, as PNG, and return their paths by number.

    Args:
      found: findings by the name of their runs.
      folder: for the pictures.
    """
    paths = {}
    for findings in zip(*found.values(), strict=True):
        rows = {
            name: finding
            for name, finding in zip(found, findings, strict=True)
            if finding.primary is not None and finding.primary.estimate.n
        }
        if rows:
            number = findings[0].number
            paths[number] = folder / f"finding-{number}.png"
            with matplotlib.rc_context(STYLE):
                _draw(rows).savefig(paths[number], dpi=150)
    return paths


def _draw(rows: Mapping[str, Finding]) -> Picture:
    fig = Picture(figsize=(3.6, 0.55 + 0.24 * len(rows)), layout="constrained")
    ax = fig.subplots()
    claims = [finding.primary for finding in rows.values() if finding.primary]
    is_log2 = claims[0].is_log2
    _shade(ax, claims)
    for place, (claim, finding) in enumerate(zip(claims, rows.values(), strict=True)):
        color = _COLORS.get(finding.verdict, _UNDECIDED)
        made = claim.estimate
        mean, low, high = (_scale(v, is_log2) for v in (made.mean, made.low, made.high))
        ax.plot([low, high], [place, place], color=color, linewidth=1.6)
        ax.plot([mean], [place], color=color, marker="o", markersize=4.5)
        if claim.below is not None:
            ends = [claim.high - claim.below.high, claim.high - claim.below.low]
            ax.plot(ends, [place + 0.28] * 2, color=color, linewidth=0.8)
    ax.set_yticks(range(len(rows)), list(rows), fontsize=7.5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    return fig


def _shade(ax: Axes, claims: Sequence[Claim]) -> None:
    """Shade the region of the claim, which the shown range goes a little beyond."""
    is_log2, low, high = claims[0].is_log2, claims[0].low, claims[0].high
    seen = [low, high]
    for claim in claims:
        seen += [claim.estimate.mean, claim.estimate.low, claim.estimate.high]
        if claim.below is not None:
            seen += [claim.high - claim.below.high, claim.high - claim.below.low]
    seen = [value for value in seen if math.isfinite(value)]
    room = 0.08 * (max(seen) - min(seen) or 1.0)
    ends = min(seen) - room, max(seen) + room
    shaded = np.clip([low, high], *ends)
    ax.axvspan(*(_scale(end, is_log2) for end in shaded), color=_REGION, linewidth=0)
    for end in (low, high):
        if math.isfinite(end):
            ax.axvline(_scale(end, is_log2), color="#8FB996", linewidth=0.8)
    if is_log2:
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    ax.set_xlim(*(_scale(end, is_log2) for end in ends))


def _scale(value: float, is_log2: bool) -> float:
    return 2**value if is_log2 else value
