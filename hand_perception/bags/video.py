"""A video file as a recording: JPEG images and, with known intrinsics, CameraInfo."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hand_perception import messages
from hand_perception.bags.reader import CAMERA_INFO, COMPRESSED_IMAGE, Record, Topic
from hand_perception.cdr import message_types, serialize, type_store
from hand_perception.errors import DataError
from hand_perception.frames import camera_info_message, compressed_message
from hand_perception.hands import Camera
from hand_perception.sources import Source

SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
FRAME_ID = "camera_color_optical_frame"
_JPEG_QUALITY = 95
_STORE = type_store()
_TYPES = message_types(_STORE)


class VideoRecording:
    """``/image/compressed`` and ``/camera_info`` of a video.

    intrinsics: fx, fy, cx, cy in pixels of the video's frames. A video seldom tells when it was
    taken, so stamps count from the file's time of modification. Raises DataError when it cannot be
    read.
    """

    storage = "mcap"

    def __init__(self, path: Path, intrinsics: tuple[float, ...] | None = None) -> None:
        self.path = path
        self._source = Source(str(path))
        self._intrinsics = intrinsics
        next(self._source.pictures())  # said now if it cannot be read
        count = self._source.length or 1  # some files do not tell; this one has a first picture
        self._image = Topic("/image/compressed", COMPRESSED_IMAGE, count)
        self._info = Topic("/camera_info", CAMERA_INFO, count)
        self.topics = [self._image] if intrinsics is None else [self._info, self._image]

    @property
    def files(self) -> list[Path]:
        return [self.path]

    def records(self, topics: list[Topic] | None = None) -> Generator[Record, None, None]:
        wanted = self.topics if topics is None else topics
        start_ns = self.path.stat().st_mtime_ns
        period_ns = 1e9 / (self._source.rate or 30.0)
        for index, rgb in enumerate(self._source.pictures()):
            stamp_ns = start_ns + round(index * period_ns)
            header = messages.header(_TYPES, stamp_ns, FRAME_ID)
            if self._info in wanted:
                height, width = rgb.shape[:2]
                camera = Camera(*self._intrinsics, width, height)
                info = camera_info_message(_TYPES, header, camera)
                yield _record(self._info, stamp_ns, info)
            if self._image in wanted:
                yield _record(self._image, stamp_ns, _jpeg_message(header, rgb))


def _record(topic: Topic, stamp_ns: int, message: Any) -> Record:
    return Record(topic, stamp_ns, bytes(serialize(_STORE, message)))


def _jpeg_message(header: Any, rgb: np.ndarray) -> Any:
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    good, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not good:
        raise DataError(f"a frame of {rgb.shape[1]}x{rgb.shape[0]} pixels cannot be made a JPEG")
    return compressed_message(_TYPES, header, jpeg.tobytes(), "jpeg")
