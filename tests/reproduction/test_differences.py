"""What is told of how runs depart from the authors' protocol."""

import re

import pytest

from fedasync_jax.experiment.presets import make_settings
from reproduction.differences import list_differences
from reproduction.figures import Cell, make_figures
from reproduction.scales import SCALES


def _list_differences(scale, runs, *data):
    settings = {name: {} for name in data}
    results = {"scale": scale, "runs": runs, "settings": settings}
    return "\n".join(list_differences(results))


def test_each_scale_tells_the_differences_of_its_own_data():
    micro = _list_differences("micro", [], "cifar", "text")
    _, of_cifar, of_text = re.split(r"^.*, (?:6 by|1,000).*:$", micro, flags=re.M)
    assert "`--round-selection permutation`" in of_cifar
    for flag in ("plateau-on test", "plateau-applies at-once", "warmup-epochs 1"):
        assert f"`--{flag}" in of_text and f"`--{flag}" not in of_cifar
    assert "batch" not in of_text
    small = _list_differences("small", [], "cifar", "text")
    assert "Shakespeare by characters, a client" in small and "--plateau" not in small
    assert "Shakespeare" not in _list_differences("small", [], "cifar")


@pytest.mark.parametrize("name", SCALES)
def test_the_differences_of_texts_are_those_of_the_settings(name):
    scale = SCALES[name]
    settings = make_settings(scale.presets["text"], **scale.changes["text"])
    told = " ".join(scale.differences["text"])
    cuts = settings["plateau_factor"] is not None
    assert ("--plateau-on test" in told) == (
        cuts and settings["plateau_on"] == "validation"
    )
    assert ("--plateau-applies at-once" in told) == (
        cuts and settings["plateau_applies"] == "by-version"
    )
    assert ("is no warm-up" in told) == (settings["warmup_epochs"] == 0)


def test_seeds_are_told_by_whose_they_are():
    runs = [
        {"seed": seed, "cell": Cell("text", "sgd")._asdict(), "finished": True}
        for seed in (773, 2, 337, 2, 1)
    ]
    told = _list_differences("micro", runs)
    assert "authors' scripts: 337, 773; others: 1, 2." in told
    told = _list_differences("paper", [run for run in runs if run["seed"] > 2])
    assert "authors' scripts: 337, 773; others: none." in told


def test_a_sweep_with_fewer_stalenesses_is_told():
    cell = make_figures(SCALES["micro"])["cifar-sweep"].cell("fedasync-hinge", 50, 0.9)
    runs = [{"seed": 1, "cell": cell._asdict(), "finished": True, "num_updates": 2000}]
    told = _list_differences("micro", runs, "cifar")
    assert "2, 4, 16, 50 in place of 2, 4, 6, 8, 12, 16, 20, 30, 40, 50." in told
    assert "updates in place" not in told
    assert "in place" not in _list_differences("paper", runs, "cifar")
