"""The template's open hand as a reconstructed Hand, back to the viewer, fingers up."""

from __future__ import annotations

import numpy as np

from hand_perception.geometry import project, wrist_frame
from hand_perception.hands import Camera, Hand, Side
from hand_perception.template import load_template

CAMERA = Camera(500.0, 500.0, 319.5, 239.5, 640, 480)
TEMPLATE = load_template("open778")


# The rest pose turned to show its back, fingers up: x up, y (thumb) left, z at the viewer.
UPRIGHT = np.array([[0, -1, 0], [-1, 0, 0], [0, 0, -1.0]]) @ (
    wrist_frame(TEMPLATE.keypoints, Side.RIGHT).rotation.T
)


def make_hand(side: Side = Side.RIGHT, at=(0.0, 0.0, 0.5), **fields) -> Hand:
    mirror = np.array((1.0 if side is Side.RIGHT else -1.0, 1.0, 1.0))
    root = TEMPLATE.keypoints[0]
    keypoints = ((TEMPLATE.keypoints - root) @ UPRIGHT.T * mirror + at).astype(np.float32)
    vertices = ((TEMPLATE.vertices - root) @ UPRIGHT.T * mirror + at).astype(np.float32)
    pixels = project(vertices, CAMERA)
    return Hand(
        side=side,
        score=0.934,
        box=np.concatenate([pixels.min(0) - 15, pixels.max(0) + 15]),
        keypoints2d=project(TEMPLATE.landmarks @ vertices, CAMERA),
        confidences=np.ones(21),
        keypoints3d=keypoints,
        vertices=vertices,
        wrist=wrist_frame(keypoints, side),
        **fields,
    )
