"""FedAsync over a real network: a SuperLink and four SuperNodes on this machine."""

import shutil
import subprocess
import time

import jax
import numpy as np
import pytest

from benchmarks.flower_net import APP, load_local_net
from fedasync_jax.flower.replay import replay_run
from fedasync_jax.mixing import staleness
from fedasync_jax.parts.folder_names import slugify
from fedasync_jax.storage import read_run

pytest.importorskip("flwr")

METHOD = "FedAsync polynomial(0.5)"
NUM_UPDATES, NUM_NODES = 20, 4
CONFIG = {
    "num-updates": NUM_UPDATES,
    "num-clients": NUM_NODES,
    "eval-every": 5,
    "checkpoint-every": 10,
    "concentration": 1.0,
    "epochs": 1.0,
}
SECONDS = 420  # hard limit of the whole run
DELAYS = (0, 0, 1, 4)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run to the end; return the run folder."""
    root = tmp_path_factory.mktemp("flower")
    local_net = load_local_net()
    superlink, *ports = local_net.free_ports(1 + NUM_NODES)
    env = {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(root / "compiled"),
    }
    net = local_net.LocalNet(superlink, root / "logs", root / "home", env)
    try:
        net.start_superlink()
        for i, (port, delay) in enumerate(zip(ports, DELAYS, strict=True)):
            config = f"partition-id={i} num-partitions={NUM_NODES} delay={delay}"
            net.start_node(f"node-{i}", port, config)
        app = shutil.copytree(APP, root / "app")
        path = root / "run"
        client = net.run_app(app, {**CONFIG, "run-dir": str(path)})
        try:
            client.wait(SECONDS)
        except subprocess.TimeoutExpired:
            pytest.fail(f"no end after {SECONDS} s:\n{_tail(root / 'logs')}")
        if not (path / "summary.json").is_file():
            pytest.fail(f"the run failed:\n{_tail(root / 'logs')}")
        yield path
    finally:
        net.stop()
    assert _leftovers(net) == []


def _tail(logs):
    texts = [f"{log.name}: {log.read_text()[-2000:]}" for log in logs.iterdir()]
    return "\n".join(texts)


def _leftovers(net):
    """Return processes of the network that live on."""
    time.sleep(0.5)
    return list(net.find_rest())


@pytest.fixture(scope="module")
def updates(finished):
    return read_run.read_updates(finished, METHOD)


def test_all_four_nodes_took_part_and_the_slow_one_the_least(updates):
    assert len(updates["client"]) == NUM_UPDATES
    counts = np.bincount(updates["partition"], minlength=NUM_NODES)
    assert counts.min() >= 1 and counts[3] == counts.min() < counts.max()


def test_nobody_was_waited_for(updates):
    assert updates["staleness"].max() >= 2
    assert (np.diff(updates["arrival_time"]) >= 0).all()
    d = np.arange(NUM_UPDATES) - updates["start_version"]
    np.testing.assert_array_equal(updates["staleness"], d)
    assert d.min() >= 0 and len(set(updates["task"])) == NUM_UPDATES


def test_the_loss_falls(finished):
    rows = read_run.read_metrics(finished)[METHOD]
    assert [row["version"] for row in rows] == list(range(0, NUM_UPDATES + 1, 5))
    assert rows[-1]["test_loss"] < 0.6 * rows[0]["test_loss"]
    assert rows[-1]["test_accuracy"] > 0.6
    assert rows[-1]["rejected"] == 0


def test_the_weights_are_those_of_the_simulators_rule(updates):
    s = staleness.polynomial(0.5)
    np.testing.assert_array_equal(
        updates["alpha"], np.float32(0.6) * np.asarray(s(updates["staleness"]))
    )
    assert updates["applied"].all()


def test_the_simulator_replays_the_arrivals_to_the_same_model(finished, updates):
    """The engine, told who arrived when from which version, gets the same model."""
    replay = replay_run(finished)
    assert replay.difference <= 1e-6
    replayed = replay.result
    for found, wanted in zip(
        *map(jax.tree.leaves, (replay.model, replayed.state.variables)), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(replayed.updates.alpha, updates["alpha"])
    np.testing.assert_allclose(replayed.updates.loss, updates["loss"], atol=1e-5)


def test_the_run_folder_is_that_of_a_simulation(finished):
    folder = finished / slugify(METHOD)
    assert {p.name for p in folder.iterdir()} == {
        "checkpoints",
        "lost.npz",
        "model",
        "timeline.npz",
        "updates.npz",
    }
    pictures = {p.stem for p in (finished / "plots").iterdir()}
    assert {"accuracy", "staleness", "alpha", "timeline"} <= pictures
    lost = read_run.read_lost(finished, METHOD)
    assert lost is None or set(lost["cause"]) <= {"unfinished"}
