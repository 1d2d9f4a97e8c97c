"""Hands followed from frame to frame without looking for them in each whole image.

The detector costs more than all else. While hands are certain, the next frame is read where they
are about to be; the detector looks on every n-th frame, for hands that have come in, and at once
when a hand is lost.
"""

from __future__ import annotations

import numpy as np

from hand_perception.geometry import joint_boxes
from hand_perception.hands import Camera, Hand, Reconstruction
from hand_perception.reconstructor import HandReconstructor
from hand_perception.template import Template

# A hand moves on by at most this share of its box between two frames, or it was another hand.
FASTEST = 0.5


class FollowingReconstructor:
    """A HandReconstructor for a stream of frames of one camera; called in the same way.

    detect_every: how many frames to a look of the detector; 1 looks always. Networks that do not
    read crops look always, too.
    """

    def __init__(self, reconstruct: HandReconstructor, detect_every: int) -> None:
        self._reconstruct = reconstruct
        self.detect_every = detect_every
        self._age = 0
        self._size = (0, 0)
        self._hands: list[Hand] = []
        self._before: list[Hand] = []

    @property
    def topology(self) -> Template:
        return self._reconstruct.topology

    @property
    def identity(self) -> str:
        return self._reconstruct.identity

    def __call__(
        self, image: np.ndarray, camera: Camera | None = None, score_threshold: float = 0.5
    ) -> Reconstruction:
        """As HandReconstructor."""
        if self._may_follow(image):
            boxes = np.array([self._next_box(hand) for hand in self._hands])
            result = self._reconstruct.follow(image, camera, boxes, score_threshold)
            if len(result.hands) == len(self._hands):
                self._age += 1
                return self._remember(result, image)
        result = self._reconstruct(image, camera, score_threshold)
        self._age = 1
        return self._remember(result, image)

    def reset(self) -> None:
        """Forgets all hands: the next frame is of another place or time."""
        self._hands, self._before = [], []

    def _may_follow(self, image: np.ndarray) -> bool:
        return (
            self._age < self.detect_every
            and bool(self._hands)
            and self._reconstruct.can_follow
            and image.shape[:2] == self._size
        )

    def _remember(self, result: Reconstruction, image: np.ndarray) -> Reconstruction:
        self._before, self._hands = self._hands, result.hands
        self._size = image.shape[:2]
        return result

    def _next_box(self, hand: Hand) -> np.ndarray:
        """[4], where the hand is about to be: moved on as it has moved since the frame before."""
        box = joint_box(hand)
        centre, side = _centre(box), max(box[2] - box[0], box[3] - box[1])
        moves = [centre - _centre(joint_box(other)) for other in self._before]
        near = [move for move in moves if np.linalg.norm(move) < FASTEST * side]
        move = min(near, key=np.linalg.norm) if near else np.zeros(2)
        return box + np.tile(move, 2)


def joint_box(hand: Hand) -> np.ndarray:
    """[4] x0, y0, x1, y1 in pixels, as the detector would give it."""
    return joint_boxes(hand.keypoints2d).astype(np.float64)


def _centre(box: np.ndarray) -> np.ndarray:
    return (box[:2] + box[2:]) / 2
