"""Whether a camera still sends."""

from __future__ import annotations

import time
from typing import Any


class CameraWatch:
    """Says once when images stop coming, and once when they are back.

    topic: full name, for the log. An unwatched camera (``rest``) is judged anew by its next image.
    """

    def __init__(self, topic: str, log: Any) -> None:
        self._topic = topic
        self._log = log
        self._last_arrival: float | None = None
        self._lost = False

    def arrived(self) -> None:
        self._last_arrival = time.monotonic()

    def rest(self) -> None:
        self._last_arrival, self._lost = None, False

    def check(self, timeout_s: float) -> None:
        """To be called now and then."""
        silence = self._silence()
        lost = silence > timeout_s
        if lost and not self._lost:
            self._log.warning(
                f"no image on {self._topic} for {silence:.1f} s: is the camera running?"
            )
        elif self._lost and not lost:
            self._log.info(f"images on {self._topic} are back")
        self._lost = lost

    def complaint(self) -> str | None:
        """For the diagnostics, while the camera is lost."""
        return f"no image on {self._topic} for {self._silence():.1f} s" if self._lost else None

    def _silence(self) -> float:
        """Seconds; 0 before the first image."""
        return 0.0 if self._last_arrival is None else time.monotonic() - self._last_arrival
