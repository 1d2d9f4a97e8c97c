"""A labelled image of the template's hand, for tests of warps and training."""

from __future__ import annotations

import numpy as np

from hand_perception.data.sample import HandLabels, Sample
from hand_perception.geometry import project
from hand_perception.hands import Camera
from hand_perception.template import load_template

CAMERA = Camera(300.0, 300.0, 79.5, 59.5, 160, 120)


def one_hand() -> Sample:
    template = load_template()
    joints, vertices = (x - template.keypoints[9] for x in (template.keypoints, template.vertices))
    t = np.array([0.03, -0.02, 0.6], np.float32)
    image = np.zeros((120, 160, 3), np.uint8)
    image[40:50, 60:80] = 255
    return Sample(
        image,
        CAMERA,
        HandLabels(
            keypoints2d=project(template.landmarks @ (vertices + t), CAMERA)[None].astype(
                np.float32
            ),
            weight2d=np.ones(1, np.float32),
            joints3d=joints[None],
            vertices=vertices[None],
            weight3d=np.ones(1, np.float32),
            translation=t[None],
            metric=np.ones(1, bool),
            side=np.ones(1, np.float32),
        ),
        np.array([[60.0, 40, 79, 49]], np.float32),
    )
