"""Several clients per node: a message brings a model of each, mixed one by one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("flwr")

from flower_grid import Grid, good, make_model, replay
from flwr.app import ArrayRecord, Context, MetricRecord, RecordDict

from fedasync_jax import models
from fedasync_jax.experiment.build import build_workload
from fedasync_jax.flower import adapter, arrays, work
from fedasync_jax.flower.adapter import NodeNetwork
from fedasync_jax.flower.client_app import make_client_app
from fedasync_jax.flower.limits import Limits
from fedasync_jax.flower.replay import replay_run
from fedasync_jax.flower.server_app import run_server
from fedasync_jax.flower.session import Problem
from fedasync_jax.flower.settings import read_settings
from fedasync_jax.parts.folder_names import slugify
from fedasync_jax.storage import read_run
from fedasync_jax.storage.models import load_model

NUM_PARTS = 6
HELD = {11: "0 2 4", 12: "5,1", 13: "3"}  # parts by node
CONFIG = {
    "num-updates": 24,
    "num-clients": NUM_PARTS,
    "partition": "dirichlet",
    "concentration": 1.0,
    "epochs": 1.0,
    "hidden": "8",
    "eval-every": 6,
    "checkpoint-every": 6,
    "poll-seconds": 0.001,
    "clients-per-message": 2,
}
METHOD = "FedAsync constant"


def make_context(node, config, **node_config):
    node_config = {"num-partitions": NUM_PARTS, **node_config}
    return Context(1, node, node_config, RecordDict(), config)  # pyright: ignore


def run_with_apps(path, **changes):
    """Run over nodes that are real ClientApps."""
    config = {**CONFIG, "run-dir": str(path), **changes}
    app = make_client_app()
    contexts = {
        node: make_context(node, config, **{"partition-ids": parts})
        for node, parts in HELD.items()
    }

    def ask(node):
        return lambda message, place: app(message, contexts[node])

    run = read_settings(config)
    workload = build_workload(run.settings)
    variables = jax.jit(workload.model.init)(run.settings.make_key("init"))
    grid = Grid({node: ask(node) for node in HELD})
    network = NodeNetwork(grid)  # pyright: ignore[reportArgumentType]
    run_server(network, run, Problem(variables, workload.evaluate))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("several") / "run"
    run_with_apps(path)
    return path


def test_models_of_a_message_are_replayed_by_a_rule_with_a_buffer(tmp_path):
    run_with_apps(tmp_path, method="fedbuff:size=3")
    assert replay_run(tmp_path).difference <= 1e-6


def test_models_of_one_message_are_mixed_one_by_one_and_replayed(finished):
    found = replay_run(finished)
    assert found.difference <= 1e-6
    updates, clients = found.updates, read_run.read_clients(finished)
    assert clients is not None
    held = [
        {int(p) for p in HELD[node].replace(",", " ").split()}
        for node in clients["node"].tolist()
    ]
    firsts = updates["task"] % 2 == 0
    for row in np.flatnonzero(~firsts):
        before, here = ({k: v[i] for k, v in updates.items()} for i in (row - 1, row))
        assert here["task"] == before["task"] + 1
        assert here["start_version"] == before["start_version"]
        assert here["client"] == before["client"]
        parts = {int(before["partition"]), int(here["partition"])}
        assert len(parts) == 2 and parts <= held[here["client"]]
    alone = clients["node"].tolist().index(13)
    assert firsts[updates["client"] == alone].all()
    assert 5 <= (~firsts).sum() < 12


def test_the_second_of_a_message_is_one_version_staler(finished):
    updates = read_run.read_updates(finished, "FedAsync polynomial(0.5)")
    assert updates is not None
    staleness, seconds = updates["staleness"], np.flatnonzero(updates["task"] % 2)
    np.testing.assert_array_equal(
        staleness, np.arange(len(staleness)) - updates["start_version"]
    )
    np.testing.assert_array_equal(staleness[seconds], staleness[seconds - 1] + 1)
    weights = 0.6 / np.sqrt(1.0 + staleness)
    np.testing.assert_allclose(updates["alpha"], weights, rtol=1e-6)


def test_the_samples_of_a_node_are_those_of_its_clients(finished):
    counts = build_workload(read_settings(CONFIG).settings).counts
    clients = read_run.read_clients(finished)
    assert clients is not None
    for node, samples in zip(clients["node"], clients["num_samples"], strict=True):
        parts = [int(p) for p in HELD[int(node)].replace(",", " ").split()]
        assert samples == counts[parts].sum()


# Replies of any kind, of a model that is counted by hand


def several(*kinds):
    """Return a node whose reply has a model of each kind: good, nan, far or lost."""

    def reply(message, place):
        answer = good(message, place)
        model: Any = answer.content.pop("model")
        metrics: Any = answer.content.pop("metrics")
        for number, kind in enumerate(kinds):
            suffix = f"-{number}" if number else ""
            answer.content[f"model{suffix}"] = SPOILED[kind](model)
            if kind != "lost":
                answer.content[f"metrics{suffix}"] = MetricRecord(dict(metrics))
        return answer

    return reply


def _set(value):
    def change(model):
        raw = arrays.encode(make_model(value))
        return adapter._to_record(raw)

    return change


def _add(model):
    """Return a step that is five times the honest one."""
    raw = {k: arrays.RawArray(a.dtype, a.shape, a.data) for k, a in model.items()}
    up = jax.tree.map(lambda leaf: leaf + 4, arrays.decode(raw, make_model()))
    return adapter._to_record(arrays.encode(up))


SPOILED = {
    "good": lambda model: ArrayRecord(dict(model)),
    "lost": lambda model: ArrayRecord(dict(model)),
    "nan": _set(np.nan),
    "far": _set(1e6),
    "up": _add,
}


def serve(path, replies, num_updates, evaluate=None, **config):
    run = read_settings(
        {
            "run-dir": str(path),
            "num-updates": num_updates,
            "eval-every": 1,
            "method": "fedasync-constant",
            "alpha": 0.5,
            "poll-seconds": 0.002,
            "back-off": 0.01,
            "max-back-off": 0.02,
            "clients-per-message": 3,
            **config,
        }
    )
    grid = Grid(replies)
    evaluate = evaluate or (lambda variables: {"loss": np.float32(1)})
    problem = Problem(make_model(), evaluate)  # pyright: ignore[reportArgumentType]
    run_server(NodeNetwork(grid), run, problem)  # pyright: ignore[reportArgumentType]
    updates, lost = (
        read(path, METHOD) for read in (read_run.read_updates, read_run.read_lost)
    )
    assert updates is not None
    return grid, updates, lost


def test_the_good_models_of_a_reply_are_mixed_and_the_bad_ones_counted(tmp_path):
    replies = {5: several("good", "nan", "good")}
    limits = {"max-bad-replies": 100}
    grid, updates, lost = serve(tmp_path, replies, 10, **limits)
    assert (updates["task"] % 3).tolist() == [0, 2] * 5
    assert set(updates["staleness"][1::2]) == {1}
    assert lost is not None and set(
        lost["task"][lost["cause"] == "not finite"] % 3
    ) == {1}
    assert len(grid.asked) == 5 or len(grid.asked) == 6
    model = load_model(tmp_path / slugify(METHOD) / "model", make_model())
    np.testing.assert_allclose(model.params["w"], replay(updates), rtol=1e-6)


@pytest.mark.parametrize(
    ("kinds", "causes"),
    [
        (["nan", "nan", "nan"], {"not finite": 6}),
        (["nan", "far", "lost"], {"not finite": 2, "update too large": 2}),
        (["good"] * 4, {"malformed": 2}),
        ([], {"malformed": 2}),
    ],
)
def test_a_reply_with_bad_models_is_one_bad_reply(kinds, causes, tmp_path):
    replies = {5: good, 6: several(*kinds)}
    limits = {"max-bad-replies": 2, "max-in-flight": 2}
    grid, _, _ = serve(tmp_path, replies, 60, **limits)
    assert grid.asked.count(6) == 2
    counts = read_run.read_metrics(tmp_path)[METHOD][-1]["causes"]
    assert {name: counts[name] for name in causes} == causes
    assert counts.keys() <= {*causes, "malformed", "unfinished"}


def test_every_model_of_a_reply_is_shortened_by_itself(tmp_path):
    _, updates, _ = serve(tmp_path, {5: several("good", "up", "good")}, 60)
    is_up = updates["task"] % 3 == 1
    assert (updates["scale"][is_up][4:10] < 1).all()
    assert (updates["scale"][~is_up][10:] == 1).all()


def test_a_node_that_is_too_long_each_time_is_shortened_more_and_more(tmp_path):
    replies = {5: good, 6: several("up"), 7: good}
    _, updates, _ = serve(tmp_path, replies, 90, **{"clients-per-message": 1})
    is_long = updates["norm"] > 2 * updates["norm"].min()
    assert 10 < is_long.sum() < 60
    length = (updates["scale"] * updates["norm"])[is_long]
    least = 2 * updates["norm"].min() / 16
    np.testing.assert_allclose(length[-5:], least, rtol=1e-5)
    assert (updates["scale"][~is_long] == 1).all()


def test_a_run_ends_in_the_middle_of_a_message(tmp_path):
    limits = {"max-in-flight": 1, "eval-every": 5}
    _, updates, lost = serve(tmp_path, {5: several(*["good"] * 3)}, 5, **limits)
    assert updates["task"].tolist() == [0, 1, 2, 3, 4]
    assert lost is not None and lost["cause"].tolist()[0] == "unfinished"
    assert lost["task"].tolist()[0] == 5
    _, updates, _ = serve(tmp_path, {5: several(*["good"] * 3)}, 9, **limits)
    assert len(set(updates["task"].tolist())) == 9


def test_what_comes_behind_an_explosion_in_a_message_is_undone(tmp_path):
    """The start model of the whole message is given up with what exploded."""

    def evaluate(variables):
        level = variables.params["w"].mean()
        return {"loss": np.where(level > 1.2, 100.0, 1.0)}

    replies = {5: several("good", "up", "good")}
    limits = {"max-undos": 1, "eval-every": 2, "max-in-flight": 1}
    _, updates, lost = serve(tmp_path, replies, 6, evaluate, **limits)
    assert lost is not None
    # Version 4 explodes, which the first model of the message of version 3 made.
    assert lost["task"][lost["cause"] == "undone"].tolist() == [2, 3, 4, 5]
    assert updates["task"].tolist() == [0, 1, 6, 7, 8, 9]


def test_the_third_model_of_a_message_can_be_too_stale(tmp_path):
    limits = {"max-staleness": 2, "max-in-flight": 2, "max-per-node": 2}
    replies = {5: several(*["good"] * 3)}
    _, updates, lost = serve(tmp_path, replies, 30, **limits)
    assert lost is not None and (lost["cause"] == "too stale").sum() >= 3
    assert updates["staleness"].max() == 2


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"clients_per_message": 0}, r"clients_per_message must be in \[1, 1000\]"),
        ({"clients_per_message": 1001}, r"clients_per_message must be in \[1, 1000\]"),
        (
            {"clients_per_message": 4, "max_staleness": 2},
            "max_staleness must be >= 3, what the last of 4 models",
        ),
    ],
)
def test_limits_of_messages_are_checked(fields, line):
    with pytest.raises(ValueError, match=line) as caught:
        Limits(**fields)
    assert "\n" not in str(caught.value)


# The node


def ask(context, app=None, num_clients=3, number=3):
    settings = read_settings(CONFIG).settings
    like = work.load_partitions(settings, [0])[0].like
    content = RecordDict({"model": adapter._to_record(arrays.encode(like))})
    numbers: Any = {"number": number, "version": 2, "clients": num_clients}
    content["task"] = adapter.ConfigRecord(numbers)
    message = adapter.Message(content, 5, "train")
    message.metadata.__dict__["_message_id"] = "a message"
    return (app or make_client_app())(message, context)


@pytest.mark.parametrize(("num_clients", "expected"), [(1, 1), (2, 2), (9, 3)])
def test_a_node_trains_for_as_many_clients_as_it_is_asked_and_has(
    num_clients, expected
):
    reply = ask(
        make_context(5, CONFIG, **{"partition-ids": "4 0 2"}), None, num_clients
    )
    assert adapter.count_models(reply) == expected
    reports = [adapter.read_report(reply, place) for place in range(expected)]
    parts = [report.partition for report in reports]
    assert len(set(parts)) == expected and set(parts) <= {0, 2, 4}
    settings = read_settings(CONFIG).settings
    for place, part in enumerate(parts):
        own = work.load_partitions(settings, [part])[0]
        trained, _ = own.train(own.like, work.task_key(settings, 3 + place))
        found = arrays.decode(adapter.read_model(reply, place), own.like)
        for a, b in zip(*map(jax.tree.leaves, (found, trained)), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_clients_take_turns_alike_and_a_message_chooses_the_same_ones_again():
    settings = read_settings(CONFIG).settings
    drawn = [work.choose_clients(settings, n, 5, 2) for n in range(0, 2000, 2)]
    assert drawn[:50] == [
        work.choose_clients(settings, n, 5, 2) for n in range(0, 100, 2)
    ]
    assert all(len(set(pair)) == 2 for pair in drawn)
    counts = np.bincount(np.ravel(drawn), minlength=5)
    assert counts.min() > 340 and counts.max() < 460


@pytest.mark.parametrize("value", ["", "one", "1 1", "-1", "1 2.5", 1.5])
def test_parts_that_are_none_are_told(value):
    context = make_context(5, CONFIG, **{"partition-ids": value})
    with pytest.raises(ValueError, match="partition-ids must be different whole"):
        ask(context)
    with pytest.raises(ValueError, match=r"partition-id must be in 0\.\.5 .*, got 6"):
        ask(make_context(5, CONFIG, **{"partition-ids": "1 6"}))


def _load_lists(context):
    rng = np.random.default_rng(0)
    sizes = context.node_config["sizes"].split()
    rows = [rng.normal(size=(int(size), 2)).astype(np.float32) for size in sizes]
    return [{"x": x, "y": x.sum(axis=1)} for x in rows]


def _make_line(settings):
    return models.make_model(
        lambda key: {"w": jnp.zeros(2)},
        lambda params, batch, key: jnp.mean(
            (batch["x"] @ params["w"] - batch["y"]) ** 2
        ),
    )


def test_a_node_with_lists_of_its_own_trains_for_each():
    app = make_client_app(_load_lists, _make_line, holds_several=True)
    start = _make_line(None).init(jax.random.key(0))
    content = RecordDict({"model": adapter._to_record(arrays.encode(start))})
    content["task"] = adapter.ConfigRecord({"number": 0, "version": 0, "clients": 2})
    message = adapter.Message(content, 5, "train")
    message.metadata.__dict__["_message_id"] = "a message"
    context = make_context(5, {"epochs": 20.0, "step-size": 0.3}, sizes="30 70")
    reply = app(message, context)
    reports = [adapter.read_report(reply, place) for place in range(2)]
    found = sorted((r.num_samples, r.num_steps, r.partition) for r in reports)
    assert found == [(30, 60, -1), (70, 140, -1)]
    for place in range(2):
        model = arrays.decode(adapter.read_model(reply, place), start)
        np.testing.assert_allclose(model.params["w"], np.ones(2), atol=0.1)


def test_lists_of_clients_that_differ_are_told():
    samples = [{"x": np.zeros((3, 2))}, {"x": np.zeros((3, 4))}]
    settings = read_settings(CONFIG).settings
    with pytest.raises(ValueError, match="the clients of a node must have arrays of"):
        work.make_works(settings, _make_line(None), samples)
    with pytest.raises(ValueError, match="one client or more, got none"):
        work.make_works(settings, _make_line(None), [])
    with pytest.raises(ValueError, match="holds_several must be False without"):
        make_client_app(holds_several=True)
