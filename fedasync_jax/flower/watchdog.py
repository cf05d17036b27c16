"""A call that hangs ends with an error, not with the patience of its caller.

Flower tries for ever to reach a SuperLink that is gone. A call cannot be broken off
from outside, so it runs in a thread of its own, which is left behind if it takes too
long and does not keep the process alive.
"""

import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


class NetworkHangs(ConnectionError):
    """A call of the network did not return in time."""


def call_within(
    seconds: float, fn: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs
) -> _R:
    """Return ``fn(*args, **kwargs)``, or raise what it raises.

    Raises:
      NetworkHangs: if it has not returned after so many seconds.
    """
    outcome: dict[str, Any] = {}

    def target() -> None:
        try:
            outcome["value"] = fn(*args, **kwargs)
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(seconds)
    if "error" in outcome:
        raise outcome["error"]
    if "value" not in outcome:
        name = getattr(fn, "__name__", "a call")
        raise NetworkHangs(
            f"the SuperLink must answer within {seconds:g} s (hang-seconds), "
            f"but {name} did not return"
        )
    return outcome["value"]
