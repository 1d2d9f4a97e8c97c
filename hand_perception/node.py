"""The hand node without its transport: messages in, messages out.

``ros.node`` and ``dds.node`` both are this with subscriptions and publishers around it, so that
they publish the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from hand_perception import messages
from hand_perception.articulation import Articulation, articulate
from hand_perception.articulation_messages import joint_state
from hand_perception.errors import CameraError, DataError, HandPerceptionError
from hand_perception.frames import Calibrations, image_from_compressed, image_from_message
from hand_perception.hands import Camera, Hand, Reconstruction, Side
from hand_perception.markers import clearing_markers, hand_markers
from hand_perception.messages import MessageTypes, Status
from hand_perception.parameters import NodeParameters
from hand_perception.template import Template
from hand_perception.tracking import HandTracker, TrackerParameters
from hand_perception.worker import Frame, Reconstructor, Statistics, Tracker, Worker

NODE_NAME = "hand_perception"
# The same complaint about a stream of images is logged once in this many seconds.
_LOG_PERIOD = 5.0
# Diagnostics show an error for this long after it happened.
_ERROR_SHOWN = 5.0
# Markers outlive a few frames, then RViz clears those of hands that have gone.
_MARKER_LIFETIME_NS = 300_000_000


@dataclass(frozen=True)
class Output:
    """A published topic. latched: reliable and transient local, else reliable and volatile."""

    topic: str
    type_name: str
    latched: bool = False


MESH = Output("hands/mesh", "hand_perception/msg/HandMeshArray")
KEYPOINTS = Output("hands/keypoints", "hand_perception/msg/HandKeypointsArray")
TOPOLOGY = Output("hands/topology", "hand_perception/msg/HandTopology", latched=True)
MARKERS = Output("hands/markers", "visualization_msgs/msg/MarkerArray")
JOINT_STATES = Output("hands/joint_states", "sensor_msgs/msg/JointState")
TF = Output("/tf", "tf2_msgs/msg/TFMessage")
DIAGNOSTICS = Output("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
OUTPUTS = (MESH, KEYPOINTS, TOPOLOGY, MARKERS, JOINT_STATES, TF, DIAGNOSTICS)
# What a lazy node works for.
_RESULTS = (MESH, KEYPOINTS, MARKERS, JOINT_STATES, TF)


def input_topics(parameters: NodeParameters) -> tuple[tuple[str, str], tuple[str, str]]:
    """(topic, type name) of the images and of their CameraInfo."""
    if parameters.compressed:
        image = (f"{parameters.image_topic}/compressed", "sensor_msgs/msg/CompressedImage")
    else:
        image = (parameters.image_topic, "sensor_msgs/msg/Image")
    return image, (parameters.camera_info_topic, "sensor_msgs/msg/CameraInfo")


class Transport(Protocol):
    """What the node asks of its front end."""

    def publish(self, output: Output, message: Any) -> None: ...

    def has_listener(self, output: Output) -> bool: ...

    def resolve(self, topic: str) -> str:
        """The topic's full name, after namespace and remaps."""
        ...


class ReconstructorWithTopology(Reconstructor, Protocol):
    topology: Template


def load_reconstructor(parameters: NodeParameters) -> ReconstructorWithTopology:
    """The network the parameters name. Raises ModelError when it is missing or corrupt."""
    from hand_perception.reconstructor import HandReconstructor

    return HandReconstructor.from_pretrained(parameters.model, threads=parameters.threads)


def _make_tracker(parameters: NodeParameters) -> Tracker | None:
    if not parameters.tracking:
        return None
    return HandTracker(TrackerParameters(smoothing=parameters.smoothing))


class HandNode:
    """Works from construction to ``stop``. Callbacks may come from any one thread.

    now_ns: the clock of the images' stamps; ROS's may be a simulation's.
    """

    def __init__(
        self,
        parameters: NodeParameters,
        reconstructor: ReconstructorWithTopology,
        types: MessageTypes,
        transport: Transport,
        log: logging.Logger | Any,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._parameters = parameters
        self._reconstructor = reconstructor
        self._types = types
        self._transport = transport
        self._log = log
        self._now_ns = now_ns
        self._calibrations = Calibrations()
        self._complaints: dict[str, float] = {}
        self._last_error: tuple[float, str] | None = None
        self._last_info_error: tuple[float, str] | None = None
        self._assumed: str | None = None
        self._worker = Worker(
            reconstructor,
            self._deliver,
            self._fail,
            score_threshold=parameters.score_threshold,
            max_rate=parameters.max_rate,
            tracker=_make_tracker(parameters),
            now_ns=now_ns,
        )
        topology = messages.topology_message(types, reconstructor.topology)
        transport.publish(TOPOLOGY, topology)

    @property
    def parameters(self) -> NodeParameters:
        return self._parameters

    @parameters.setter
    def parameters(self, parameters: NodeParameters) -> None:
        """Takes those marked live; a front end refuses the others (settled_names_in)."""
        self._parameters = parameters
        self._worker.score_threshold = parameters.score_threshold
        self._worker.max_rate = parameters.max_rate

    def stop(self) -> None:
        """Ends the inference and clears the markers. May be called any number of times."""
        self._worker.stop()
        if self._transport.has_listener(MARKERS):
            header = messages.header(self._types, self._now_ns(), "")
            self._transport.publish(MARKERS, clearing_markers(self._types, header))

    def statistics(self) -> Statistics:
        return self._worker.statistics()

    # -- inputs ------------------------------------------------------------------------------

    def on_camera_info(self, info: Any) -> None:
        try:
            camera = self._calibrations.update(info)
        except CameraError as error:
            self._last_info_error = (time.monotonic(), str(error))
            self._complain(str(error))
        else:
            if camera is not None:
                size = f"{camera.width}x{camera.height}"
                lens = camera.distortion_model or "no distortion"
                frame = info.header.frame_id
                self._log.info(f"CameraInfo of {frame!r}: {size}, fx {camera.fx:.1f}, {lens}")

    def on_image(self, message: Any) -> None:
        """Takes an Image or a CompressedImage, as the parameters say."""
        if self._parameters.lazy and not any(map(self._transport.has_listener, _RESULTS)):
            return
        read = image_from_compressed if self._parameters.compressed else image_from_message
        frame = Frame(
            messages.nanoseconds_of(message.header.stamp),
            message.header.frame_id,
            partial(self._decode, message, read),
        )
        self._worker.submit(frame)

    def _decode(self, message: Any, read: Callable[[Any], np.ndarray]) -> tuple[np.ndarray, Camera]:
        image = read(message)
        height, width = image.shape[:2]
        if self._calibrations:
            self._assumed = None
            return image, self._calibrations.camera_of(message.header.frame_id, width, height)
        fov = self._parameters.assumed_horizontal_fov
        if self._assumed is None:
            self._assumed = f"no CameraInfo yet, a {fov:g} degree lens is assumed: not metric"
            self._log.warning(self._assumed)
        return image, Camera.assumed(width, height, fov)

    # -- outputs, in the worker's thread -----------------------------------------------------

    def _deliver(self, frame: Frame, result: Reconstruction, camera: Camera) -> None:
        types, hands = self._types, result.hands
        header = messages.header(types, frame.stamp_ns, frame.frame_id)
        self._transport.publish(MESH, messages.mesh_array(types, header, hands))
        self._transport.publish(KEYPOINTS, messages.keypoints_array(types, header, hands))
        parameters = self._parameters
        # Without a scale a transform would be a wrong place in metres: the tree has no other unit.
        if parameters.publish_tf and hands and camera.metric:
            transforms = messages.transforms(types, header, hands, parameters.frame_prefix)
            self._transport.publish(TF, transforms)
        if parameters.publish_markers and hands and self._transport.has_listener(MARKERS):
            topology = self._reconstructor.topology
            markers = hand_markers(types, header, hands, topology, _MARKER_LIFETIME_NS)
            self._transport.publish(MARKERS, markers)
        if parameters.publish_joint_states and self._transport.has_listener(JOINT_STATES):
            articulations = self._articulations(hands)
            if articulations:
                self._transport.publish(JOINT_STATES, joint_state(types, header, articulations))

    def _articulations(self, hands: Sequence[Hand]) -> list[Articulation]:
        """Of each side's longest tracked hand, which TF calls left_hand or right_hand.

        When it has no pose another hand must not take its place: the angles would jump.
        """
        found = []
        for side in Side:
            of_side = [hand for hand in hands if hand.side is side]
            if of_side:
                longest_tracked = min(of_side, key=lambda hand: hand.track_id)
                try:
                    found.append(articulate(longest_tracked, self._reconstructor.topology))
                except DataError as error:
                    self._complain(str(error))
        return found

    def _fail(self, frame: Frame, error: Exception) -> None:
        if isinstance(error, HandPerceptionError):
            text = str(error)
        else:
            text = f"unexpected {type(error).__name__}: {error}"
        self._last_error = (time.monotonic(), text)
        self._complain(text)

    def _complain(self, text: str) -> None:
        now = time.monotonic()
        if now - self._complaints.get(text, -_LOG_PERIOD) >= _LOG_PERIOD:
            # Texts hold numbers of the image: forget old ones, or a bad camera fills the memory.
            self._complaints = {
                known: when for known, when in self._complaints.items() if now - when < _LOG_PERIOD
            }
            self._complaints[text] = now
            self._log.error(text)

    # -- diagnostics -------------------------------------------------------------------------

    def publish_diagnostics(self) -> None:
        statuses = [self._input_status(), self._inference_status()]
        array = messages.diagnostics(self._types, self._now_ns(), statuses)
        self._transport.publish(DIAGNOSTICS, array)

    def _input_status(self) -> Status:
        statistics = self._worker.statistics()
        image_topic, info_topic = (
            self._transport.resolve(topic) for topic, _ in input_topics(self._parameters)
        )
        level, text = "OK", "images arrive"
        if self._assumed:
            level, text = "WARN", self._assumed
        if statistics.received == 0:
            level, text = "WARN", f"no image on {image_topic} yet"
        for error in (self._last_info_error, self._last_error):
            if error and time.monotonic() - error[0] < _ERROR_SHOWN:
                level, text = "ERROR", error[1]
        values = {
            "image topic": image_topic,
            "camera_info topic": info_topic,
            "camera": "calibrated" if self._calibrations else "assumed",
            "received": statistics.received,
            "failed": statistics.failed,
            "dropped (newer image came)": statistics.dropped,
            "skipped (max_rate)": statistics.skipped,
            "age at start (ms)": statistics.input_age_ms,
        }
        return Status(f"{NODE_NAME}: input", level, text, values)

    def _inference_status(self) -> Status:
        statistics = self._worker.statistics()
        values = {
            "model": self._reconstructor.identity,
            "rate (Hz)": statistics.rate,
            "processed": statistics.processed,
            "hands": statistics.hands,
            "latency from stamp (ms)": statistics.latency_ms,
            **{f"{stage} (ms)": ms for stage, ms in statistics.stage_ms.items()},
        }
        text = f"{statistics.rate:.1f} images per second"
        return Status(f"{NODE_NAME}: inference", "OK", text, values)
