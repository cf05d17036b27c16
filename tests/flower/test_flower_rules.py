"""Every rule that knows nothing beforehand: over the network, then replayed."""

import inspect

import jax
import numpy as np
import pytest

pytest.importorskip("flwr")

from flower_grid import Grid

from fedasync_jax.experiment.build import build_workload
from fedasync_jax.flower import adapter, arrays, work
from fedasync_jax.flower.adapter import (
    NodeNetwork,
    Report,
    Trained,
    make_reply,
    read_stamp,
)
from fedasync_jax.flower.replay import replay_run
from fedasync_jax.flower.server_app import run_server
from fedasync_jax.flower.session import Problem
from fedasync_jax.flower.settings import read_settings
from fedasync_jax.mixing.rules import RULES

NUM_NODES = 3
PER_CLIENT = {"ca2fl", "area"}
LINES = [
    *sorted(set(RULES) - PER_CLIENT),
    "fedasync-hinge",
    "fedbuff:size=3",
    "fedasync-polynomial:average=5",
]
CONFIG = {
    "num-updates": 16,
    "num-clients": NUM_NODES,
    "partition": "dirichlet",
    "concentration": 1.0,
    "num-steps": 3,
    "hidden": "8",
    "eval-every": 8,
    "checkpoint-every": 8,
    "poll-seconds": 0.001,
    "unproven-share": 1.0,
}


def test_the_rules_with_a_model_per_client_are_the_others():
    needing = {
        name
        for name, factory in RULES.items()
        if {"num_clients", "arrivals"} & inspect.signature(factory).parameters.keys()
    }
    assert needing == PER_CLIENT


@pytest.fixture(scope="module")
def parts():
    settings = read_settings(CONFIG).settings
    return [work.load_partitions(settings, [part])[0] for part in range(NUM_NODES)]


def make_node(part, settings, stretch=1.0):
    """Return a node whose every fifth step is ``stretch`` times the honest one."""

    def train(message, place):
        start = arrays.decode(adapter.read_model(message), part.like)
        stamp = read_stamp(message)
        assert stamp.number is not None
        trained, loss = part.train(start, work.task_key(settings, stamp.number))
        if place % 5 == 4:
            trained = jax.tree.map(lambda x, y: x + stretch * (y - x), start, trained)
        report = Report(float(loss), part.num_steps, part.num_samples, part.partition)
        model = arrays.encode(jax.device_get(trained))
        return make_reply(message, stamp, Trained(model, report))

    return train


def run_over_network(path, parts, line, stretch=1.0, **config):
    run = read_settings({**CONFIG, "method": line, "run-dir": str(path), **config})
    nodes = {
        10 + number: make_node(part, run.settings, stretch if number == 2 else 1.0)
        for number, part in enumerate(parts)
    }
    workload = build_workload(run.settings)
    variables = jax.jit(workload.model.init)(run.settings.make_key("init"))
    network = NodeNetwork(Grid(nodes))  # pyright: ignore[reportArgumentType]
    run_server(network, run, Problem(variables, workload.evaluate))


@pytest.mark.parametrize("line", LINES)
def test_a_rule_runs_over_a_network_and_is_replayed(line, parts, tmp_path):
    run_over_network(tmp_path, parts, line)
    replay = replay_run(tmp_path)
    assert replay.difference <= 1e-6
    assert (replay.updates["staleness"] > 0).any()
    np.testing.assert_allclose(
        replay.result.updates.alpha, replay.updates["alpha"], rtol=1e-6
    )
    np.testing.assert_array_equal(
        replay.result.updates.applied, replay.updates["applied"]
    )


def test_updates_that_were_shortened_are_replayed_shortened(parts, tmp_path):
    """Otherwise whole steps would be replayed, and the replay be far away."""
    config = {"clip-norm-ratio": 1.0, "num-updates": 30}
    run_over_network(tmp_path, parts, "fedasync-polynomial", **config)
    replay = replay_run(tmp_path)
    assert (replay.updates["scale"] < 1).sum() >= 5
    assert replay.difference <= 1e-6


def test_a_node_that_did_other_work_than_it_says_is_found_by_the_replay(
    parts, tmp_path
):
    run_over_network(tmp_path, parts, "fedasync-polynomial", stretch=1.5)
    assert replay_run(tmp_path).difference > 1e-4
