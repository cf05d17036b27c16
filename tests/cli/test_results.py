"""The final table on 80 columns."""

import io

from rich.console import Console

from fedasync_jax.cli.results import make_table


def test_a_long_name_gives_way_and_no_number_does():
    row = {
        "method": "fedasync:alpha=0.9,staleness=hinge,a=10,b=4",
        "gradients": 15_000,
        "virtual_time": 9302.0,
        "test_accuracy_mean": 0.957,
        "test_accuracy_min": 0.944,
        "mean_staleness": 18.8,
        "mean_alpha": 0.188,
        "rejected": 0,
        "lost": 0,
        "target_accuracy": 0.95,
        "time_to_target": 1393.0,
        "wall_seconds": 22.6,
    }
    written = io.StringIO()
    console = Console(width=80, file=written)
    console.print(make_table([row]))
    text = written.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for number in ("15,000", "9,302", "95.7%", "94.4%", "18.8", "0.188", "1,393"):
        assert number in text
    words = [line.split(" ")[0] for line in text.splitlines()]
    assert row["method"] in "".join(words)
