"""The shipped clip, whose truth is known."""

from __future__ import annotations

import cv2
import numpy as np

from hand_perception.hands import Camera
from hand_perception.runtime.backend import MODELS

FOLDER = MODELS.parent / "demo"


def shipped_clip(every: int) -> tuple[list[np.ndarray], Camera, np.ndarray]:
    """Every so many frames RGB uint8 [480, 640, 3], their camera, and the true 2D joints of their
    hands, [F, 2, 21, 2], NaN where there is none."""
    truth = np.load(FOLDER / "truth.npz")
    video = cv2.VideoCapture(str(FOLDER / "clip.mp4"))
    frames = []
    while (read := video.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    K = truth["K"]
    camera = Camera(K[0, 0], K[1, 1], K[0, 2], K[1, 2], *frames[0].shape[1::-1])
    return frames[::every], camera, truth["keypoints2d"][::every]
