"""A camera without hardware or ROS: video, pictures or a webcam as sensor_msgs over DDS."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from hand_perception import messages
from hand_perception.dds.participant import RELIABLE, Participant
from hand_perception.dds.stop import Stop
from hand_perception.errors import DataError
from hand_perception.frames import camera_info_message, compressed_message, image_message
from hand_perception.hands import Camera
from hand_perception.sources import Source

log = logging.getLogger("hand_perception.camera")

LISTENER_PATIENCE = 20.0  # seconds
_JPEG_QUALITY = 90
_DEPTH = 8


def clip_truth(clip: Path) -> Path | None:
    """The truth.npz beside a rendered clip, if there is one."""
    path = clip.with_name("truth.npz")
    return path if clip.is_file() and path.is_file() else None


def read_intrinsics(path: Path) -> np.ndarray:
    """``K`` [3, 3] of an .npz. Raises DataError."""
    try:
        with np.load(path) as data:
            return np.asarray(data["K"], np.float64).reshape(3, 3)
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} holds no 3x3 intrinsics K: {error}") from error


def play(
    participant: Participant,
    source: Source,
    stop: Stop,
    *,
    rate: float,
    topic: str = "image",
    info_topic: str = "camera_info",
    frame_id: str = "camera_color_optical_frame",
    intrinsics: Path | None = None,
    horizontal_fov: float | None = None,
    compressed: bool = False,
    loop: bool = False,
    listeners: int = 0,
) -> int:
    """Publish a source at ``rate`` pictures per second; returns how many were published.

    CameraInfo goes out with each picture when intrinsics (.npz) or a field of view are given.
    listeners: wait until so many listen to pictures and CameraInfo, at most LISTENER_PATIENCE s.
    """
    K = None if intrinsics is None else read_intrinsics(intrinsics)
    kind = "CompressedImage" if compressed else "Image"
    topic = f"{topic}/compressed" if compressed else topic
    # Reliable serves both kinds of reader: a recorder gets every picture, a node the newest.
    pictures = participant.publisher(topic, f"sensor_msgs/msg/{kind}", RELIABLE, _DEPTH)
    infos = participant.publisher(info_topic, "sensor_msgs/msg/CameraInfo", RELIABLE, _DEPTH)
    deadline = time.monotonic() + LISTENER_PATIENCE
    while min(pictures.num_listeners, infos.num_listeners) < listeners and not stop.wait(0.02):
        if time.monotonic() > deadline:
            log.warning("fewer than %d listeners came", listeners)
            break
    types = participant.types
    count, due = 0, time.monotonic()
    for rgb in _repeated(source, loop):
        # Late pictures are not made up for: a burst would only be dropped at the other end.
        due = max(due, time.monotonic() - 1 / rate)
        if stop.wait(max(0.0, due - time.monotonic())):
            break
        due += 1 / rate
        height, width = rgb.shape[:2]
        header = messages.header(types, time.time_ns(), frame_id)
        camera = _camera(K, horizontal_fov, width, height)
        if camera is not None:
            infos.publish(camera_info_message(types, header, camera))
        if compressed:
            bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
            _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
            message = compressed_message(types, header, jpeg.tobytes(), "jpeg")
        else:
            message = image_message(types, header, rgb)
        pictures.publish(message)
        count += 1
    log.info("published %d pictures on %s", count, topic)
    return count


def _repeated(source: Source, loop: bool) -> Iterator[np.ndarray]:
    yield from source.pictures()
    while loop:
        yield from source.pictures()


def _camera(
    K: np.ndarray | None, horizontal_fov: float | None, width: int, height: int
) -> Camera | None:
    if K is not None:
        return Camera(K[0, 0], K[1, 1], K[0, 2], K[1, 2], width, height)
    if horizontal_fov is not None:
        return Camera.assumed(width, height, horizontal_fov)
    return None
