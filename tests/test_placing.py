from __future__ import annotations

import numpy as np
from open_hand import CAMERA, TEMPLATE, make_hand

from hand_perception import placing
from hand_perception.depth import hand_length
from hand_perception.hands import Camera
from hand_perception.placing import HandPlacer
from hand_perception.worker import Frame, Picture

IMAGE = np.zeros((480, 640, 3), np.uint8)
PICTURE = Picture(IMAGE, CAMERA)
FRAME = Frame(10**9, "optical", lambda: PICTURE)


def test_without_depth_or_length_a_hand_stays_and_says_how_sure_it_is():
    hand = make_hand()
    (placed,) = HandPlacer(TEMPLATE, 0.0, print)(FRAME, PICTURE, [hand])
    np.testing.assert_array_equal(placed.vertices, hand.vertices)
    assert placed.position_covariance is not None


def test_without_a_scale_nothing_is_said_about_metres():
    assumed = Picture(IMAGE, Camera.assumed(640, 480))
    (placed,) = HandPlacer(TEMPLATE, 0.0, print)(FRAME, assumed, [make_hand()])
    assert placed.position_covariance is None


def test_a_length_may_be_set_at_any_time():
    placer = HandPlacer(TEMPLATE, 0.0, print)
    placer.hand_length_m = 0.15
    (placed,) = placer(FRAME, PICTURE, [make_hand()])
    # Single precision of points half a metre away, over five bones.
    assert abs(hand_length(placed, TEMPLATE) - 0.15) < 1e-6


def test_a_measurement_without_depth_is_given_up(monkeypatch):
    complaints = []
    placer = HandPlacer(TEMPLATE, 0.15, complaints.append)
    assert placer.measurement() is None
    placer.start_measuring()
    (measured,) = placer(FRAME, PICTURE, [make_hand()])
    # The length known so far takes no part meanwhile.
    assert abs(hand_length(measured, TEMPLATE) - hand_length(make_hand(), TEMPLATE)) < 1e-6
    assert placer.measuring and placer.measurement() is None
    monkeypatch.setattr(placing, "_MEASURING_PATIENCE", -1.0)
    assert placer.measurement() is None
    assert not placer.measuring
    assert "hold an open hand" in complaints[0]
