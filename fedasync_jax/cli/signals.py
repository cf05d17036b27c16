"""SIGINT and SIGTERM as a wish: a run saves first; a second one ends it at once."""

import signal
import sys


def note_signals(until: str) -> list[int]:
    """Note the first signal from now on, and leave the second to the system.

    Args:
      until: what goes on until then, as it is said.

    Returns:
      A list that the signal will be put into.
    """
    asked: list[int] = []

    def note_signal(number: int, frame: object) -> None:
        asked.append(number)
        signal.signal(number, signal.SIG_DFL)  # the second one ends the process
        sys.stderr.write(f"\nstopping after this {until}; once more to stop at once\n")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note_signal)
    return asked
