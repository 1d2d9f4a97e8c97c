from __future__ import annotations

import numpy as np
import pytest

import hand_perception
from hand_perception.errors import CameraError, HandPerceptionError
from hand_perception.geometry import project
from hand_perception.hands import BONES, KEYPOINT_NAMES, NUM_KEYPOINTS, Camera, Side

GOOD = {"fx": 500.0, "fy": 510.0, "cx": 320.0, "cy": 240.0, "width": 640, "height": 480}


def test_keypoints_are_in_openpose_order():
    assert NUM_KEYPOINTS == 21 and len(set(KEYPOINT_NAMES)) == 21
    assert KEYPOINT_NAMES[0] == "wrist"
    assert KEYPOINT_NAMES[4] == "thumb_tip" and KEYPOINT_NAMES[9] == "middle_mcp"
    assert [KEYPOINT_NAMES[k] for k in (8, 12, 16, 20)] == [
        f"{finger}_tip" for finger in ("index", "middle", "ring", "pinky")
    ]


def test_bones_are_a_tree_rooted_in_the_wrist():
    assert len(BONES) == 20
    assert sorted(child for _, child in BONES) == list(range(1, 21))
    for parent, child in BONES:
        finger = KEYPOINT_NAMES[child].partition("_")[0]
        assert parent == 0 or (parent == child - 1 and KEYPOINT_NAMES[parent].startswith(finger))


def test_sides():
    assert Side("left") is Side.LEFT and Side.LEFT.opposite is Side.RIGHT
    assert Side.RIGHT.opposite.opposite is Side.RIGHT


@pytest.mark.parametrize(
    ("change", "cure"),
    [
        ({"fx": float("nan")}, "recalibrate"),
        ({"distortion": (0.1, float("inf"), 0, 0), "distortion_model": "plumb_bob"}, "recalibrate"),
        ({"fx": 0.0}, "calibrate"),
        ({"fy": -500.0}, "calibrate"),
        ({"width": 0}, "positive"),
        ({"distortion_model": "thin_prism"}, "plumb_bob"),
        ({"distortion_model": "plumb_bob", "distortion": (0.1,)}, "got 1"),
        ({"distortion": (0.1, 0, 0, 0)}, "got 4"),
    ],
)
def test_cameras_that_cannot_be_are_refused_in_one_line(change, cure):
    with pytest.raises(CameraError, match=cure) as caught:
        Camera(**GOOD | change)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, HandPerceptionError)


def test_assumed_camera_sees_the_given_angle_across_the_longer_side():
    for size in ((640, 480), (480, 640)):
        camera = Camera.assumed(*size, horizontal_fov_deg=90)
        assert camera.fx == camera.fy == pytest.approx(320)
        assert (camera.cx, camera.cy) == ((size[0] - 1) / 2, (size[1] - 1) / 2)
        assert not camera.metric


def test_matrix_is_k():
    np.testing.assert_array_equal(Camera(**GOOD).matrix, [[500, 0, 320], [0, 510, 240], [0, 0, 1]])


@pytest.mark.parametrize("size", [(320, 240), (1280, 960), (640, 240)])
def test_resized_camera_sees_the_same_rays(size):
    camera = Camera(**GOOD)
    points = np.array([[0.1, -0.2, 1.0], [-0.3, 0.1, 0.7]])
    before, after = project(points, camera), project(points, camera.resized(*size))
    # Pixel-centre convention: the image spans -0.5 to width - 0.5.
    np.testing.assert_allclose((after + 0.5) / size, (before + 0.5) / (640, 480), atol=1e-12)


def test_public_names_load_lazily():
    assert hand_perception.Camera is Camera
    for name in hand_perception.__all__:
        assert getattr(hand_perception, name) is not None
    with pytest.raises(AttributeError):
        _ = hand_perception.no_such_name
