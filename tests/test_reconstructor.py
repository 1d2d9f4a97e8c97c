"""The shipped engine on the shipped clip, whose truth is known."""

import subprocess
import sys

import numpy as np
import pytest
from shipped_clip import shipped_clip

from hand_perception.errors import CameraError, ImageError
from hand_perception.hands import Camera, Side
from hand_perception.reconstructor import HandReconstructor


@pytest.fixture(scope="module")
def reconstruct():
    return HandReconstructor.from_pretrained("handos_s", threads=1)


@pytest.fixture(scope="module")
def clip():
    return shipped_clip(every=15)


def test_hands_of_the_clip_are_found_where_they_are(reconstruct, clip):
    frames, camera, truth = clip
    found, labelled = 0, 0
    for k, frame in enumerate(frames):
        hands = reconstruct(frame, camera).hands
        for joints in truth[k]:
            if not np.isfinite(joints).all():
                continue
            labelled += 1
            size = np.ptp(joints, axis=0).max()
            errors = [np.linalg.norm(h.keypoints2d - joints, axis=1).mean() for h in hands]
            # Half a box is far more than any pose error and less than the way to another hand.
            found += bool(errors) and min(errors) < 0.5 * size
        for hand in hands:
            assert hand.metric and hand.side in Side
            assert np.isfinite(hand.vertices).all() and hand.keypoints3d[:, 2].min() > 0
    assert found >= 0.5 * labelled > 0


def test_a_grey_image_has_no_hands_and_costs_no_decoder(reconstruct):
    result = reconstruct(np.full((480, 640, 3), 114, np.uint8))
    assert result.hands == []
    assert result.stage_ms["decoder"] == 0 and result.stage_ms["detector"] > 0


def test_hands_without_intrinsics_are_marked(reconstruct, clip):
    frames, _, _ = clip
    assert not any(hand.metric for hand in reconstruct(frames[0]).hands)


def test_bad_input_is_named(reconstruct):
    with pytest.raises(ImageError, match="too small"):
        reconstruct(np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(ImageError, match="uint8"):
        reconstruct(np.zeros((64, 64, 3), np.float32))
    with pytest.raises(CameraError, match="320x240"):
        reconstruct(np.zeros((64, 64, 3), np.uint8), Camera.assumed(320, 240))


def test_torch_is_not_imported():
    code = (
        "import sys; from hand_perception import HandReconstructor;"
        "HandReconstructor.from_pretrained('handos_s'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
