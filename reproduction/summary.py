"""The top of the page: what became of the six findings, on one screen."""

from collections.abc import Iterator, Mapping, Sequence

from fedasync_jax.jobs.estimates import Estimate
from reproduction.claims import IN_PART, UNDECIDED, Claim
from reproduction.findings import Finding

_MANY = "more than 1,000"


def summarize(
    found: Mapping[str, Sequence[Finding]], pictures: Mapping[int, str]
) -> Iterator[str]:
    """Yield a table: a row for every finding, a column for every group of runs.

    Args:
      found: findings by the name of their runs.
      pictures: paths of the small pictures, by the number of the finding.
    """
    yield f"| | the paper says | {' | '.join(found)} | |"
    yield "|---" * (3 + len(found)) + "|"
    for findings in zip(*found.values(), strict=True):
        first = findings[0]
        cells = " | ".join(tell(finding) for finding in findings)
        picture = pictures.get(first.number)
        shown = f"![finding {first.number}]({picture})" if picture else ""
        yield f"| {first.number} | {first.says} | {cells} | {shown} |"
    yield ""


def tell(finding: Finding) -> str:
    """Return verdict and number of a finding, and what would decide it."""
    if finding.primary is None:
        return f"**{finding.verdict}**"
    text = f"**{finding.verdict}** {show_estimate(finding.primary)}"
    if finding.verdict == UNDECIDED and not finding.is_whole:
        text += "; curves are missing"
    elif finding.verdict == UNDECIDED and finding.primary.estimate.n > 1:
        text += f"; {show_seeds(finding)} seeds would decide it"
    if finding.verdict == IN_PART:
        against = finding.list_against()
        others = f" and {len(against) - 1} more" if len(against) > 1 else ""
        text += f"; not: {against[0].text} ({show_estimate(against[0])}){others}"
    return text


def show_seeds(finding: Finding) -> str:
    """Return how many seeds would decide a finding."""
    count = finding.count_seeds()
    return _MANY if count is None else f"{count}"


def show_estimate(claim: Claim) -> str:
    """Return mean and interval, and those of the distance below SGD where it is tested.

    >>> show_estimate(Claim("", Estimate(3, 0.72, 0.1, 0.59, 0.85), 0.0))
    '0.72 (0.59 to 0.85)'
    """
    n, mean, _, low, high = claim.estimate
    if not n:
        return "-"
    if claim.is_log2:
        mean, low, high = 2**mean, 2**low, 2**high
        interval = f" ({low:.2f} to {high:.2f})" if n > 1 else ""
        return f"{mean:.2f} times{interval}"
    shown = _show(claim.estimate)
    return shown if claim.below is None else f"{shown}, {_show(claim.below)} below SGD"


def _show(made: Estimate) -> str:
    interval = f" ({made.low:.2f} to {made.high:.2f})" if made.n > 1 else ""
    return f"{made.mean:.2f}{interval}"
