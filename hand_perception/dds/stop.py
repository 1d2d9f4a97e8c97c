"""Ending on SIGINT and SIGTERM."""

from __future__ import annotations

import contextlib
import os
import select
import signal


class Stop:
    """An event that a signal handler may set.

    Not a threading.Event: its lock may be held by the very thread that the handler interrupts,
    and launchers send a second signal while the first is being handled.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    def __del__(self) -> None:
        os.close(self._reader)
        os.close(self._writer)

    def set(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: set often enough
            os.write(self._writer, b"\0")

    def is_set(self) -> bool:
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until set or for so many seconds; returns whether it is set."""
        return bool(select.select([self._reader], [], [], timeout)[0])


def stop_on_signals() -> Stop:
    """Set by SIGINT and SIGTERM. To be called in the main thread."""
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop
