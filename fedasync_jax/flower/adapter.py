"""The only module that knows Flower: messages become plain records and back.

Written for flwr 1.41. The content of a message to a node and of its reply:

``model``    ArrayRecord, the model by names of its arrays
``task``     ConfigRecord, ``number`` and ``version`` (the time stamp tau); to a node
             also ``clients``, how many of its clients may train
``metrics``  MetricRecord of a reply: ``loss``, ``num-steps``, ``num-samples``,
             ``partition`` (-1 if it has none)

A reply of several clients has the model and the metrics of the second one as
``model-1`` and ``metrics-1``, and so on.
"""

import hashlib
import logging
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, ParamSpec, TypeVar

import httpx
from flwr.app import Array as FlowerArray
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.app import RecordDict as Content
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedasync_jax.flower.arrays import BadReply, RawArray
from fedasync_jax.flower.tasks import Report, Stamp, Task
from fedasync_jax.flower.watchdog import call_within

__all__ = ["ClientApp", "Context", "Grid", "Message", "NodeNetwork", "ServerApp"]

_CAUSES = {
    3: "expired",
    4: "reply unavailable",
    5: "node left",
    8: "client crashed",
}
_NUMBERS = {"num-steps": 1, "num-samples": 1, "partition": -1}  # and the lowest values
_LARGEST = 2**31 - 1
_P = ParamSpec("_P")
_R = TypeVar("_R")


class Trained(NamedTuple):
    """What a node sends of one client.

    Attributes:
      model: x_new, by names of its arrays.
      report: what it tells of the task.
    """

    model: Mapping[str, RawArray]
    report: Report


class Reply(NamedTuple):
    """A reply as it came.

    Attributes:
      node: that sent it.
      error: what went wrong, in the words of ``tasks.FAULTS``; None if it has
        content.
      detail: what Flower says of the error.
      message: Flower's.
    """

    node: int | None
    error: str | None
    detail: str
    message: Message | None


class NodeNetwork:
    """The server's side of a Flower run."""

    def __init__(self, grid: Grid):
        """Use a grid that Flower made."""
        self._grid = grid
        self._hang_seconds: float | None = None
        logger = logging.getLogger("flwr")
        logger.propagate = False  # orbax gives the root logger a handler of its own
        self._log = logger.log

    def limit_calls(self, seconds: float) -> None:
        """Let every later call raise ``NetworkHangs`` after so many seconds."""
        self._hang_seconds = seconds

    def tell(self, line: str, *, warn: bool = False) -> None:
        """Write a line to the log of the run; control characters are shown, not sent.

        What a node sends may stand in it: a line must stay one, in its own colours.
        """
        self._log(logging.WARNING if warn else logging.INFO, escape(line))

    @property
    def plain_address(self) -> str | None:
        """The SuperLink's host and port if nothing is encrypted, else None."""
        is_plain = getattr(self._grid, "_insecure", False)
        return getattr(self._grid, "_addr", None) if is_plain else None

    def nodes(self) -> dict[int, str]:
        """Return the nodes that are there, with a fingerprint of each one's public key.

        It is "" if Flower knows none.
        """
        found = self._call(lambda: list(self._grid.get_nodes()))
        keys = {node.node_id: node.public_key for node in found}
        return {
            node: hashlib.sha256(keys[node]).hexdigest() if keys[node] else ""
            for node in sorted(keys)
        }

    def push(
        self,
        task: Task,
        model: Mapping[str, RawArray],
        seconds: float,
        num_clients: int = 1,
    ) -> str | None:
        """Send a task; return the message's id, None if the network did not take it.

        Args:
          task: to be sent.
          model: of the task's version.
          seconds: until message and reply expire.
          num_clients: of the node that may train, each a task of its own.
        """
        numbers = {"number": task.number, "version": task.version}
        stamp = ConfigRecord({**numbers, "clients": num_clients})
        content = Content({"model": _to_record(model), "task": stamp})
        message = Message(content, task.node, "train", ttl=seconds)
        # One message a call: of several, it cannot be told which one was refused.
        ids = list(self._call(self._grid.push_messages, [message]))
        return ids[0] if ids and ids[0] else None

    def pull(self, message_id: str) -> Reply | None:
        """Return the reply to a message, None if there is none yet.

        One at a time, so that what is bad has an owner, and only one is in memory.
        """
        try:
            replies = list(self._call(self._grid.pull_messages, [message_id]))
        except (httpx.HTTPError, ConnectionError):
            raise
        except Exception as error:  # whatever a hostile reply does to Flower
            return Reply(None, "malformed", repr(error)[:200], None)
        if not replies:
            return None
        reply = replies[0]
        if reply.has_error():
            code, reason = reply.error.code, str(reply.error.reason)
            cause = _CAUSES.get(code, "client error")
            detail = f"code {code}: {' '.join(reason.split())[-200:]}"
            return Reply(None, cause, detail, None)
        return Reply(reply.metadata.src_node_id, None, "", reply)

    def _call(self, fn: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        if self._hang_seconds is None:
            return fn(*args, **kwargs)
        return call_within(self._hang_seconds, fn, *args, **kwargs)


def escape(line: str) -> str:
    r"""Return a line with what cannot be printed as escape sequences in words.

    >>> print(escape("red" + chr(27) + "[31m" + chr(10) + "line"))
    red\x1b[31m\nline
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in line
    )


def read_stamp(message: Message) -> Stamp:
    """Return what a message says of its task."""
    record = _find(message, "task", ConfigRecord)
    values = (record.get(name) for name in Stamp._fields)
    return Stamp(*(value if isinstance(value, int) else None for value in values))


def read_num_clients(message: Message) -> int:
    """Return how many clients of a node may train for a message, 1 if it says none."""
    number = _find(message, "task", ConfigRecord).get("clients")
    return number if isinstance(number, int) and number >= 1 else 1


def count_models(message: Message) -> int:
    """Return how many models a message says that it has."""
    names = (str(name) for name in message.content)
    return sum(name == "model" or name.startswith("model-") for name in names)


def read_model(message: Message, place: int = 0) -> dict[str, RawArray]:
    """Return the arrays of a model of a message, not decoded."""
    record = _find(message, _name("model", place), ArrayRecord)
    return {
        name: RawArray(array.dtype, tuple(array.shape), array.data)
        for name, array in record.items()
    }


def read_report(message: Message, place: int = 0) -> Report:
    """Return what a node tells of the task of a model.

    Raises:
      BadReply: if a number is missing, of another type or out of range.
    """
    record = _find(message, _name("metrics", place), MetricRecord)
    for name, low in _NUMBERS.items():
        value = record.get(name)
        if not isinstance(value, int) or not low <= value <= _LARGEST:
            raise BadReply(
                "wrong metrics",
                f"{name} must be in {low}..{_LARGEST}, got {str(value)[:80]}",
            )
    loss = record.get("loss")
    if not isinstance(loss, float):
        raise BadReply("wrong metrics", f"loss must be a float, got {str(loss)[:80]}")
    numbers = (int(record[name]) for name in _NUMBERS)  # pyright: ignore
    return Report(loss if math.isfinite(loss) else math.nan, *numbers)


def make_reply(message: Message, stamp: Stamp, *trained: Trained) -> Message:
    """Return the reply to a message, as a node sends it.

    Args:
      message: that is replied to.
      stamp: what it says of its task.
      *trained: what each client trained, in the order in which it is to be mixed.
    """
    content = Content({"task": ConfigRecord(dict(stamp._asdict()))})
    for place, (model, report) in enumerate(trained):
        content[_name("model", place)] = _to_record(model)
        content[_name("metrics", place)] = MetricRecord(
            {
                "loss": float(report.loss),
                "num-steps": report.num_steps,
                "num-samples": report.num_samples,
                "partition": report.partition,
            }
        )
    return Message(content, reply_to=message)


def make_server(main: Callable[[NodeNetwork, Context], None]) -> ServerApp:
    """Return a ServerApp that runs ``main``."""
    app = ServerApp()

    @app.main()
    def run(grid: Grid, context: Context) -> None:
        main(NodeNetwork(grid), context)

    return app


def make_client(train: Callable[[Message, Context], Message]) -> ClientApp:
    """Return a ClientApp that answers tasks by ``train``."""
    app = ClientApp()
    app.train()(train)
    return app


def _name(record: str, place: int) -> str:
    return f"{record}-{place}" if place else record


def _find(message: Message, name: str, kind: type) -> dict:
    """Return a record of a message.

    Raises:
      BadReply: if there is none of that name and kind.
    """
    record = message.content.get(name)
    if not isinstance(record, kind):
        raise BadReply("malformed", f"a message must have a {kind.__name__} {name!r}")
    return record  # pyright: ignore[reportReturnType]


def _to_record(model: Mapping[str, RawArray]) -> ArrayRecord:
    return ArrayRecord(
        {
            name: FlowerArray(array.dtype, array.shape, "numpy.ndarray", array.data)
            for name, array in model.items()
        }
    )
