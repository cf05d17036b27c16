"""The ClientApp: trains the models that come in on data that stay where they are."""

from collections.abc import Callable

import jax

from fedasync_jax.base import Model, PyTree
from fedasync_jax.experiment.settings import Settings
from fedasync_jax.flower import adapter, arrays, work
from fedasync_jax.flower.adapter import ClientApp, Context, Message
from fedasync_jax.flower.settings import read_settings
from fedasync_jax.jobs.compile_cache import keep_compiled_programs

_MAX_KEPT = 64  # clients whose data and programs one process keeps


def make_client_app(
    load_client_data: Callable[[Context], PyTree] | None = None,
    make_model: Callable[[Settings], Model] | None = None,
) -> ClientApp:
    """Return the ClientApp of FedAsync.

    A node trains on its own data with the settings of the run config. Without
    arguments it has the part ``partition-id`` of ``num-partitions`` of the data set of
    the settings, as its node config says.

    Args:
      load_client_data: ``load_client_data(context)`` returns the node's samples, a
        pytree of arrays [n_i, ...].
      make_model: ``make_model(settings)`` returns the model; default: that of the data
        set of the settings.

    Raises:
      ValueError: if there are own data but no own model.
    """
    if load_client_data is not None and make_model is None:
        raise ValueError(
            "make_model must be given together with load_client_data, got None"
        )
    kept: dict[tuple[int, int], tuple[Settings, work.Work]] = {}

    def prepare(context: Context) -> tuple[Settings, work.Work]:
        settings = read_settings(context.run_config).settings
        if load_client_data is None or make_model is None:
            return settings, _load_part(settings, context)
        samples = load_client_data(context)
        return settings, work.make_work(settings, make_model(settings), samples)

    def train(message: Message, context: Context) -> Message:
        keep_compiled_programs()
        client = context.run_id, context.node_id
        if client not in kept:
            if len(kept) >= _MAX_KEPT:
                kept.clear()
            kept[client] = prepare(context)
        settings, own = kept[client]
        stamp = adapter.read_stamp(message)
        start = arrays.decode(adapter.read_model(message), own.like)
        if stamp.number is None:
            raise ValueError("number must be an integer of the task, got none")
        key = work.task_key(settings, stamp.number)
        trained, loss = jax.device_get(own.train(start, key))
        report = adapter.Report(
            float(loss), own.num_steps, own.num_samples, own.partition
        )
        return adapter.make_reply(message, stamp, arrays.encode(trained), report)

    return adapter.make_client(train)


def _load_part(settings: Settings, context: Context) -> work.Work:
    numbers = []
    for name in ("partition-id", "num-partitions"):
        value = context.node_config.get(name)
        if not isinstance(value, int):
            raise ValueError(
                f"{name} must be an integer of the node config, got {value}"
            )
        numbers.append(value)
    settings = settings.replace(num_clients=numbers[1])
    return work.load_partition(settings, numbers[0])
