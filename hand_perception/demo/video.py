"""The overlay video: each picture with the hands that were found in it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from hand_perception.demo.listener import Picture, Result
from hand_perception.errors import HandPerceptionError
from hand_perception.frames import image_from_compressed
from hand_perception.hands import Camera, Hand
from hand_perception.overlay import draw
from hand_perception.parameters import NodeParameters


@dataclass
class OverlayVideo:
    """Every picture once, with the hands known by then.

    A picture that the node passed over for a newer one shows the hands of the one before.
    """

    path: Path
    rate: float
    faces: np.ndarray | None = None
    _waiting: deque[Picture] = field(default_factory=deque)
    _hands: list[Hand] = field(default_factory=list)
    _writer: cv2.VideoWriter | None = None
    _size: tuple[int, int] = (0, 0)

    def __enter__(self) -> OverlayVideo:
        return self

    def __exit__(self, *_: object) -> None:
        while self._waiting:
            self._write(self._waiting.popleft())
        if self._writer is not None:
            self._writer.release()

    def add(self, picture: Picture) -> None:
        self._waiting.append(picture)

    def draw(self, result: Result) -> None:
        while self._waiting and self._waiting[0].index < result.index:
            self._write(self._waiting.popleft())
        self._hands = result.hands
        if self._waiting:
            self._write(self._waiting.popleft())

    def _write(self, picture: Picture) -> None:
        rgb = image_from_compressed(picture.message)
        height, width = rgb.shape[:2]
        camera = picture.camera or Camera.assumed(
            width, height, NodeParameters().assumed_horizontal_fov
        )
        if self._writer is None:
            codec = cv2.VideoWriter_fourcc(*"mp4v")
            self._size = (width, height)
            self._writer = cv2.VideoWriter(str(self.path), codec, self.rate, self._size)
            if not self._writer.isOpened():
                raise HandPerceptionError(f"cannot write {self.path}: choose another --output")
        drawn = cv2.cvtColor(draw(rgb, self._hands, camera, self.faces), cv2.COLOR_RGB2BGR)
        # A folder may hold pictures of several sizes, a video only one.
        self._writer.write(
            drawn if (width, height) == self._size else cv2.resize(drawn, self._size)
        )
