from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
from bright_square import BrightSquare, picture

from hand_perception.errors import ImageError
from hand_perception.hands import Camera, Reconstruction
from hand_perception.worker import Frame, Worker

IMAGE = np.zeros((24, 32, 3), np.uint8)
CAMERA = Camera.assumed(32, 24)
PATIENCE = 10.0  # seconds until a test gives up; nothing waits for so long


class Gate:
    """A reconstructor that enters when it is told to."""

    identity = "gate"

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Semaphore(0)

    def __call__(self, image, camera, *, score_threshold):
        self.entered.release()
        assert self.open.acquire(timeout=PATIENCE)
        return Reconstruction([], {"detector": 2.0})


class Immediate:
    identity = "immediate"

    def __call__(self, image, camera, *, score_threshold):
        return Reconstruction([], {})


class Sink:
    def __init__(self) -> None:
        self.stamps, self.errors = [], []
        self.arrived = threading.Semaphore(0)

    def deliver(self, frame, result, camera):
        self.stamps.append(frame.stamp_ns)
        self.arrived.release()

    def fail(self, frame, error):
        self.errors.append(error)
        self.arrived.release()

    def wait(self):
        assert self.arrived.acquire(timeout=PATIENCE)


def frame(stamp: int, decode=lambda: (IMAGE, CAMERA)) -> Frame:
    return Frame(stamp, "optical", decode)


def test_newest_frame_wins_and_the_rest_is_counted():
    gate, sink = Gate(), Sink()
    worker = Worker(gate, sink.deliver, sink.fail)
    worker.submit(frame(1))
    assert gate.entered.acquire(timeout=PATIENCE)
    for stamp in (2, 3, 4):  # while the first is at work
        worker.submit(frame(stamp))
    gate.open.release(2)
    sink.wait()
    sink.wait()
    worker.stop()
    statistics = worker.statistics()
    assert sink.stamps == [1, 4]
    assert (statistics.received, statistics.processed, statistics.dropped) == (4, 2, 2)
    assert statistics.stage_ms["detector"] == 2.0
    assert {"decode", "tracking", "publish", "total"} <= set(statistics.stage_ms)


def test_errors_of_one_frame_spare_the_next():
    def truncated():
        raise ImageError("cut short")

    def bug():
        raise ZeroDivisionError

    sink = Sink()
    worker = Worker(Immediate(), sink.deliver, sink.fail)
    for number, decode in enumerate((truncated, bug)):
        worker.submit(frame(number, decode))
        sink.wait()
    worker.submit(frame(9))
    sink.wait()
    worker.stop()
    assert [type(error) for error in sink.errors] == [ImageError, ZeroDivisionError]
    assert sink.stamps == [9]
    assert worker.statistics().failed == 2


def test_an_error_while_delivering_is_a_failed_frame():
    sink = Sink()

    def deliver(*_):
        raise OSError("network is down")

    worker = Worker(Immediate(), deliver, sink.fail)
    worker.submit(frame(1))
    sink.wait()
    worker.stop()
    assert isinstance(sink.errors[0], OSError)
    assert worker.statistics().processed == 0


def test_stop_is_idempotent_also_from_within():
    sink = Sink()
    worker = Worker(Immediate(), lambda *_: worker.stop() or sink.arrived.release(), sink.fail)
    worker.submit(frame(1))
    sink.wait()
    worker.stop()
    worker.stop()
    assert sink.errors == []


def test_rate_limit_holds_frames_back():
    sink = Sink()
    worker = Worker(Immediate(), sink.deliver, sink.fail, max_rate=0.001)
    for stamp in range(5):
        worker.submit(frame(stamp))
    sink.wait()
    worker.stop()
    assert sink.stamps == [0]
    assert worker.statistics().skipped == 4


def test_tracker_sees_the_hands_and_the_stamp_in_seconds():
    sink, seen = Sink(), []

    def tracker(hands, stamp):
        seen.append(stamp)
        return [replace(hand, track_id=5) for hand in hands]

    results = []

    def deliver(frame, result, camera):
        results.append(result)
        sink.deliver(frame, result, camera)

    worker = Worker(BrightSquare(), deliver, sink.fail, tracker=tracker)
    camera = Camera(100, 100, 50, 50, 100, 100)
    worker.submit(frame(2_500_000_000, lambda: (picture(100, 100, (50, 50)), camera)))
    sink.wait()
    worker.stop()
    assert seen == [2.5]
    assert [hand.track_id for hand in results[0].hands] == [5]
    assert worker.statistics().hands == 1


def test_statistics_are_a_snapshot():
    sink = Sink()
    worker = Worker(Immediate(), sink.deliver, sink.fail)
    before = worker.statistics()
    worker.submit(frame(1))
    sink.wait()
    worker.stop()
    assert replace(before) == before
    assert before.received == 0
    assert worker.statistics().received == 1
