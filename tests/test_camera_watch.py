from __future__ import annotations

import logging

from hand_perception.camera_watch import CameraWatch

# Time only passes: every silence is longer than the one timeout and shorter than the other.
SHORTER, LONGER = -1.0, 1e9


def test_loss_and_return_are_said_once_each(caplog):
    caplog.set_level(logging.INFO)
    watch = CameraWatch("/image", logging.getLogger(__name__))
    watch.arrived()
    for _ in range(3):
        watch.check(SHORTER)
    assert caplog.text.count("is the camera running?") == 1
    assert watch.complaint().startswith("no image on /image for 0.0 s")
    for _ in range(3):
        watch.check(LONGER)
    assert caplog.text.count("images on /image are back") == 1
    assert watch.complaint() is None


def test_a_camera_at_rest_is_not_lost(caplog):
    watch = CameraWatch("/image", logging.getLogger(__name__))
    watch.arrived()
    watch.check(SHORTER)
    watch.rest()
    assert watch.complaint() is None
    watch.check(LONGER)
    assert "are back" not in caplog.text  # nobody knows that
