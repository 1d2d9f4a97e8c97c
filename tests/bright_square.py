"""A reconstructor with a known answer: the rest hand where the image is brightest."""

from __future__ import annotations

import numpy as np

from hand_perception.geometry import project, wrist_frame
from hand_perception.hands import Camera, Hand, Reconstruction, Side
from hand_perception.template import load_template

DEPTH = 0.5
MARGIN = 20.0


class BrightSquare:
    """Puts the template's wrist on the ray of the centroid of pixels above 200, DEPTH metres
    along the optical axis. An image whose green exceeds its red there shows a left hand."""

    identity = "bright square"
    topology = load_template("open778")

    def __call__(
        self, image_rgb: np.ndarray, camera: Camera, *, score_threshold: float
    ) -> Reconstruction:
        rows, columns = np.nonzero(image_rgb.max(-1) > 200)
        if len(rows) == 0:
            return Reconstruction([], {"detector": 0.0})
        red, green, _ = image_rgb[rows, columns].mean(0)
        side = Side.LEFT if green > red + 1 else Side.RIGHT
        x = (columns.mean() - camera.cx) / camera.fx * DEPTH
        y = (rows.mean() - camera.cy) / camera.fy * DEPTH
        mirror = np.array([-1.0 if side is Side.LEFT else 1.0, 1.0, 1.0])
        wrist = self.topology.keypoints[0]
        place = np.array([x, y, DEPTH])
        keypoints = (self.topology.keypoints - wrist) * mirror + place
        pixels = project(keypoints, camera)
        hand = Hand(
            side=side,
            score=0.9,
            box=np.array([*(pixels.min(0) - MARGIN), *(pixels.max(0) + MARGIN)], np.float32),
            keypoints2d=pixels.astype(np.float32),
            confidences=np.ones(21, np.float32),
            keypoints3d=keypoints.astype(np.float32),
            vertices=((self.topology.vertices - wrist) * mirror + place).astype(np.float32),
            wrist=wrist_frame(keypoints, side),
            metric=camera.metric,
        )
        hands = [hand] if hand.score >= score_threshold else []
        return Reconstruction(hands, {"detector": 0.0})


def picture(width: int, height: int, centre: tuple[int, int], *, left: bool = False) -> np.ndarray:
    """A dark RGB image with a 9x9 square centred on a pixel: red for a right hand, else green."""
    image = np.full((height, width, 3), 20, np.uint8)
    x, y = centre
    image[y - 4 : y + 5, x - 4 : x + 5] = (0, 255, 0) if left else (255, 0, 0)
    return image
