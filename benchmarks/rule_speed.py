"""Measure what a mixing rule costs the engine, against FedAsync in the same run.

    python scripts/rule_speed.py
    python scripts/rule_speed.py --methods fedasync-polynomial my_module.my_rule

All rules mix the same arrivals of the default job. They are run in turns after a
warm-up; printed are processor seconds of this process, minimum and median, and their
ratios to those of the first rule. The last line is a JSON object.
"""

import dataclasses
import functools
import json
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import jax

import fedasync_jax as fa
from fedasync_jax.cli.flags import parse_flags
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.experiment import Experiment
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.experiment.records import Method
from fedasync_jax.jobs import cores
from fedasync_jax.jobs.machine import describe_hardware
from fedasync_jax.jobs.versions import describe_versions
from fedasync_jax.parts.bounds import at_least, check_value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """What is measured."""

    methods: tuple[str, ...] = (
        "fedasync-polynomial",
        "delta",
        "fedbuff",
        "asyncfeded",
        "tethered",
        "tethered:average=9",
    )
    """Methods; the first is what the others are compared with."""
    num_updates: int = 3000
    """Updates of a run."""
    repeats: int = 9
    """Timed runs of each."""

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("num_updates", "repeats"):
            check_value(name, Annotated[int, at_least(1)], getattr(self, name))


def main() -> None:
    """Measure and print."""
    cores.use_all_cores()
    flags = parse_flags(Flags, __doc__ or "")
    settings = make_settings(methods=flags.methods, num_updates=flags.num_updates)
    experiment = build_experiment(settings)
    calls = [functools.partial(_run, experiment, m) for m in experiment.methods]
    for call in calls:
        call()  # compiles
    turns = [[_time(call) for call in calls] for _ in range(flags.repeats)]
    rows = []
    for line, column in zip(flags.methods, zip(*turns, strict=True), strict=True):
        row = {"method": line, "min": min(column), "median": statistics.median(column)}
        rows.append(row)
        ratios = [row[name] / rows[0][name] for name in ("min", "median")]
        print(
            f"{line:<24} {row['min']:.3f} s at least, {row['median']:.3f} s in the "
            f"median, x {ratios[0]:.3f} and x {ratios[1]:.3f}"
        )
    result = {
        "rows": rows,
        "hardware": describe_hardware(),
        "versions": describe_versions(),
        "settings": dataclasses.asdict(flags),
    }
    print(json.dumps(result))


def _run(experiment: Experiment, method: Method) -> None:
    result = fa.run(
        method.trace,
        method.local_update,
        method.mixer,
        experiment.variables,
        experiment.settings.make_key("tasks"),
        batching=fa.engine.choose_batching(),
    )
    jax.block_until_ready(result.state.variables)


def _time(call: Callable[[], Any]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
