"""Pictures and pages of a run over a network say that its time was real."""

import numpy as np
import pytest

pytest.importorskip("flwr")
pytest.importorskip("matplotlib")

from flower_grid import Grid, make_model, slow
from flwr.app import Error, Message

from fedasync_jax import plotting
from fedasync_jax.flower.adapter import NodeNetwork
from fedasync_jax.flower.server_app import run_server
from fedasync_jax.flower.session import Problem
from fedasync_jax.flower.settings import read_settings
from fedasync_jax.plotting.compare import draw_comparison
from fedasync_jax.plotting.contents import read_contents
from fedasync_jax.plotting.page.document import make_page
from fedasync_jax.storage import read_run


def fail(message, place):
    return Message(Error(2, "no"), reply_to=message)


def evaluate(variables):
    return {"loss": np.float32(1), "correct": np.float32(0.5)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "run"
    config = {"run-dir": str(path), "num-updates": 20, "eval-every": 5}
    config |= {"poll-seconds": 0.002, "back-off": 0.02}
    network = NodeNetwork(Grid({5: slow, 6: fail}))  # pyright: ignore
    problem = Problem(make_model(), evaluate)  # pyright: ignore
    run_server(network, read_settings(config), problem)
    return path


def labels_of(figures):
    return {ax.get_xlabel() for fig in figures for ax in fig.axes if ax.get_xlabel()}


def test_axes_of_time_say_that_it_was_real(finished):
    figures = plotting.make_figures(finished)
    assert {"accuracy", "staleness_over_time", "lost", "timeline"} <= figures.keys()
    for name in ("accuracy", "staleness_over_time", "lost", "timeline"):
        assert "Real time (s)" in labels_of([figures[name]]), name
    assert not any("imulated" in label for label in labels_of(figures.values()))


def test_runs_of_both_kinds_in_one_picture_are_of_time(finished):
    alone = plotting.make_comparison({"network": finished})
    assert labels_of([alone]) == {"Real time (s)"}
    real = read_contents(finished)
    assert real.clock == "real"
    simulated = real._replace(clock="simulated")
    both = draw_comparison({"network": real, "simulation": simulated})
    assert labels_of([both]) == {"Time (s)"}


def test_the_page_says_real_seconds(finished):
    page = make_page([finished])
    assert "real time (s)" in page  # a run of less than half a second has no column
    assert "imulated time" not in page and "simulated seconds" not in page


def test_a_folder_without_a_config_is_a_simulation(tmp_path):
    assert read_run.read_clock(tmp_path) == "simulated"
