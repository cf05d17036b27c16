import pytest

from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.experiment.settings import name_parts
from fedasync_jax.flower.limits import Limits
from fedasync_jax.flower.settings import read_settings


def test_nothing_set_gives_the_defaults():
    settings, limits = read_settings({})
    assert limits == Limits()
    assert settings == make_settings(methods=("fedasync-polynomial",), concurrency=1)


def test_names_have_dashes_and_an_empty_string_is_not_set():
    run = read_settings(
        {
            "method": "fedasync-hinge",
            "hinge-b": 2,
            "num-updates": 30,
            "hidden": "32 16",
            "run-dir": "",
            "epochs": 1,
            "max-staleness": 4,
            "deadline": 20,
            "user-anything": "goes",
        }
    )
    assert run.method == "fedasync-hinge"
    assert run.settings["hidden"] == (32, 16)
    assert run.settings["run_dir"] is None
    assert (run.settings["hinge_b"], run.settings["epochs"]) == (2.0, 1.0)
    assert (run.limits.max_staleness, run.limits.deadline) == (4, 20.0)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"alpah": 0.5}, "alpah must be method, a field of"),
        ({"concurrency": 3}, "devices and schedule are real here"),
        ({"max-steps": 3}, "devices and schedule are real here"),
        ({"method": "fedavg"}, "method must be a mixing rule, got fedavg, a baseline"),
        (
            {"method": "area"},
            "needs nothing of the run in advance, got area, which",
        ),
        ({"method": "fedbuff:size=0"}, "fedbuff: size must be"),
        (
            {"method": "fedbuff:size=31", "num-updates": 30},
            "^method must make a version of its own in num_updates 30, got "
            "fedbuff:size=31, which collects 31 arrivals$",
        ),
        ({"evaluate-clients": "always"}, "evaluate_clients must be method, a field"),
        ({"fedavg-weights": "samples"}, "fedavg_weights must be method, a field"),
        ({"method": "fedasink"}, "nearest: fedasync"),
        ({"method": 3}, "method must be of type str, got 3"),
        ({"alpha": 1.5}, r"alpha must be in \(0, 1\], got 1.5"),
        ({"alpha": "much"}, "alpha must be of type float, got 'much'"),
        ({"num-updates": 2.5}, "num_updates must be of type int, got 2.5"),
        ({"seed": True}, "seed must be of type int, got True"),
        ({"hidden": "wide"}, "hidden must be whole numbers in a row, got 'wide'"),
        ({"max-per-node": 0}, "max_per_node must be finite and >= 1, got 0"),
    ],
)
def test_a_bad_value_is_told_in_one_line(config, line):
    with pytest.raises(ValueError, match=line) as caught:
        read_settings(config)
    assert "\n" not in str(caught.value)


def test_a_rule_may_collect_all_arrivals():
    run = read_settings({"method": "fedbuff:size=30", "num-updates": 30})
    assert run.method == "fedbuff:size=30"


def test_a_folder_of_an_earlier_version_goes_on():
    fields = read_settings({}).to_json()
    assert (fields["evaluate_clients"], fields["fedavg_weights"]) == ("end", "equal")


def test_what_must_not_change_has_no_limits_and_no_simulated_devices():
    fields = read_settings({"num-updates": 7}).to_json()
    assert fields["num_updates"] == 7 and "alpha" in fields
    assert not fields.keys() & {"deadline", "concurrency", "client_law"}
    assert fields.keys() - name_parts().keys() == set()
