"""The One-Euro filter, steady at rest and quick in motion; an alpha-beta filter for velocities."""

from __future__ import annotations

import math

import numpy as np

_SPEED_CUTOFF_HZ = 2.0


class OneEuroFilter:
    """Casiez, Roussel, Vogel: 1 Euro Filter (CHI 2012), for points [N, D].

    A low pass whose cutoff rises with a point's speed: min_cutoff_hz + beta * speed, speed in units
    of ``scale`` per second. At rest it averages over 1 / (2 pi min_cutoff_hz) seconds; however fast
    a point moves, it lags by less than scale / (2 pi beta).
    """

    def __init__(self, min_cutoff_hz: float, beta: float) -> None:
        self._min_cutoff_hz = min_cutoff_hz
        self._beta = beta
        self._value: np.ndarray | None = None
        self._velocity: np.ndarray | None = None

    def __call__(self, points: np.ndarray, elapsed_s: float, scale: float) -> np.ndarray:
        """The filtered points; elapsed_s since the previous call, ignored in the first."""
        if self._value is None or self._velocity is None:
            self._value = np.asarray(points, np.float64)
            self._velocity = np.zeros_like(self._value)
        elif elapsed_s > 0:
            velocity = (points - self._value) / elapsed_s
            self._velocity += _gain(_SPEED_CUTOFF_HZ, elapsed_s) * (velocity - self._velocity)
            speed = np.linalg.norm(self._velocity, axis=-1, keepdims=True) / scale
            gain = _gain(self._min_cutoff_hz + self._beta * speed, elapsed_s)
            self._value = self._value + gain * (points - self._value)
        return self._value


def _gain(cutoff_hz, elapsed_s: float):
    """Share of a new value in a first-order low pass."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff_hz * elapsed_s))


class AlphaBetaFilter:
    """A vector's place and velocity from noisy places: constant velocity between calls.

    Gains are those of a fading memory of ``memory_s`` (Brookner 1998: critically damped g-h
    filter), so they fit any frame period; a steady motion is followed without lag. The first call
    sets the place and leaves the velocity at zero.
    """

    def __init__(self, memory_s: float = 0.06) -> None:
        self._memory_s = memory_s
        self.value: np.ndarray | None = None
        self.velocity: np.ndarray | None = None

    def __call__(self, value: np.ndarray, elapsed_s: float) -> None:
        """elapsed_s since the previous call, ignored in the first."""
        value = np.asarray(value, np.float64)
        if self.value is None or self.velocity is None:
            self.value, self.velocity = value, np.zeros_like(value)
        elif elapsed_s > 0:
            theta = math.exp(-elapsed_s / self._memory_s)
            expected = self.value + self.velocity * elapsed_s
            surprise = value - expected
            self.value = expected + (1 - theta**2) * surprise
            self.velocity = self.velocity + (1 - theta) ** 2 * surprise / elapsed_s
