"""Hands followed from frame to frame without looking for them in each whole image.

The detector costs more than all else. While hands are certain, the next frame is read where they
are about to be; the detector looks on every n-th frame, for hands that have come in, and at once
when a hand is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hand_perception.geometry import joint_boxes
from hand_perception.hands import Camera, Hand, Reconstruction
from hand_perception.reconstructor import HandReconstructor, View
from hand_perception.smoothing import AlphaBetaFilter
from hand_perception.template import Template

# A hand moves on by at most this share of its box between two frames, or it was another hand.
FASTEST = 0.5
# Over how many frames a hand's path, and the size of its box, are remembered. A crop that shakes
# makes joints shake; a size hardly changes from frame to frame.
PATH_MEMORY, SIZE_MEMORY = 0.6, 3.0


class FollowingReconstructor:
    """A HandReconstructor for a stream of frames of one camera; called in the same way. After a
    jump in time another one is needed.

    detect_every: how many frames to a look of the detector; 1 looks always. Networks that do not
    read crops look always, too.
    """

    def __init__(self, reconstruct: HandReconstructor, detect_every: int) -> None:
        self._reconstruct = reconstruct
        self.detect_every = detect_every
        self._age = 0
        self._size = (0, 0)
        self._followed: list[_Followed] = []

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
        return self.together([self], [View(image, camera, score_threshold)])[0]

    @staticmethod
    def together(
        cameras: Sequence[FollowingReconstructor], views: Sequence[View]
    ) -> list[Reconstruction]:
        """The next image of each of several cameras over one network, read in one go."""
        network = cameras[0]._reconstruct
        asked = [camera._ask(view) for camera, view in zip(cameras, views, strict=True)]
        results = network.together(asked)
        lost = [
            k
            for k, (camera, view) in enumerate(zip(cameras, asked, strict=True))
            if not camera._take(view, results[k])
        ]
        again = [replace(asked[k], boxes=None) for k in lost]
        for k, view, result in zip(lost, again, network.together(again), strict=True):
            cameras[k]._take(view, result)
            results[k] = result
        return results

    def _ask(self, view: View) -> View:
        """With the boxes where hands are about to be, or without for the detector to look."""
        if view.image.shape[:2] != self._size:
            self._size, self._followed = view.image.shape[:2], []
        if not self._may_follow():
            return view
        return replace(view, boxes=np.array([followed.next_box() for followed in self._followed]))

    def _take(self, view: View, result: Reconstruction) -> bool:
        """Learns from what came of a view; false when a followed hand is lost: look again."""
        if self.detect_every == 1:
            return True  # whoever looks always follows nobody
        boxes = [joint_box(hand) for hand in result.hands]
        if view.boxes is None:
            self._age = 1
            self._followed = [self._found(box) for box in boxes]
            return True
        if len(boxes) < len(self._followed):
            return False
        self._age += 1
        for followed, box in zip(self._followed, boxes, strict=True):
            followed.update(box)
        return True

    def _may_follow(self) -> bool:
        return (
            self._age < self.detect_every and bool(self._followed) and self._reconstruct.can_follow
        )

    def _found(self, box: np.ndarray) -> _Followed:
        """One of the followed, or somebody new."""
        near = [followed for followed in self._followed if followed.distance(box) < FASTEST]
        followed = min(near, key=lambda f: f.distance(box)) if near else _Followed()
        if near:
            self._followed.remove(followed)
        followed.update(box)
        return followed


class _Followed:
    """Where one hand is about to be: its joints' box over the frames, smoothed."""

    def __init__(self) -> None:
        self._path = AlphaBetaFilter(PATH_MEMORY)
        self._size = AlphaBetaFilter(SIZE_MEMORY)

    def update(self, box: np.ndarray) -> None:
        low, high = box[:2], box[2:]
        self._path((low + high) / 2, 1.0)
        self._size(np.log(np.maximum(high - low, 1.0)), 1.0)

    def _expected(self) -> np.ndarray:
        """[2], the middle a frame on."""
        return self._path.value + self._path.velocity

    def next_box(self) -> np.ndarray:
        """[4], moved on by a frame."""
        centre, half = self._expected(), np.exp(self._size.value) / 2
        return np.concatenate([centre - half, centre + half])

    def distance(self, box: np.ndarray) -> float:
        """Of a box from where the hand is expected, in the hand's sizes."""
        away = (box[:2] + box[2:]) / 2 - self._expected()
        return float(np.linalg.norm(away) / np.exp(self._size.value).max())


def joint_box(hand: Hand) -> np.ndarray:
    """[4] x0, y0, x1, y1 in pixels, as the detector would give it."""
    return joint_boxes(hand.keypoints2d).astype(np.float64)
