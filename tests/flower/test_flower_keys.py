"""A node with a key stays the same node, whatever number Flower gives it."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr")

from flower_grid import Grid, good, make_model
from flwr.server.superlink.linkstate import InMemoryLinkState
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager

from fedasync_jax.flower.adapter import NodeNetwork
from fedasync_jax.flower.limits import Limits
from fedasync_jax.flower.nodes import Roster
from fedasync_jax.flower.server_app import run_server
from fedasync_jax.flower.session import Problem
from fedasync_jax.flower.settings import read_settings
from fedasync_jax.storage import read_run

METHOD = "FedAsync constant"
KEYS = {5: b"key of A", 6: b"key of B"}


def serve(path, replies, keys, num_updates):
    config = {
        "run-dir": str(path),
        "num-updates": num_updates,
        "eval-every": 5,
        "checkpoint-every": 1,
        "method": "fedasync-constant",
        "max-bad-replies": 2,
        "poll-seconds": 0.002,
        "back-off": 0.01,
        "max-back-off": 0.01,
    }
    grid = Grid(replies, keys)
    problem = Problem(make_model(), lambda variables: {"loss": np.float32(1)})  # pyright: ignore
    run_server(NodeNetwork(grid), read_settings(config), problem)  # pyright: ignore
    return grid


def nan(message, place):
    reply = good(message, place)
    array: Any = next(iter(reply.content["model"].values()))
    array.data = array.data[:-4] + b"\xff\xff\xff\xff"
    return reply


def test_a_ban_follows_the_key_to_a_new_number(tmp_path):
    """A SuperLink that starts anew numbers its nodes anew; the server resumes."""
    serve(tmp_path, {5: good, 6: nan}, KEYS, 20)
    new = {105: KEYS[5], 106: KEYS[6]}
    grid = serve(tmp_path, {105: good, 106: nan}, new, 40)
    assert 106 not in grid.asked and grid.asked.count(105) >= 20
    clients, updates = (
        read_run.read_clients(tmp_path),
        read_run.read_updates(tmp_path, METHOD),
    )
    assert clients is not None and updates is not None
    assert clients["node"].tolist() == [5, 6]
    assert set(updates["client"].tolist()) == {0}


def test_without_a_key_a_new_number_is_a_new_node(tmp_path):
    serve(tmp_path, {5: good, 6: nan}, {}, 20)
    grid = serve(tmp_path, {105: good, 106: nan}, {}, 60)
    assert grid.asked.count(106) == 2
    clients = read_run.read_clients(tmp_path)
    assert clients is not None and len(clients["node"]) == 4


def test_a_node_that_comes_back_under_another_number_keeps_its_record():
    roster = Roster(Limits(max_bad_replies=1))
    assert roster.recognize({5: "A", 6: "B", 7: ""}) == []
    roster[6].bad, roster[5].answers = 1, 9
    roster[7].answers = 3
    assert roster.recognize({5: "A", 16: "B", 17: ""}) == [(16, 6)]
    assert roster.recognize({5: "A", 16: "B", 17: ""}) == []  # it is said once
    assert roster.is_banned(16) and roster[16] is roster[6]
    assert roster[17].answers == 0 and roster[17] is not roster[7]
    rows = roster.to_json()
    after = Roster(Limits(max_bad_replies=1))
    after.restore([*rows, [9, 1]])  # and one of before
    assert after.recognize({25: "A", 26: "B", 9: "C"}) == [(25, 5), (26, 6)]
    assert after.is_banned(26) and after[25].answers == 9 and after[9].key == "C"
    assert after.numbers[:2] == [5, 6]


def test_what_flower_does_with_a_key_is_what_the_page_says():
    """One number a key as long as a SuperLink lives; its memory begins anew with it."""

    def start_superlink():
        store = ObjectStoreFactory().store()
        return InMemoryLinkState(NoOpFederationManager(), store)

    state = start_superlink()
    node = state.create_node("me", "me", b"key", 30)
    assert state.activate_node(node, 30) and state.deactivate_node(node)
    assert state.get_node_id_by_public_key(b"key") == node
    with pytest.raises(ValueError, match="already in use"):
        state.create_node("me", "me", b"key", 30)
    assert state.activate_node(node, 30)
    (info,) = state.get_node_info(node_ids=[node])
    assert info.public_key == b"key"  # what the server's grid passes on
    state.delete_node("me", node)
    with pytest.raises(ValueError, match="already in use"):
        state.create_node("me", "me", b"key", 30)
    assert start_superlink().create_node("me", "me", b"key", 30) != node
