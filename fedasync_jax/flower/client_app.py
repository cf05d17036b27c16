"""The ClientApp: trains the models that come in on data that stay where they are."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from fedasync_jax.base import Array, Model, PyTree, Variables
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.flower import adapter, arrays, work
from fedasync_jax.flower.adapter import ClientApp, Context, Message
from fedasync_jax.flower.settings import read_settings
from fedasync_jax.jobs.compile_cache import keep_compiled_programs

_MAX_KEPT = 64  # clients whose data and programs one process keeps


def make_client_app(
    load_client_data: Callable[[Context], PyTree] | None = None,
    make_model: Callable[[Settings], Model] | None = None,
    *,
    holds_several: bool = False,
) -> ClientApp:
    """Return the ClientApp of FedAsync.

    A node trains on its own data with the settings of the run config. Without
    arguments it has the part ``partition-id`` of ``num-partitions`` of the data set of
    the settings, as its node config says, or the parts ``partition-ids``. Of a node
    with several clients, up to ``clients-per-message`` train for a message.

    Args:
      load_client_data: ``load_client_data(context)`` returns the node's samples, a
        pytree of arrays [n_i, ...].
      make_model: ``make_model(settings)`` returns the model; default: that of the data
        set of the settings.
      holds_several: whether ``load_client_data`` returns a list of such pytrees, one
        for each client of the node.

    Raises:
      ValueError: if there are own data but no own model.
    """
    if load_client_data is not None and make_model is None:
        raise ValueError(
            "make_model must be given together with load_client_data, got None"
        )
    if holds_several and load_client_data is None:
        raise ValueError("holds_several must be False without load_client_data")
    kept: dict[tuple[int, int], tuple[Settings, list[work.Work]]] = {}

    def prepare(context: Context) -> tuple[Settings, list[work.Work]]:
        settings = read_settings(context.run_config).settings
        if load_client_data is None or make_model is None:
            return settings, _load_parts(settings, context.node_config)
        samples = load_client_data(context)
        samples = samples if holds_several else [samples]
        return settings, work.make_works(settings, make_model(settings), samples)

    def train(message: Message, context: Context) -> Message:
        keep_compiled_programs()
        node = context.run_id, context.node_id
        if node not in kept:
            if len(kept) >= _MAX_KEPT:
                kept.clear()
            kept[node] = prepare(context)
        settings, clients = kept[node]
        stamp = adapter.read_stamp(message)
        start = arrays.decode(adapter.read_model(message), clients[0].like)
        if stamp.number is None:
            raise ValueError("number must be an integer of the task, got none")
        num_asked = adapter.read_num_clients(message)
        chosen = work.choose_clients(settings, stamp.number, len(clients), num_asked)
        trained = [
            _train_one(clients[client], start, work.task_key(settings, number))
            for number, client in enumerate(chosen, start=stamp.number)
        ]
        return adapter.make_reply(message, stamp, *trained)

    return adapter.make_client(train)


def _train_one(own: work.Work, start: Variables, key: Array) -> adapter.Trained:
    trained, loss = jax.device_get(own.train(start, key))
    report = adapter.Report(float(loss), own.num_steps, own.num_samples, own.partition)
    return adapter.Trained(arrays.encode(trained), report)


def _load_parts(settings: Settings, node_config: Mapping[str, Any]) -> list[work.Work]:
    number = _read_integer(node_config, "num-partitions")
    settings = settings.replace(num_clients=number)
    several = node_config.get("partition-ids")
    if several is None:
        return work.load_partitions(
            settings, [_read_integer(node_config, "partition-id")]
        )
    words = str(several).replace(",", " ").split()
    parts = [int(word) for word in words if word.isdecimal()]
    if not parts or len(set(parts)) < len(words):
        raise ValueError(
            "partition-ids must be different whole numbers in a row, such as '0 4 8', "
            f"got {several!r}"
        )
    return work.load_partitions(settings, parts)


def _read_integer(node_config: Mapping[str, Any], name: str) -> int:
    value = node_config.get(name)
    if not isinstance(value, int):
        raise ValueError(f"{name} must be an integer of the node config, got {value}")
    return value
