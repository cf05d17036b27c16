"""What a run does not read is found: settings of parts that it has not chosen."""

import pytest

from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.experiment.used import describe_unused, find_unused, list_owners
from fedasync_jax.mixing.staleness import STALENESS_FNS


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("max_staleness", {"schedule": "sampled"}),
        ("cnn_hidden", {"dataset": "cifar10", "model": "paper-cnn"}),
        ("table_label", {"dataset": "table"}),
        ("size_sigma", {"partition": "quantity-skew"}),
        ("mean_on", {"availability": "on-off"}),
        ("task_sigma", {"task_law": "log-normal"}),
        ("tier_shares", {"network_law": "tiers"}),
        ("hinge_a", {"methods": ("sgd", "fedasync-hinge")}),
        ("hinge_a", {"methods": ("delta:staleness=hinge",)}),
        ("delta_step", {"methods": ("delta",)}),
        ("sgd_step_size", {"methods": ("sgd",)}),
        ("fedavg_weights", {"methods": ("fedprox",)}),
        ("alpha", {"methods": ("fedasync-hinge",)}),
    ],
)
def test_a_setting_is_read_once_its_part_is_chosen(name, chosen):
    without = make_settings(methods=("cutoff",))
    assert find_unused([name], [without]) == [name]
    assert find_unused([name], [without, without.replace(**chosen)]) == []
    assert str(list_owners(name)[-1]).split()[0] in {*chosen, "staleness"}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("hinge_a", "fedasync-hinge:a=3"),
        ("alpha", "fedasync-hinge:alpha=0.5"),
        ("delta_step", "delta:step=0.2"),
        ("clients_per_round", "fedavg:clients=3"),
    ],
)
def test_what_a_line_sets_itself_is_not_read(name, line):
    assert find_unused([name], [make_settings(methods=(line,))]) == [name]
    plain = line.partition(":")[0]
    assert find_unused([name], [make_settings(methods=(plain, line))]) == []


def test_a_line_sets_the_argument_of_a_rule_and_not_of_its_function(
    tmp_path, monkeypatch
):
    code = "def of_b(staleness_fn, b: float = 0.5):\n    raise NotImplementedError\n"
    (tmp_path / "used_rule_of_a_test.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    line = "used_rule_of_a_test.of_b:staleness=hinge,b=0.25,a=3"
    settings = make_settings(methods=(line,))
    assert find_unused(["hinge_a", "hinge_b", "alpha"], [settings]) == [
        "hinge_a",
        "alpha",
    ]


def test_what_no_part_declares_is_read_by_all():
    names = ["num_updates", "rho", "step_size", "client_law", "methods", "dataset"]
    assert find_unused(names, [make_settings(methods=("sgd",))]) == []


def test_every_setting_of_a_part_has_an_owner():
    settings = Settings()
    parts = ("data", "partition", "model", "mixing", "schedule", "fleet")
    for part in parts:
        for name in getattr(settings, part).of_choices:
            assert list_owners(name), name


def test_a_part_of_ones_own_has_its_settings(monkeypatch):
    monkeypatch.setitem(STALENESS_FNS, "mine", STALENESS_FNS["hinge"])
    monkeypatch.setitem(STALENESS_FNS._renamed, "mine", {})
    assert describe_unused(["mine_a"]) == "mine_a (only for staleness mine)"
