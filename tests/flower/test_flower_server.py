"""Scheduler and Updater over a grid in memory, with replies of every kind."""

import json
import socket
import threading
import time

import numpy as np
import pytest

pytest.importorskip("flwr")

from flower_grid import Grid, good, make_model, replay, slow
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)

from fedasync_jax import mixing
from fedasync_jax.flower import exposure
from fedasync_jax.flower.adapter import (
    NodeNetwork,
    Stamp,
    read_stamp,
)
from fedasync_jax.flower.coordinator import Coordinator
from fedasync_jax.flower.limits import Limits
from fedasync_jax.flower.server import Server
from fedasync_jax.flower.server_app import run_server
from fedasync_jax.flower.session import Problem
from fedasync_jax.flower.settings import read_settings
from fedasync_jax.flower.updater import Updater
from fedasync_jax.mixing import staleness
from fedasync_jax.parts.folder_names import slugify
from fedasync_jax.storage import read_run
from fedasync_jax.storage.models import load_model


def make_server(replies, rule=None, **limits):
    limits = Limits(
        **{"poll_seconds": 0.002, "back_off": 0.02, "max_back_off": 0.1, **limits}
    )
    grid = Grid(replies)
    mixer = mixing.fedasync(0.5, rule or staleness.constant())
    server = Server(
        NodeNetwork(grid),  # pyright: ignore[reportArgumentType]
        Coordinator(limits, np.random.default_rng(0)),
        Updater(mixer, make_model()),
        limits,
        time.monotonic,
    )
    return server, grid


def run(server, num_updates, seconds=30):
    """Run to the end, in a thread that a hanging test does not wait for."""
    failed = []

    def target():
        try:
            server.run(num_updates, lambda: None)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), server.books()
    if failed:
        raise failed[0]


def test_one_honest_node_is_the_serial_algorithm():
    server, _ = make_server({5: good}, max_in_flight=1)
    run(server, 4)
    # x <- 0.5 x + 0.5 (x + 1)
    np.testing.assert_allclose(
        server.updater.newest.variables.params["w"], np.full(3, 2.0)
    )
    assert [arrival.staleness for arrival in server.arrivals] == [0] * 4
    assert server.books()[1].keys() <= {"unfinished"}


def test_late_arrivals_weigh_what_the_rule_says():
    rule = staleness.polynomial(0.5)
    server, _ = make_server({n: good for n in range(4)}, rule=rule, poll_seconds=0.02)
    run(server, 40)
    weights = [0.5 * float(rule(arrival.staleness)) for arrival in server.arrivals]
    starts = [arrival.start_version for arrival in server.arrivals]
    late = [arrival.staleness for arrival in server.arrivals]
    assert late == [t - tau for t, tau in enumerate(starts)] and max(late) >= 2
    assert [arrival.alpha for arrival in server.arrivals] == pytest.approx(weights)
    columns = {"start_version": np.array(starts), "alpha": np.array(weights)}
    np.testing.assert_allclose(
        server.updater.newest.variables.params["w"], replay(columns), rtol=1e-5
    )


def spoil(change):
    def reply(message, place):
        answer = good(message, place)
        change(answer.content)
        return answer

    return reply


def set_model(array, name="params/w"):
    def change(content):
        content["model"] = ArrayRecord({name: Array(array)})

    return spoil(change)


def set_stamp(**changes):
    def change(content):
        content["task"] = ConfigRecord({**content["task"], **changes})

    return spoil(change)


def set_metrics(**changes):
    def change(content):
        names = {name.replace("_", "-"): value for name, value in changes.items()}
        content["metrics"] = MetricRecord({**content["metrics"], **names})

    return spoil(change)


def drop(name):
    return spoil(lambda content: content.pop(name))


def from_another_node(message, place):
    answer = good(message, place)
    answer.metadata.__dict__["_src_node_id"] = 77
    return answer


class Replayer:
    """Sends its first reply again and again."""

    def __init__(self):
        self.first = None

    def __call__(self, message, place):
        answer = good(message, place)
        if self.first is None:
            self.first = answer.content
            return answer
        return Message(self.first, reply_to=message)


BAD = {
    "not finite": set_model(np.array([0, np.nan, 0], np.float32)),
    "wrong shape": set_model(np.zeros(4, np.float32)),
    "wrong dtype": set_model(np.zeros(3, np.float64)),
    "wrong names": set_model(np.zeros(3, np.float32), "params/v"),
    "too large": set_model(np.zeros(100_000, np.float32)),
    "update too large": set_model(np.full(3, 1e6, np.float32)),
    "wrong task": set_stamp(number=10**6),
    "wrong time stamp": set_stamp(version=-1),
    "wrong metrics": set_metrics(num_steps=0),
    "malformed": drop("model"),
}


@pytest.mark.parametrize("cause", BAD)
def test_a_bad_reply_is_counted_and_not_mixed_and_its_node_asked_no_more(cause):
    server, grid = make_server({5: slow, 6: BAD[cause]}, max_bad_replies=2)
    run(server, 40)
    lost, counts = server.books()
    assert counts[cause] == 2 and grid.asked.count(6) == 2
    assert {row.cause for row in lost} <= {cause, "unfinished"}
    assert {arrival.client for arrival in server.arrivals} == {0}
    assert np.isfinite(server.updater.newest.variables.params["w"]).all()


@pytest.mark.parametrize(
    "change",
    [
        drop("task"),
        drop("metrics"),
        set_stamp(number="0"),
        set_metrics(loss=[1.0]),
        set_metrics(num_samples=1.5),
        set_metrics(num_steps=2**40),
        lambda message, place: ValueError("Flower cannot unpack this"),
    ],
)
def test_whatever_else_comes_never_ends_the_run(change):
    server, _ = make_server({5: slow, 6: change}, max_bad_replies=1)
    run(server, 20)
    causes = server.books()[1].keys()
    assert causes <= {"malformed", "wrong metrics", "wrong task", "unfinished"}
    assert {arrival.client for arrival in server.arrivals} == {0}


def test_a_loss_that_is_not_finite_is_told_as_nan_and_the_model_mixed():
    server, _ = make_server({5: set_metrics(loss=float("inf"))})
    run(server, 1)
    assert np.isnan(server.arrivals[0].loss)


def test_a_replayed_reply_is_mixed_the_first_time_only():
    server, grid = make_server({5: slow, 6: Replayer()}, max_bad_replies=3)
    run(server, 60)
    assert sum(arrival.client == 1 for arrival in server.arrivals) == 1
    assert server.books()[1]["wrong task"] == 3 and grid.asked.count(6) == 4


def test_a_reply_that_names_another_node_is_not_mixed():
    server, _ = make_server({5: slow, 6: from_another_node})
    run(server, 20)
    assert server.books()[1]["wrong node"] >= 1
    assert {arrival.client for arrival in server.arrivals} == {0}


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (0, "client error"),
        (2, "client error"),
        (3, "expired"),
        (4, "reply unavailable"),
        (5, "node left"),
        (8, "client crashed"),
        (99, "client error"),
    ],
)
def test_errors_are_counted_by_their_kind(code, cause):
    def fail(message, place):
        return Message(Error(code, "why"), reply_to=message)

    server, _ = make_server({5: slow, 6: fail})
    run(server, 20)
    assert server.books()[1].keys() <= {cause, "unfinished"}
    assert server.books()[1][cause] >= 1


def test_a_node_that_answers_errors_at_once_is_not_hammered():
    def fail(message, place):
        return Message(Error(2, "dead"), reply_to=message)

    server, _ = make_server({5: slow, 6: fail}, back_off=0.05, max_back_off=10.0)
    run(server, 50)
    assert server.books()[1]["client error"] <= 8


def test_the_work_of_a_node_that_never_answers_is_done_by_another():
    server, _ = make_server(
        {5: slow, 6: lambda message, place: None}, max_in_flight=2, deadline=0.05
    )
    run(server, 30)
    assert server.books()[1]["deadline"] >= 1
    assert {arrival.client for arrival in server.arrivals} == {0}


def test_a_node_that_the_network_does_not_know_is_a_fault():
    server, _ = make_server({5: slow, 6: lambda message, place: "unknown"})
    run(server, 20)
    assert server.books()[1]["not sent"] >= 1


def test_without_nodes_it_waits_and_says_so(monkeypatch):
    server, grid = make_server({})
    lines = []
    monkeypatch.setattr(
        server._network, "tell", lambda line, warn=False: lines.append(line)
    )
    threading.Timer(0.2, lambda: grid.replies.update({5: good})).start()
    run(server, 3)
    assert len(lines) == 1 and lines[0].startswith("waiting for a node: 0 connected")


def test_an_end_of_the_network_ends_the_run():
    def lose(message, place):
        return ConnectionError("the SuperLink is gone")

    server, _ = make_server({5: lose})
    with pytest.raises(ConnectionError, match="gone"):
        run(server, 3)


def test_an_end_of_the_scheduler_ends_the_run(monkeypatch):
    server, grid = make_server({5: lambda message, place: None})

    def lose():
        raise ConnectionError("the SuperLink is gone")

    monkeypatch.setattr(grid, "get_nodes", lose)
    with pytest.raises(ConnectionError, match="gone"):
        run(server, 3)


def test_what_is_too_stale_is_lost_without_blame():
    held = []

    def hold(message, place):
        """Answer only when many others have."""
        held.append(message)

    def release(message, place):
        if place == 10:
            grid.answers[held[0].metadata.message_id] = good(held[0], 0)
        return slow(message, place)

    server, grid = make_server({5: release, 6: hold}, max_staleness=3)
    run(server, 80)
    assert server.books()[1]["too stale"] == 1
    assert max(arrival.staleness for arrival in server.arrivals) <= 3


# The run folder


def make_run(path, num_updates, **config):
    config = {
        "run-dir": str(path),
        "num-updates": num_updates,
        "eval-every": 5,
        "checkpoint-every": 5,
        "method": "fedasync-constant",
        "alpha": 0.5,
        "poll-seconds": 0.002,
        "back-off": 0.02,
        "max-back-off": 0.1,
        **config,
    }
    return read_settings(config)


def evaluate(variables):
    w = variables.params["w"]
    return {"loss": w.sum(), "correct": w.mean() * 0}


def serve(replies, run):
    grid = Grid(replies)
    network = NodeNetwork(grid)  # pyright: ignore[reportArgumentType]
    run_server(network, run, Problem(make_model(), evaluate))
    return grid


METHOD = "FedAsync constant"


def test_a_run_that_was_broken_off_goes_on_from_its_checkpoint(tmp_path):
    path = tmp_path / "run"

    def break_off(message, place):
        if place == 12:
            return ConnectionError("killed")
        return good(message, place)

    with pytest.raises(ConnectionError):
        serve({5: break_off, 6: BAD["not finite"]}, make_run(path, 20))
    first = read_run.read_metrics(path)[METHOD]
    assert first[-1]["version"] == 10
    serve({5: good, 6: BAD["not finite"]}, make_run(path, 20))
    rows = read_run.read_metrics(path)[METHOD]
    assert [row["version"] for row in rows] == [0, 5, 10, 15, 20]
    assert rows[: len(first)] == first
    updates = read_run.read_updates(path, METHOD)
    assert updates is not None
    assert len(set(updates["task"].tolist())) == len(updates["task"]) == 20
    assert (np.diff(updates["arrival_time"]) > 0).all()
    model = load_model(path / slugify(METHOD) / "model", make_model())
    np.testing.assert_allclose(model.params["w"], replay(updates), rtol=1e-6)
    lost = read_run.read_lost(path, METHOD)
    assert lost is not None and "not finite" in lost["cause"]
    assert set(np.load(path / "clients.npz")["node"].tolist()) == {5, 6}


def test_a_run_that_has_ended_goes_on_when_more_is_asked_for(tmp_path):
    path = tmp_path / "run"
    serve({5: good}, make_run(path, 5))
    serve({5: good}, make_run(path, 12))
    updates = read_run.read_updates(path, METHOD)
    assert updates is not None and len(updates["task"]) == 12


def test_another_run_in_the_folder_is_refused(tmp_path):
    serve({5: good}, make_run(tmp_path / "run", 5))
    with pytest.raises(ValueError, match=r"alpha must be 0\.5 to go on"):
        serve({5: good}, make_run(tmp_path / "run", 5, alpha=0.6))


def test_a_banned_node_stays_banned_after_a_new_start(tmp_path):
    path, bad = tmp_path / "run", BAD["wrong shape"]
    config = {"max-bad-replies": 1, "checkpoint-every": 1}
    serve({5: slow, 6: bad}, make_run(path, 20, **config))
    grid = serve({5: slow, 6: bad}, make_run(path, 30, **config))
    assert 6 not in grid.asked and 5 in grid.asked


def test_the_record_says_who_did_what_when(tmp_path):
    path = tmp_path / "run"
    serve({5: slow, 6: BAD["too large"]}, make_run(path, 10))
    timeline = read_run.read_timeline(path, METHOD)
    updates = read_run.read_updates(path, METHOD)
    clients = read_run.read_clients(path)
    assert timeline is not None and updates is not None and clients is not None
    assert (updates["arrival_time"] >= updates["start_time"]).all()
    assert (timeline["end"] >= timeline["start"]).all()
    assert clients["num_samples"].tolist() == [20, 0]
    row = read_run.read_metrics(path)[METHOD][-1]
    assert row["gradients"] == 30 and row["rejected"] == row["causes"]["too large"]
    config = json.loads((path / "config.json").read_text())
    assert config["limits"]["max_in_flight"] == 8 and "flwr" in config["versions"]


def test_a_language_model_is_judged_by_its_perplexity(tmp_path):
    network = NodeNetwork(Grid({5: good}))  # pyright: ignore[reportArgumentType]
    problem = Problem(make_model(), evaluate, is_text=True)
    run_server(network, make_run(tmp_path / "run", 5), problem)
    for row in read_run.read_metrics(tmp_path / "run")[METHOD]:
        assert row["test_perplexity"] == pytest.approx(np.exp(row["test_loss"]))


# Insecure servers


def test_a_server_for_this_machine_only_is_not_exposed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert exposure.find_exposure(f"127.0.0.1:{server.getsockname()[1]}") is None


def test_a_server_for_all_the_world_is_found_out():
    if not exposure._own_addresses():
        pytest.skip("this machine has no other address than loopback")
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert (
            exposure.find_exposure(f"127.0.0.1:{server.getsockname()[1]}") is not None
        )
    assert exposure.find_exposure("192.0.2.7:8000") == "192.0.2.7"


def test_a_stamp_without_numbers_names_nothing():
    task = ConfigRecord({"number": "1", "version": 2.0})
    message = Message(RecordDict({"task": task}), 5, "train")
    assert read_stamp(message) == Stamp(None, None)
