from __future__ import annotations

import numpy as np
from bright_square import BrightSquare
from cdr_messages import HEADER, MAKE, hands, through_cdr

from hand_perception.markers import clearing_markers, hand_markers


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
