"""A client that does what its node config says.

``delay``   seconds that every task takes longer
``replies`` what becomes of the first reply, the second and so on, joined by ``+``:
            ``good``, or one of ``SPOILED`` below; the last one holds on
"""

import time

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedasync_jax.flower.client_app import make_client_app

honest = make_client_app()
app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train, wait, and spoil the reply."""
    time.sleep(float(context.node_config.get("delay", 0)))
    kinds = str(context.node_config.get("replies", "good")).split("+")
    state = context.state.config_records.setdefault("seen", ConfigRecord({"tasks": 0}))
    place = int(str(state["tasks"]))
    state["tasks"] = place + 1
    reply = honest(message, context)
    if "first" not in context.state.array_records:
        context.state["first"] = reply.content.array_records["model"]
        context.state["stamp"] = reply.content.config_records["task"]
    SPOILED[kinds[min(place, len(kinds) - 1)]](reply.content, context)
    return reply


def _change_first_array(content: RecordDict, array: np.ndarray) -> None:
    model = content.array_records["model"]
    content["model"] = ArrayRecord({**model, next(iter(model)): Array(array)})


def _make_nan(content: RecordDict, context: Context) -> None:
    first = next(iter(content.array_records["model"].values())).numpy()
    _change_first_array(content, np.full_like(first, np.nan))


def _scale(content: RecordDict, context: Context) -> None:
    first = next(iter(content.array_records["model"].values())).numpy()
    _change_first_array(content, first + 1000)


def _reshape(content: RecordDict, context: Context) -> None:
    _change_first_array(content, np.zeros((2, 3), np.float32))


def _inflate(content: RecordDict, context: Context) -> None:
    _change_first_array(content, np.zeros(5_000_000, np.float32))


def _replay(content: RecordDict, context: Context) -> None:
    content["model"] = context.state["first"]
    content["task"] = context.state["stamp"]


def _lie_about_time(content: RecordDict, context: Context) -> None:
    stamp = content.config_records["task"]
    stamp["version"] = int(str(stamp["version"])) + 1


def _fail(content: RecordDict, context: Context) -> None:
    raise RuntimeError("this client fails on purpose")


SPOILED = {
    "good": lambda content, context: None,
    "nan": _make_nan,
    "large": _scale,
    "shape": _reshape,
    "oversized": _inflate,
    "replay": _replay,
    "time": _lie_about_time,
    "error": _fail,
}
