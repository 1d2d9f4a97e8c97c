"""One camera's way through the node: its messages in, its results out, its state of health."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from hand_perception import messages
from hand_perception.camera_watch import CameraWatch
from hand_perception.complaints import Complaints
from hand_perception.depth_matching import DepthMatcher
from hand_perception.errors import CameraError, HandPerceptionError
from hand_perception.following import FollowingReconstructor
from hand_perception.frames import (
    Calibrations,
    depth_from_message,
    image_from_compressed,
    image_from_message,
)
from hand_perception.hands import Camera, Reconstruction
from hand_perception.messages import MessageTypes, Status
from hand_perception.parameters import NodeParameters
from hand_perception.placing import HandPlacer
from hand_perception.publishing import HandPublisher, Sink
from hand_perception.runtime.gpu_memory import gpu_memory
from hand_perception.snapshot import Snapshot
from hand_perception.template import Template
from hand_perception.topics import NODE_NAME, camera_inputs
from hand_perception.tracking import HandTracker, TrackerParameters
from hand_perception.worker import Frame, Picture, Reconstructor, Statistics, Worker

# An image older than the last one by less than this came late over the network: it is passed
# over. By more, time has jumped: a bag was started again.
_DISORDER_NS = 100_000_000
# Nobody knows where a hand will be later than that, seconds.
_FARTHEST_AHEAD = 1.0


class ReconstructorWithTopology(Reconstructor, Protocol):
    topology: Template


@dataclass(frozen=True)
class Surroundings:
    """What all cameras of a node share. resolve: a topic's full name. now_ns: the clock of the
    images' stamps."""

    types: MessageTypes
    reconstructor: ReconstructorWithTopology
    log: Any
    resolve: Callable[[str], str]
    now_ns: Callable[[], int]


class CameraPipeline:
    """Callbacks (``on_...``) may come from any one thread; results leave from the worker's."""

    def __init__(
        self,
        camera: str,
        parameters: NodeParameters,
        worker: Worker,
        sink: Sink,
        surroundings: Surroundings,
    ) -> None:
        self.camera = camera
        self.inputs = camera_inputs(parameters, camera)
        self.last: Snapshot | None = None
        self._parameters = parameters
        self._types = surroundings.types
        self._reconstructor = surroundings.reconstructor
        self._topology = surroundings.reconstructor.topology
        self._log = surroundings.log
        self._resolve = surroundings.resolve
        self._now_ns = surroundings.now_ns
        complaints = self._complaints = Complaints(self._log)
        self.publisher = HandPublisher(
            camera, parameters, self._types, sink, self._topology, complaints
        )
        self.placer = HandPlacer(
            self._topology,
            parameters.hand_length_m,
            lambda text: complaints.add(text, "hand length"),
        )
        self._calibrations = Calibrations(parameters.rectified)
        self._assumed: str | None = None
        self._matcher = DepthMatcher(self._submit, parameters.depth_tolerance)
        self._watch = CameraWatch(self._resolve(self.inputs.image.topic), self._log)
        self._last_stamp_ns: int | None = None
        self._time_jumps = self._late = 0
        self._stream = worker.stream(
            self._reconstruct(parameters),
            self._deliver,
            lambda frame, error: complaints.add(error),
            refine=self.placer,
            tracker=_tracker(parameters),
            score_threshold=parameters.score_threshold,
            max_rate=parameters.max_rate,
        )

    @property
    def parameters(self) -> NodeParameters:
        return self._parameters

    @parameters.setter
    def parameters(self, parameters: NodeParameters) -> None:
        """Takes those that may change while the node is active."""
        if _tracker_parameters(parameters) != _tracker_parameters(self._parameters):
            self._stream.tracker = _tracker(parameters)
        if _looks(parameters) != _looks(self._parameters):
            self._stream.reconstruct = self._reconstruct(parameters)
        self._parameters = self.publisher.parameters = parameters
        self._stream.score_threshold = parameters.score_threshold
        self._stream.max_rate = parameters.max_rate
        self._matcher.tolerance_s = parameters.depth_tolerance
        self.placer.hand_length_m = parameters.hand_length_m

    def _reconstruct(self, parameters: NodeParameters) -> Reconstructor:
        """The network, or what follows this camera's hands with it."""
        if not hasattr(self._reconstructor, "together"):
            return self._reconstructor
        return FollowingReconstructor(self._reconstructor, *_looks(parameters))

    def statistics(self) -> Statistics:
        return self._stream.statistics()

    # -- inputs ------------------------------------------------------------------------------

    def on_info(self, info: Any) -> None:
        try:
            camera = self._calibrations.update(info)
        except CameraError as error:
            self._complaints.add(error, "camera_info")
        else:
            if camera is not None:
                size = f"{camera.width}x{camera.height}"
                lens = camera.distortion_model or "no distortion"
                frame = info.header.frame_id
                self._log.info(f"CameraInfo of {frame!r}: {size}, fx {camera.fx:.1f}, {lens}")

    def on_image(self, message: Any) -> None:
        """Takes an Image or a CompressedImage, as the parameters say."""
        self._watch.arrived()
        stamp_ns = messages.nanoseconds_of(message.header.stamp)
        if self._last_stamp_ns is not None and stamp_ns < self._last_stamp_ns:
            back_ns = self._last_stamp_ns - stamp_ns
            if back_ns < _DISORDER_NS:
                self._late += 1
                return
            self._time_jumps += 1
            self._matcher.clear()
            self._stream.reconstruct = self._reconstruct(self._parameters)
            # The tracker sees the same from the stamps and starts anew.
            self._log.warning(f"time jumped back by {back_ns / 1e9:.1f} s: all tracks are ended")
        self._last_stamp_ns = stamp_ns
        if self.inputs.depth is None:
            self._submit(message, None)
        else:
            self._matcher.on_image(message)

    def on_depth(self, message: Any) -> None:
        self._matcher.on_depth(message)

    def _submit(self, message: Any, depth: Any) -> None:
        stamp_ns = messages.nanoseconds_of(message.header.stamp)
        decode = partial(self._decode, message, depth)
        self._stream.submit(Frame(stamp_ns, message.header.frame_id, decode))

    def _decode(self, message: Any, depth: Any) -> Picture:
        read = image_from_compressed if self._parameters.compressed else image_from_message
        image = read(message)
        height, width = image.shape[:2]
        camera = self._camera_of(message.header.frame_id, width, height)
        picture = Picture(image, camera)
        if depth is None:
            return picture
        # Without a scale in the picture a distance in metres cannot be compared with it.
        if not camera.metric:
            return picture
        try:
            return replace(picture, depth=depth_from_message(depth, width, height))
        except HandPerceptionError as error:  # the hands are worth something without it
            self._complaints.add(error, "depth")
            return picture

    def _camera_of(self, frame: str, width: int, height: int) -> Camera:
        if self._calibrations:
            self._assumed = None
            return self._calibrations.camera_of(frame, width, height)
        fov = self._parameters.assumed_horizontal_fov
        if self._assumed is None:
            self._assumed = f"no CameraInfo yet, a {fov:g} degree lens is assumed: not metric"
            self._log.warning(self._assumed)
        return Camera.assumed(width, height, fov)

    # -- in the worker's thread --------------------------------------------------------------

    def _deliver(self, frame: Frame, picture: Picture, result: Reconstruction) -> None:
        self.last = Snapshot(frame.stamp_ns, frame.frame_id, picture, result)
        seen = header = messages.header(self._types, frame.stamp_ns, frame.frame_id)
        hands, tracker = result.hands, self._stream.tracker
        now_ns = self._now_ns()
        ahead_s = (now_ns - frame.stamp_ns) / 1e9
        # A clock that is not the camera's, or a bag's without its time, tells nothing.
        if self._parameters.predict_to_now and tracker and 0 < ahead_s < _FARTHEST_AHEAD:
            hands = tracker.predict(ahead_s)
            header = messages.header(self._types, now_ns, frame.frame_id)
        self.publisher.publish(header, hands, picture.camera)
        self.publisher.publish_overlay(seen, result.hands, picture)  # the slowest comes last

    # -- health ------------------------------------------------------------------------------

    def tick(self, subscribed: bool) -> None:
        """Every tenth of a second or so. subscribed: whether images are asked for."""
        self._matcher.release_overdue()
        if subscribed:
            self._watch.check(self._parameters.camera_timeout)
        else:
            self._watch.rest()  # nothing was to come

    def statuses(self, resting: str | None) -> list[Status]:
        """Of input and inference. resting: why no image is asked for, if so."""
        statistics = self._stream.statistics()
        inputs = self.inputs
        image_topic = self._resolve(inputs.image.topic)
        level, text = "OK", "images arrive"
        if self._assumed:
            level, text = "WARN", self._assumed
        if resting:
            level, text = "OK", resting
        elif statistics.received == 0:
            level, text = "WARN", f"no image on {image_topic} yet"
        error = self._complaints.recent() or self._watch.complaint()
        if error:
            level, text = "ERROR", error
        values = {
            "image topic": image_topic,
            "camera_info topic": self._resolve(inputs.info.topic),
            "depth topic": self._resolve(inputs.depth.topic) if inputs.depth else "none",
            "camera": "calibrated" if self._calibrations else "assumed",
            "received": statistics.received,
            "failed": statistics.failed,
            "dropped (newer image came)": statistics.dropped,
            "skipped (max_rate)": statistics.skipped,
            "with depth": self.placer.images_with_depth,
            "late (older than the last)": self._late,
            "jumps back in time": self._time_jumps,
            "age at start (ms)": statistics.input_age_ms,
        }
        suffix = f" {self.camera}" if self.camera else ""
        return [
            Status(f"{NODE_NAME}: input{suffix}", level, text, values),
            self._inference_status(statistics, suffix),
        ]

    def _inference_status(self, statistics: Statistics, suffix: str) -> Status:
        values = {
            "model": self._reconstructor.identity,
            "rate (Hz)": statistics.rate,
            "processed": statistics.processed,
            "hands": statistics.hands,
            "latency from stamp (ms)": statistics.latency_ms,
            "GPU memory": gpu_memory(),
            **{f"{stage} (ms)": ms for stage, ms in statistics.stage_ms.items()},
        }
        text = f"{statistics.rate:.1f} images per second"
        return Status(f"{NODE_NAME}: inference{suffix}", "OK", text, values)


def _looks(parameters: NodeParameters) -> tuple[int, float]:
    """How the detector looks for hands, as FollowingReconstructor takes it."""
    return parameters.detect_every, parameters.detect_zoom


def _tracker_parameters(parameters: NodeParameters) -> TrackerParameters | None:
    if not parameters.tracking:
        return None
    return TrackerParameters(
        max_gap_s=parameters.track_memory,
        smoothing=parameters.smoothing,
        min_cutoff_hz=parameters.smoothing_cutoff,
        beta=parameters.smoothing_beta,
    )


def _tracker(parameters: NodeParameters) -> HandTracker | None:
    settings = _tracker_parameters(parameters)
    return None if settings is None else HandTracker(settings)
