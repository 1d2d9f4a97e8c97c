"""Bags of a camera that sees a bright square move, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from bright_square import picture

from hand_perception import cdr, messages
from hand_perception.bags.writer import BagWriter
from hand_perception.frames import camera_info_message, compressed_message, image_message
from hand_perception.hands import Camera

STORE = cdr.type_store()
TYPES = cdr.message_types(STORE)
CAMERA = Camera(400, 400, 159.5, 119.5, 320, 240)
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 50_000_000
RECORDING_DELAY_NS = 3_000_000
FRAME = "camera_color_optical_frame"


def stamp_of(index: int) -> int:
    """When an image was taken; it was recorded RECORDING_DELAY_NS later."""
    return START_NS + index * PERIOD_NS


def square_at(index: int) -> np.ndarray:
    return picture(320, 240, (100 + 5 * index, 120))


class TestBag:
    """Writes a bag message by message."""

    __test__ = False

    def __init__(self, folder: Path, storage: str = "mcap") -> None:
        self._writer = BagWriter(folder, STORE, storage)

    def __enter__(self) -> TestBag:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.__exit__(*error)

    def add(self, topic: str, message: Any, stamp_ns: int, *, latched: bool = False) -> None:
        data = cdr.serialize(STORE, message)
        self._writer.write(topic, message.__msgtype__, data, stamp_ns, latched=latched)

    def add_frame(
        self, index: int, rgb: np.ndarray, topic: str = "/camera", *, compressed: bool = False
    ) -> None:
        """One image and its CameraInfo."""
        header = messages.header(TYPES, stamp_of(index), FRAME)
        recorded = stamp_of(index) + RECORDING_DELAY_NS
        self.add(f"{topic}/camera_info", camera_info_message(TYPES, header, CAMERA), recorded)
        if compressed:
            jpeg = cv2.imencode(".png", rgb[..., ::-1])[1].tobytes()
            message = compressed_message(TYPES, header, jpeg, "png")
            self.add(f"{topic}/image_raw/compressed", message, recorded)
        else:
            self.add(f"{topic}/image_raw", image_message(TYPES, header, rgb), recorded)


def robot_transform(index: int) -> Any:
    """A transform as a robot publishes it, on /tf."""
    header = messages.header(TYPES, stamp_of(index), "base")
    make = TYPES.make
    transform = make(
        "geometry_msgs/msg/TransformStamped",
        header=header,
        child_frame_id="arm",
        transform=make(
            "geometry_msgs/msg/Transform",
            translation=messages.xyz_message(TYPES, "Vector3", (0, 0, 1)),
            rotation=make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
        ),
    )
    return make("tf2_msgs/msg/TFMessage", transforms=[transform])


def write_bag(folder: Path, frames: int = 6, storage: str = "mcap", **options: Any) -> Path:
    """A camera and a robot's /tf and latched /tf_static."""
    with TestBag(folder, storage) as bag:
        bag.add("/tf_static", robot_transform(0), START_NS, latched=True)
        for index in range(frames):
            bag.add("/tf", robot_transform(index), stamp_of(index))
            bag.add_frame(index, square_at(index), **options)
    return folder
