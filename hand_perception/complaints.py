"""Errors of a stream, logged once in a while and remembered for the diagnostics."""

from __future__ import annotations

import time
from typing import Any

from hand_perception.errors import HandPerceptionError

# The same complaint about a stream is logged once in this many seconds.
_LOG_PERIOD = 5.0
# Diagnostics show an error for this long after it happened.
_SHOWN = 5.0


class Complaints:
    """May be used from several threads: assignments are atomic, a lost line does no harm."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._logged: dict[str, float] = {}
        self._last: dict[str, tuple[float, str]] = {}

    def add(self, error: Exception | str, source: str = "image") -> None:
        """source: what is wrong; the diagnostics show the last error of each."""
        if isinstance(error, (HandPerceptionError, str)):
            text = str(error)
        else:
            text = f"unexpected {type(error).__name__}: {error}"
        now = time.monotonic()
        self._last[source] = now, text
        if now - self._logged.get(text, -_LOG_PERIOD) >= _LOG_PERIOD:
            # Texts hold numbers of the image: forget old ones, or a bad camera fills the memory.
            recent = {t: when for t, when in self._logged.items() if now - when < _LOG_PERIOD}
            self._logged = {**recent, text: now}
            self._log.error(text)

    def recent(self) -> str | None:
        """The newest error that still matters."""
        now = time.monotonic()
        recent = [entry for entry in list(self._last.values()) if now - entry[0] < _SHOWN]
        return max(recent)[1] if recent else None
