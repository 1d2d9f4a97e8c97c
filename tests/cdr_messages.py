"""Messages of two known hands, and their way through ROS 2's wire format."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bright_square import BrightSquare, picture

from hand_perception import messages
from hand_perception.hands import Camera

types = pytest.importorskip("hand_perception.cdr", reason="needs the dds extra")

STORE = types.type_store()
MAKE = types.message_types(STORE)
CAMERA = Camera(400, 400, 159.5, 119.5, 320, 240)
HEADER = messages.header(MAKE, 12_000_000_345, "optical")


def hands():
    reconstructor = BrightSquare()
    found = []
    for left in (True, False):
        image = picture(320, 240, (100 + 80 * left, 120), left=left)
        found += reconstructor(image, CAMERA, score_threshold=0.5).hands
    return [replace(hand, track_id=7 + index) for index, hand in enumerate(found)]


def through_cdr(message):
    data = types.serialize(STORE, message)
    assert len(data) % 4 == 0
    return STORE.deserialize_cdr(data, message.__msgtype__)
