"""Inference beside the executor: one thread, a mailbox of one frame, the newest frame wins."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from hand_perception.hands import Camera, Hand, Reconstruction

# How many results the rates and stage times are averaged over.
_WINDOW = 60

Tracker = Callable[[list[Hand], float], list[Hand]]


class Reconstructor(Protocol):
    """What the worker asks of a network: an RGB image [H, W, 3] uint8 and its camera to hands."""

    identity: str

    def __call__(
        self, image_rgb: np.ndarray, camera: Camera, *, score_threshold: float
    ) -> Reconstruction: ...


@dataclass(frozen=True)
class Frame:
    """An image that waits.

    decode: gives the RGB image and its camera; called in the worker's thread, as decoding a JPEG
    takes longer than a callback should.
    """

    stamp_ns: int
    frame_id: str
    decode: Callable[[], tuple[np.ndarray, Camera]]


@dataclass(frozen=True)
class Statistics:
    """What the worker has done. Rates and times cover the last frames only.

    received = processed + failed + dropped + skipped + those still waiting. dropped: overwritten
    by a newer frame. skipped: held back by the rate limit. input_age_ms: from the image's stamp to
    the start of its work; latency_ms: to its delivery. rate: frames delivered per second.
    """

    received: int = 0
    processed: int = 0
    dropped: int = 0
    skipped: int = 0
    failed: int = 0
    hands: int = 0
    rate: float = 0.0
    input_age_ms: float = 0.0
    latency_ms: float = 0.0
    stage_ms: dict[str, float] = field(default_factory=dict)


class Worker:
    """Reconstructs the newest frame, over and over, until stopped.

    deliver(frame, reconstruction, camera) and fail(frame, error) are called in the worker's
    thread. An error in one frame, whatever it is, never ends the thread. now_ns: the clock of the
    frames' stamps.
    """

    def __init__(
        self,
        reconstructor: Reconstructor,
        deliver: Callable[[Frame, Reconstruction, Camera], None],
        fail: Callable[[Frame, Exception], None],
        *,
        score_threshold: float = 0.5,
        max_rate: float = 0.0,
        tracker: Tracker | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.score_threshold = score_threshold
        self.max_rate = max_rate
        self._reconstructor = reconstructor
        self._deliver = deliver
        self._fail = fail
        self._tracker = tracker
        self._now_ns = now_ns
        self._changed = threading.Condition()
        self._waiting: Frame | None = None
        self._stopping = False
        self._counts: Counter[str] = Counter()
        self._done: deque[tuple[float, float, float, dict[str, float]]] = deque(maxlen=_WINDOW)
        self._next_start = 0.0
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def submit(self, frame: Frame) -> None:
        """Put a frame into the mailbox; one that still waits there is dropped."""
        with self._changed:
            self._counts["received"] += 1
            if self.max_rate > 0:
                now = time.monotonic()
                if now < self._next_start:
                    self._counts["skipped"] += 1
                    return
                # Advance by whole periods, so that 30 Hz input at max_rate 15 gives 15 and not
                # 10; after a pause start anew. The slack absorbs the camera's jitter.
                period = 1 / self.max_rate
                self._next_start = max(self._next_start, now - 0.5 * period) + period
            if self._waiting is not None:
                self._counts["dropped"] += 1
            self._waiting = frame
            self._changed.notify()

    def stop(self) -> None:
        """End the thread after the frame it works on. May be called any number of times."""
        with self._changed:
            self._stopping = True
            self._waiting = None
            self._changed.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def statistics(self) -> Statistics:
        with self._changed:
            statistics = Statistics(**self._counts)
            done = list(self._done)
        if not done:
            return statistics
        span = done[-1][0] - done[0][0]
        names = dict.fromkeys(name for entry in done for name in entry[3])
        stage_ms = {
            name: float(np.mean([entry[3][name] for entry in done if name in entry[3]]))
            for name in names
        }
        # The rate of the past must not outlive its frames.
        idle = time.monotonic() - done[-1][0]
        return replace(
            statistics,
            rate=(len(done) - 1) / span if span > 0 and idle < 2 * span + 1 else 0.0,
            input_age_ms=float(np.mean([entry[1] for entry in done])),
            latency_ms=float(np.mean([entry[2] for entry in done])),
            stage_ms=stage_ms,
        )

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._waiting is None and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    return
                frame, self._waiting = self._waiting, None
            try:
                hands = self._process(frame)
            except Exception as error:  # a frame's error, even a bug, must not end the node
                self._count(failed=1)
                self._fail(frame, error)
            else:
                self._count(processed=1, hands=hands)

    def _process(self, frame: Frame) -> int:
        age_ms = (self._now_ns() - frame.stamp_ns) / 1e6
        begin = time.perf_counter()
        image, camera = frame.decode()
        decoded = time.perf_counter()
        result = self._reconstructor(image, camera, score_threshold=self.score_threshold)
        hands = result.hands
        tracking = time.perf_counter()
        if self._tracker is not None:
            hands = self._tracker(hands, frame.stamp_ns / 1e9)
        tracked = time.perf_counter()
        self._deliver(frame, replace(result, hands=hands), camera)
        end = time.perf_counter()
        stage_ms = {
            "decode": 1e3 * (decoded - begin),
            **result.stage_ms,
            "tracking": 1e3 * (tracked - tracking),
            "publish": 1e3 * (end - tracked),
            "total": 1e3 * (end - begin),
        }
        latency_ms = (self._now_ns() - frame.stamp_ns) / 1e6
        with self._changed:
            self._done.append((time.monotonic(), age_ms, latency_ms, stage_ms))
        return len(hands)

    def _count(self, **changes: int) -> None:
        with self._changed:
            self._counts.update(changes)
