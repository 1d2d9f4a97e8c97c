"""Rate and latency over the last seconds."""

from __future__ import annotations

from collections import deque

import numpy as np
import viser

_WINDOW = 20.0  # seconds shown
_RATE_WINDOW = 1.0  # seconds that a rate is counted over


class RatePlots:
    """Two plots in the panel. ``add`` each result, ``draw`` now and then."""

    def __init__(self, gui: viser.GuiApi) -> None:
        self._results: deque[tuple[float, float]] = deque()
        empty = np.zeros(2)
        self._rate = _plot(gui, "results per second (Hz)", "#50dc50", empty)
        self._latency = _plot(gui, "latency from the image's stamp (ms)", "#ffb01e", empty)

    def add(self, now: float, latency_ms: float | None) -> None:
        """now: seconds of a steady clock. latency_ms: None where it is not known."""
        self._results.append((now, np.nan if latency_ms is None else latency_ms))
        while self._results[0][0] < now - _WINDOW - _RATE_WINDOW:
            self._results.popleft()

    def draw(self, now: float) -> None:
        times, latencies = np.array(self._results).T
        ago, known = times - now, np.isfinite(latencies)
        self._rate.data = (ago, rates(times))
        self._latency.data = (ago[known], latencies[known])


def rates(times: np.ndarray) -> np.ndarray:
    """How many of the sorted times [N] lie in the second that ends with each."""
    before = np.searchsorted(times, times - _RATE_WINDOW, "right")
    return np.arange(1.0, len(times) + 1) - before


def _plot(gui: viser.GuiApi, title: str, colour: str, data: np.ndarray) -> viser.GuiUplotHandle:
    return gui.add_uplot(
        data=(data, data),
        series=({"label": "s"}, {"label": "", "stroke": colour, "width": 2}),
        title=title,
        scales={"x": {"time": False, "range": (-_WINDOW, 0.0)}, "y": {"auto": True}},
        axes=({"stroke": "#aaa"}, {"stroke": "#aaa"}),
        legend={"show": False},
        height=150,
    )
