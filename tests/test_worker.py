from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
from bright_square import BrightSquare, picture

from hand_perception.errors import ImageError
from hand_perception.hands import Camera, Reconstruction
from hand_perception.worker import Frame, Picture, Stream, Worker

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
        self.stamps, self.errors, self.results = [], [], []
        self.arrived = threading.Semaphore(0)

    def deliver(self, frame, picture, result):
        self.stamps.append(frame.stamp_ns)
        self.results.append(result)
        self.arrived.release()

    def fail(self, frame, error):
        self.errors.append(error)
        self.arrived.release()

    def wait(self):
        assert self.arrived.acquire(timeout=PATIENCE)


def frame(stamp: int, decode=lambda: Picture(IMAGE, CAMERA)) -> Frame:
    return Frame(stamp, "optical", decode)


def start(reconstructor, sink, **options) -> tuple[Worker, Stream]:
    worker = Worker()
    return worker, worker.stream(reconstructor, sink.deliver, sink.fail, **options)


def test_newest_frame_wins_and_the_rest_is_counted():
    gate, sink = Gate(), Sink()
    worker, stream = start(gate, sink)
    stream.submit(frame(1))
    assert gate.entered.acquire(timeout=PATIENCE)
    for stamp in (2, 3, 4):  # while the first is at work
        stream.submit(frame(stamp))
    gate.open.release(2)
    sink.wait()
    sink.wait()
    worker.stop()
    statistics = stream.statistics()
    assert sink.stamps == [1, 4]
    assert (statistics.received, statistics.processed, statistics.dropped) == (4, 2, 2)
    assert statistics.stage_ms["detector"] == 2.0
    assert {"decode", "refine", "tracking", "publish", "total"} <= set(statistics.stage_ms)


def test_cameras_take_turns_and_each_gets_its_newest_frame():
    gate, sink = Gate(), Sink()
    worker = Worker()
    busy, quiet = (worker.stream(gate, sink.deliver, sink.fail) for _ in range(2))
    busy.submit(frame(1))
    assert gate.entered.acquire(timeout=PATIENCE)
    for stamp in (2, 3, 4):  # one camera never rests, the other sends now and then
        busy.submit(frame(stamp))
    quiet.submit(frame(10))
    quiet.submit(frame(11))
    gate.open.release(3)
    for _ in range(3):
        sink.wait()
    worker.stop()
    assert sink.stamps == [1, 11, 4]
    assert (busy.statistics().dropped, quiet.statistics().dropped) == (2, 1)


def test_errors_of_one_frame_spare_the_next():
    def truncated():
        raise ImageError("cut short")

    def bug():
        raise ZeroDivisionError

    sink = Sink()
    worker, stream = start(Immediate(), sink)
    for number, decode in enumerate((truncated, bug)):
        stream.submit(frame(number, decode))
        sink.wait()
    stream.submit(frame(9))
    sink.wait()
    worker.stop()
    assert [type(error) for error in sink.errors] == [ImageError, ZeroDivisionError]
    assert sink.stamps == [9]
    assert stream.statistics().failed == 2


def test_an_error_while_delivering_is_a_failed_frame():
    sink = Sink()

    def deliver(*_):
        raise OSError("network is down")

    worker = Worker()
    stream = worker.stream(Immediate(), deliver, sink.fail)
    stream.submit(frame(1))
    sink.wait()
    worker.stop()
    assert isinstance(sink.errors[0], OSError)
    assert stream.statistics().processed == 0


def test_stop_is_idempotent_also_from_within():
    sink = Sink()
    worker = Worker()

    def deliver(*_):
        worker.stop()
        sink.arrived.release()

    stream = worker.stream(Immediate(), deliver, sink.fail)
    stream.submit(frame(1))
    sink.wait()
    worker.stop()
    worker.stop()
    assert sink.errors == []


def test_rate_limit_holds_frames_back():
    sink = Sink()
    worker, stream = start(Immediate(), sink, max_rate=0.001)
    for stamp in range(5):
        stream.submit(frame(stamp))
    sink.wait()
    worker.stop()
    assert sink.stamps == [0]
    assert stream.statistics().skipped == 4


def test_hands_are_refined_before_they_are_tracked_by_the_stamp_in_seconds():
    sink, seen = Sink(), []

    def refine(frame, picture, hands):
        seen.append((frame.stamp_ns, picture.camera))
        return [replace(hand, score=0.7) for hand in hands]

    def tracker(hands, stamp):
        seen.append((stamp, [hand.score for hand in hands]))
        return [replace(hand, track_id=5) for hand in hands]

    worker, stream = start(BrightSquare(), sink, refine=refine, tracker=tracker)
    camera = Camera(100, 100, 50, 50, 100, 100)
    stream.submit(frame(2_500_000_000, lambda: Picture(picture(100, 100, (50, 50)), camera)))
    sink.wait()
    worker.stop()
    assert seen == [(2_500_000_000, camera), (2.5, [0.7])]
    assert [(hand.track_id, hand.score) for hand in sink.results[0].hands] == [(5, 0.7)]
    assert stream.statistics().hands == 1


def test_statistics_are_a_snapshot():
    sink = Sink()
    worker, stream = start(Immediate(), sink)
    before = stream.statistics()
    stream.submit(frame(1))
    sink.wait()
    worker.stop()
    assert before.received == 0
    assert stream.statistics().received == 1


def test_drained_means_that_nothing_waits_or_is_at_work():
    gate, sink = Gate(), Sink()
    worker = Worker()
    stream = worker.stream(gate, sink.deliver, sink.fail)
    worker.drain()  # nothing was submitted
    stream.submit(frame(1))
    assert gate.entered.acquire(timeout=PATIENCE)
    drained = threading.Thread(target=worker.drain)
    drained.start()
    assert drained.is_alive() and sink.stamps == []
    gate.open.release()
    drained.join(PATIENCE)
    assert sink.stamps == [1] and not drained.is_alive()
    for stamp in (2, 3, 4):
        gate.open.release()
        stream.submit(frame(stamp))
        worker.drain()
    worker.stop()
    assert sink.stamps == [1, 2, 3, 4] and stream.statistics().dropped == 0


class Counted(Immediate):
    """Remembers of how many cameras images came in one go; `together` is what a worker is given."""

    def __init__(self) -> None:
        self.counts, self.alone = [], 0

    def __call__(self, image, camera, *, score_threshold):
        self.alone += 1
        if image.max() > 0:
            raise ImageError("too bright")
        return super().__call__(image, camera, score_threshold=score_threshold)

    def together(self, reconstructors, views):
        self.counts.append(len(views))
        assert all(r is self for r in reconstructors)
        if any(view.image.max() > 0 for view in views):
            raise ImageError("one of them is too bright")
        return [Reconstruction([], {"detector": 1.0 + k}) for k in range(len(views))]


def read_while_busy(network: Counted, at_once: int, frames: list[Frame]):
    """A camera for each frame, submitted while the worker is at another; what came of them."""
    gate, sink = Gate(), Sink()
    worker = Worker(at_once=at_once, together=network.together)
    first = worker.stream(gate, sink.deliver, sink.fail)
    cameras = [worker.stream(network, sink.deliver, sink.fail) for _ in frames]
    first.submit(frame(1))
    assert gate.entered.acquire(timeout=PATIENCE)
    for camera, waiting in zip(cameras, frames, strict=True):
        camera.submit(waiting)
    gate.open.release()
    worker.drain()
    worker.stop()
    return sink, [camera.statistics() for camera in cameras]


def test_waiting_cameras_are_read_in_one_go_as_many_as_the_network_takes():
    network = Counted()
    sink, statistics = read_while_busy(network, 3, [frame(10 + k) for k in range(4)])
    # Three of the four at once; the one that is left needs no company.
    assert (network.counts, network.alone) == ([3], 1)
    assert sorted(sink.stamps) == [1, 10, 11, 12, 13] and not sink.errors
    assert [s.stage_ms.get("detector") for s in statistics] == [1.0, 2.0, 3.0, None]


def test_the_bad_frame_of_one_camera_spares_those_read_with_it():
    def truncated():
        raise ImageError("cut short")

    network, bright = Counted(), Picture(IMAGE + 200, CAMERA)
    frames = [frame(10), frame(11, truncated), frame(12, lambda: bright), frame(13)]
    sink, statistics = read_while_busy(network, 4, frames)
    # What cannot be decoded is left out; what then fails together is told apart one by one.
    assert (network.counts, network.alone) == ([3], 3)
    assert sorted(sink.stamps) == [1, 10, 13]
    assert sorted(map(str, sink.errors)) == ["cut short", "too bright"]
    assert [(s.failed, s.processed) for s in statistics] == [(0, 1), (1, 0), (1, 0), (0, 1)]
