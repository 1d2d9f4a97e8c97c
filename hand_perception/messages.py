"""Hands to ROS messages, for any set of message classes.

rclpy's generated classes and those that ``dds.types`` makes from the same ``.msg`` files take the
same keyword arguments; they differ in what they want for a sequence of numbers, which
``MessageTypes.sequence`` hides. Every field is given, as not all classes have defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hand_perception.geometry import quaternion_xyzw, wrist_frame
from hand_perception.hands import BONES, KEYPOINT_NAMES, Camera, Hand, Pose, Side

# Okabe and Ito's colours, told apart by colour-blind eyes as well.
SIDE_COLOURS = {Side.LEFT: (0.0, 0.62, 0.45), Side.RIGHT: (0.9, 0.62, 0.0)}
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
        side=_side(hand),
        score=float(hand.score),
        side_confidence=float(hand.side_confidence),
        topology=hand.topology,
        wrist=_pose(types, hand.wrist),
        vertices=types.sequence(_flat(hand.vertices)),
        metric=bool(hand.metric),
    )


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
        side=_side(hand),
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
            )
        )
    return hands


def _side(hand: Hand) -> int:
    return 0 if hand.side is Side.LEFT else 1  # HandMesh.LEFT, HandMesh.RIGHT


def _flat(values: Any, dtype: Any = np.float32) -> np.ndarray:
    return np.ascontiguousarray(values, dtype).reshape(-1)


# -- tf -------------------------------------------------------------------------------------------


def hand_frames(hands: Sequence[Hand], prefix: str = "") -> list[str]:
    """TF frame of each hand: left_hand, right_hand; a side's further hands carry their track id.

    The longest tracked hand of a side (the lowest id) keeps the plain name.
    """
    first = {
        side: min((hand.track_id for hand in hands if hand.side is side), default=0)
        for side in Side
    }
    names: list[str] = []
    for hand in hands:
        name = f"{prefix}{hand.side.value}_hand"
        if hand.track_id != first[hand.side] or name in names:
            # Untracked hands all have id 0: count them instead.
            name += f"_{hand.track_id or 1 + sum(n.startswith(name) for n in names)}"
        names.append(name)
    return names


def transforms(types: MessageTypes, header: Any, hands: Sequence[Hand], prefix: str = "") -> Any:
    """tf2_msgs/TFMessage: each hand's wrist frame in the image's frame."""
    return types.make(
        "tf2_msgs/msg/TFMessage",
        transforms=[
            types.make(
                "geometry_msgs/msg/TransformStamped",
                header=header,
                child_frame_id=frame,
                transform=types.make(
                    "geometry_msgs/msg/Transform",
                    translation=_xyz(types, "Vector3", hand.wrist.translation),
                    rotation=_quaternion(types, hand.wrist),
                ),
            )
            for frame, hand in zip(hand_frames(hands, prefix), hands, strict=True)
        ],
    )


def _xyz(types: MessageTypes, kind: str, values: Any) -> Any:
    x, y, z = (float(value) for value in values)
    return types.make(f"geometry_msgs/msg/{kind}", x=x, y=y, z=z)


def _quaternion(types: MessageTypes, pose: Pose) -> Any:
    x, y, z, w = (float(value) for value in quaternion_xyzw(pose.rotation))
    return types.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def _pose(types: MessageTypes, pose: Pose) -> Any:
    return types.make(
        "geometry_msgs/msg/Pose",
        position=_xyz(types, "Point", pose.translation),
        orientation=_quaternion(types, pose),
    )


# -- markers --------------------------------------------------------------------------------------


def markers(
    types: MessageTypes,
    header: Any,
    hands: Sequence[Hand],
    topology: Topology,
    lifetime_ns: int,
) -> Any:
    """visualization_msgs/MarkerArray: each hand's surface and skeleton, one colour per side.

    The ids are the track ids, so that a hand replaces its own markers; without hands the array is
    empty and the lifetime clears RViz.
    """
    array = []
    for index, hand in enumerate(hands):
        faces = topology.faces if hand.side is Side.RIGHT else topology.faces[:, ::-1]
        colour = SIDE_COLOURS[hand.side]
        # Points are shared between triangles: 778 objects instead of 4,614.
        vertices = [_xyz(types, "Point", vertex) for vertex in hand.vertices]
        joints = [_xyz(types, "Point", joint) for joint in hand.keypoints3d]
        identity = int(hand.track_id) or -1 - index
        for namespace, kind, scale, alpha, points in (
            ("surface", "TRIANGLE_LIST", 1.0, 0.8, [vertices[i] for i in faces.reshape(-1)]),
            ("skeleton", "LINE_LIST", 0.003, 1.0, [joints[i] for bone in BONES for i in bone]),
        ):
            array.append(
                _marker(types, header, namespace, identity, kind, scale, (*colour, alpha), points,
                        lifetime_ns)
            )  # fmt: skip
    return types.make("visualization_msgs/msg/MarkerArray", markers=array)


def no_markers(types: MessageTypes, header: Any) -> Any:
    """A MarkerArray that clears all of this node's markers."""
    marker = _marker(types, header, "", 0, "DELETEALL", 1.0, (0.0, 0.0, 0.0, 0.0), [], 0)
    return types.make("visualization_msgs/msg/MarkerArray", markers=[marker])


def _marker(
    types: MessageTypes,
    header: Any,
    namespace: str,
    identity: int,
    kind: str,
    scale: float,
    rgba: tuple[float, ...],
    points: list,
    lifetime_ns: int,
) -> Any:
    marker = types.find("visualization_msgs/msg/Marker")
    delete_all = kind == "DELETEALL"
    still = Pose(np.eye(3), np.zeros(3))
    # Lines read only scale.x, their width; a triangle list is scaled by all three.
    scales = (scale, scale, scale) if kind == "TRIANGLE_LIST" else (scale, 0.0, 0.0)
    nothing = types.sequence(np.zeros(0, np.uint8))
    return marker(
        header=header,
        ns=namespace,
        id=identity,
        type=marker.TRIANGLE_LIST if delete_all else getattr(marker, kind),
        action=marker.DELETEALL if delete_all else marker.ADD,
        pose=_pose(types, still),
        scale=_xyz(types, "Vector3", scales),
        color=types.make(
            "std_msgs/msg/ColorRGBA", **dict(zip("rgba", map(float, rgba), strict=True))
        ),
        lifetime=time_message(types, lifetime_ns, "Duration"),
        frame_locked=False,
        points=points,
        colors=[],
        texture_resource="",
        texture=types.make(
            "sensor_msgs/msg/CompressedImage", header=header, format="", data=nothing
        ),
        uv_coordinates=[],
        text="",
        mesh_resource="",
        mesh_file=types.make("visualization_msgs/msg/MeshFile", filename="", data=nothing),
        mesh_use_embedded_materials=False,
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


# -- what a camera sends --------------------------------------------------------------------------


def image_message(types: MessageTypes, header: Any, rgb: np.ndarray) -> Any:
    """sensor_msgs/Image, rgb8, of uint8 [H, W, 3]."""
    height, width = rgb.shape[:2]
    return types.make(
        "sensor_msgs/msg/Image",
        header=header,
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=width * 3,
        data=types.sequence(np.ascontiguousarray(rgb).reshape(-1)),
    )


def compressed_message(types: MessageTypes, header: Any, data: bytes, format: str) -> Any:
    """sensor_msgs/CompressedImage of an encoded picture."""
    data = types.sequence(np.frombuffer(data, np.uint8))
    return types.make("sensor_msgs/msg/CompressedImage", header=header, format=format, data=data)


def camera_info_message(types: MessageTypes, header: Any, camera: Camera) -> Any:
    """sensor_msgs/CameraInfo of an unrectified camera."""
    projection = np.concatenate([camera.matrix, np.zeros((3, 1))], axis=1)
    return types.make(
        "sensor_msgs/msg/CameraInfo",
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model or "plumb_bob",
        d=types.sequence(np.array(camera.distortion or [0.0] * 5, np.float64)),
        k=camera.matrix.reshape(-1),
        r=np.eye(3).reshape(-1),
        p=projection.reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=types.make(
            "sensor_msgs/msg/RegionOfInterest",
            x_offset=0,
            y_offset=0,
            height=0,
            width=0,
            do_rectify=False,
        ),
    )
