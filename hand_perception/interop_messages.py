"""Hands in the messages of other packages: poses, point clouds, boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hand_perception.hands import Hand, Pose
from hand_perception.messages import MessageTypes, pose_message, side_number

# Name, numpy type and PointField constant of each field of a point.
_POINT_FIELDS = (
    ("x", "<f4", "FLOAT32"),
    ("y", "<f4", "FLOAT32"),
    ("z", "<f4", "FLOAT32"),
    ("side", "<u4", "UINT32"),
    ("track_id", "<u4", "UINT32"),
)
_POINT = np.dtype([(name, kind) for name, kind, _ in _POINT_FIELDS])


def point_cloud(types: MessageTypes, header: Any, hands: Sequence[Hand]) -> Any:
    """sensor_msgs/PointCloud2: the vertices of all meshes, hand after hand.

    Each point has x, y, z in metres, the side (as HandMesh's constants) and the track id.
    """
    points = np.zeros(sum(len(hand.vertices) for hand in hands), _POINT)
    start = 0
    for hand in hands:
        part = points[start : start + len(hand.vertices)]
        part["x"], part["y"], part["z"] = hand.vertices.T
        part["side"], part["track_id"] = side_number(hand), hand.track_id
        start += len(part)
    kind = types.find("sensor_msgs/msg/PointField")
    return types.make(
        "sensor_msgs/msg/PointCloud2",
        header=header,
        height=1,
        width=len(points),
        fields=[
            kind(
                name=name,
                offset=_POINT.fields[name][1],
                datatype=getattr(kind, constant),
                count=1,
            )
            for name, _, constant in _POINT_FIELDS
        ],
        is_bigendian=False,
        point_step=_POINT.itemsize,
        row_step=points.nbytes,
        data=types.sequence(points.view(np.uint8).reshape(-1)),
        is_dense=True,
    )


def detections(types: MessageTypes, header: Any, hands: Sequence[Hand]) -> Any:
    """vision_msgs/Detection2DArray: boxes in pixels, class left_hand or right_hand, and the wrist's
    pose. The id is the track's."""
    make = types.make
    return make(
        "vision_msgs/msg/Detection2DArray",
        header=header,
        detections=[
            make(
                "vision_msgs/msg/Detection2D",
                header=header,
                results=[
                    make(
                        "vision_msgs/msg/ObjectHypothesisWithPose",
                        hypothesis=make(
                            "vision_msgs/msg/ObjectHypothesis",
                            class_id=f"{hand.side.value}_hand",
                            score=float(hand.score),
                        ),
                        pose=_pose_with_covariance(types, hand),
                    )
                ],
                bbox=_bounding_box(types, hand.box),
                id=str(hand.track_id),
            )
            for hand in hands
        ],
    )


def _pose_with_covariance(types: MessageTypes, hand: Hand) -> Any:
    covariance = np.zeros((6, 6))
    if hand.position_covariance is not None:
        covariance[:3, :3] = hand.position_covariance
    return types.make(
        "geometry_msgs/msg/PoseWithCovariance",
        pose=pose_message(types, hand.wrist),
        covariance=covariance.reshape(-1),
    )


def _bounding_box(types: MessageTypes, box: np.ndarray) -> Any:
    x0, y0, x1, y1 = (float(value) for value in box)
    centre = types.make("vision_msgs/msg/Point2D", x=(x0 + x1) / 2, y=(y0 + y1) / 2)
    return types.make(
        "vision_msgs/msg/BoundingBox2D",
        center=types.make("vision_msgs/msg/Pose2D", position=centre, theta=0.0),
        size_x=x1 - x0,
        size_y=y1 - y0,
    )


def pose_stamped(types: MessageTypes, header: Any, pose: Pose) -> Any:
    """geometry_msgs/PoseStamped."""
    return types.make(
        "geometry_msgs/msg/PoseStamped", header=header, pose=pose_message(types, pose)
    )
