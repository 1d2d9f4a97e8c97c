"""Hands followed from frame to frame without looking for them in each whole image.

The detector costs more than all else. While hands are certain, the next frame is read where they
are about to be; the detector looks on every n-th frame, for hands that have come in, and at once
when a hand is lost. Where images have more pixels than it sees, every other look, while there are
hands every fourth, is at a part of the image, one after the other: a frame costs the same, and
hands across the room are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hand_perception.geometry import joint_boxes
from hand_perception.hands import Camera, Hand, Reconstruction
from hand_perception.reconstructor import HandReconstructor
from hand_perception.smoothing import AlphaBetaFilter
from hand_perception.template import Template
from hand_perception.view import View
from hand_perception.windows import (
    Window,
    asked_of_windows,
    search_windows,
    shows,
)

# A hand moves on by at most this share of its box between two frames, or it was another hand.
FASTEST = 0.5
# Over how many frames a hand's path, and the size of its box, are remembered. A crop that shakes
# makes joints shake; a size hardly changes from frame to frame.
PATH_MEMORY, SIZE_MEMORY = 0.6, 3.0
# A hand of so many pixels of the detector's canvas or more is found by it: in whole images, where
# there is much else, and in windows, where most such hands are. Others are followed through a look.
SEEN_AT_A_GLANCE, SEEN_CLOSELY = 40, 16
# One of so many looks is in a window: fewer while there are hands, which are read a little better
# where the detector frames them.
WITHOUT, WITH_HANDS = 2, 4


class FollowingReconstructor:
    """A HandReconstructor for a stream of frames of one camera; called in the same way. After a
    jump in time another one is needed.

    detect_every: how many frames to a look of the detector; 1 looks always. detect_zoom: how many
    times closer the looks in windows are, one window of the image after the other; 1 looks at whole
    images only.
    """

    def __init__(
        self, reconstruct: HandReconstructor, detect_every: int = 1, detect_zoom: float = 1.0
    ) -> None:
        self._reconstruct = reconstruct
        self.detect_every, self.detect_zoom = detect_every, detect_zoom
        self._age = self._looks = self._turn = 0
        self._size = (0, 0)
        self._windows: list[Window] = []
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
        again = [cameras[k]._glance(views[k]) for k in lost]
        for k, view, result in zip(lost, again, network.together(again), strict=True):
            cameras[k]._take(view, result)
            results[k] = result
        return results

    def _ask(self, view: View) -> View:
        """With the boxes where hands are about to be, or a look of the detector."""
        height, width = view.image.shape[:2]
        if (height, width) != self._size:
            self._size, self._followed, self._looks = (height, width), [], 0
            zoom, canvas = self.detect_zoom, self._reconstruct.canvas
            self._windows = search_windows(width, height, zoom, canvas)
        if self._age >= self.detect_every or not self._followed:
            return self._look(view)
        return replace(view, boxes=self._next_boxes())

    def _look(self, view: View) -> View:
        """The detector's next: at the whole image or, now and then, in a window."""
        self._looks += 1
        if not self._windows or self._looks < (WITH_HANDS if self._followed else WITHOUT):
            return self._glance(view)
        self._looks = 0
        self._turn = (self._turn + 1) % len(self._windows)
        return self._through(view, self._windows[self._turn], SEEN_CLOSELY)

    def _glance(self, view: View) -> View:
        """A look at the whole image."""
        height, width = self._size
        return (
            self._through(view, (0, 0, width, height), SEEN_AT_A_GLANCE) if self._windows else view
        )

    def _through(self, view: View, window: Window, least: int) -> View:
        """A look in a window, with the followed hands that the detector would not find there, of
        so many pixels of its canvas at least, read where they are about to be."""
        boxes = self._next_boxes()
        unseen = boxes[~shows(window, boxes, least / self._reconstruct.canvas)]
        return replace(view, window=window, boxes=unseen if len(unseen) else None)

    def _take(self, view: View, result: Reconstruction) -> bool:
        """Learns from what came of a view, and drops what is new in a window and not sure enough;
        false when a followed hand is lost: look again."""
        if view.window in self._windows:
            least = asked_of_windows(view.score_threshold)
            result.hands = [h for h in result.hands if h.score >= least or self._knows(h)]
        boxes = [joint_box(hand) for hand in result.hands]
        if not view.looks and len(boxes) < len(self._followed):
            return False
        self._age = 1 if view.looks else self._age + 1
        self._followed = [self._found(box) for box in boxes]
        return True

    def _next_boxes(self) -> np.ndarray:
        """[H, 4], where the followed hands are about to be."""
        return np.array([followed.next_box() for followed in self._followed]).reshape(-1, 4)

    def _knows(self, hand: Hand) -> bool:
        return any(followed.distance(joint_box(hand)) < FASTEST for followed in self._followed)

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
