"""Hands in any pose, place and side, from the template's skeleton."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from open_hand import CAMERA, TEMPLATE, UPRIGHT, make_hand

from hand_perception.articulation import ANGLE_NAMES, Articulation, pose_template
from hand_perception.geometry import project, wrist_frame
from hand_perception.hands import Camera, Hand, Pose, Side


def about(axis: int, angle: float) -> np.ndarray:
    """The rotation [3, 3] about one of the coordinate axes."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.eye(3)
    rotation[first, first] = rotation[second, second] = np.cos(angle)
    rotation[second, first], rotation[first, second] = np.sin(angle), -np.sin(angle)
    return rotation


def posed_hand(
    side: Side = Side.RIGHT,
    at=(0.0, 0.0, 0.5),
    turn: np.ndarray | None = None,
    scale: float = 1.0,
    camera: Camera = CAMERA,
    **angles: float,
) -> Hand:
    """A hand with the named angles (radians), back to the viewer and fingers up before ``turn``.

    at: of the wrist, metres. scale: size over the template's.
    """
    values = np.array([angles.get(name, 0.0) for name in ANGLE_NAMES])
    to_thumb = 1 if side is Side.RIGHT else -1
    rotations = [np.eye(3)]
    for finger, (flexion, spread, second, third) in enumerate(values.reshape(5, 4)):
        away = to_thumb * spread if finger < 3 else -to_thumb * spread
        rotations += [about(1, away) @ about(0, -flexion), about(0, -second), about(0, -third)]
    articulation = Articulation(
        side,
        np.array(rotations),
        Pose(np.eye(3), np.zeros(3)),
        values,
        np.full(20, scale),
    )
    vertices, keypoints = pose_template(articulation, TEMPLATE)
    mirror = np.array((1.0 if side is Side.RIGHT else -1.0, 1.0, 1.0))
    # A left hand is mirrored already: it is turned as its mirror image is.
    rotation = UPRIGHT * mirror * mirror[:, None]
    rotation = rotation if turn is None else turn @ rotation
    root = keypoints[0]
    keypoints = ((keypoints - root) @ rotation.T + at).astype(np.float32)
    vertices = ((vertices - root) @ rotation.T + at).astype(np.float32)
    pixels = project(vertices, camera)
    return replace(
        make_hand(side),
        box=np.concatenate([pixels.min(0) - 10, pixels.max(0) + 10]),
        keypoints2d=project(TEMPLATE.landmarks @ vertices, camera),
        keypoints3d=keypoints,
        vertices=vertices,
        wrist=wrist_frame(keypoints, side),
    )
