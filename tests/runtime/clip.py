"""Frames of the shipped clip: rendered hands that the shipped engine finds."""

from __future__ import annotations

import cv2
import numpy as np

from hand_perception.runtime.backend import MODELS

CLIP = MODELS.parent / "demo" / "clip.mp4"


def clip_frames(count: int) -> list[np.ndarray]:
    """RGB uint8 [H, W, 3], evenly spread over the clip."""
    video = cv2.VideoCapture(str(CLIP))
    total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = set(np.linspace(0, total - 1, count).astype(int).tolist())
    frames = []
    for k in range(total):
        ok, frame = video.read()
        if not ok:
            break
        if k in wanted:
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    return frames
