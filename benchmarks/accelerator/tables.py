"""Tables of what was measured on an accelerator, and what follows for the defaults."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.accelerator.points import (
    CONVOLUTIONS,
    HALF,
    MIXINGS,
    RUNS,
    WIDTHS,
    WORKLOADS,
    Point,
)

BEGIN, END = "<!-- accelerator: begin -->", "<!-- accelerator: end -->"

Numbers = Mapping[str, Mapping[str, Any]]


def write_section(results: Mapping[str, Any]) -> str:
    """Return the section of docs/performance.md, in Markdown."""
    hardware, versions = results["hardware"], results["versions"]
    device = ", ".join(sorted(set(map(str, hardware["devices"]))))
    lines = [
        f"Measured by `python scripts/accelerator.py` on {len(hardware['devices'])} x "
        f"{device} ({hardware['platform']}), jax {versions['jax']}, Python "
        f"{versions['python']}; medians of 3. Waves are full: twice as many tasks are "
        "in flight as a wave has.",
        "",
        *_tell_products(results["products"]),
        *_tell_widths(results["points"]),
        *_tell_ceilings(results["points"]),
        *_tell_runs(results["points"]),
        "What follows for the defaults:",
        "",
        *(f"* {line}" for line in advise(results["points"])),
    ]
    return "\n".join(lines) + "\n"


def put_into(page: str, section: str) -> str:
    """Return a page with the section between its marks.

    Raises:
      ValueError: if the page has no such marks.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"docs must have the lines {BEGIN} and {END} once each")
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n\n{section}\n{END}{tail}"


def advise(points: Numbers) -> Iterator[str]:
    """Yield a line for every default, and what was measured of it."""
    for workload in WORKLOADS:
        speeds = {
            width: rate
            for width in sorted(WIDTHS)
            if (rate := _rate(points, workload, width)) is not None
        }
        if speeds:
            best = max(speeds, key=lambda width: speeds[width])
            widest = max(speeds)
            yield (
                f"width of a wave, {workload}: {best} was the fastest, "
                f"{speeds[best] / speeds[widest]:.2f}x of {widest}, the widest that "
                "ran (`_WIDEST` in engine/task_size.py)"
            )
        ratios = [
            (width, product / scan)
            for width in sorted(WIDTHS)
            if (product := _rate(points, workload, width)) is not None
            and (scan := _rate(points, workload, width, mixing="scan")) is not None
        ]
        for width, ratio in ratios:
            better = "the product" if ratio > 1 else "the scan"
            yield (
                f"mixing, {workload}, width {width}: the product is {ratio:.2f}x of "
                f"the scan, so {better} (`product` in engine/batching.py)"
            )
    for width in sorted(WIDTHS):
        patches, xla = (
            _rate(points, "cnn", width, convolution=name) for name in CONVOLUTIONS
        )
        if patches is not None and xla is not None:
            better = "patches" if patches > xla else "xla"
            yield (
                f"convolution, width {width}: patches are {patches / xla:.2f}x of "
                f"XLA's, so {better} (`_FASTEST` in models/convolution.py)"
            )
    together = {
        runs: numbers["together"]
        for runs in RUNS
        if (numbers := points.get(Point(kind="runs", workload="mlp", runs=runs).name))
        and "together" in numbers
    }
    if together:
        best = max(together, key=lambda runs: together[runs])
        yield f"runs side by side, mlp: {best} (`together` in cli/together.py)"


def _tell_products(products: Mapping[str, float]) -> Iterator[str]:
    yield "| precision of a matrix product | TFLOP/s |"
    yield "|---|---|"
    for precision, rate in products.items():
        yield f"| {precision} | {rate / 1e12:.4g} |"
    yield ""


def _tell_widths(points: Numbers) -> Iterator[str]:
    forms: list[tuple[str, dict[str, Any]]] = [("as it is", {})]
    forms += [(f"mixed by {name}", {"mixing": name}) for name in MIXINGS[1:]]
    forms += [(f"{name} convolution", {"convolution": name}) for name in ("xla",)]
    forms += [(HALF, {"precision": HALF})]
    for workload in WORKLOADS:
        rows = [
            (
                label,
                [_cell(points, workload, width, **form) for width in sorted(WIDTHS)],
            )
            for label, form in forms
        ]
        rows = [(label, cells) for label, cells in rows if any(cells)]
        if not rows:
            continue
        yield f"`{workload}`, updates/s by the width of a wave:"
        yield ""
        yield "| | " + " | ".join(map(str, sorted(WIDTHS))) + " |"
        yield "|---" * (1 + len(WIDTHS)) + "|"
        for label, cells in rows:
            yield f"| {label} | " + " | ".join(cells) + " |"
        yield ""


def _tell_ceilings(points: Numbers) -> Iterator[str]:
    rows = []
    for workload in WORKLOADS:
        numbers = points.get(Point(kind="ceiling", workload=workload).name)
        if not numbers or "engine_per_s" not in numbers:
            continue
        engine = numbers["engine_per_s"]
        rows.append(
            f"| {workload} | {numbers['width']} | {engine:,.4g} | "
            f"{engine / numbers['one_device_per_s']:.2f}x | "
            f"{engine / numbers['all_devices_per_s']:.2f}x | "
            f"{numbers['share_of_peak']:.1%} |"
        )
    if rows:
        yield "| workload | width | updates/s | of one loop | of all | of the peak |"
        yield "|---|---|---|---|---|---|"
        yield from rows
        yield ""


def _tell_runs(points: Numbers) -> Iterator[str]:
    for workload in WORKLOADS:
        rows = []
        for runs in sorted(RUNS):
            point = Point(kind="runs", workload=workload, runs=runs)
            numbers = points.get(point.name, {})
            if "ratio" in numbers:
                rows.append(
                    f"| {runs} | {numbers['one_by_one']:,.4g} | "
                    f"{numbers['together']:,.4g} | {numbers['ratio']:.2f}x |"
                )
        if rows:
            yield f"Runs of `{workload}` with sampled staleness, updates/s of all:"
            yield ""
            yield "| runs | one by one | together | |"
            yield "|---|---|---|---|"
            yield from rows
            yield ""


def _rate(points: Numbers, workload: str, width: int, **form: Any) -> float | None:
    point = Point(kind="width", workload=workload, width=width, **form)
    return points.get(point.name, {}).get("updates_per_s")


def _cell(points: Numbers, workload: str, width: int, **form: Any) -> str:
    point = Point(kind="width", workload=workload, width=width, **form)
    numbers = points.get(point.name, {})
    if "failed" in numbers:
        return numbers["failed"]
    rate = numbers.get("updates_per_s")
    return "" if rate is None else f"{rate:,.4g}"


def count_done(points: Numbers, wanted: Sequence[Point]) -> int:
    """Return how many of the points have been measured."""
    return sum(point.name in points for point in wanted)
