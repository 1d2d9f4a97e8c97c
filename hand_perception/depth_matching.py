"""Brings an image and the depth image of the same moment together, in whichever order they come."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from hand_perception.messages import nanoseconds_of

# Depth images kept: some drivers send them ahead of the colour image, by a few periods at most.
_KEPT = 8
# An image whose depth does not come goes without it after so many seconds.
PATIENCE = 0.1


class DepthMatcher:
    """Passes on each image with the depth image whose stamp is nearest and within the tolerance.

    Drivers align depth after they have sent the colour image. So an image waits for its depth, but
    only while depth images keep coming, and never longer than until the next image, a later depth
    image or PATIENCE seconds: depth improves a result, it does not hold one up.

    submit(image, depth or None) is called with a lock held. tolerance_s may change at any time.
    """

    def __init__(self, submit: Callable[[Any, Any], None], tolerance_s: float) -> None:
        self.tolerance_s = tolerance_s
        self._submit = submit
        self._lock = threading.Lock()
        self._depths: deque[Any] = deque(maxlen=_KEPT)
        self._waiting: tuple[Any, float] | None = None
        self._depth_comes = False

    def on_image(self, image: Any) -> None:
        with self._lock:
            if self._waiting is not None:
                self._depth_comes = False
                self._release(None)
            depth = self._match(image)
            behind = self._depths and _stamp(self._depths[-1]) < _stamp(image)
            if depth is None and self._depth_comes and behind:
                self._waiting = image, time.monotonic()
            else:
                self._submit(image, depth)

    def on_depth(self, depth: Any) -> None:
        with self._lock:
            self._depths.append(depth)
            self._depth_comes = True
            if self._waiting is not None:
                image, _ = self._waiting
                match = self._match(image)
                if match is not None or _stamp(depth) > _stamp(image):
                    self._release(match)

    def release_overdue(self) -> None:
        """To be called now and then: the last image of a stream has no successor to push it."""
        with self._lock:
            if self._waiting and time.monotonic() - self._waiting[1] > PATIENCE:
                self._depth_comes = False
                self._release(None)

    def clear(self) -> None:
        """Forget everything: after a jump in time old stamps may match anything."""
        with self._lock:
            self._depths.clear()
            self._waiting = None

    def _match(self, image: Any) -> Any:
        stamp = _stamp(image)
        near = min(self._depths, key=lambda depth: abs(_stamp(depth) - stamp), default=None)
        if near is None or abs(_stamp(near) - stamp) > self.tolerance_s * 1e9:
            return None
        return near

    def _release(self, depth: Any) -> None:
        image, _ = self._waiting
        self._waiting = None
        self._submit(image, depth)


def _stamp(message: Any) -> int:
    return nanoseconds_of(message.header.stamp)
