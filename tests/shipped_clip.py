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


def joint_errors(engine, clip) -> list[float]:
    """Of each true joint of the clip, to the nearest hand's, in sides of the hand's bounds."""
    found = []
    for frame, hands in zip(clip[0], clip[2], strict=True):
        told = [hand.keypoints2d for hand in engine(frame, clip[1]).hands]
        for joints in hands:
            if np.isfinite(joints).all() and told:
                off = [np.linalg.norm(hand - joints, axis=1).mean() for hand in told]
                found.append(min(off) / np.ptp(joints, axis=0).max())
    return found
