"""Several processes of one run: what a clock, a disk or a signal decides, one decides.

Every process runs the same host loop on the same schedule and enqueues the same calls,
as programs of ``jax.distributed`` do. What need not come out alike everywhere, such as
how many waves a call holds or whether somebody pressed Ctrl-C, is decided by process 0
and read by the others, message after message, through the key-value store of
``jax.distributed``. Without it there is one process, and nobody to tell.
"""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
from jax._src import distributed  # the store has no public name
from jax.sharding import Mesh

T = TypeVar("T")

_TURN_MS = 1000  # a wait is cut into turns, so that Ctrl-C gets through
_BLOCK = 1000  # messages that are forgotten at a time
_LAST = 0.5  # seconds
_ROOT = "fedasync"


class ProcessFailed(RuntimeError):
    """Another process has ended, for a reason of its own."""

    is_agreed = True
    """All processes raise it, so that nobody is to be told."""


class Processes:
    """The processes of a run, as one of them sees them.

    What is told are JSON values. All processes must come to the same calls of ``lead``,
    ``gather``, ``agree_to_stop`` and ``try_in_all`` in the same order.

    Attributes:
      index: number of this process.
      count: how many there are.
    """

    def __init__(self, client: Any = None, index: int = 0, count: int = 1):
        """Begin without a message; without a ``client`` there is one process."""
        self.index, self.count = index, count
        self._client = client
        self._num_said = self._num_gathered = 0
        self._has_asked = self._has_failed = False

    @property
    def is_first(self) -> bool:
        """Whether this is process 0, which decides and writes."""
        return self.index == 0

    def lead(self, make: Callable[[], T]) -> T:
        """Return in all processes what ``make`` returns in process 0.

        Raises:
          ProcessFailed: if process 0 has failed or is gone.
        """
        if self.count == 1:
            return make()
        if not self.is_first:
            return self._hear()
        return self._say(make())

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in their order.

        Raises:
          ProcessFailed: if a process has failed or is gone.
        """
        if self.count == 1:
            return [value]
        self._num_gathered += 1
        place = f"{_ROOT}/gather/{self._num_gathered}"
        if not self.is_first:
            self._client.key_value_set(f"{place}/{self.index}", json.dumps(value))
            return self._hear()
        others = [self._wait_for(f"{place}/{i}") for i in range(1, self.count)]
        self._client.key_value_delete(f"{place}/")
        return self._say([value, *map(json.loads, others)])

    def agree_to_stop(self, wants: bool) -> bool:
        """Return whether any process wants to stop; asked after every call.

        Raises:
          ProcessFailed: if a process has failed or is gone.
        """
        if self.count == 1:
            return wants
        if self.is_first:
            self._heed_failures()
            asked = self._client.key_value_dir_get(f"{_ROOT}/stop/")
            for key, _ in asked:
                self._client.key_value_delete(key)
            return self._say(wants or bool(asked))
        if wants and not self._has_asked:
            self._client.key_value_set(f"{_ROOT}/stop/{self.index}", "")
            self._has_asked = True
        stops = self._hear()
        self._has_asked = self._has_asked and not stops
        return stops

    def try_in_all(self, make: Callable[[], T]) -> T:
        """Return what ``make`` returns here, if no process fails at it.

        Raises:
          Exception: what ``make`` raises here.
          ProcessFailed: in one line, if it fails in another process only.
        """
        if self.count == 1:
            return make()
        try:
            made = make()
        except Exception as error:
            self.gather(_describe(error))
            error.is_agreed = True  # type: ignore[attr-defined]
            raise
        for index, line in enumerate(self.gather(None)):
            if line is not None:
                raise ProcessFailed(f"process {index}: {line}")
        return made

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Come to the end of a block together, or tell the others why not."""
        if self.count == 1:
            yield
            return
        try:
            yield
            self.lead(lambda: None)  # process 0 writes, and may fail, when all is done
        except GeneratorExit:
            raise  # whoever asks for no more knows why
        except BaseException as error:
            self.report(error)
            raise

    def report(self, error: BaseException) -> None:
        """Tell the others why this process ends, unless they know."""
        if self.count > 1 and not (_is_agreed(error) or self._has_failed):
            self._tell_failure(_describe(error))

    def part(self, seconds: float) -> None:
        """Say that this process ends; process 0, whom they hear, waits for the others.

        Args:
          seconds: how long, at most.
        """
        left = f"{_ROOT}/left"
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # nobody may be left
            if not self.is_first:
                self._client.key_value_set(f"{left}/{self.index}", "")
                return
            until = time.monotonic() + seconds
            for index in range(1, self.count):
                rest = max(int(1000 * (until - time.monotonic())), 1)
                self._client.blocking_key_value_get(f"{left}/{index}", rest)
            time.sleep(_LAST)  # for the end of those who have just said so

    def _tell_failure(self, line: str) -> None:
        self._has_failed = True
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # nobody may be left
            if self.is_first:
                self._tell(json.dumps({"failed": line}))
            else:
                self._client.key_value_set(f"{_ROOT}/failed/{self.index}", line)

    def _say(self, value: Any) -> Any:
        """Tell a value, and return it as the others hear it."""
        text = json.dumps({"value": value})
        self._tell(text)
        return json.loads(text)["value"]

    def _tell(self, text: str) -> None:
        """Tell the next message of process 0."""
        block, place = divmod(self._num_said, _BLOCK)
        if place == 0 and block > 1:  # the others are not that far behind
            self._client.key_value_delete(f"{_ROOT}/said/{block - 2}/")
        key = f"{_ROOT}/said/{block}/{self._num_said}"
        self._client.key_value_set(key, text)
        self._num_said += 1

    def _hear(self) -> Any:
        """Wait for the next message of process 0."""
        block = self._num_said // _BLOCK
        text = self._wait_for(f"{_ROOT}/said/{block}/{self._num_said}")
        self._num_said += 1
        message = json.loads(text)
        if "failed" in message:
            raise ProcessFailed(f"process 0: {message['failed']}")
        return message["value"]

    def _wait_for(self, key: str) -> str:
        while True:
            try:
                return self._client.blocking_key_value_get(key, _TURN_MS)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise ProcessFailed("another process is gone") from error
            if self.is_first:
                self._heed_failures()

    def _heed_failures(self) -> None:
        for key, line in self._client.key_value_dir_get(f"{_ROOT}/failed/"):
            self._client.key_value_delete(key)
            line = f"process {key.rpartition('/')[2]}: {line}"
            self._tell_failure(line)
            raise ProcessFailed(line)


def find_processes() -> Processes:
    """Return the processes that ``jax.distributed.initialize()`` has joined."""
    state = distributed.global_state
    return _join(state.client, state.process_id, state.num_processes)


@functools.lru_cache(maxsize=1)
def _join(client: Any, index: int | None, count: int | None) -> Processes:
    if client is None:
        return Processes()
    jax.devices()  # a meeting of all as well, while none can have failed yet
    return Processes(client, index or 0, count or 1)


def find_processes_of(mesh: Mesh | None) -> Processes:
    """Return the processes whose devices a mesh has: this one alone, or all.

    Raises:
      ValueError: if it has devices of other processes, but not of all, or they were not
        joined by ``jax.distributed.initialize()``.
    """
    if not spans_processes(mesh):
        return Processes()
    joined = find_processes()
    numbers = {device.process_index for device in mesh.devices.flat}  # type: ignore
    if numbers != set(range(joined.count)):
        raise ValueError(
            "mesh must have devices of this process alone, or of all that "
            f"jax.distributed.initialize() has joined, got those of {len(numbers)} of "
            f"{joined.count} processes"
        )
    return joined


def spans_processes(mesh: Mesh | None) -> bool:
    """Return whether a mesh has devices of other processes."""
    return mesh is not None and mesh.is_multi_process


def _describe(error: BaseException) -> str:
    """Return why a process ends, in a line."""
    if isinstance(error, SystemExit) and error.__context__ is not None:
        error = error.__context__  # it was told before the process ends
    words = " ".join(str(error).split())
    if isinstance(error, KeyboardInterrupt):
        words = "it was interrupted"
    return words or type(error).__name__


def _is_agreed(error: BaseException | None) -> bool:
    """Return whether all processes know of an error, or of what led to it."""
    if isinstance(error, SystemExit) and error.code in (0, None):
        return True
    while error is not None:
        if getattr(error, "is_agreed", False):
            return True
        error = error.__context__
    return False
