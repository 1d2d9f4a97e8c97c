from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bright_square import BrightSquare, picture

from hand_perception import messages
from hand_perception.hands import Camera
from hand_perception.markers import clearing_markers, hand_markers

types = pytest.importorskip("hand_perception.dds.types", reason="needs the dds extra")

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


def test_markers_follow_rviz_rules():
    array = through_cdr(hand_markers(MAKE, HEADER, hands(), BrightSquare.topology, 300_000_000))
    keys = [(marker.ns, marker.id) for marker in array.markers]
    assert keys == [("surface", 7), ("skeleton", 7), ("surface", 8), ("skeleton", 8)]
    for marker in array.markers:
        assert marker.lifetime.nanosec == 300_000_000
        assert marker.color.a > 0
        assert len(marker.colors) == 0  # per-vertex colours would switch lighting off
        per_element = 3 if marker.type == marker.TRIANGLE_LIST else 2
        assert len(marker.points) > 0
        assert len(marker.points) % per_element == 0


def test_surfaces_of_both_sides_wind_outwards():
    array = hand_markers(MAKE, HEADER, hands(), BrightSquare.topology, 1)
    for marker in array.markers:
        if marker.ns == "surface":
            corners = np.array([(p.x, p.y, p.z) for p in marker.points]).reshape(-1, 3, 3)
            corners = corners - corners.mean((0, 1))
            a, b, c = corners.transpose(1, 0, 2)
            volume = np.einsum("fi,fi->", a, np.cross(b, c)) / 6
            assert volume > 1e-4  # a hand has some 0.3 litres


def test_clearing_has_one_delete_all():
    (marker,) = through_cdr(clearing_markers(MAKE, HEADER)).markers
    assert marker.action == marker.DELETEALL
