"""Baselines with settings in their lines."""

import jax
import numpy as np
import pytest

import fedasync_jax as fa
from fedasync_jax.experiment.baselines import BASELINES
from fedasync_jax.experiment.build import build_workload, make_methods
from fedasync_jax.experiment.presets import make_settings
from fedasync_jax.experiment.settings import PARTS

SMALL = {"num_updates": 40, "num_clients": 12, "concurrency": 4, "hidden": (4,)}
FIVE = {"clients_per_round": 5}


@pytest.fixture(scope="module")
def workload():
    return build_workload(make_settings(**SMALL, clients_per_round=2))


def make(workload, *lines, **more):
    settings = make_settings(methods=lines, **{**SMALL, "clients_per_round": 2, **more})
    return list(make_methods(settings, workload))


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("fedavg:clients=5", FIVE),
        ("fedavg:over_selection=0.5", {"over_selection": 0.5}),
        ("fedavg:deadline=9", {"round_deadline": 9.0}),
        ("fedavg:selection=permutation", {"round_selection": "permutation"}),
        (
            "fedprox:clients=5,over_selection=1",
            FIVE | {"over_selection": 1.0},
        ),
    ],
)
def test_a_line_is_the_baseline_with_these_flags(workload, line, flags):
    (of_line,), (of_flags,) = (
        make(workload, line),
        make(workload, line.partition(":")[0], **flags),
    )
    assert of_line.name == line
    for name, column in of_flags.trace.columns().items():
        assert np.array_equal(getattr(of_line.trace, name), column), name


def test_variants_stand_side_by_side_and_do_not_touch_one_another(workload):
    methods = make(workload, "fedavg", "fedavg:clients=5", "delta")
    assert methods[0].models is not None and methods[1].models is not None
    assert [methods[0].models[0], methods[1].models[0]] == [2, 5] and methods[
        0
    ].name == "FedAvg"


def test_permutations_give_every_client_as_many_turns(workload):
    drawn, permuted = make(workload, "fedavg", "fedavg:selection=permutation")
    counts = [np.bincount(m.trace.client, minlength=12) for m in (drawn, permuted)]
    assert (counts[1] >= 3).all() and counts[1].max() == 4  # 40 in all
    assert np.ptp(counts[0]) > 1
    sampled = make(workload, "fedavg:selection=permutation", schedule="sampled")
    assert np.array_equal(sampled[0].trace.client, permuted.trace.client)
    with pytest.raises(ValueError) as error:
        make(workload, "fedavg:selection=permutation", client_choice="data-size")
    assert str(error.value) == (
        "client_choice must be uniform for round_selection permutation, where all "
        "clients have as many turns, got data-size"
    )


def read_numbers(method):
    """Return all arrays of a local update and a rule, one after the other."""
    leaves = jax.tree.leaves((method.local_update, method.mixer.update))
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


def test_weights_rho_and_step_sizes_arrive(workload):
    of_lines = make(
        workload, "fedavg:weights=samples", "fedprox:rho=7", "sgd:step_size=0.01"
    )
    of_flags = [
        *make(workload, "fedavg", fedavg_weights="samples"),
        *make(workload, "fedprox", rho=7.0),
        *make(workload, "sgd", sgd_step_size=0.01),
    ]
    plain = make(workload, "fedavg", "fedprox", "sgd")
    for line, flag, other in zip(of_lines, of_flags, plain, strict=True):
        assert np.array_equal(read_numbers(line), read_numbers(flag))
        assert not np.array_equal(read_numbers(line), read_numbers(other))


@pytest.mark.parametrize("max_steps", [None, 9], ids=["equal", "random"])
def test_a_larger_batch_of_sgd_takes_the_time_of_its_gradients(workload, max_steps):
    """Per gradient it is as fast; batches of 10 are those of the clients."""
    law = {"task_law": "uniform", "task_range": (1.0, 1.0), "max_steps": max_steps}
    small, large = make(workload, "sgd", "sgd:batch_size=20", **law)
    seconds = [
        m.trace.arrival_time[-1] / (m.trace.num_steps.sum() * m.gradients_per_step)
        for m in (small, large)
    ]
    assert large.gradients_per_step == 2
    assert seconds[0] == pytest.approx(np.median(small.fleet.seconds_per_step))
    assert seconds[1] == pytest.approx(seconds[0])


def test_metrics_of_sgd_have_its_own_step_size():
    lines = ("sgd:step_size=0.01,batch_size=20", "sgd", "fedavg")
    settings = make_settings(methods=lines, **SMALL, step_size=0.3)
    steps = [m.metrics["step_size"][-1] for m in fa.train(settings).values()]
    assert steps == [0.01, 0.3, 0.3]
    (flagged,) = fa.train(
        settings.replace(sgd_step_size=0.5, methods=("sgd",))
    ).values()
    assert flagged.metrics["step_size"][-1] == 0.5


def test_a_line_allows_what_the_flag_allows():
    for places in BASELINES.values():
        for place in places.values():
            assert PARTS[place.part].hints()[place.name] == place.hint, place


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "fedavg:clints=3",
            r"fedavg takes clients.* got clints \(nearest: cl",
        ),
        ("fedavg:clients=0", "fedavg: clients must be finite and >= 1, got 0"),
        ("fedavg:clients=13", r"clients_per_round must be in \[1, 12\] .* got 13"),
        ("fedavg:weights=all", "fedavg: weights must be one of equal, samples"),
        ("fedavg:selection=all", "selection must be one of draws, permutation, got"),
        ("fedprox:rho=-1", "fedprox: rho must be finite and >= 0, got -1"),
    ],
)
def test_a_bad_line_of_a_baseline_is_one_line(line, words):
    with pytest.raises(ValueError, match=words) as error:
        make_settings(methods=(line,), **SMALL, clients_per_round=2)
    assert "\n" not in str(error.value)
