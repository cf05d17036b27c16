"""The ClientApp, called as Flower calls it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("flwr")

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from jax.experimental.compilation_cache import compilation_cache

from fedasync_jax import models
from fedasync_jax.flower import adapter, arrays, work
from fedasync_jax.flower.client_app import make_client_app
from fedasync_jax.flower.settings import read_settings
from fedasync_jax.jobs.compile_cache import keep_compiled_programs

# What Flower sets in the process of a client.
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1

CONFIG = {"epochs": 1.0, "concentration": 1.0, "num-clients": 4}
_compiled: list[str] = []


def _note(event, duration_secs, **details):
    if event == "/jax/core/compile/backend_compile_duration":
        _compiled.append(str(details.get("fun_name")))


jax.monitoring.register_event_duration_secs_listener(_note)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Keep the programs of these tests out of the user's folder, and of other tests."""
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    before = {name: getattr(jax.config, name) for name in names}
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    keep_compiled_programs.cache_clear()
    yield
    keep_compiled_programs.cache_clear()
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def make_context(node=5, config=None, **node_config):
    node_config = {"partition-id": 1, "num-partitions": 4, **node_config}
    return Context(1, node, node_config, RecordDict(), config or CONFIG)  # pyright: ignore


def make_message(variables, number=3, version=2):
    model = ArrayRecord({k: Array(a) for k, a in arrays.name_leaves(variables).items()})
    stamp = ConfigRecord({"number": number, "version": version})
    message = Message(RecordDict({"model": model, "task": stamp}), 5, "train")
    message.metadata.__dict__["_message_id"] = "a message"
    return message


def test_a_reply_has_model_stamp_and_report_of_the_own_part():
    settings = read_settings(CONFIG).settings
    own = work.load_partitions(settings, [1])[0]
    start = jax.tree.map(lambda leaf: leaf + 0.01, own.like)
    reply = make_client_app()(make_message(start), make_context())
    assert adapter.read_stamp(reply) == adapter.Stamp(3, 2)
    report = adapter.read_report(reply)
    assert report[1:] == (own.num_steps, own.num_samples, 1)
    expected, loss = own.train(start, work.task_key(settings, 3))
    assert report.loss == pytest.approx(float(loss), rel=1e-6)
    found = arrays.decode(adapter.read_model(reply), own.like)
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)


def test_the_second_message_compiles_nothing_and_reads_no_data():
    own = work.load_partitions(read_settings(CONFIG).settings, [1])[0]
    app, context = make_client_app(), make_context()
    app(make_message(own.like, 1), context)
    begin = len(_compiled)
    app(make_message(own.like, 2), context)
    assert _compiled[begin:] == []


def test_own_data_and_an_own_model():
    def load_client_data(context):
        rng = np.random.default_rng(context.node_config["partition-id"])
        x = rng.normal(size=(30, 2)).astype(np.float32)
        return {"x": x, "y": x.sum(axis=1)}

    def make_model(settings):
        return models.make_model(
            lambda key: {"w": jnp.zeros(2)},
            lambda params, batch, key: jnp.mean(
                (batch["x"] @ params["w"] - batch["y"]) ** 2
            ),
        )

    app = make_client_app(load_client_data, make_model)
    start = make_model(None).init(jax.random.key(0))
    reply = app(make_message(start), make_context(config={"num-steps": 20}))
    report = adapter.read_report(reply)
    assert report[1:] == (20, 30, -1)
    found = arrays.decode(adapter.read_model(reply), start)
    np.testing.assert_allclose(found.params["w"], np.ones(2), atol=0.1)


def test_own_data_need_an_own_model():
    with pytest.raises(ValueError, match="make_model must be given together"):
        make_client_app(lambda context: {})


@pytest.mark.parametrize("value", ["one", None, 1.0])
def test_a_node_without_a_part_says_so(value):
    context = make_context()
    context.node_config["partition-id"] = value  # pyright: ignore
    with pytest.raises(ValueError, match="partition-id must be an integer"):
        make_client_app()(make_message(np.zeros(1)), context)


def test_a_model_of_another_kind_is_refused():
    own = work.load_partitions(read_settings(CONFIG).settings, [1])[0]
    with pytest.raises(arrays.BadReply, match="the model must have the arrays"):
        make_client_app()(make_message({"w": np.zeros(3)}), make_context())
    assert own.num_samples > 0
