"""The hands of one image to all topics that somebody wants them on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from hand_perception import interop_messages, messages
from hand_perception.articulation import Articulation, articulate, joint_axes
from hand_perception.articulation_messages import joint_state
from hand_perception.complaints import Complaints
from hand_perception.errors import DataError
from hand_perception.frames import image_message
from hand_perception.hands import Camera, Hand, Side
from hand_perception.markers import clearing_markers, hand_markers
from hand_perception.messages import MessageTypes
from hand_perception.overlay import draw
from hand_perception.parameters import NodeParameters
from hand_perception.template import Template
from hand_perception.topics import (
    DETECTIONS,
    JOINT_STATES,
    KEYPOINTS,
    LEFT_WRIST,
    MARKERS,
    MESH,
    OVERLAY,
    POINTS,
    RESULTS,
    RIGHT_WRIST,
    TF,
    TOPOLOGY,
    Output,
)
from hand_perception.worker import Picture

# Markers outlive a few frames, then RViz clears those of hands that have gone.
_MARKER_LIFETIME_NS = 300_000_000
_WRISTS = {Side.LEFT: LEFT_WRIST, Side.RIGHT: RIGHT_WRIST}


class Sink(Protocol):
    """Where messages go."""

    def publish(self, output: Output, message: Any) -> None: ...

    def has_listener(self, output: Output) -> bool: ...


class HandPublisher:
    """Publishes for one camera; called in the inference thread. parameters may be replaced."""

    def __init__(
        self,
        camera: str,
        parameters: NodeParameters,
        types: MessageTypes,
        sink: Sink,
        topology: Template,
        complaints: Complaints,
    ) -> None:
        self.parameters = parameters
        self._camera = camera
        self._types = types
        self._sink = sink
        self._topology = topology
        self._complaints = complaints

    def publish_topology(self) -> None:
        self._publish(TOPOLOGY, messages.topology_message(self._types, self._topology))

    def clear_markers(self, stamp_ns: int) -> None:
        if self._wanted(MARKERS):
            header = messages.header(self._types, stamp_ns, "")
            self._publish(MARKERS, clearing_markers(self._types, header))

    def has_listener(self) -> bool:
        """Whether anybody listens to any result."""
        return any(map(self._wanted, RESULTS))

    def publish_overlay(self, header: Any, hands: Sequence[Hand], picture: Picture) -> None:
        """header: the image's."""
        if self._wanted(OVERLAY):
            drawn = draw(picture.image, hands, picture.camera, self._topology.faces)
            self._publish(OVERLAY, image_message(self._types, header, drawn))

    def publish(self, header: Any, hands: Sequence[Hand], camera: Camera) -> None:
        """header: the image's frame, and the time at which the hands are there."""
        types = self._types
        self._publish(MESH, messages.mesh_array(types, header, hands))
        self._publish(KEYPOINTS, messages.keypoints_array(types, header, hands))
        # Without a scale a pose would be a wrong place in metres: these have no other unit.
        if hands and camera.metric:
            self._publish_poses(header, hands)
        if hands and self._wanted(MARKERS):
            markers = hand_markers(types, header, hands, self._topology, _MARKER_LIFETIME_NS)
            self._publish(MARKERS, markers)
        if hands and self._wanted(JOINT_STATES):
            articulations = self._articulations(hands)
            if articulations:
                self._publish(JOINT_STATES, joint_state(types, header, articulations))
        if self._wanted(POINTS):
            self._publish(POINTS, interop_messages.point_cloud(types, header, hands))
        if self._wanted(DETECTIONS):
            self._publish(DETECTIONS, interop_messages.detections(types, header, hands))

    def _publish_poses(self, header: Any, hands: Sequence[Hand]) -> None:
        if self.parameters.publish_tf:
            prefix = self.parameters.frame_prefix
            if self._camera:  # one hand seen by two cameras must not be one frame with two parents
                prefix += f"{self._camera.replace('/', '_')}_"
            frames = messages.hand_frames(hands, prefix)
            transforms = messages.transforms(self._types, header, hands, frames)
            if self.parameters.publish_finger_frames:
                transforms += self._finger_transforms(header, hands, frames)
            self._publish(TF, messages.tf_message(self._types, transforms))
        for side, hand in messages.first_of_each_side(hands).items():
            if self._wanted(_WRISTS[side]):
                message = interop_messages.pose_stamped(self._types, header, hand.wrist)
                self._publish(_WRISTS[side], message)

    def _finger_transforms(
        self, header: Any, hands: Sequence[Hand], frames: Sequence[str]
    ) -> list[Any]:
        transforms = []
        for hand, frame in zip(hands, frames, strict=True):
            articulation = self._articulation(hand)
            if articulation is not None:
                axes = joint_axes(articulation, self._topology)
                transforms += messages.finger_transforms(self._types, header, hand, frame, axes)
        return transforms

    def _articulations(self, hands: Sequence[Hand]) -> list[Articulation]:
        """Of each side's longest tracked hand, which TF calls left_hand or right_hand.

        When it has no pose another hand must not take its place: the angles would jump.
        """
        first = messages.first_of_each_side(hands).values()
        return [found for hand in first if (found := self._articulation(hand)) is not None]

    def _articulation(self, hand: Hand) -> Articulation | None:
        try:
            return articulate(hand, self._topology)
        except DataError as error:
            self._complaints.add(error, "joint angles")
            return None

    def _wanted(self, output: Output) -> bool:
        parameters = self.parameters
        allowed = {
            MARKERS: parameters.publish_markers,
            JOINT_STATES: parameters.publish_joint_states,
            DETECTIONS: parameters.publish_detections,
            TF: parameters.publish_tf,
        }
        return allowed.get(output, True) and self._sink.has_listener(output.of_camera(self._camera))

    def _publish(self, output: Output, message: Any) -> None:
        self._sink.publish(output.of_camera(self._camera), message)
