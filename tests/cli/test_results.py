"""The final table on 80 columns."""

import io

from rich.console import Console

from fedasync_jax.cli.results import make_table


def test_a_long_name_gives_way_and_no_number_does():
    row = {
        "method": "fedasync:alpha=0.9,staleness=hinge,a=10,b=4",
        "gradients": 15_000,
        "virtual_time": 9302.0,
        "devices": 10,
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
    for number in (
        "15,000",
        "9,302",
        "95.7%",
        "94.4%",
        "18.8",
        "0.188",
        "1,393",
        " 10 ",
    ):
        assert number in text
    assert "vices" in text
    words = [line.split(" ")[0] for line in text.splitlines()]
    assert row["method"] in "".join(words)


def test_the_usual_names_stay_on_one_line():
    row = {
        "method": "FedAsync polynomial(0.5)",
        "gradients": 15_000,
        "virtual_time": 15_382.0,
        "devices": 10,
        "test_accuracy_mean": 0.976,
        "test_accuracy_min": 0.972,
        "mean_staleness": 9.0,
        "mean_alpha": 0.267,
        "rejected": 0,
        "lost": 0,
        "target_accuracy": 0.97,
        "time_to_target": 3255.0,
        "wall_seconds": 21.9,
    }
    mobile = {**row, "virtual_time": 309_083.0, "lost": 139, "time_to_target": 12_481.0}
    for one in (row, mobile):
        written = io.StringIO()
        Console(width=80, file=written).print(make_table([one]))
        lines = written.getvalue().splitlines()
        assert max(map(len, lines)) <= 80
        assert lines[-1].startswith(row["method"])


def test_without_a_clock_there_is_no_column_of_devices():
    row = {
        "method": "FedAvg",
        "gradients": 100,
        "virtual_time": None,
        "devices": None,
        "test_accuracy_mean": 0.9,
        "test_accuracy_min": 0.8,
        "rejected": 0,
        "lost": 0,
    }
    written = io.StringIO()
    Console(width=80, file=written).print(make_table([row]))
    assert "vices" not in written.getvalue()
