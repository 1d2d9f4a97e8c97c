"""Hands as RViz markers, for any set of message classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hand_perception.hands import BONES, Hand, Pose, Side
from hand_perception.messages import (
    MessageTypes,
    Topology,
    pose_message,
    time_message,
    xyz_message,
)
from hand_perception.overlay import SIDE_COLOURS

_LINE_WIDTH = 0.003  # metres


def hand_markers(
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
    lifetime = time_message(types, lifetime_ns, "Duration")
    marker = types.find("visualization_msgs/msg/Marker")
    array = []
    for index, hand in enumerate(hands):
        faces = topology.faces if hand.side is Side.RIGHT else topology.faces[:, ::-1]
        # Points are shared between triangles: 778 objects instead of 4,614.
        vertices = [xyz_message(types, "Point", vertex) for vertex in hand.vertices]
        joints = [xyz_message(types, "Point", joint) for joint in hand.keypoints3d]
        common = dict(id=int(hand.track_id) or -1 - index, lifetime=lifetime)
        surface = _marker(
            types,
            header,
            ns="surface",
            type=marker.TRIANGLE_LIST,
            scale=xyz_message(types, "Vector3", (1, 1, 1)),
            color=_colour(types, hand.side, 0.8),
            points=[vertices[i] for i in faces.reshape(-1)],
            **common,
        )
        skeleton = _marker(
            types,
            header,
            ns="skeleton",
            type=marker.LINE_LIST,
            scale=xyz_message(types, "Vector3", (_LINE_WIDTH, 0, 0)),
            color=_colour(types, hand.side, 1.0),
            points=[joints[i] for bone in BONES for i in bone],
            **common,
        )
        array += [surface, skeleton]
    return types.make("visualization_msgs/msg/MarkerArray", markers=array)


def clearing_markers(types: MessageTypes, header: Any) -> Any:
    """A MarkerArray that clears all of this node's markers."""
    action = types.find("visualization_msgs/msg/Marker").DELETEALL
    array = [_marker(types, header, action=action)]
    return types.make("visualization_msgs/msg/MarkerArray", markers=array)


def _colour(types: MessageTypes, side: Side, alpha: float) -> Any:
    red, green, blue = (channel / 255 for channel in SIDE_COLOURS[side])
    return types.make("std_msgs/msg/ColorRGBA", r=red, g=green, b=blue, a=alpha)


def _marker(types: MessageTypes, header: Any, **changes: Any) -> Any:
    """A Marker with every field given, as message classes without defaults want it."""
    marker = types.find("visualization_msgs/msg/Marker")
    nothing = types.sequence(np.zeros(0, np.uint8))
    texture = types.make("sensor_msgs/msg/CompressedImage", header=header, format="", data=nothing)
    fields = dict(
        header=header,
        ns="",
        id=0,
        type=marker.TRIANGLE_LIST,
        action=marker.ADD,
        pose=pose_message(types, Pose(np.eye(3), np.zeros(3))),
        scale=xyz_message(types, "Vector3", (0, 0, 0)),
        color=types.make("std_msgs/msg/ColorRGBA", r=0.0, g=0.0, b=0.0, a=0.0),
        lifetime=time_message(types, 0, "Duration"),
        frame_locked=False,
        points=[],
        colors=[],
        texture_resource="",
        texture=texture,
        uv_coordinates=[],
        text="",
        mesh_resource="",
        mesh_file=types.make("visualization_msgs/msg/MeshFile", filename="", data=nothing),
        mesh_use_embedded_materials=False,
    )
    return marker(**{**fields, **changes})
