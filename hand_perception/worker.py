"""Inference beside the executor: one thread, a mailbox of one frame a camera, the newest wins.

Where the network reads several images in one go, the frames that wait are taken together.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from hand_perception.hands import Camera, Hand, Reconstruction
from hand_perception.view import View

# How many results the rates and stage times are averaged over.
_WINDOW = 60


class Tracker(Protocol):
    """The hands of the image taken at a stamp, with ids."""

    def __call__(self, hands: list[Hand], stamp_s: float) -> list[Hand]: ...


class Reconstructor(Protocol):
    """What the worker asks of a network: an RGB image [H, W, 3] uint8 and its camera to hands."""

    identity: str

    def __call__(
        self, image_rgb: np.ndarray, camera: Camera, *, score_threshold: float
    ) -> Reconstruction: ...


@dataclass(frozen=True)
class Picture:
    """A decoded frame. image: RGB uint8 [H, W, 3]. depth: metres, float32 [H, W], NaN where
    unknown; None without a depth image."""

    image: np.ndarray
    camera: Camera
    depth: np.ndarray | None = None


@dataclass(frozen=True)
class Frame:
    """An image that waits.

    decode: gives the picture; called in the worker's thread, as decoding a JPEG takes longer than
    a callback should.
    """

    stamp_ns: int
    frame_id: str
    decode: Callable[[], Picture]


Refine = Callable[[Frame, Picture, list[Hand]], list[Hand]]
# The streams' own reconstructors and a view for each, to what came of them.
Together = Callable[[Sequence[Reconstructor], Sequence[View]], list[Reconstruction]]


@dataclass(frozen=True)
class Statistics:
    """What was done for one camera. Rates and times cover the last frames only.

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


class Stream:
    """One camera's mailbox and what happens to its frames; made by ``Worker.stream``.

    score_threshold, max_rate (frames per second, 0: all), tracker and reconstruct may be set at any
    time.
    """

    def __init__(
        self,
        worker: Worker,
        reconstruct: Reconstructor,
        deliver: Callable[[Frame, Picture, Reconstruction], None],
        fail: Callable[[Frame, Exception], None],
        refine: Refine | None,
        tracker: Tracker | None,
        score_threshold: float,
        max_rate: float,
    ) -> None:
        self.score_threshold = score_threshold
        self.max_rate = max_rate
        self.tracker = tracker
        self.reconstruct = reconstruct
        self.deliver = deliver
        self.fail = fail
        self.refine = refine
        self._changed = worker.changed
        self._waiting: Frame | None = None
        self._counts: Counter[str] = Counter()
        self._done: deque[tuple[float, float, float, dict[str, float]]] = deque(maxlen=_WINDOW)
        self._next_start = 0.0

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
            self._changed.notify_all()

    def take(self) -> Frame | None:
        """The waiting frame, once. To be called with the worker's lock held."""
        frame, self._waiting = self._waiting, None
        return frame

    @property
    def waits(self) -> bool:
        """Whether a frame waits. To be asked with the worker's lock held."""
        return self._waiting is not None

    def count(self, **changes: int) -> None:
        with self._changed:
            self._counts.update(changes)

    def record(self, age_ms: float, latency_ms: float, stage_ms: dict[str, float]) -> None:
        with self._changed:
            self._done.append((time.monotonic(), age_ms, latency_ms, stage_ms))

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


class Worker:
    """Reconstructs the newest frame of each camera in turn, over and over, until stopped.

    An error in one frame, whatever it is, never ends the thread. now_ns: the clock of the frames'
    stamps. at_once: of how many cameras the waiting frames are read in one go, by ``together``.
    """

    def __init__(
        self,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        at_once: int = 1,
        together: Together | None = None,
    ) -> None:
        self.changed = threading.Condition()
        self._now_ns = now_ns
        self._at_once, self._together = at_once, together
        self._streams: deque[Stream] = deque()
        self._busy = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def stream(
        self,
        reconstruct: Reconstructor,
        deliver: Callable[[Frame, Picture, Reconstruction], None],
        fail: Callable[[Frame, Exception], None],
        *,
        refine: Refine | None = None,
        tracker: Tracker | None = None,
        score_threshold: float = 0.5,
        max_rate: float = 0.0,
    ) -> Stream:
        """A further camera; several may share a network.

        All callables are called in the worker's thread: ``refine`` between the network and the
        tracker, ``deliver`` with what came out, ``fail`` with what went wrong.
        """
        stream = Stream(
            self, reconstruct, deliver, fail, refine, tracker, score_threshold, max_rate
        )
        with self.changed:
            self._streams.append(stream)
        return stream

    def drain(self) -> None:
        """Block until all frames submitted so far are dealt with: no frame is lost that way."""
        with self.changed:
            self.changed.wait_for(
                lambda: (
                    self._stopping
                    or not (self._busy or any(stream.waits for stream in self._streams))
                )
            )

    def stop(self) -> None:
        """End the thread after the frame it works on. May be called any number of times."""
        with self.changed:
            self._stopping = True
            self.changed.notify_all()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _next(self) -> list[_Work]:
        """The next frames, waiting for one; none when stopped."""
        with self.changed:
            while not self._stopping:
                taken = [
                    _Work(stream, stream.take())
                    for stream in [s for s in self._streams if s.waits][: self._at_once]
                ]
                # To the end of the line: no camera can keep another waiting for longer than one
                # frame of each takes.
                for work in taken:
                    self._streams.remove(work.stream)
                    self._streams.append(work.stream)
                if taken:
                    self._busy = True
                    return taken
                self.changed.wait()
        return []

    def _run(self) -> None:
        while taken := self._next():
            for work in taken:
                work.age_ms = self._age_ms(work)
                self._try(work, self._decode)
                work.decode_ms = 1e3 * work.busy_s
            self._reconstruct([work for work in taken if not work.failed])
            for work in taken:
                self._try(work, self._finish)
            with self.changed:
                self._busy = False
                self.changed.notify_all()

    def _try(self, work: _Work, step: Callable[[_Work], None]) -> None:
        """A step of a frame that has not failed; whatever its error, it ends this frame only."""
        if work.failed:
            return
        begin = time.perf_counter()
        try:
            step(work)
        except Exception as error:  # even a bug must not end the node
            work.failed = True
            work.stream.count(failed=1)
            work.stream.fail(work.frame, error)
        work.busy_s += time.perf_counter() - begin

    def _decode(self, work: _Work) -> None:
        work.picture = work.frame.decode()

    def _reconstruct(self, several: list[_Work]) -> None:
        """In one go; where that fails one by one, to know whose error it is."""
        if len(several) > 1:
            begin = time.perf_counter()
            try:
                results = self._together(
                    [work.stream.reconstruct for work in several],
                    [
                        View(work.picture.image, work.picture.camera, work.stream.score_threshold)
                        for work in several
                    ],
                )
            except Exception:
                pass
            else:
                for work, result in zip(several, results, strict=True):
                    work.result = result
                    work.busy_s += time.perf_counter() - begin
                return
        for work in several:
            self._try(work, self._reconstruct_one)

    def _reconstruct_one(self, work: _Work) -> None:
        work.result = work.stream.reconstruct(
            work.picture.image, work.picture.camera, score_threshold=work.stream.score_threshold
        )

    def _finish(self, work: _Work) -> None:
        """Refined, tracked, delivered."""
        stream, frame, picture, result = work.stream, work.frame, work.picture, work.result
        hands = result.hands
        refining = time.perf_counter()
        if stream.refine is not None:
            hands = stream.refine(frame, picture, hands)
        tracking = time.perf_counter()
        if stream.tracker is not None:
            hands = stream.tracker(hands, frame.stamp_ns / 1e9)
        tracked = time.perf_counter()
        stream.deliver(frame, picture, replace(result, hands=hands))
        end = time.perf_counter()
        stage_ms = {
            "decode": work.decode_ms,
            **result.stage_ms,
            "refine": 1e3 * (tracking - refining),
            "tracking": 1e3 * (tracked - tracking),
            "publish": 1e3 * (end - tracked),
            "total": 1e3 * (work.busy_s + end - refining),
        }
        stream.record(work.age_ms, self._age_ms(work), stage_ms)
        stream.count(processed=1, hands=len(hands))

    def _age_ms(self, work: _Work) -> float:
        """Since the image's stamp."""
        return (self._now_ns() - work.frame.stamp_ns) / 1e6


@dataclass
class _Work:
    """A frame on its way. busy_s: what was done for it so far, also together with others."""

    stream: Stream
    frame: Frame
    age_ms: float = 0.0
    picture: Picture | None = None
    result: Reconstruction | None = None
    failed: bool = False
    busy_s: float = 0.0
    decode_ms: float = 0.0
