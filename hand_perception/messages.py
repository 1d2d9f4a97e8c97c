"""Hands to ROS messages, for any set of message classes.

rclpy's generated classes and those that ``cdr`` makes from the same ``.msg`` files take the
same keyword arguments; they differ in what they want for a sequence of numbers, which
``MessageTypes.sequence`` hides. Every field is given, as not all classes have defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hand_perception.geometry import quaternion_xyzw, wrist_frame
from hand_perception.hands import BONES, KEYPOINT_NAMES, WRIST, Hand, Pose, Side
from hand_perception.template import KEYPOINT_OF_JOINT

_NANOSECONDS = 1_000_000_000


class Topology(Protocol):
    """What is read of a hand template: faces [F, 3], regressor [21, V]."""

    name: str
    faces: np.ndarray
    regressor: np.ndarray


@dataclass(frozen=True)
class MessageTypes:
    """find: the class of a ROS type name such as "std_msgs/msg/Header".
    sequence: a one-dimensional array as an unbounded sequence field takes it."""

    find: Callable[[str], type]
    sequence: Callable[[np.ndarray], Any]

    def make(self, name: str, /, **values: Any) -> Any:
        return self.find(name)(**values)


def time_message(types: MessageTypes, nanoseconds: int, kind: str = "Time") -> Any:
    """builtin_interfaces/Time or /Duration."""
    seconds, rest = divmod(nanoseconds, _NANOSECONDS)
    if kind == "Time":
        return types.make("builtin_interfaces/msg/Time", sec=seconds, nanosec=rest)
    return types.make("builtin_interfaces/msg/Duration", sec=seconds, nanosec=rest)


def nanoseconds_of(time: Any) -> int:
    """Nanoseconds of a builtin_interfaces/Time."""
    return time.sec * _NANOSECONDS + time.nanosec


def header(types: MessageTypes, stamp_ns: int, frame_id: str) -> Any:
    stamp = time_message(types, stamp_ns)
    return types.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


# -- hands ---------------------------------------------------------------------------------------


def mesh_array(types: MessageTypes, header: Any, hands: Sequence[Hand]) -> Any:
    """hand_perception/HandMeshArray."""
    return types.make(
        "hand_perception/msg/HandMeshArray",
        header=header,
        hands=[_mesh(types, hand) for hand in hands],
    )


def _mesh(types: MessageTypes, hand: Hand) -> Any:
    return types.make(
        "hand_perception/msg/HandMesh",
        track_id=int(hand.track_id),
        side=side_number(hand),
        score=float(hand.score),
        side_confidence=float(hand.side_confidence),
        topology=hand.topology,
        wrist=pose_message(types, hand.wrist),
        position_covariance=_covariance(hand),
        vertices=types.sequence(_flat(hand.vertices)),
        metric=bool(hand.metric),
    )


def _covariance(hand: Hand) -> np.ndarray:
    """[9] row by row; zeros, as in sensor_msgs, where it is not known."""
    known = hand.position_covariance
    return _flat(np.zeros((3, 3)) if known is None else known)


def keypoints_array(types: MessageTypes, header: Any, hands: Sequence[Hand]) -> Any:
    """hand_perception/HandKeypointsArray."""
    return types.make(
        "hand_perception/msg/HandKeypointsArray",
        header=header,
        hands=[_keypoints(types, hand) for hand in hands],
    )


def _keypoints(types: MessageTypes, hand: Hand) -> Any:
    return types.make(
        "hand_perception/msg/HandKeypoints",
        track_id=int(hand.track_id),
        side=side_number(hand),
        score=float(hand.score),
        keypoints3d=_flat(hand.keypoints3d),
        keypoints2d=_flat(hand.keypoints2d),
        confidences=_flat(hand.confidences),
        box=_flat(hand.box),
        metric=bool(hand.metric),
    )


def topology_message(types: MessageTypes, topology: Topology) -> Any:
    """hand_perception/HandTopology."""
    return types.make(
        "hand_perception/msg/HandTopology",
        name=topology.name,
        num_vertices=int(topology.regressor.shape[1]),
        triangles=types.sequence(_flat(topology.faces, np.uint32)),
        keypoint_names=list(KEYPOINT_NAMES),
        bones=types.sequence(_flat(BONES, np.uint32)),
        regressor=types.sequence(_flat(topology.regressor)),
    )


def hands_of(meshes: Any, keypoints: Any) -> list[Hand]:
    """The hands in a HandMeshArray and in the HandKeypointsArray of the same image."""
    hands = []
    for mesh, points in zip(meshes.hands, keypoints.hands, strict=True):
        side = Side.LEFT if mesh.side == mesh.LEFT else Side.RIGHT
        keypoints3d = np.reshape(points.keypoints3d, (21, 3))
        covariance = np.reshape(mesh.position_covariance, (3, 3))
        hands.append(
            Hand(
                side=side,
                score=mesh.score,
                box=np.array(points.box),
                keypoints2d=np.reshape(points.keypoints2d, (21, 2)),
                confidences=np.array(points.confidences),
                keypoints3d=keypoints3d,
                vertices=np.reshape(mesh.vertices, (-1, 3)),
                wrist=wrist_frame(keypoints3d, side),
                topology=mesh.topology,
                side_confidence=mesh.side_confidence,
                track_id=mesh.track_id,
                metric=mesh.metric,
                position_covariance=covariance if covariance.any() else None,
            )
        )
    return hands


def first_of_each_side(hands: Sequence[Hand]) -> dict[Side, Hand]:
    """Each side's longest tracked hand (the lowest id): what TF calls left_hand or right_hand."""
    found = {}
    for side in Side:
        of_side = [hand for hand in hands if hand.side is side]
        if of_side:
            found[side] = min(of_side, key=lambda hand: hand.track_id)
    return found


def side_number(hand: Hand) -> int:
    """HandMesh.LEFT or HandMesh.RIGHT."""
    return 0 if hand.side is Side.LEFT else 1


def _flat(values: Any, dtype: Any = np.float32) -> np.ndarray:
    return np.ascontiguousarray(values, dtype).reshape(-1)


# -- tf -------------------------------------------------------------------------------------------


def hand_frames(hands: Sequence[Hand], prefix: str = "") -> list[str]:
    """TF frame of each hand: left_hand, right_hand; a side's further hands carry their track id.

    The longest tracked hand of a side (the lowest id) keeps the plain name.
    """
    first = first_of_each_side(hands)
    names: list[str] = []
    for hand in hands:
        name = f"{prefix}{hand.side.value}_hand"
        if hand.track_id != first[hand.side].track_id or name in names:
            # Untracked hands all have id 0: count them instead.
            name += f"_{hand.track_id or 1 + sum(n.startswith(name) for n in names)}"
        names.append(name)
    return names


def tf_message(types: MessageTypes, transforms: Sequence[Any]) -> Any:
    """tf2_msgs/TFMessage."""
    return types.make("tf2_msgs/msg/TFMessage", transforms=list(transforms))


def transforms(
    types: MessageTypes, header: Any, hands: Sequence[Hand], frames: Sequence[str]
) -> list[Any]:
    """Each hand's wrist frame in the image's frame, geometry_msgs/TransformStamped."""
    return [
        _transform(types, header, frame, hand.wrist)
        for frame, hand in zip(frames, hands, strict=True)
    ]


def finger_transforms(
    types: MessageTypes, header: Any, hand: Hand, frame: str, axes: np.ndarray
) -> list[Any]:
    """The fingers' 15 joints in the hand's frame, named as their keypoints: right_hand_index_mcp.

    axes: [16, 3, 3] of articulation.joint_axes: x is the flexion axis, y points out of the back of
    the hand, -z along the bone.
    """
    parent = types.make("std_msgs/msg/Header", stamp=header.stamp, frame_id=frame)
    to_hand = np.asarray(hand.wrist.rotation).T
    found = []
    for joint, keypoint in enumerate(KEYPOINT_OF_JOINT):
        if keypoint == WRIST:
            continue
        place = to_hand @ (hand.keypoints3d[keypoint] - hand.wrist.translation)
        pose = Pose(to_hand @ axes[joint], place)
        found.append(_transform(types, parent, f"{frame}_{KEYPOINT_NAMES[keypoint]}", pose))
    return found


def _transform(types: MessageTypes, header: Any, frame: str, pose: Pose) -> Any:
    return types.make(
        "geometry_msgs/msg/TransformStamped",
        header=header,
        child_frame_id=frame,
        transform=types.make(
            "geometry_msgs/msg/Transform",
            translation=xyz_message(types, "Vector3", pose.translation),
            rotation=_quaternion(types, pose),
        ),
    )


def xyz_message(types: MessageTypes, kind: str, values: Any) -> Any:
    x, y, z = (float(value) for value in values)
    return types.make(f"geometry_msgs/msg/{kind}", x=x, y=y, z=z)


def _quaternion(types: MessageTypes, pose: Pose) -> Any:
    x, y, z, w = (float(value) for value in quaternion_xyzw(pose.rotation))
    return types.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def pose_message(types: MessageTypes, pose: Pose) -> Any:
    return types.make(
        "geometry_msgs/msg/Pose",
        position=xyz_message(types, "Point", pose.translation),
        orientation=_quaternion(types, pose),
    )


# -- diagnostics ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Status:
    """One diagnostic_msgs/DiagnosticStatus. level: "OK", "WARN", "ERROR" or "STALE"."""

    name: str
    level: str
    message: str
    values: Mapping[str, Any]


def diagnostics(types: MessageTypes, stamp_ns: int, statuses: Sequence[Status]) -> Any:
    """diagnostic_msgs/DiagnosticArray."""
    kind = types.find("diagnostic_msgs/msg/DiagnosticStatus")
    return types.make(
        "diagnostic_msgs/msg/DiagnosticArray",
        header=header(types, stamp_ns, ""),
        status=[
            kind(
                level=getattr(kind, status.level),
                name=status.name,
                message=status.message,
                hardware_id="",
                values=[
                    types.make("diagnostic_msgs/msg/KeyValue", key=key, value=_text(value))
                    for key, value in status.values.items()
                ],
            )
            for status in statuses
        ],
    )


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
