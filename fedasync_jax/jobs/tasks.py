"""Orders as tasks of a cluster: told as they go, begun again where a worker is lost."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from fedasync_jax.jobs.cluster import Cluster, import_ray

_ASK_EVERY = 0.1  # seconds


class Told(NamedTuple):
    """What a task said on its way.

    Attributes:
      order: what it was given.
      news: what it yielded.
    """

    order: Any
    news: Any


class Lost(NamedTuple):
    """A worker was lost with an order, which begins again elsewhere.

    Attributes:
      order: what it was given.
      why: in a few words.
    """

    order: Any
    why: str


class Failed(NamedTuple):
    """An order will not be done.

    Attributes:
      order: what it was given.
      why: in a line.
    """

    order: Any
    why: str


Event = Told | Lost | Failed


def run_orders(
    cluster: Cluster,
    work: Callable[[Any], Iterator[Any]],
    orders: Iterable[Any],
    *,
    again: Callable[[Any], Any] = lambda order: order,
    at_most_lost: int = 3,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Do orders as tasks of a cluster, and yield what they tell.

    A task whose process or node is lost is given to another one. An order whose work
    raises fails alone. When it is to stop, or its caller ends early, tasks get SIGINT,
    those that have not begun are taken back, and all that run are waited for.

    Args:
      cluster: where.
      work: what a task does: a function of a module that workers can import. It
        handles SIGINT.
      orders: what it is given, asked for when there is room.
      again: returns what is given in the place of an order that was lost.
      at_most_lost: times that an order may lose its worker, which may be its own
        fault, as when it takes too much memory. Nodes that die are not counted.
      should_stop: asked ten times a second.

    Raises:
      OSError: if the cluster itself is lost.
    """
    ray = import_ray()
    size = {"num_cpus": cluster.cpus, "num_gpus": cluster.gpus}
    task = ray.remote(num_returns="streaming", max_retries=0, **size)(work)
    going = _Going(ray, task, again, at_most_lost)
    left, is_more = iter(orders), True
    try:
        while is_more or going.orders:
            if should_stop():
                return
            # Twice as many as there is room for, so that no worker waits for us.
            while is_more and len(going.orders) < 2 * max(1, cluster.count_slots()):
                try:
                    going.begin(next(left))
                except StopIteration:
                    is_more = False
            yield from going.wait(_ASK_EVERY)
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise OSError(
            f"the cluster {cluster.address} must be there to the end, got "
            f"{_say(error)}; repeat the command to continue"
        ) from error
    finally:
        going.end()


class _Going:
    """Tasks that have not ended.

    Attributes:
      orders: what they were given, by the generators of their news, and how often it
        has lost a worker.
    """

    def __init__(
        self, ray: Any, task: Any, again: Callable[[Any], Any], at_most_lost: int
    ):
        self._ray, self._task, self._again = ray, task, again
        self._at_most_lost = at_most_lost
        self.orders: dict[Any, tuple[Any, int]] = {}

    def begin(self, order: Any, times_lost: int = 0) -> None:
        """Give an order to the cluster."""
        self.orders[self._task.remote(order)] = order, times_lost

    def wait(self, seconds: float) -> Iterator[Event]:
        """Yield what tasks have said; wait for the first word at most so long."""
        for generator in self._find_ready(seconds):
            event = self._hear(generator)
            if event is not None:
                yield event

    def _find_ready(self, seconds: float) -> list[Any]:
        if not self.orders:
            return []
        going = list(self.orders)
        return self._ray.wait(going, timeout=seconds, fetch_local=False)[0]

    def _hear(self, generator: Any) -> Event | None:
        """Return the next that a task says; None: it is done."""
        errors = self._ray.exceptions
        lost = (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
        )
        order, times_lost = self.orders.pop(generator)
        try:
            news = self._ray.get(next(generator))
        except StopIteration:
            return None
        except errors.RayTaskError as error:
            return Failed(order, _say(error.cause or error))
        except lost as error:
            times_lost += not isinstance(error, errors.NodeDiedError)
            if times_lost > self._at_most_lost:
                why = f"its worker was lost {times_lost} times, {_say(error)}"
                return Failed(order, why)
            self.begin(self._again(order), times_lost)
            return Lost(order, _say(error))
        self.orders[generator] = order, times_lost
        return Told(order, news)

    def end(self) -> None:
        """Ask all tasks to end, and wait until they have."""
        for generator in self.orders:
            self._ray.cancel(generator)
        while self.orders:
            for generator in self._find_ready(_ASK_EVERY):
                try:
                    self._ray.get(next(generator))
                except (StopIteration, self._ray.exceptions.RayError):
                    del self.orders[generator]


def _say(error: BaseException) -> str:
    """Return an error in a few words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__
    return f"{kind}: {lines[0]}" if lines else kind
