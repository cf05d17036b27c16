"""The end of the page: every claim with its interval, its p value and its verdict."""

from collections.abc import Iterator, Mapping, Sequence

from reproduction.claims import Claim
from reproduction.findings import MEASURES, Finding
from reproduction.summary import show_estimate


def list_claims(found: Mapping[str, Sequence[Finding]]) -> Iterator[str]:
    """Yield all claims of all findings.

    Args:
      found: findings by the name of their runs.
    """
    for name, findings in found.items():
        yield f"### {name}"
        yield ""
        for finding, measure in zip(findings, MEASURES, strict=True):
            yield f"**{finding.number}. {finding.says}.** Primary: {measure}."
            yield ""
            yield "| claim | n | mean (95% interval) | region | p | verdict |"
            yield "|---|---|---|---|---|---|"
            if finding.primary is not None:
                primary, p = finding.primary, finding.p
                yield _show(primary, p, f"**primary: {primary.text}**")
            for claim, p in finding.secondary:
                yield _show(claim, p, claim.text)
            yield ""


def _show(claim: Claim, p: float, text: str) -> str:
    shown = f"{p:.3f}" if p >= 0.001 else "< 0.001"
    return (
        f"| {text} | {claim.estimate.n} | {show_estimate(claim)} | "
        f"{_show_region(claim)} | {shown} | {claim.verdict(p)} |"
    )


def _show_region(claim: Claim) -> str:
    """Return the region that the paper puts the number in."""
    low, high = claim.low, claim.high
    if claim.is_log2:
        low, high = 2**low, 2**high
    if claim.below is not None:
        return f"{low:g} to SGD"
    if claim.high == float("inf"):
        return f"above {low:g}"
    if claim.low == float("-inf"):
        return f"below {high:g}"
    return f"{low:g} to {high:g}"
